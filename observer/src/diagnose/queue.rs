//! Why an accept queue fills: too few workers, an application that has stopped accepting, no processor to run on, or a
//! queue that is short. From the listener's own figures; what they do not show is not said.

use std::time::Duration;

use super::evidence::Evidence;
use crate::{
    event::{Application, NamespaceSample, Software},
    model::{Listener, Model},
    time::{Human, Time},
};

/// Nothing accepted for this long while connections wait is a stall, unless every worker is at work.
const STALL: Duration = Duration::from_millis(1900);
/// Share of the processors' time stolen from which on it is to blame.
const STOLEN: f64 = 0.2;
/// Share of the time in which some task waited for a processor from which on the host is out of them.
const WAITED: f64 = 0.8;
/// `net.core.somaxconn` unless somebody lowered it (include/linux/socket.h, since 5.4). A limit equal to a lower one
/// was cut down to it; one equal to the default may be just what the application asked for.
pub(super) const DEFAULT_SOMAXCONN: u32 = 4096;

const SIGSTOP: u32 = 19;

/// What lies under a full queue.
#[derive(Debug, Default)]
pub(super) struct Why {
    /// Codes, the one to act on first.
    pub(super) codes: Vec<&'static str>,
    /// The same as half a sentence, with the numbers.
    pub(super) words: Option<String>,
    /// What it rests on.
    pub(super) evidence: Evidence,
    /// What to do, if that is known.
    pub(super) advice: Vec<String>,
}

/// Whether a listener's limit was cut down to a lowered `net.core.somaxconn`.
pub(super) fn clamped(limit: u32, settings: Option<&NamespaceSample>) -> bool {
    settings.and_then(|settings| settings.somaxconn).is_some_and(|max| limit == max && max < DEFAULT_SOMAXCONN)
}

/// Why this listener's queue is full, or was at some moment after `since`.
pub(super) fn why(
    listener: &Listener,
    settings: Option<&NamespaceSample>,
    model: &Model,
    (since, now): (Time, Time),
) -> Why {
    let mut why = stopped(listener, model, since)
        .or_else(|| starved(listener, model))
        .or_else(|| undersized(listener, now))
        .or_else(|| stalled(listener))
        .unwrap_or_default();
    if clamped(listener.limit, settings) {
        why.codes.push("backlog-clamped");
        why.advice.push(format!(
            "raise net.core.somaxconn where the upstream runs (sysctl -w net.core.somaxconn=4096), then restart the upstream: \
             its queue is cut to {}, and a listener takes its limit at listen()",
            listener.limit
        ));
    } else if why.codes.is_empty() && keeps_up(listener, since, now) {
        why.codes.push("backlog-small");
        why.words = Some(format!("a burst met a queue of {}, though the workers keep up on average", listener.limit));
        why.advice.push(
            "raise the application's backlog against bursts (gunicorn --backlog, listen … backlog=), up to \
             net.core.somaxconn"
                .to_owned(),
        );
    }
    why
}

fn stopped(listener: &Listener, model: &Model, since: Time) -> Option<Why> {
    let pid = listener.process.as_ref().map(|process| process.pid);
    let sender = pid.and_then(|pid| model.signal(pid)).filter(|(_, signal)| signal.number == SIGSTOP);
    let continued = pid.and_then(|pid| model.continued(pid));
    // A stop that lasted into the span that is asked for, or is younger than the last look at the processes.
    let was = sender.is_some_and(|(when, _)| match continued.filter(|continued| continued >= when) {
        Some(continued) => continued >= since,
        None => *when >= listener.states_at,
    });
    if listener.stopped == 0 && !was {
        return None;
    }
    let stopped = listener.stopped.max(1);
    let by = sender.and_then(|(_, signal)| signal.from.as_ref());
    let by = by.map(|process| format!("{}[{}]", process.comm, process.pid));
    let by_whom = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    Some(Why {
        codes: vec!["accept-stall"],
        words: Some(format!("{stopped} of its processes stopped (SIGSTOP{by_whom})")),
        evidence: Evidence::default()
            .with("processes_stopped", stopped)
            .with("stalled_ms", listener.stalled_for().as_secs_f64() * 1e3),
        advice: vec![match (pid.filter(|_| was), by) {
            (Some(pid), Some(by)) => {
                format!("let the application run again (kill -CONT {pid}), and find out why {by} stopped it")
            }
            (Some(pid), None) => {
                format!("let the application run again (kill -CONT {pid}), and find out who stopped it")
            }
            // Others of its processes than the one that is known by number may be meant.
            (None, _) => {
                "let the application run again (kill -CONT its processes in state T), and find out who stopped it"
                    .to_owned()
            }
        }],
    })
}

