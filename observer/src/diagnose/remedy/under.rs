//! What lies under causes: why a queue fills, why a process ended, and settings that turn one failure into another.

use std::time::Duration;

use super::{
    Check, Context, Remedy, Snippet, proxies,
    proxies::OUTLAST_SECONDS,
    queues,
    queues::{ABORT, LONGER_ONLY_WAITS, LONGER_TIMEOUTS, queue_checks},
    software,
};
use crate::time::Human;

pub(in crate::diagnose) fn worker_pool_undersized(context: &Context<'_>) -> Remedy {
    let sum = match (context.arrivals(), context.seconds_each(), context.needed()) {
        (Some(rate), Some(seconds), Some(needed)) => Some(format!(
            "{rate:.1} requests a second x {seconds:.1} s each keep {needed} workers{} busy{}.",
            context
                .threads()
                .filter(|threads| *threads > 1)
                .map(|threads| format!(" of {threads} threads"))
                .unwrap_or_default(),
            there_are(context)
        )),
        _ => None,
    };
    let rates = match (context.can_do(), context.arrivals()) {
        (Some(does), Some(comes)) => Some(format!(
            "They can do {does:.1} a second, {comes:.1} come in: the difference waits until the queue is full."
        )),
        _ => {
            Some("More comes in than the workers can do, and the difference waits until the queue is full.".to_owned())
        }
    };
    Remedy::default()
        .maybe_say(sum)
        .maybe_say(rates)
        .look([queues::waiting(context)])
        .look(listener_processes(context, "as many of them at work as there are workers"))
        .change([software::more_workers(context), proxies::surplus(context)])
        .never(LONGER_ONLY_WAITS)
        .never(LONGER_TIMEOUTS)
        .never("More workers than the memory or the database's connections bear.")
}

/// `; there are 8, 8 of them at work`
fn there_are(context: &Context<'_>) -> String {
    let Some(workers) = context.workers() else { return String::new() };
    let threads = context.threads().unwrap_or(1);
    let busy = context.facts.busy.filter(|busy| *busy <= workers.saturating_mul(threads));
    let what = if threads > 1 { "of their threads" } else { "of them" };
    let busy = busy.map(|busy| format!(", {busy} {what} at work")).unwrap_or_default();
    format!("; there are {workers}{busy}")
}

/// The processes that hold the listener, if one of them is known.
fn listener_processes(context: &Context<'_>, expect: &str) -> Option<Check> {
    let pid = context.listener_pid()?;
    Some(Check {
        command: format!("ps -o pid,ppid,stat,wchan:24,etime,comm -p {pid} --ppid {pid}"),
        expect: format!("the process that has the listener and its children; {expect}"),
    })
}

pub(in crate::diagnose) fn accept_stall(context: &Context<'_>) -> Remedy {
    let time = context.time("stalled_ms").map(|time| format!(" for {time}")).unwrap_or_default();
    let stopped = context.count("processes_stopped").filter(|stopped| *stopped > 0);
    let why = match stopped {
        Some(stopped) => format!("{stopped} of its processes stopped by a signal (state T)"),
        None => "a long garbage collection, a blocked event loop or a lock are the usual reasons".to_owned(),
    };
    let remedy = Remedy::default()
        .say(format!("The application took nothing from its accept queue{time} while connections waited: {why}."))
        .look([queues::waiting(context)])
        .look(listener_processes(context, "T is a stop signal, D a disk; what they wait in is under WCHAN"));
    let remedy = match context.listener_pid() {
        Some(pid) => remedy.check(
            format!("cat /proc/{pid}/stack"),
            "where in the kernel it waits; nothing of a listener's accept or epoll",
        ),
        None => remedy,
    };
    let remedy = if stopped.is_some() {
        let pid = context.listener_pid().map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
        remedy.change([Snippet::new(
            "let it run again",
            "sh",
            &[
                "# each process in state T, and find out who stopped it",
                &format!("ps -o pid= --ppid {pid} -p {pid} | xargs kill -CONT"),
            ],
        )])
    } else {
        remedy.no_setting(
            "what the application does instead of accepting must end: blocking calls belong into threads, a heap that \
             is collected for seconds wants less garbage",
        )
    };
    remedy.never("A longer queue alone: whoever waits in it still waits for the whole stall.")
}

pub(in crate::diagnose) fn cpu_steal(context: &Context<'_>) -> Remedy {
    let share = context.number("cpu_stolen_share").map(|share| format!("{:.0} % of", share * 100.0));
    Remedy::default()
        .say(format!(
            "The hypervisor gave {} this machine's processor time to others while the application was ready to run.",
            share.unwrap_or_else(|| "much of".to_owned())
        ))
        .no_setting(
            "nothing inside the machine does; another host, a dedicated one, or an instance type without credits",
        )
        .check("vmstat 1 5", "column st well above 0")
        .check("grep '^cpu ' /proc/stat", "the eighth number rises from one call to the next as fast as the others do")
        .never("More workers: they share the same processor time.")
}

