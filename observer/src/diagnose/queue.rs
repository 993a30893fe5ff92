//! Why an accept queue fills: too few workers, an application that has stopped accepting, no processor to run on, or a
//! queue that is short. From the listener's own figures; what they do not show is not said.

use std::time::Duration;

use super::evidence::Evidence;
use crate::{
    event::NamespaceSample,
    model::{Listener, Model},
    time::{Human, Time},
};

/// The stretch over which arrivals and accepts are compared.
const SPAN: Duration = Duration::from_secs(10);
/// Shorter than this tells nothing of rates.
const LEAST: Duration = Duration::from_millis(2900);
/// Nothing accepted for this long while connections wait is a stall, unless every worker is at work.
const STALL: Duration = Duration::from_millis(1900);
/// More comes than can be done if it exceeds that by this factor; less may be chance.
const TOO_MUCH: f64 = 1.2;
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
    let mut why = stopped(listener, model)
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

fn stopped(listener: &Listener, model: &Model) -> Option<Why> {
    let pid = listener.process.as_ref().map(|process| process.pid);
    let sender = pid.and_then(|pid| model.signal(pid)).filter(|(_, signal)| signal.number == SIGSTOP);
    // A stop that is younger than the last look at the processes, and the last that they were told.
    let just_now = sender.is_some_and(|(when, _)| *when >= listener.states_at);
    if listener.stopped == 0 && !just_now {
        return None;
    }
    let stopped = listener.stopped.max(1);
    let by = sender.and_then(|(_, signal)| signal.from.as_ref());
    let by = by.map(|process| format!(" by {}[{}]", process.comm, process.pid)).unwrap_or_default();
    Some(Why {
        codes: vec!["accept-stall"],
        words: Some(format!("{stopped} of its processes stopped (SIGSTOP{by})")),
        evidence: Evidence::default()
            .with("processes_stopped", stopped)
            .with("stalled_ms", listener.stalled_for().as_secs_f64() * 1e3),
        advice: vec!["let the application run again (kill -CONT PID), and find out who stopped it".to_owned()],
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
    let flux = listener.flux(now, SPAN).filter(|flux| flux.over >= LEAST)?;
    let (comes, can_do) = (flux.comes(), flux.can_do());
    let workers = listener.workers()?;
    // Every worker has a connection at hand, or had: a pool that is at work accepts at the pace at which it finishes.
    let at_work = workers > 1 && listener.accepted_open >= workers;
    if !(at_work || flux.never_empty && can_do > 0.0) || comes <= TOO_MUCH * can_do {
        return None;
    }
    if can_do == 0.0 {
        return Some(Why {
            codes: vec!["worker-pool-undersized"],
            words: Some(format!(
                "all {workers} workers are busy and none has finished for {}; {comes:.1} requests a second come in",
                Human(flux.over)
            )),
            evidence: Evidence::default()
                .with("workers", workers)
                .with("arrivals_per_second", comes)
                .with("accepted_per_second", can_do)
                .with("accepted_open", listener.accepted_open),
            advice: vec!["add workers, or find what keeps them busy (a slow database, a lock)".to_owned()],
        });
    }
    let needed = (comes / can_do * f64::from(workers)).ceil();
    let service = f64::from(workers) / can_do;
    let workers_are = if workers == 1 { "one process accepts".to_owned() } else { format!("{workers} workers can do") };
    Some(Why {
        codes: vec!["worker-pool-undersized"],
        words: Some(format!(
            "{workers_are} {can_do:.1} requests a second ({service:.1} s each), {comes:.1} come in: {needed:.0} workers would do"
        )),
        evidence: Evidence::default()
            .with("workers", workers)
            .with("accepted_per_second", can_do)
            .with("arrivals_per_second", comes)
            .with("service_time_s", service)
            .with("workers_needed", needed)
            .with("measured_over_s", flux.over.as_secs_f64()),
        advice: vec![format!(
            "add workers, {needed:.0} at this rate and service time (gunicorn --workers, or an asynchronous worker class), or \
             make requests faster; a longer queue only adds waiting"
        )],
    })
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
