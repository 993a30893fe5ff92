//! What goes wrong at the ports of this host, as its own side of the connections shows it: clients that are refused, reset,
//! hung up on, or kept waiting until they leave. Those on this host are left out, for their own side tells more.

use serde::{Deserialize, Serialize};

use super::window::Tally;
use crate::{
    event::{Hurt, ResetSent, State, Unserved},
    time::Time,
};

/// Reasons of a RST with which a host answers data for a connection that its application has closed
/// (`tcp_rcv_state_process` and `tcp_timewait_state_process`, net/ipv4).
pub const AFTER_CLOSE: [&str; 2] = ["TCP_ABORT_ON_DATA", "TCP_TIMEWAIT_SOCKET"];
/// A client that leaves sooner than this has not waited for long.
const WAITED: std::time::Duration = std::time::Duration::from_millis(950);

/// A port, with what went wrong there of late.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Door {
    /// SYNs refused, nobody listening.
    pub refused: Tally,
    /// Connections reset by the application before it had answered.
    pub reset: Tally,
    /// Connections reset in the accept queue, as their listener was closed.
    pub reset_queued: Tally,
    /// Connections closed by the application before it had answered.
    pub hurt: Tally,
    /// Clients that left after waiting for an answer.
    pub left_unanswered: Tally,
    /// Clients that left after waiting to be accepted.
    pub left_unaccepted: Tally,
    /// Requests that came on connections which the application had closed.
    pub after_close: Tally,
    /// The last RST sent of its own accord.
    pub last_reset: Option<ResetSent>,
    /// The last connection closed without an answer.
    pub last_hurt: Option<Hurt>,
}

impl Door {
    pub(super) fn reset_sent(&mut self, now: Time, reset: &ResetSent) {
        let after_close = reset.reason.as_deref().is_some_and(|reason| AFTER_CLOSE.contains(&reason));
        match reset.state {
            None if reset.answers_syn => self.refused.add(now),
            _ if after_close => self.after_close.add(now),
            Some(State::Close) if !reset.owned => self.reset_queued.add(now),
            Some(State::Close) if !reset.answered => self.reset.add(now),
            _ => return,
        }
        if reset.process.is_some() {
            self.last_reset = Some(reset.clone());
        }
    }

    pub(super) fn hurt(&mut self, now: Time, hurt: &Hurt) {
        self.hurt.add(now);
        self.last_hurt = Some(hurt.clone());
    }

    pub(super) fn unserved(&mut self, now: Time, unserved: &Unserved) {
        let waited = unserved.waited.is_some_and(|waited| waited >= WAITED);
        let left = unserved.new == State::CloseWait || unserved.reset;
        match unserved.accepted {
            true if left && waited && unserved.unacked == 0 => self.left_unanswered.add(now),
            false if left && waited => self.left_unaccepted.add(now),
            _ => {}
        }
    }
}