pub(in crate::diagnose) fn cpu_saturated(context: &Context<'_>) -> Remedy {
    let share = context.number("cpu_waited_share").map(|share| format!("{:.0} % of the time", share * 100.0));
    let remedy = Remedy::default()
        .say(format!(
            "Processes were ready to run and waited for a processor {}, the application's among them.",
            share.unwrap_or_else(|| "most of the time".to_owned())
        ))
        .check("cat /proc/pressure/cpu", "avg10 of the line some is high")
        .check("top -b -n 1 | head -n 20", "who uses the processors");
    let remedy = match context.listener_pid() {
        Some(pid) => remedy.check(
            format!("cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/cpu.stat"),
            "throttled_usec rises from one call to the next if it is a quota of its control group",
        ),
        None => remedy,
    };
    remedy
        .change([Snippet::new(
            "if it is a quota, a higher one",
            "sh",
            &[
                "# SERVICE: the application's unit; PERCENT: 100 for each processor, not measured here",
                "systemctl set-property SERVICE CPUQuota=PERCENT%",
            ],
        )])
        .never("More workers than processors for work that computes: they only take the time from each other.")
}

pub(in crate::diagnose) fn backlog_clamped(context: &Context<'_>) -> Remedy {
    let (_, limit) = context.queue();
    let numbers = match (context.somaxconn(), limit) {
        (Some(most), _) => format!("net.core.somaxconn is {most}, and the listener's limit is just that"),
        (None, Some(limit)) => format!("the listener's limit is {limit}, cut to net.core.somaxconn"),
        (None, None) => "the listener's limit was cut to net.core.somaxconn".to_owned(),
    };
    Remedy::default()
        .say(format!(
            "The kernel silently cuts a backlog to net.core.somaxconn (4096 by default since Linux 5.4): {numbers}."
        ))
        .check(
            context.by_upstream("sysctl net.core.somaxconn"),
            format!("{}the same number as Send-Q of the listener", context.there()),
        )
        .look(queue_checks(context).into_iter().take(1))
        .change([software::somaxconn(context)])
        .never("Raising the sysctl without restarting the application: a listener keeps the limit it began with.")
}

pub(in crate::diagnose) fn backlog_small(context: &Context<'_>) -> Remedy {
    let (_, limit) = context.queue();
    let deepest = context.facts.high_water.filter(|deepest| *deepest > 0);
    let deepest = deepest.map(|deepest| format!("The deepest that it was seen is {deepest}."));
    let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    Remedy::default()
        .say(format!(
            "The workers keep up on average, but a burst met a queue{limit} that could not hold it: the application \
             asked for no more."
        ))
        .maybe_say(deepest)
        .look(queue_checks(context))
        .change(software::longer_queue(context))
        .never(
            "Taking the longer queue for capacity: if it does not drain between bursts, workers are what is missing.",
        )
}

pub(in crate::diagnose) fn abort_on_overflow(context: &Context<'_>) -> Remedy {
    Remedy::default()
        .say(
            "net.ipv4.tcp_abort_on_overflow is 1 where the upstream runs: a handshake that finds the queue full is \
             answered with a RST, hence an error at once and not after a timeout.",
        )
        .check(context.by_upstream("sysctl net.ipv4.tcp_abort_on_overflow"), format!("{}1", context.there()))
        .change([Snippet::new(
            "let a handshake be tried again",
            "sh",
            &[
                "# where the upstream runs; the full queue is to be cured all the same",
                &context.by_upstream("sysctl -w net.ipv4.tcp_abort_on_overflow=0"),
            ],
        )])
        .never(ABORT)
}

pub(in crate::diagnose) fn idle_timeout_mismatch(context: &Context<'_>) -> Remedy {
    let after = closes_after(context);
    let what = after.map_or_else(
        || "The upstream closes idle connections after a shorter time than the proxy keeps them for.".to_owned(),
        |after| {
            format!(
                "The upstream closes connections that were idle for {}, and the proxy keeps them for longer.",
                Human(after)
            )
        },
    );
    Remedy::default()
        .say(what)
        .check(
            context.by_proxy(&format!("ss -tno {}", destination(context))),
            "idle connections in CLOSE-WAIT now and then: the upstream has closed those, the proxy not yet",
        )
        .change([proxies::let_go_first(context, after), software::keep_longer(context, OUTLAST_SECONDS)])
        .never("A longer timeout for idle connections in the proxy.")
}

