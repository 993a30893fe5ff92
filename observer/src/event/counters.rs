//! The kernel side's own totals, and what was lost on the way.

use serde::{Deserialize, Serialize};

/// See [`Body::Counters`](super::Body::Counters). Totals since attaching, exact whatever was lost on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Connections that proxies began.
    pub connections_started: u64,
    /// Connections of proxies that were open before observer, and are followed since.
    pub connections_adopted: u64,
    /// Connections of proxies that ended.
    pub connections_ended: u64,
    /// connect() calls that failed at once.
    pub connects_failed: u64,
    /// Accept-queue overflows by a SYN.
    pub listen_overflow_syn: u64,
    /// Accept-queue overflows by an ACK.
    pub listen_overflow_ack: u64,
    /// RSTs sent by this host, as far as the filters let them through.
    pub resets_sent: u64,
    /// RSTs received by proxies from upstreams.
    pub resets_received: u64,
    /// Retransmissions by proxies to upstreams.
    pub retransmits: u64,
    /// SYN-ACKs sent again to clients that had answered.
    pub synack_retransmits: u64,
    /// Sockets that entered TIME_WAIT.
    pub time_waits_entered: u64,
    /// Connections that ended in an accept queue.
    pub unaccepted: u64,
    /// Listeners opened and closed.
    pub listener_changes: u64,
    /// HTTP answers that proxies wrote in plain text.
    pub answers: u64,
    /// Those with status 502 or 504, whoever is to blame.
    pub answers_failed: u64,
    /// Answers of 500, 502, 503 or 504 that an application had given itself, passed on.
    pub application_errors: u64,
    /// SYNs dropped by full SYN queues.
    pub syn_queue_drops: u64,
    /// SYNs that full queues drop are seen on this kernel: nothing counted means that there were none.
    pub sees_syn_drops: bool,
    /// What proxies read, answer and connect to is not looked at just now, nor on some kernels are packets at full accept queues.
    pub light_look: bool,
    /// There has been such a time: what is counted of these is a lower bound.
    pub looked_away: bool,
    /// What was lost.
    pub lost: Lost,
}

/// What observer did not get to see, by kind. All zero is the normal case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// Records that found the ring full, in the order of the wire's kinds.
    #[serde(with = "by_kind")]
    pub records: [u64; observer_common::Kind::ALL.len()],
    /// Connections not followed because the kernel's table was full.
    pub tries_untracked: u64,
    /// connect() calls not followed because the kernel's table was full.
    pub connects_untracked: u64,
    /// Times that the kernel skipped a program because it was running already on that CPU, and no second one saw to it.
    pub skipped: u64,
    /// Records that could not be decoded.
    pub undecoded: u64,
    /// Connections open before observer that are not followed, for want of room.
    pub unadopted: u64,
}

impl Counters {
    /// By how much they have risen since earlier ones.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let rise = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Self {
            connections_started: rise(|it| it.connections_started),
            connections_adopted: rise(|it| it.connections_adopted),
            connections_ended: rise(|it| it.connections_ended),
            connects_failed: rise(|it| it.connects_failed),
            listen_overflow_syn: rise(|it| it.listen_overflow_syn),
            listen_overflow_ack: rise(|it| it.listen_overflow_ack),
            resets_sent: rise(|it| it.resets_sent),
            resets_received: rise(|it| it.resets_received),
            retransmits: rise(|it| it.retransmits),
            synack_retransmits: rise(|it| it.synack_retransmits),
            time_waits_entered: rise(|it| it.time_waits_entered),
            unaccepted: rise(|it| it.unaccepted),
            listener_changes: rise(|it| it.listener_changes),
            answers: rise(|it| it.answers),
            answers_failed: rise(|it| it.answers_failed),
            application_errors: rise(|it| it.application_errors),
            syn_queue_drops: rise(|it| it.syn_queue_drops),
            sees_syn_drops: self.sees_syn_drops,
            light_look: self.light_look,
            looked_away: self.looked_away,
            lost: self.lost.since(&earlier.lost),
        }
    }
}

impl Lost {
    fn since(&self, earlier: &Self) -> Self {
        let rise = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Self {
            records: std::array::from_fn(|slot| self.records[slot].saturating_sub(earlier.records[slot])),
            tries_untracked: rise(|it| it.tries_untracked),
            connects_untracked: rise(|it| it.connects_untracked),
            skipped: rise(|it| it.skipped),
            undecoded: rise(|it| it.undecoded),
            unadopted: rise(|it| it.unadopted),
        }
    }

    /// Names and numbers of all kinds, in a stable order.
    pub fn by_kind(&self) -> [(&'static str, u64); 17] {
        let [ended, unserved, connect, overflow, listener, reset, retransmit, synack, outcome, hurt, signal, handshake] =
            self.records;
        [
            ("connection_ended", ended),
            ("unserved", unserved),
            ("connect_failed", connect),
            ("listen_overflow", overflow),
            ("listener_changed", listener),
            ("reset_sent", reset),
            ("retransmit", retransmit),
            ("synack_retransmit", synack),
            ("outcome", outcome),
            ("hurt", hurt),
            ("signal", signal),
            ("handshake", handshake),
            ("tries_untracked", self.tries_untracked),
            ("connects_untracked", self.connects_untracked),
            ("programs_skipped", self.skipped),
            ("undecoded", self.undecoded),
            ("unadopted", self.unadopted),
        ]
    }

    /// Records of one kind that were lost.
    pub fn of(&self, kind: observer_common::Kind) -> u64 {
        let slot = observer_common::Kind::ALL.iter().position(|each| *each == kind);
        slot.map_or(0, |slot| self.records[slot])
    }

    /// All of it together.
    pub fn total(&self) -> u64 {
        self.by_kind().iter().fold(0, |total, (_, count)| total.saturating_add(*count))
    }
}

/// A list that may have been written when there were fewer kinds, or more.
mod by_kind {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    const KINDS: usize = observer_common::Kind::ALL.len();

    pub(super) fn serialize<S: Serializer>(records: &[u64; KINDS], serializer: S) -> Result<S::Ok, S::Error> {
        records.as_slice().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; KINDS], D::Error> {
        let mut records = [0; KINDS];
        for (place, count) in records.iter_mut().zip(Vec::<u64>::deserialize(deserializer)?) {
            *place = count;
        }
        Ok(records)
    }
}
