//! Warnings about this host's own ports, for clients elsewhere: what their proxy suffers is not seen here, what it suffers
//! from is.

use std::time::Duration;

use super::{evidence::Evidence, queue, verdict::Warning};
use crate::{
    addr::{Endpoint, NetNs},
    model::{
        Model,
        door::Door,
        window::{TALLY_SECONDS, Tally},
    },
    time::Time,
};

/// Fewer of a kind in [`TALLY_SECONDS`] seconds are chance: a client that left, a port scan.
const ENOUGH: u32 = 5;

/// A kind of trouble.
pub(super) struct Trouble {
    /// Code of the cause that it leads to.
    pub(super) cause: &'static str,
    /// What is counted.
    pub(super) tally: fn(&Door) -> &Tally,
    /// The rest of the sentence after `127.0.0.1:8000: 12 `.
    pub(super) what: fn(&Door) -> String,
    /// What to do.
    pub(super) advice: &'static str,
}

/// The warnings of one kind that hold.
pub(super) fn warnings(model: &Model, now: Time, trouble: &Trouble) -> Vec<Warning> {
    let doors = model.doors().map(|((netns, at), door)| (*netns, *at, door));
    let loud = doors.filter(|(_, _, door)| (trouble.tally)(door).sum(now) >= ENOUGH);
    loud.map(|(netns, at, door)| warning(model, now, trouble, (netns, at), door)).collect()
}

fn warning(model: &Model, now: Time, trouble: &Trouble, (netns, at): (NetNs, Endpoint), door: &Door) -> Warning {
    let count = (trouble.tally)(door).sum(now);
    let listener = model.listener_at(netns, at);
    let settings = model.namespace(netns).map(|namespace| &namespace.sample);
    let why = listener
        .map(|listener| queue::why(listener, settings, model, (now - Duration::from_secs(TALLY_SECONDS), now)))
        .unwrap_or_default();
    let process = listener.and_then(|listener| listener.process.as_ref());
    let owner = process.map(|process| format!(" ({}[{}])", process.comm, process.pid)).unwrap_or_default();
    Warning {
        time: now,
        cause: trouble.cause,
        subject: at.to_string(),
        netns,
        summary: format!("{at}{owner}: {count} {} in {TALLY_SECONDS} s", (trouble.what)(door)),
        evidence: Evidence::default()
            .with("count", count)
            .with("seconds", TALLY_SECONDS)
            .maybe("because", why.codes.first().copied())
            .maybe("queue_depth", listener.map(|listener| listener.depth))
            .maybe("queue_limit", listener.map(|listener| listener.limit)),
        advice: vec![trouble.advice.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        diagnose::registry::CAUSES,
        event::{Body, Death, Event, Hurt, Process, ResetSent, State, Unserved},
        model::Model,
        testing::{at, event, local_namespace, reset_sent, server_flow},
    };

    fn warned(events: impl IntoIterator<Item = Event>) -> Vec<&'static str> {
        let mut model = Model::default();
        for event in events {
            model.apply(&event);
        }
        let watches = CAUSES.iter().filter_map(|rule| rule.watch);
        watches.flat_map(|watch| watch(&model, at(3_000))).map(|warning| warning.cause).collect()
    }

    fn five_times(body: &Body) -> Vec<Event> {
        (0..5).map(|n| event(1_000 + n, body.clone())).collect()
    }

    #[test]
    fn what_a_port_does_to_clients_elsewhere_is_told_by_cause() {
        let refused = ResetSent { answers_syn: true, ..reset_sent(None, "NO_SOCKET") };
        assert_eq!(warned(five_times(&Body::ResetSent(refused))), ["upstream-refused"]);
        let hard = ResetSent { owned: true, ..reset_sent(Some(State::Close), "TCP_STATE") };
        assert_eq!(warned(five_times(&Body::ResetSent(hard.clone()))), ["upstream-reset"]);
        assert_eq!(warned(five_times(&Body::ResetSent(ResetSent { answered: true, ..hard }))), Vec::<&str>::new());
        let late = reset_sent(Some(State::Other(6)), "TCP_TIMEWAIT_SOCKET");
        assert_eq!(warned(five_times(&Body::ResetSent(late))), ["keepalive-race"]);
        let process = Process { pid: 9, comm: "gunicorn".into() };
        let death = Some(Death::Signal(9));
        let hurt = Hurt { flow: server_flow(), process, death, bytes_received: 80, bytes_sent: 0 };
        assert_eq!(warned(five_times(&Body::Hurt(Box::new(hurt)))), ["upstream-closed-early"]);
    }

    #[test]
    fn clients_that_leave_soon_are_their_own_business() {
        let left = |ms| Unserved {
            flow: server_flow(),
            new: State::CloseWait,
            accepted: true,
            reset: false,
            bytes_received: 80,
            bytes_sent: 0,
            unacked: 0,
            waited: Some(std::time::Duration::from_millis(ms)),
        };
        assert_eq!(warned(five_times(&Body::Unserved(left(2_000)))), ["upstream-timeout"]);
        assert_eq!(warned(five_times(&Body::Unserved(left(300)))), Vec::<&str>::new());
    }

    #[test]
    fn clients_on_this_host_and_single_mishaps_are_left_out() {
        let refused = Body::ResetSent(ResetSent { answers_syn: true, ..reset_sent(None, "NO_SOCKET") });
        assert_eq!(warned(five_times(&refused).into_iter().take(4)), Vec::<&str>::new());
        let mut here = local_namespace();
        if let Body::NamespaceSample(sample) = &mut here.body {
            sample.addresses.push(server_flow().remote.ip);
        }
        assert_eq!(warned([here].into_iter().chain(five_times(&refused))), Vec::<&str>::new());
    }
}