/// After how long idle the upstream closes, where that was measured.
pub(super) fn closes_after(context: &Context<'_>) -> Option<Duration> {
    context.time("upstream_closes_after_ms").map(|Human(after)| after)
}

/// A filter of `ss` for connections to the upstream.
pub(super) fn destination(context: &Context<'_>) -> String {
    match context.verdict.upstream.endpoint {
        Some(at) => format!("'dst {at}'"),
        None => "'dst ADDRESS:PORT'".to_owned(),
    }
}

pub(in crate::diagnose) fn listener_restarted(context: &Context<'_>) -> Remedy {
    let gone = context.time("listener_gone_ms").map(|gone| format!(", {gone} before this failure")).unwrap_or_default();
    Remedy::default()
        .say(format!(
            "The listening socket was closed{gone}: by a restart, a reload or a crash. What waited in its queue was \
             reset, and who came until the next one listened was refused."
        ))
        .check(
            format!("journalctl -u {} -n 50", context.unit()),
            "the application's start at that time, and how the one before it ended",
        )
        .check("journalctl -k -g 'out of memory|oom-kill|segfault' -n 20", "nothing, if it was meant; else why it died")
        .change([software::gentle_restart(context)])
        .never("Retries instead of a restart without a gap: they hide it as long as the gap is short.")
}

pub(in crate::diagnose) fn worker_killed(context: &Context<'_>) -> Remedy {
    let worker = match (context.text("worker_comm"), context.count("worker_pid")) {
        (Some(comm), Some(pid)) => format!("{comm}[{pid}]"),
        _ => "the process".to_owned(),
    };
    let died = context.text("worker_died").unwrap_or("ended");
    let died = if died.starts_with("killed") { format!("was {died}") } else { died.to_owned() };
    let by = context.text("signalled_by").map(|by| format!(", signalled by {by}")).unwrap_or_default();
    let signal = context.text("signal").unwrap_or_default();
    let remedy = Remedy::default()
        .say(format!("{worker} had the request and {died}{by}; the kernel closed its connections."))
        .check("journalctl -k -g 'out of memory|oom-kill|segfault' -n 20", "its name or pid, if the kernel ended it");
    let remedy = match context.count("worker_pid").filter(|pid| *pid != 0) {
        Some(pid) => remedy
            .check(format!("journalctl _PID={pid} -n 50"), "its last words, if it writes to the journal")
            .check(format!("coredumpctl list {pid}"), "a core, if it crashed in native code"),
        None => remedy,
    };
    let terminated = signal == "SIGTERM";
    let remedy =
        if terminated {
            remedy.change([
            software::gentle_restart(context),
            Snippet::new(
                "time to finish requests at a stop",
                "ini",
                &["# systemctl edit SERVICE (SERVICE: the application's unit); SECONDS: longer than the slowest good \
                   request", "[Service]", "TimeoutStopSec=SECONDS"],
            ),
        ])
        } else {
            remedy.change([
                Snippet::new(
                    "if it was for want of memory",
                    "ini",
                    &[
                        "# systemctl edit SERVICE (SERVICE: the application's unit); BYTES: not measured here, e.g. 2G",
                        "[Service]",
                        "MemoryMax=BYTES",
                        "# and let workers go before they grow (gunicorn --max-requests REQUESTS \
                         --max-requests-jitter JITTER,",
                        "# php-fpm pm.max_requests, uWSGI max-requests)",
                    ],
                ),
                software::brought_back(),
            ])
        };
    remedy.never("More workers where memory is what is missing: the next is killed sooner.")
}

pub(in crate::diagnose) fn worker_timeout(context: &Context<'_>) -> Remedy {
    let by = context.text("signalled_by").map(|by| format!(" ({by})")).unwrap_or_default();
    let waited = context.number("waited_ms").filter(|ms| *ms > 0.0).map(|ms| ms / 1e3);
    let after = waited.map(|seconds| format!(" {seconds:.1} s after the request")).unwrap_or_default();
    let worker = match (context.text("worker_comm"), context.count("worker_pid")) {
        (Some(comm), Some(pid)) => format!("its worker {comm}[{pid}]"),
        _ => "its worker".to_owned(),
    };
    Remedy::default()
        .say(format!(
            "The application's master{by} lost patience and ended {worker}{after}: the connection closed before the \
             proxy's own timer, hence no 504."
        ))
        .check(
            format!("journalctl -u {} -g 'timeout|harakiri|terminating' -n 20", context.unit()),
            "gunicorn: WORKER TIMEOUT with the worker's pid; uWSGI: HARAKIRI; php-fpm: execution timed out",
        )
        .change([software::worker_patience(context, waited)])
        .never("Raising that timeout for everything: stuck requests then hold workers for longer.")
}
