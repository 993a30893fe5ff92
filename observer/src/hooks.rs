//! The logical hooks, what carries each on this kernel, and what is missing when nothing does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that observer wants to see of the kernel, whatever shows it. Serialised as its [`Hook::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// State changes of TCP sockets: without them there is nothing to attribute.
    StateChanges,
    /// RSTs this host sends.
    ResetsSent,
    /// RSTs this host receives.
    ResetsReceived,
    /// Segments sent again.
    Retransmits,
    /// SYN-ACKs sent again.
    #[serde(rename = "synack_retransmits")]
    SynAckRetransmits,
    /// connect() calls and their results.
    Connects,
    /// Accept queues that overflow.
    ListenOverflow,
    /// Listeners and TIME_WAIT sockets, walked.
    Sockets,
    /// What proxies read.
    Reads,
    /// Sockets that go away for good.
    SocketEnds,
    /// What proxies answer.
    Answers,
    /// Signals that end or stop a process.
    Signals,
    /// Errors that sockets report.
    SocketErrors,
    /// Listening unix sockets, walked.
    UnixSockets,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::StateChanges,
        Self::ResetsSent,
        Self::ResetsReceived,
        Self::Retransmits,
        Self::SynAckRetransmits,
        Self::Connects,
        Self::ListenOverflow,
        Self::Sockets,
        Self::Reads,
        Self::SocketEnds,
        Self::Answers,
        Self::Signals,
        Self::SocketErrors,
        Self::UnixSockets,
    ];

    /// Name in JSON and on screens.
    pub fn name(self) -> &'static str {
        match self {
            Self::StateChanges => "state_changes",
            Self::ResetsSent => "resets_sent",
            Self::ResetsReceived => "resets_received",
            Self::Retransmits => "retransmits",
            Self::SynAckRetransmits => "synack_retransmits",
            Self::Connects => "connects",
            Self::ListenOverflow => "listen_overflow",
            Self::Sockets => "sockets",
            Self::Reads => "reads",
            Self::SocketEnds => "socket_ends",
            Self::Answers => "answers",
            Self::Signals => "signals",
            Self::SocketErrors => "socket_errors",
            Self::UnixSockets => "unix_sockets",
        }
    }

    /// What cannot be told without it.
    pub fn loss(self) -> &'static str {
        match self {
            Self::StateChanges => "nothing can be attributed",
            Self::ResetsSent => "why a local upstream reset a connection, and late resets after an overflow",
            Self::ResetsReceived => "a refusal by RST is not told from one by ICMP",
            Self::Retransmits => "connections to a silent upstream show only when the proxy gives up",
            Self::SynAckRetransmits => "one of the signs of a handshake that found the accept queue full",
            Self::Connects => "connect() errors other than exhausted ports (no route, unix sockets)",
            Self::ListenOverflow => "overflows of local accept queues are not seen",
            Self::Sockets => {
                "listeners that were there before observer, queue depths between overflows, TIME_WAIT by upstream"
            }
            Self::Reads => "requests on one kept-alive connection are told apart to the jiffy only",
            Self::SocketEnds => "some answers cannot be joined to the try that they are about",
            Self::Answers => "the statuses that clients really got; those told are what is to be expected",
            Self::SocketErrors => "an ICMP error that met a socket in use is not told from a proxy that gave up",
            Self::Signals => "who killed or stopped an upstream's process",
            Self::UnixSockets => {
                "queues of listening unix sockets: a full one shows only when a connect() is turned away"
            }
        }
    }
}

/// What carries a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// A BTF tracepoint.
    TpBtf,
    /// A classic tracepoint.
    Tracepoint,
    /// A cgroup program at the root of the cgroup-2 tree.
    CgroupSkb,
    /// The `kfree_skb` tracepoint's drop reason: the ACK path only.
    KfreeSkb,
    /// A BPF iterator.
    Iterator,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::CgroupSkb => "cgroup_skb",
            Self::KfreeSkb => "kfree_skb",
            Self::Iterator => "iterator",
        })
    }
}

/// How a hook stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookStatus {
    /// It sees everything.
    Full(Carrier),
    /// It sees part; the text says what is missing.
    Partial(Carrier, String),
    /// It sees nothing; the text says why, and what would help.
    Missing(String),
}

/// All hooks, in the order of [`Hook::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks(pub Vec<(Hook, HookStatus)>);

impl Hooks {
    /// How one of them stands.
    pub fn status(&self, hook: Hook) -> Option<&HookStatus> {
        self.0.iter().find(|(each, _)| *each == hook).map(|(_, status)| status)
    }

    /// Those that see less than everything, with a sentence each.
    pub fn degradations(&self) -> impl Iterator<Item = (Hook, String)> {
        self.0.iter().filter_map(|(hook, status)| match status {
            HookStatus::Full(_) => None,
            HookStatus::Partial(carrier, missing) => Some((*hook, format!("only by {carrier}: {missing}"))),
            HookStatus::Missing(why) => Some((*hook, format!("{why}; lost: {}", hook.loss()))),
        })
    }

    /// `{"state_changes":"tp_btf",…,"connects":null}`
    pub fn to_json(&self) -> serde_json::Value {
        let entries = self.0.iter().map(|(hook, status)| {
            let carrier = match status {
                HookStatus::Full(carrier) | HookStatus::Partial(carrier, _) => Some(carrier),
                HookStatus::Missing(_) => None,
            };
            (hook.name().to_owned(), serde_json::json!(carrier))
        });
        serde_json::Value::Object(entries.collect())
    }
}
