//! When to look closely. Programs that run for every read, write and packet of a host tell what became of a try to the client
//! that waits for it, and cost a busy proxy several per cent. They are attached at first, while something goes wrong and for
//! some time after, and in between for a moment every few seconds, so that nothing goes wrong for long unseen that the
//! cheap programs cannot see. An overflow that only the kernel's own count shows is trouble too, and so is a proxy with upstreams
//! behind unix sockets, whose failures nothing else shows. What goes wrong now and then and shows in none of all that (a malformed
//! answer, a connect() that fails at once) may be missed: counters say that there was such a time.

use std::time::Duration;

use crate::{
    event::{Body, ConnectionEnded, Did, State},
    kernel::look::When,
    time::Time,
};

/// How long observer looks closely at first: who attaches to a host in trouble sees the trouble within it.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How long it goes on looking closely after the last sign of trouble. Faults that come back every few minutes are seen whole
/// from the second time on.
const STAY: Duration = Duration::from_mins(10);
/// How long it looks when nothing seems wrong: long enough for an answer without a try to be believed
/// ([`observer_common::look::SETTLED`]), and for some of each hundred answers of a proxy that is worth watching.
const GLANCE: Duration = Duration::from_millis(300);
/// How often it does.
const GLANCE_EVERY: Duration = Duration::from_secs(15);

/// How closely the host is being looked at. Time is an argument.
#[derive(Debug)]
pub(super) struct Attention {
    when: When,
    /// Until when to look closely.
    until: Time,
    /// When the next glance is due.
    glance: Time,
}

impl Attention {
    pub(super) fn new(when: When, now: Time) -> Self {
        Self { when, until: now + FIRST_LOOK, glance: now + FIRST_LOOK + GLANCE_EVERY }
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self, now: Time) {
        self.until = self.until.max(now + STAY);
    }

    /// Whether to look closely now.
    pub(super) fn closely(&mut self, now: Time) -> bool {
        if now >= self.glance {
            self.until = self.until.max(now + GLANCE);
        }
        if now < self.until {
            self.glance = self.until + GLANCE_EVERY;
        }
        match self.when {
            When::Auto => now < self.until,
            When::Always => true,
            When::Never => false,
        }
    }

    /// When that may change without any trouble.
    pub(super) fn next(&self, now: Time) -> Option<Time> {
        (self.when == When::Auto).then_some(if now < self.until { self.until } else { self.glance })
    }
}

/// Whether something goes wrong, or is about to. In doubt it does: to look costs less than to miss.
pub(super) fn is_trouble(body: &Body) -> bool {
    match body {
        Body::ConnectionEnded(ended) => ended_badly(ended),
        Body::Retransmit(sent) => sent.syn,
        Body::Outcome(outcome) => !matches!(outcome.did, Did::Answered(..500)),
        // Who waits for an answer in an accept queue. Clients that leave later are every busy site's, and load balancers that try
        // every few seconds whether a port can be connected to send nothing.
        Body::Unserved(unserved) => !unserved.accepted && unserved.bytes_received > 0,
        Body::ListenerSample(sample) => half_full(sample.depth, sample.limit),
        Body::UnixListenerSample(sample) => half_full(sample.depth, sample.limit),
        Body::ConnectFailed(_)
        | Body::ListenOverflow(_)
        | Body::SynAckRetransmit(_)
        | Body::Hurt(_)
        | Body::Signal(_) => true,
        // A line about a request may be of an error of the application's own, and some have those all day.
        Body::LogLine(line) => line.status.is_none(),
        Body::ResetSent(_)
        | Body::ListenerChanged(_)
        | Body::HostSample(_)
        | Body::ProxySample(_)
        | Body::NamespaceSample(_)
        | Body::Counters(_)
        | Body::Tick
        | Body::Handshake(_)
        | Body::LogSample(_)
        | Body::Configuration(_)
        | Body::ApplicationSample(_)
        | Body::FirstBytes(_) => false,
    }
}

fn half_full(depth: u32, limit: u32) -> bool {
    depth > limit / 2
}

/// Not after an answer, or not as a connection ends that went well. Payload may be unread at the end of one that did: an upstream
/// closes behind its answer.
fn ended_badly(ended: &ConnectionEnded) -> bool {
    ended.old == State::SynSent
        || ended.error != 0
        || ended.soft_error != 0
        || ended.reset_received
        || ended.bytes_received == 0
        || ended.unacked > 0
        || ended.sent_last
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        event::{LogLine, Unserved},
        testing::{at, refused_connection},
    };

    #[test]
    fn a_quiet_host_is_looked_at_closely_at_first_and_then_at_a_glance() {
        let mut attention = Attention::new(When::Auto, at(0));
        let looks: Vec<_> = (0..60_000).step_by(100).filter(|now| attention.closely(at(*now))).collect();
        let closely: Vec<_> = (0..10_000).chain(25_000..25_300).chain(40_300..40_600).chain(55_600..55_900).collect();
        assert_eq!(looks, closely.into_iter().filter(|now| now % 100 == 0).collect::<Vec<_>>());
    }

    #[test]
    fn trouble_is_looked_at_for_as_long_as_it_may_come_back() {
        let mut attention = Attention::new(When::Auto, at(0));
        assert!(!attention.closely(at(12_000)));
        attention.trouble(at(12_000));
        assert!(attention.closely(at(12_000)) && attention.closely(at(12_000) + STAY - Duration::from_millis(1)));
        assert_eq!(attention.next(at(13_000)), Some(at(12_000) + STAY));
        assert!(!attention.closely(at(12_000) + STAY));
        assert_eq!(attention.next(at(12_000) + STAY), Some(at(12_000) + STAY + GLANCE_EVERY));
    }

    #[test]
    fn always_and_never_mean_what_they_say() {
        let mut always = Attention::new(When::Always, at(0));
        let mut never = Attention::new(When::Never, at(0));
        never.trouble(at(5));
        assert!(always.closely(at(3_600_000)) && !never.closely(at(6)));
        assert_eq!((always.next(at(0)), never.next(at(0))), (None, None));
    }

    #[test]
    fn an_error_of_the_applications_own_in_a_log_of_requests_is_no_trouble() {
        let line = |status| Body::LogLine(Arc::new(LogLine { status, ..LogLine::default() }));
        assert!(is_trouble(&line(None)) && !is_trouble(&line(Some(500))));
    }

    #[test]
    fn a_connection_that_went_well_is_no_trouble() {
        let well = ConnectionEnded {
            old: State::Established,
            error: 0,
            bytes_received: 100,
            reset_received: false,
            ..refused_connection()
        };
        assert!(!ended_badly(&well), "{well:?}");
        for badly in [
            refused_connection(),
            ConnectionEnded { bytes_received: 0, ..well.clone() },
            ConnectionEnded { sent_last: true, ..well.clone() },
        ] {
            assert!(is_trouble(&Body::ConnectionEnded(Box::new(badly))));
        }
    }

    #[test]
    fn clients_that_leave_are_trouble_only_if_they_waited_to_be_accepted() {
        let given_up = |accepted, bytes_received| {
            is_trouble(&Body::Unserved(Unserved {
                flow: refused_connection().flow,
                new: State::CloseWait,
                accepted,
                reset: false,
                bytes_received,
                bytes_sent: 0,
                unacked: 0,
                waited: None,
            }))
        };
        assert!(given_up(false, 40) && !given_up(false, 0) && !given_up(true, 40));
    }
}