fn starved(listener: &Listener, model: &Model) -> Option<Why> {
    let processors = model.processors();
    if let Some(stolen) = processors.stolen().filter(|share| *share >= STOLEN) {
        return Some(Why {
            codes: vec!["cpu-steal"],
            words: Some(format!("the hypervisor takes {:.0} % of this host's processors", stolen * 100.0)),
            evidence: Evidence::default().with("cpu_stolen_share", stolen),
            advice: vec![
                "move the machine, or give it processors of its own: others use what it was promised".to_owned(),
            ],
        });
    }
    let waited = processors.waited().filter(|share| *share >= WAITED && listener.runnable > 0)?;
    Some(Why {
        codes: vec!["cpu-saturated"],
        words: Some(format!(
            "tasks wait for a processor {:.0} % of the time, {} of its processes among them",
            waited * 100.0,
            listener.runnable
        )),
        evidence: Evidence::default().with("cpu_waited_share", waited).with("processes_runnable", listener.runnable),
        advice: vec!["see what uses the processors (top); the application gets too few of them".to_owned()],
    })
}

fn undersized(listener: &Listener, now: Time) -> Option<Why> {
    let flux = listener.rates(now)?;
    let (comes, can_do) = (flux.comes(), flux.can_do());
    // Of event loops neither says how much they could do.
    let (workers, at_once) = listener.workers().zip(listener.at_once())?;
    if !flux.too_much() || !listener.at_capacity(&flux) {
        return None;
    }
    let application = listener.application;
    let evidence = Evidence::default()
        .maybe("software", application.map(|application| application.software.name()))
        .with("workers", workers)
        .maybe("threads", listener.threads())
        .with("arrivals_per_second", comes)
        .with("accepted_per_second", can_do);
    let Some((service, needed)) = flux.service(at_once).zip(listener.workers_needed(&flux)) else {
        return Some(Why {
            codes: vec!["worker-pool-undersized"],
            words: Some(format!(
                "all {workers} workers are busy and none has finished for {}; {comes:.1} requests a second come in",
                Human(flux.over)
            )),
            evidence: evidence.with("accepted_open", listener.accepted_open),
            advice: vec!["add workers, or find what keeps them busy (a slow database, a lock)".to_owned()],
        });
    };
    let missing = needed.saturating_sub(workers);
    let wait = Duration::try_from_secs_f64(f64::from(listener.limit) / can_do).unwrap_or_default();
    Some(Why {
        codes: vec!["worker-pool-undersized"],
        words: Some(format!(
            "{} {can_do:.1} requests a second ({service:.1} s each), {comes:.1} come in: {needed} would do, {missing} are \
             missing; a longer backlog only adds waiting (a queue of {} is {} at this pace)",
            can_do_by(application, workers),
            listener.limit,
            Human(wait)
        )),
        evidence: evidence
            .with("service_time_s", service)
            .with("workers_needed", f64::from(needed))
            .with("workers_missing", missing)
            .with("full_queue_wait_s", wait.as_secs_f64())
            .with("measured_over_s", flux.over.as_secs_f64()),
        advice: vec![format!(
            "add workers, {needed} at this rate and service time ({}), or make requests faster",
            setting(application.map(|application| application.software))
        )],
    })
}

