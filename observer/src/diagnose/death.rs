//! How the process died that held the other end of a connection.

use std::time::Duration;

use super::{evidence::Evidence, rule::Case};
use crate::{
    event::{Death, Process, signal_name},
    time::Human,
};

/// A signal that was sent this shortly before a process died is why.
const SIGNALLED_WITHIN: Duration = Duration::from_mins(1);
const SIGABRT: u32 = 6;
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// A death, told.
#[derive(Debug)]
pub(super) struct Told {
    /// `worker-killed` or `worker-timeout`.
    pub(super) code: &'static str,
    /// `its process gunicorn[12] was killed by kill[99] (SIGKILL)`
    pub(super) words: String,
    /// What it rests on.
    pub(super) evidence: Evidence,
    /// What to do.
    pub(super) advice: Vec<String>,
}

/// How the process that closed this try's connection was dying, or about to, if it was.
pub(super) fn of(case: &Case<'_>, base: Evidence) -> Option<Told> {
    let (process, death) = closer(case)?;
    let signalled =
        case.model.signal(process.pid).is_some_and(|(when, _)| case.attempt.time.since(*when) <= CLOSES_WITHIN);
    (death.is_some() || signalled).then(|| tell(&process, death, case, base))
}

/// One that handles its signal closes its connections before it dies.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

fn closer(case: &Case<'_>) -> Option<(Process, Option<Death>)> {
    let hurt = case.flow.hurt.as_ref().map(|hurt| (hurt.process.clone(), hurt.death));
    let reset = || case.flow.reset.as_ref().and_then(|reset| Some((reset.process.clone()?, reset.death)));
    hurt.or_else(reset)
}

fn tell(process: &Process, death: Option<Death>, case: &Case<'_>, base: Evidence) -> Told {
    let signal = case.model.signal(process.pid);
    let signal = signal.filter(|(when, _)| case.attempt.time.since(*when) <= SIGNALLED_WITHIN);
    let sent = signal.map(|(_, signal)| signal);
    let number = sent.map(|signal| signal.number);
    let sender = sent.and_then(|signal| signal.from.as_ref());
    let by_kernel = sent.is_some_and(|signal| signal.from.is_none());
    let who = format!("{}[{}]", process.comm, process.pid);
    // A master that loses patience with a worker aborts it (gunicorn --timeout), or kills it (uWSGI harakiri): it goes by
    // the worker's own name.
    let by_master = sender.is_some_and(|from| from.comm == process.comm && from.pid != process.pid);
    let timed_out = by_master && matches!(number, Some(SIGABRT | SIGKILL));
    let by_itself = sender.is_some_and(|from| from.pid == process.pid);
    let sender_name = sender.map(|from| format!("{}[{}]", from.comm, from.pid));
    let signalled = match (number, &sender_name) {
        (Some(number), Some(from)) => format!(" after {} from {from}", signal_name(number)),
        (Some(SIGKILL), None) => " by the kernel's own hand (out of memory, most likely)".to_owned(),
        _ => String::new(),
    };
    let words = match (death, number, &sender_name) {
        (Some(Death::Signal(died_of)), Some(number), _) if u32::from(died_of) == number && by_itself => {
            format!("its process {who} killed itself ({})", signal_name(number))
        }
        (Some(Death::Signal(died_of)), Some(number), Some(from)) if u32::from(died_of) == number => {
            format!("its process {who} was killed by {from} ({})", signal_name(number))
        }
        (Some(death), ..) => format!("its process {who} {death}{signalled}"),
        (None, ..) => format!("its process {who} closed it{signalled}"),
    };
    let evidence = base
        .with("worker_comm", process.comm)
        .with("worker_pid", process.pid)
        .maybe("worker_died", death.map(|death| death.to_string()))
        .maybe("signal", number.map(signal_name))
        .maybe("signalled_by", sender_name.clone());
    let advice = if timed_out {
        vec![format!(
            "{} gave up on the worker: a request took longer than the worker timeout (gunicorn --timeout, uWSGI harakiri); \
             find the slow request in its log, or raise the timeout above the slowest good one",
            sender_name.unwrap_or_else(|| "its master".to_owned()),
        )]
    } else if by_kernel && number == Some(SIGKILL) {
        vec![
            "the kernel killed it: look for \"Out of memory\" or \"oom-kill\" in dmesg; give it memory, or less to do"
                .to_owned(),
        ]
    } else if number == Some(SIGTERM) {
        vec![
            "it was told to end: a restart or a deployment; let it finish its requests first (graceful timeout)"
                .to_owned(),
        ]
    } else if by_itself {
        vec![format!(
            "{who} ended itself: its log at this time says why (an abort, a failed assertion, a watchdog of its own)"
        )]
    } else if let (Some(from), Some(SIGKILL)) = (&sender_name, number) {
        vec![format!(
            "{from} killed it: find out who or what that is (a watchdog, a deployment, an operator) and why it did"
        )]
    } else {
        vec![format!("see why {who} died: its log and exit code, dmesg for a fault or the OOM killer, coredumpctl")]
    };
    Told { code: if timed_out { "worker-timeout" } else { "worker-killed" }, words, evidence, advice }
}

