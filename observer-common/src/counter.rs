//! The per-CPU counters. They are exact whatever happens to the ring.

use crate::Kind;

/// What is counted; the number is the index in the COUNTERS map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Connections that proxies began (`CLOSE` to `SYN_SENT`).
    ConnectionsStarted,
    /// Connections of proxies that were open before observer, and are followed since.
    ConnectionsAdopted,
    /// Connections of proxies that ended, however.
    ConnectionsEnded,
    /// connect() calls of proxies that failed at once.
    ConnectsFailed,
    /// Overflows of any accept queue by a SYN.
    ListenOverflowsSyn,
    /// Overflows of any accept queue by an ACK, [`Counter::OverflowsRetracted`] still to be taken off if a cgroup program counts.
    ListenOverflowsAck,
    /// ACKs at a full listener that turned out to belong to no handshake.
    OverflowsRetracted,
    /// RST segments sent by this host, for whatever reason, from ports and namespaces that matter; those of
    /// [`Counter::ResetsWithoutSocket`] come on top.
    ResetsSent,
    /// RST segments received on proxies' connections to upstreams.
    ResetsReceived,
    /// Retransmissions on proxies' connections to upstreams.
    Retransmits,
    /// SYN-ACKs sent again by listeners although the client had answered.
    SynAckRetransmits,
    /// Sockets of this host, with a port at either end that matters, that entered TIME_WAIT (or its FIN_WAIT2 form).
    TimeWaitsEntered,
    /// Connections that ended in an accept queue.
    Unaccepted,
    /// Listeners opened and closed.
    ListenerChanges,
    /// HTTP answers that proxies wrote in plain text.
    Answers,
    /// Those with status 502 or 504.
    AnswersFailed,
    /// Answers of 500 and above that an upstream itself had given, passed on.
    ApplicationErrors,
    /// Connections not followed because the TRIES map was full.
    TriesUntracked,
    /// connect() calls not followed because the CONNECTING map was full.
    ConnectsUntracked,
    /// SYNs dropped by full SYN queues without cookies (TCPReqQFullDrop).
    SynQueueDrops,
    /// Answers whose time to their first bytes is not known because the FIRST_BYTES map was full.
    AnswersUnmeasured,
    /// RST segments sent by this host without an open socket, where a program of its own tells of them.
    ResetsWithoutSocket,
    /// What second programs saw to, for which the kernel had skipped the first; seldom one too many, where another socket's mark took the
    /// place of the first one's.
    SkipsMadeUp,
    /// First of the losses, one counter per [`Kind`]: records that found the ring full.
    Lost,
}

impl Counter {
    /// Entries of the COUNTERS map.
    pub const SLOTS: u32 = Self::lost(Kind::ALL[Kind::ALL.len() - 1]) + 1;

    /// The slot that counts lost records of `kind`.
    pub const fn lost(kind: Kind) -> u32 {
        Self::Lost as u32 + kind as u32 - 1
    }
}