/// `gunicorn's 2 workers (4 threads each) can do`
fn can_do_by(application: Option<Application>, workers: u32) -> String {
    let count = if workers == 1 { "one worker".to_owned() } else { format!("{workers} workers") };
    match application {
        None if workers == 1 => "one process accepts".to_owned(),
        None => format!("{count} can do"),
        Some(Application { software, threads, .. }) => {
            let each = match threads {
                None => String::new(),
                Some(1) => " (1 request each)".to_owned(),
                Some(threads) => format!(" ({threads} threads each)"),
            };
            format!("{software}'s {count}{each} can do")
        }
    }
}

/// What makes more workers.
fn setting(software: Option<Software>) -> &'static str {
    match software {
        Some(Software::Gunicorn) => "--workers, or --threads where requests wait",
        Some(Software::Uwsgi) => "processes, or threads where requests wait",
        Some(Software::PhpFpm) => "pm.max_children",
        Some(Software::Puma) => "workers, or threads where requests wait",
        _ => "gunicorn --workers, or an asynchronous worker class",
    }
}

fn stalled(listener: &Listener) -> Option<Why> {
    let stall = listener.stalled_for();
    if stall < STALL {
        return None;
    }
    Some(Why {
        codes: vec!["accept-stall"],
        words: Some(format!("nothing has been accepted for {}", Human(stall))),
        evidence: Evidence::default()
            .with("stalled_ms", stall.as_secs_f64() * 1e3)
            .with("accepted_open", listener.accepted_open)
            .maybe("workers", listener.workers()),
        advice: vec![
            "see what the application does instead of accepting: garbage collection, a blocked event loop, a lock \
             (py-spy dump, jstack, perf top -p PID)"
                .to_owned(),
        ],
    })
}

