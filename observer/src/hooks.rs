//! The logical hooks, what can carry each, what does on this kernel, and what is missing when nothing does.

mod ladder;

use std::{fmt, str::FromStr};

pub use ladder::{Fared, Forced, Ladder, Rung};
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
    /// RSTs this host sends for segments that meet no open socket: nobody listens, or the connection is in TIME_WAIT.
    ResetsWithoutSocket,
    /// What upstreams answer, and when they begin to.
    UpstreamAnswers,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 16] = [
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
        Self::ResetsWithoutSocket,
        Self::UpstreamAnswers,
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
            Self::ResetsWithoutSocket => "resets_without_socket",
            Self::UpstreamAnswers => "upstream_answers",
        }
    }

    /// What can carry it, in the order in which they are tried: who sees the most first, among equals who costs the host least.
    ///
    /// Of the tracepoints there is no classic rung below `raw_tp`: both stand and fall with `CONFIG_BPF_EVENTS` and the
    /// tracepoint itself, and a classic program sees a copy of some fields and would need tracefs and perf events besides. System
    /// calls have classic tracepoints only: their raw ones (`sys_enter`) run for every call of every process.
    ///
    /// Overflows: fentry runs for each SYN and each end of a handshake, a kprobe too but costs a trap or a call through ftrace
    /// more, a cgroup program runs for every packet of the host, and a drop reason tells of one of two paths only. Below that,
    /// rules infer them from SYNs sent again and from samples of queues.
    pub fn carriers(self) -> &'static [Carrier] {
        match self {
            Self::StateChanges
            | Self::ResetsSent
            | Self::ResetsReceived
            | Self::Retransmits
            | Self::SynAckRetransmits
            | Self::Signals
            | Self::SocketErrors => &[Carrier::TpBtf, Carrier::RawTp],
            Self::ListenOverflow => &[Carrier::Fentry, Carrier::Kprobe, Carrier::CgroupSkb, Carrier::KfreeSkb],
            Self::ResetsWithoutSocket => &[Carrier::TpBtf, Carrier::RawTp, Carrier::Fentry, Carrier::Kprobe],
            Self::Reads | Self::SocketEnds | Self::UpstreamAnswers => &[Carrier::TpBtf],
            Self::Connects | Self::Answers => &[Carrier::Tracepoint],
            Self::Sockets | Self::UnixSockets => &[Carrier::Iterator],
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
            Self::ListenOverflow => {
                "each overflow of a local accept queue; they are inferred from SYNs sent again and samples of the queue"
            }
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
            Self::ResetsWithoutSocket => {
                "RSTs of this host where no socket is open (refusals, segments that come late): only who receives them shows them"
            }
            Self::UpstreamAnswers => "the statuses of upstreams' answers, and how long upstreams take to begin them",
        }
    }

    /// What a kernel and its settings must have for that carrier.
    pub fn needs(self, carrier: Carrier) -> &'static str {
        match (self, carrier) {
            (Self::ResetsWithoutSocket, Carrier::TpBtf | Carrier::RawTp) => "6.10 or later",
            (Self::UpstreamAnswers, _) => "5.15 or later, on an x86-64",
            (_, Carrier::TpBtf) => "the tracepoint, and the kernel's types (CONFIG_DEBUG_INFO_BTF)",
            (_, Carrier::RawTp) => "the tracepoint (CONFIG_BPF_EVENTS)",
            (_, Carrier::Tracepoint) => {
                "tracepoints of system calls (CONFIG_FTRACE_SYSCALLS), a tracefs, perf events for root"
            }
            (_, Carrier::Fentry) => {
                "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, and a policy that admits programs on kernel functions"
            }
            (_, Carrier::Kprobe) => "CONFIG_KPROBE_EVENTS, and a policy that admits programs on kernel functions",
            (_, Carrier::CgroupSkb) => "CONFIG_CGROUP_BPF, and the cgroup-2 tree mounted",
            (_, Carrier::KfreeSkb) => "6.15 or later",
            (_, Carrier::Iterator) => "iterators over sockets: of TCP 5.9 or later, of unix sockets 5.15",
        }
    }

    /// What is not seen with that carrier; `None` if everything is.
    pub fn unseen_by(self, carrier: Carrier) -> Option<&'static str> {
        (carrier == Carrier::KfreeSkb)
            .then_some("SYNs dropped at a full queue, and handshakes by SYN cookie, are not seen")
    }
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|hook| hook.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|hook| hook.name()).collect();
            format!("no hook is called {text:?}; there are {}", names.join(", "))
        })
    }
}

/// What carries a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// A tracepoint, by a program that knows the kernel's types.
    TpBtf,
    /// A tracepoint, by a program to which its arguments are numbers.
    RawTp,
    /// A classic tracepoint.
    Tracepoint,
    /// The entry of a kernel function, by a program that knows the kernel's types.
    Fentry,
    /// The entry of a kernel function, by a trap. Skipped while another program on a perf event runs on that CPU (`trace_call_bpf`,
    /// kernel/trace/bpf_trace.c), which the kernel counts from 6.7 on.
    Kprobe,
    /// A cgroup program at the root of the cgroup-2 tree.
    CgroupSkb,
    /// The `kfree_skb` tracepoint's drop reason: the ACK path only.
    KfreeSkb,
    /// A BPF iterator.
    Iterator,
}

impl Carrier {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TpBtf,
        Self::RawTp,
        Self::Tracepoint,
        Self::Fentry,
        Self::Kprobe,
        Self::CgroupSkb,
        Self::KfreeSkb,
        Self::Iterator,
    ];

    /// Name in JSON and on screens.
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::CgroupSkb => "cgroup_skb",
            Self::KfreeSkb => "kfree_skb",
            Self::Iterator => "iterator",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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

impl HookStatus {
    /// What carries it, if anything does.
    pub fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Full(carrier) | Self::Partial(carrier, _) => Some(*carrier),
            Self::Missing(_) => None,
        }
    }
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
        let entries = self.0.iter().map(|(hook, status)| (hook.name().to_owned(), serde_json::json!(status.carrier())));
        serde_json::Value::Object(entries.collect())
    }
}
