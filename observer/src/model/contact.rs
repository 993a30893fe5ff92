//! What was heard from an upstream, and when: its side of connections that the proxy's side alone tells of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, Ending};
use crate::{
    event::{ConnectionEnded, State},
    time::Time,
};

/// Handshakes are told at most once in this time, so one told this long before may stand for a later one.
pub const HANDSHAKE_EVERY: Duration = Duration::from_nanos(observer_common::handshake::EVERY);

/// When something last came from an upstream, and when it last failed to. Each `None` until it happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// It completed a handshake.
    pub handshake: Option<Time>,
    /// It completed one after SYNs had to be sent again.
    pub late_handshake: Option<Time>,
    /// It refused one by a RST.
    pub refused: Option<Time>,
    /// Anything at all came.
    pub heard: Option<Time>,
    /// A connection that it had acknowledged data on ended with data sent again and again and no longer acknowledged.
    pub cut_off: Option<Time>,
    /// SYNs that it has left unanswered since anything came.
    pub unanswered_syns: u32,
}

impl Contact {
    pub(super) fn handshake(&mut self, now: Time, syn_retransmits: u16) {
        self.handshake = self.handshake.max(Some(now));
        if syn_retransmits > 0 {
            self.late_handshake = self.late_handshake.max(Some(now));
        }
        self.heard_at(now);
    }

    pub(super) fn connection_ended(&mut self, now: Time, ended: &ConnectionEnded, attempt: &Attempt) {
        if let Some(established) = ended.established {
            self.handshake(established, ended.syn_retransmits);
        }
        if let Some(idle) = ended.since_received {
            self.heard_at(now - idle);
        }
        // A FIN or a RST that ended it came just now.
        if ended.reset_received || ended.new == State::CloseWait {
            self.heard_at(now);
        }
        match attempt.ending {
            Ending::Refused { by_reset: true } => self.refused = Some(now),
            Ending::ConnectTimedOut { .. } if self.heard.is_none_or(|heard| heard < ended.started) => {
                self.unanswered_syns = self.unanswered_syns.saturating_add(1 + u32::from(ended.syn_retransmits));
            }
            Ending::NoAnswer if cut_off(ended) => self.cut_off = Some(now),
            _ => {}
        }
    }

    fn heard_at(&mut self, time: Time) {
        if self.heard < Some(time) {
            self.heard = Some(time);
            self.unanswered_syns = 0;
        }
    }

    /// Both together, as of two ports of one host.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        let heard = self.heard.max(other.heard);
        Self {
            handshake: self.handshake.max(other.handshake),
            late_handshake: self.late_handshake.max(other.late_handshake),
            refused: self.refused.max(other.refused),
            heard,
            cut_off: self.cut_off.max(other.cut_off),
            unanswered_syns: self.unanswered_syns.saturating_add(other.unanswered_syns),
        }
    }
}

/// Data was sent again at least this often on a connection that then was given up: one lost segment is repaired by the
/// first or second repetition.
const CUT_OFF_REPETITIONS: u16 = 3;

/// The connection had worked, and then nothing that was sent on it arrived, or no answer to it.
pub fn cut_off(ended: &ConnectionEnded) -> bool {
    let worked = ended.bytes_acked > 0 || ended.bytes_received > 0;
    worked && ended.unacked > 0 && ended.data_retransmits >= CUT_OFF_REPETITIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Body,
        model::Model,
        testing::{at, client_flow, connection, event, refused_connection},
    };

    fn after(ended: ConnectionEnded) -> Contact {
        let mut model = Model::default();
        model.apply(&event(2_000, Body::ConnectionEnded(Box::new(ended))));
        model.contact_with(client_flow().remote.ip)
    }

    fn silent() -> ConnectionEnded {
        ConnectionEnded {
            error: 0,
            closed_by_proxy: true,
            reset_received: false,
            syn_retransmits: 2,
            ..refused_connection()
        }
    }

    #[test]
    fn what_came_is_dated_by_what_shows_it() {
        assert_eq!(after(connection()).heard, Some(at(1)), "the handshake");
        let answered = ConnectionEnded { since_received: Some(Duration::from_millis(500)), ..connection() };
        assert_eq!(after(answered).heard, Some(at(1_500)));
        let refused = after(refused_connection());
        assert_eq!((refused.heard, refused.refused), (Some(at(2_000)), Some(at(2_000))));
        assert_eq!(after(silent()).heard, None);
    }

    #[test]
    fn unanswered_syns_are_counted_until_something_comes() {
        let mut contact = Contact::default();
        let attempt = Attempt::from_connection(at(2_000), at(2_000), &silent());
        contact.connection_ended(at(2_000), &silent(), &attempt);
        contact.connection_ended(at(2_000), &silent(), &attempt);
        assert_eq!(contact.unanswered_syns, 6);
        contact.handshake(at(3_000), 1);
        assert_eq!((contact.unanswered_syns, contact.late_handshake), (0, Some(at(3_000))));
    }

    #[test]
    fn a_connection_is_cut_off_only_if_it_had_worked() {
        let deaf = ConnectionEnded { unacked: 80, data_retransmits: 5, ..connection() };
        assert!(cut_off(&deaf));
        assert!(!cut_off(&ConnectionEnded { bytes_acked: 0, ..deaf.clone() }), "a full queue does that");
        assert!(!cut_off(&ConnectionEnded { data_retransmits: 1, ..deaf }));
    }
}