/// The queue drains: it has been found empty since, or it was just before and more than half of it has been accepted meanwhile.
fn keeps_up(listener: &Listener, since: Time, now: Time) -> bool {
    let flux = listener.flux(now, now.since(since) + Duration::from_secs(1));
    let works = flux.is_some_and(|flux| flux.accepted > u64::from(listener.limit / 2) && !flux.never_empty);
    works || listener.empty_after(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{
            ApplicationSample, Body, HostSample, ListenOverflow, ListenerSample, OverflowPath, Place, Process, Signal,
        },
        model::Model,
        testing::{at, endpoint, event, server_flow},
    };

    /// A listener of that many processes, sampled every second: arrivals so far, depth, and connections being served.
    struct Stage {
        model: Model,
        holders: u32,
        limit: u32,
    }

    impl Stage {
        fn new(holders: u32, limit: u32) -> Self {
            Self { model: Model::default(), holders, limit }
        }

        fn sample(&mut self, second: u64, arrivals: u64, depth: u32, accepted_open: u32) -> &mut Self {
            self.sampled(second, ListenerSample { depth, accepted_open, arrivals: Some(arrivals), ..self.listener() })
        }

        fn sampled(&mut self, second: u64, sample: ListenerSample) -> &mut Self {
            self.model.apply(&event(second * 1000, Body::ListenerSample(Box::new(sample))));
            self
        }

        fn listener(&self) -> ListenerSample {
            ListenerSample {
                at: endpoint("10.0.0.2:8000"),
                netns: server_flow().netns,
                depth: 0,
                limit: self.limit,
                process: Some(Process { pid: 9, comm: "gunicorn".into() }),
                holders: self.holders,
                stopped: 0,
                runnable: 0,
                accepted_open: 0,
                arrivals: None,
            }
        }

        /// That many clients turned away, each by a connection of its own.
        fn turned_away(&mut self, ms: u64, clients: u16) -> &mut Self {
            for client in 0..clients {
                let mut flow = server_flow();
                flow.remote.port = 10_000 + client;
                let (depth, limit) = (self.limit + 1, self.limit);
                let overflow = ListenOverflow { flow, path: OverflowPath::Syn, depth, limit };
                self.model.apply(&event(ms, Body::ListenOverflow(overflow)));
            }
            self
        }

        fn why(&self, since_ms: u64, now_ms: u64) -> Why {
            let listener = self.model.listener_at(server_flow().netns, endpoint("10.0.0.2:8000")).unwrap();
            why(listener, None, &self.model, (at(since_ms), at(now_ms)))
        }
    }

    #[test]
    fn a_pool_that_is_too_small_says_how_many_workers_would_do() {
        let mut stage = Stage::new(9, 128);
        // In eight seconds eight workers take twenty, and four hundred come.
        for second in 0..8 {
            stage.sample(second, 129 + second * 5 / 2, 129, 8);
        }
        stage.turned_away(7_500, 380).sample(8, 149, 129, 8);
        let why = stage.why(7_000, 8_100);
        assert_eq!(why.codes, ["worker-pool-undersized"]);
        let words = why.words.unwrap();
        let measured = "8 workers can do 2.5 requests a second (3.2 s each), 50.0 come in: 160 would do, 152 are missing; \
                        a longer backlog only adds waiting (a queue of 128 is 51 s at this pace)";
        assert_eq!(words, measured);
    }

    /// What a stage's eight seconds of overload come to, with what its processes show.
    fn overloaded(application: Option<Application>, holders: u32, accepted_open: u32) -> Why {
        let mut stage = Stage::new(holders, 128);
        let place = Place::At(endpoint("10.0.0.2:8000"));
        let process = Process { pid: 9, comm: "python3".into() };
        let told = ApplicationSample { place, netns: server_flow().netns, process, application };
        stage.model.apply(&event(0, Body::ApplicationSample(Box::new(told))));
        for second in 0..8 {
            stage.sample(second, 129 + second * 5 / 2, 129, accepted_open);
        }
        stage.turned_away(7_500, 380).sample(8, 149, 129, accepted_open);
        stage.why(7_000, 8_100)
    }

    fn gunicorn(workers: Option<u32>, threads: Option<u32>) -> Application {
        Application { software: Software::Gunicorn, workers, threads, event_loop: false }
    }

    #[test]
    fn workers_are_counted_by_what_each_serves_at_once() {
        // Twenty are taken in eight seconds by eight places, whichever way these come about.
        for (application, words, missing) in [
            (gunicorn(Some(8), Some(1)), "gunicorn's 8 workers (1 request each) can do 2.5", 152_u32),
            (gunicorn(Some(2), Some(4)), "gunicorn's 2 workers (4 threads each) can do 2.5", 38),
            (gunicorn(Some(1), Some(8)), "gunicorn's one worker (8 threads each) can do 2.5", 19),
        ] {
            let why = overloaded(Some(application), 9, 8);
            assert_eq!(why.codes, ["worker-pool-undersized"]);
            let text = why.words.unwrap();
            assert!(text.starts_with(words) && text.contains("(3.2 s each)"), "{text}");
            assert!(text.contains(&format!("{missing} are missing; a longer backlog")), "{text}");
            assert_eq!(why.evidence.get("workers_missing"), Some(&missing.into()));
        }
        // Of threads that are not known each worker counts once, as before.
        let text = overloaded(Some(gunicorn(None, None)), 9, 8).words.unwrap();
        assert!(text.starts_with("gunicorn's 8 workers can do 2.5 requests a second (3.2 s each)"), "{text}");
    }

    #[test]
    fn the_wait_of_a_full_queue_is_its_limit_by_the_pace() {
        let why = overloaded(Some(gunicorn(Some(8), Some(1))), 9, 8);
        assert_eq!(why.evidence.get("full_queue_wait_s"), Some(&(128.0 / 2.5).into()));
    }

    #[test]
    fn an_event_loop_is_no_pool_that_is_too_small() {
        let node = Application { software: Software::Node, workers: None, threads: None, event_loop: true };
        assert_eq!(overloaded(Some(node), 1, 200).codes, Vec::<&str>::new());
        let four = Application { software: Software::Uvicorn, workers: Some(4), ..node };
        assert_eq!(overloaded(Some(four), 5, 200).codes, Vec::<&str>::new());
    }

    #[test]
    fn one_worker_known_to_serve_one_request_can_be_taken() {
        // The queue was found empty once: only that all are taken tells.
        let taken = |application| {
            let mut stage = Stage::new(2, 8);
            let place = Place::At(endpoint("10.0.0.2:8000"));
            let process = Process { pid: 9, comm: "gunicorn".into() };
            let told = ApplicationSample { place, netns: server_flow().netns, process, application };
            stage.model.apply(&event(0, Body::ApplicationSample(Box::new(told))));
            for second in 0..8 {
                stage.sample(second, second, u32::from(second > 0) * 9, 1);
            }
            stage.turned_away(7_500, 30).sample(8, 17, 9, 1);
            stage.why(7_000, 8_100).codes
        };
        assert_eq!(taken(Some(gunicorn(Some(1), Some(1)))), ["worker-pool-undersized"]);
        assert_ne!(taken(Some(gunicorn(Some(1), Some(4)))), ["worker-pool-undersized"]);
        assert_ne!(taken(None), ["worker-pool-undersized"]);
    }

    #[test]
    fn rates_need_some_seconds() {
        let mut stage = Stage::new(9, 128);
        stage.sample(0, 0, 129, 2).sample(1, 3, 129, 2).turned_away(1_500, 60);
        assert_eq!(stage.why(1_000, 1_600).codes, Vec::<&str>::new());
    }

    #[test]
    fn a_stopped_process_is_named_with_who_stopped_it() {
        let mut stage = Stage::new(1, 8);
        let stopped = ListenerSample { depth: 9, stopped: 1, ..stage.listener() };
        stage.sampled(3, stopped);
        assert_eq!(stage.why(2_500, 3_100).codes, ["accept-stall"]);

        let mut stage = Stage::new(1, 8);
        stage.sample(1, 10, 2, 1);
        let from = Some(Process { pid: 77, comm: "bash".into() });
        let to = Process { pid: 9, comm: "gunicorn".into() };
        stage.model.apply(&event(1_200, Body::Signal(Box::new(Signal { from, to: to.clone(), number: SIGSTOP }))));
        let why = stage.why(1_300, 1_600);
        assert_eq!(why.codes, ["accept-stall"], "nobody has looked since");
        assert!(why.words.unwrap().contains("by bash[77]"));
        stage.model.apply(&event(1_300, Body::Signal(Box::new(Signal { from: None, to, number: 18 }))));
        assert_eq!(stage.why(1_250, 1_600).codes, ["accept-stall"], "it went on only meanwhile");
        assert_ne!(stage.why(1_400, 1_600).codes, ["accept-stall"], "it had gone on before");
    }

    #[test]
    fn nothing_accepted_for_seconds_is_a_stall() {
        let mut stage = Stage::new(1, 128);
        stage.sample(1, 100, 0, 1).sample(2, 150, 40, 1).sample(3, 190, 80, 1).sample(4, 230, 120, 1);
        let why = stage.why(3_000, 4_100);
        assert_eq!(why.codes, ["accept-stall"]);
        assert!(why.words.unwrap().contains("2.0 s"));
    }

    #[test]
    fn a_burst_that_is_worked_off_met_a_short_queue() {
        let mut stage = Stage::new(5, 8);
        stage.sample(1, 10, 0, 0).turned_away(1_500, 40).sample(2, 40, 0, 2);
        assert_eq!(stage.why(1_400, 2_100).codes, ["backlog-small"]);
    }

    #[test]
    fn a_thief_of_processor_time_comes_before_the_pool() {
        let mut stage = Stage::new(9, 128);
        for second in 0..=5 {
            let sample = HostSample { ticks: second * 200, stolen: second * 80, waited_us: Some(0) };
            stage.model.apply(&event(second * 1000, Body::HostSample(sample)));
            stage.sample(second, 129, 129, 8);
        }
        let why = stage.why(4_000, 5_100);
        assert_eq!(why.codes, ["cpu-steal"]);
        assert!(why.words.unwrap().contains("40 %"));
    }
}
