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