/// How long ago, for a sentence.
pub(super) fn after(waited: Option<Duration>) -> String {
    match waited {
        None => String::new(),
        Some(Duration::ZERO) => " at once after the request".to_owned(),
        Some(waited) => format!(" {} after the request", Human(waited)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge,
        event::{Body, ConnectionEnded, Hurt, Signal, State},
        testing::{connection, ended_with, event, server_flow},
    };

    /// What is said of a request whose connection process 9 closed, after it had been signalled.
    fn told(death: Option<Death>, signal: Option<(Option<(u32, &str)>, u32)>) -> crate::diagnose::Verdict {
        let process = Process { pid: 9, comm: "gunicorn".into() };
        let hurt = Hurt { flow: server_flow(), process: process.clone(), death, bytes_received: 80, bytes_sent: 0 };
        let signalled = signal.map(|(from, number)| {
            let from = from.map(|(pid, comm)| Process { pid, comm: comm.into() });
            event(1_990, Body::Signal(Box::new(Signal { from, to: process, number })))
        });
        let events = signalled.into_iter().chain([event(1_995, Body::Hurt(Box::new(hurt)))]);
        let closed = ConnectionEnded { new: State::CloseWait, closed_by_proxy: false, ..connection() };
        let (model, attempt) = ended_with(events, closed);
        judge(&attempt, &model)
    }

    #[test]
    fn a_master_that_loses_patience_is_told_from_an_operator() {
        let by_master = told(Some(Death::Signal(9)), Some((Some((8, "gunicorn")), SIGKILL)));
        assert_eq!(by_master.because, Some("worker-timeout"));
        let by_operator = told(Some(Death::Signal(9)), Some((Some((8, "bash")), SIGKILL)));
        assert_eq!(by_operator.because, Some("worker-killed"));
        assert!(by_operator.summary.contains("was killed by bash[8] (SIGKILL)"), "{}", by_operator.summary);
        assert!(by_operator.advice[0].contains("bash[8] killed it"), "{:?}", by_operator.advice);
        let by_itself = told(Some(Death::Signal(9)), Some((Some((9, "gunicorn")), SIGKILL)));
        assert!(by_itself.summary.contains("killed itself (SIGKILL)"), "{}", by_itself.summary);
        assert!(!by_itself.advice[0].contains("OOM"), "{:?}", by_itself.advice);
    }

    #[test]
    fn a_worker_that_handles_its_abort_closes_before_it_dies() {
        assert_eq!(told(None, Some((Some((8, "gunicorn")), SIGABRT))).because, Some("worker-timeout"));
    }

    #[test]
    fn the_kernels_own_hand_is_told() {
        let verdict = told(Some(Death::Signal(9)), Some((None, SIGKILL)));
        assert!(verdict.summary.contains("out of memory"), "{}", verdict.summary);
        assert!(verdict.advice[0].contains("dmesg"), "{:?}", verdict.advice);
    }

    #[test]
    fn a_process_that_lives_on_closed_on_its_own_account() {
        let verdict = told(None, None);
        assert_eq!(verdict.because, None);
        assert!(verdict.summary.contains("closed it and lives on"), "{}", verdict.summary);
        assert_eq!(told(Some(Death::Exit(1)), None).because, Some("worker-killed"));
    }
}
