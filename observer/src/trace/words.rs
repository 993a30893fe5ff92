//! The words and bits of a trace. Within a version of the format none of them ever changes its meaning; new ones may come.

use crate::event::{Did, OverflowPath, State};

/// A kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`crate::event::ConnectionEnded`]
    ConnectionEnded,
    /// [`crate::event::Unserved`]
    Unserved,
    /// [`crate::event::ConnectFailed`]
    ConnectFailed,
    /// [`crate::event::ListenOverflow`]
    ListenOverflow,
    /// [`crate::event::ListenerChanged`]
    ListenerChanged,
    /// [`crate::event::ResetSent`]
    ResetSent,
    /// [`crate::event::Retransmit`]
    Retransmit,
    /// [`crate::event::Body::SynAckRetransmit`]
    SynAckRetransmit,
    /// [`crate::event::Outcome`]
    Outcome,
    /// [`crate::event::Hurt`]
    Hurt,
    /// [`crate::event::Signal`]
    Signal,
    /// [`crate::event::Handshake`]
    Handshake,
    /// [`crate::event::HostSample`]
    HostSample,
    /// [`crate::event::ProxySample`]
    ProxySample,
    /// [`crate::event::ListenerSample`]
    ListenerSample,
    /// [`crate::event::UnixListenerSample`]
    UnixListenerSample,
    /// [`crate::event::NamespaceSample`]
    NamespaceSample,
    /// [`crate::event::FirstBytes`]
    FirstBytes,
    /// [`crate::event::LogLine`]
    LogLine,
    /// [`crate::event::LogSample`]
    LogSample,
    /// [`crate::event::Configuration`]
    Configuration,
    /// [`crate::event::ApplicationSample`]
    ApplicationSample,
    /// [`crate::event::Counters`]
    Counters,
    /// [`crate::event::Body::Tick`]
    Tick,
    /// What observer said of a failed try.
    Verdict,
    /// What observer said of a condition.
    Warning,
    /// observer's whole state before the next row.
    Checkpoint,
}

impl Kind {
    /// All of them, with their names and what their rows say.
    pub const ALL: [(Self, &'static str, &'static str); 27] = [
        (
            Self::ConnectionEnded,
            "connection_ended",
            "A proxy's connection left the states in which it could carry a request. error is sk_err; upstream_status that of \
             the last answer read; detail: soft_error (errno of an error that did not end it).",
        ),
        (
            Self::Unserved,
            "unserved",
            "A client gave up a connection unserved. since_received_ns is how long it had waited, unacked counts bytes of the \
             answer.",
        ),
        (
            Self::ConnectFailed,
            "connect_failed",
            "A proxy's connect() failed at once; to an address, or to the unix socket of path.",
        ),
        (
            Self::ListenOverflow,
            "listen_overflow",
            "A full queue turned a client away. what: syn (the SYN was dropped), ack (the final ACK was), syn_queue (the SYN \
             was, by a full SYN queue without cookies).",
        ),
        (
            Self::ListenerChanged,
            "listener_changed",
            "A listener opened or closed (what: opened, closed). depth: connections in its queue, reset if it closed.",
        ),
        (
            Self::ResetSent,
            "reset_sent",
            "This host sent a RST. what: the kernel's reason, where it gives one; state: of the socket, null without one; \
             pid and comm: who sent it, for one of its own accord; detail: death (how that process was dying).",
        ),
        (Self::Retransmit, "retransmit", "A proxy's connection sent something again. what: syn or data."),
        (
            Self::SynAckRetransmit,
            "synack_retransmit",
            "A listener sent a SYN-ACK again although the handshake was complete for the client.",
        ),
        (
            Self::Outcome,
            "outcome",
            "What became of a try that a proxy let go of. what: answered (with status), hidden, retried, client_gone. unread: \
             payload that the proxy left unread; detail: told_before_ns (since the row that told of this answer before, \
             without its try).",
        ),
        (
            Self::Hurt,
            "hurt",
            "An application closed a connection with a request unanswered, or by dying (detail: death).",
        ),
        (
            Self::Signal,
            "signal",
            "The process was sent a signal that ends or stops it. detail: number, from (null for the kernel itself).",
        ),
        (
            Self::Handshake,
            "handshake",
            "An upstream completed a handshake: one a second for each upstream, and each that took more than one SYN.",
        ),
        (Self::HostSample, "host_sample", "The processors' totals since boot. detail: ticks, stolen, waited_us."),
        (Self::ProxySample, "proxy_sample", "A proxy's process as it stands. detail: open_files, open_files_limit."),
        (
            Self::ListenerSample,
            "listener_sample",
            "A listener as it stands. pid and comm: the eldest process that holds it; detail: holders, stopped, runnable, \
             accepted_open, arrivals.",
        ),
        (Self::UnixListenerSample, "unix_listener_sample", "A listening unix socket as it stands. detail: holders."),
        (
            Self::NamespaceSample,
            "namespace_sample",
            "A network namespace as it stands. detail: time_wait, time_wait_by_destination, addresses, port_range, somaxconn, \
             tw_reuse, abort_on_overflow, listen_overflows, listen_drops.",
        ),
        (
            Self::FirstBytes,
            "first_bytes",
            "How long the upstream took of late to begin its answers in plain HTTP/1 or FastCGI: from the request's last packet \
             to the proxy's first read. detail: within (pairs: nanoseconds, and how many took less than that and no less than \
             eight ninths of it; of the shortest, 9216, anything less), unmeasured (of all upstreams, since attaching).",
        ),
        (
            Self::LogLine,
            "log_line",
            "A proxy wrote of a failure into its own log, or of a request that came to one: nothing of it is more than what whoever can write there says. time: when it was \
             read; remote_* or path: the upstream; status: what the client got, of a log with a line for each request; client_port: the client's; detail: said, after_ns (since the log was last read to its end before), connection (the writer's number of the client's), request \
             (method, target: the path, client).",
        ),
        (
            Self::LogSample,
            "log_sample",
            "A proxy's log as it is followed. detail: device, inode, path, writers, requests (it has a line for each), lines (read), missed (bytes passed over), emptied (times), left (nobody writes to it any more), trouble (why it is not \
             followed).",
        ),
        (
            Self::Configuration,
            "configuration",
            "What in a proxy's configuration is known to lead to 502s: when it was first read, and when that changed. pid and comm: the \
             master; detail: file, workers, findings (code, file, line, what, fix, servers, number, only_if_seen: a mistake only where \
             measured), left_out, gone, trouble (why it could not be read).",
        ),
        (
            Self::ApplicationSample,
            "application_sample",
            "Which application server is behind a listener (local_* or path), as its processes show; told when it changes, and about \
             once a minute. pid and comm: its master, or the process itself. detail: software (gunicorn, uvicorn, uWSGI, php-fpm, puma, \
             node, java, nginx; without it nothing is known any longer), workers (processes that accept), threads (requests that each \
             serves at once, where that is a known number), event_loop (it is none).",
        ),
        (
            Self::Counters,
            "counters",
            "The kernel's own counts since attaching, exact whatever was lost. detail: by name; lost: what was lost, by kind.",
        ),
        (Self::Tick, "tick", "Everything up to this moment has been told."),
        (
            Self::Verdict,
            "verdict",
            "What observer said of a failed try at the time: time is that of the failure, remote_* or path the upstream, netns \
             the proxy's. detail: also (what else lies under it). Replaying comes to the same by itself.",
        ),
        (
            Self::Warning,
            "warning",
            "What observer warned of at the time. cause: what it leads to; detail: subject, summary.",
        ),
        (
            Self::Checkpoint,
            "checkpoint",
            "observer's state at the beginning of a segment, for itself alone. detail: base64.",
        ),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// By name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, each, _)| *each == name).map(|(kind, ..)| *kind)
    }
}

/// Bits of the column `flags`.
pub mod flag {
    macro_rules! flags {
        ($($name:ident = $bit:literal, $doc:literal;)*) => {
            $(#[doc = $doc] pub const $name: u32 = 1 << $bit;)*

            /// All of them: bit, name, meaning.
            pub const ALL: &[(u32, &str, &str)] = &[$(($bit, stringify!($name), $doc)),*];
        };
    }

    flags! {
        CLOSED_BY_PROXY = 0, "connection_ended: the proxy had closed the socket itself.";
        RESET_RECEIVED = 1, "connection_ended, unserved: a RST had come.";
        SENT_LAST = 2, "connection_ended: the last payload went out rather than came in.";
        ANSWERS_VISIBLE = 3, "connection_ended, connect_failed: the proxy's answers to its clients can be seen.";
        ACCEPTED = 4, "unserved: a process had accepted it.";
        BEGAN = 5, "connect_failed: the call had got as far as to begin a handshake.";
        ANSWERS_SYN = 6, "reset_sent: it answers a SYN.";
        OWNED = 7, "reset_sent: a process owned the socket.";
        ANSWERED = 8, "reset_sent: the socket had sent something since it last received.";
        RETRACTS_OVERFLOW = 9, "reset_sent: an overflow told before, of the same flow, was none.";
        UNIX_UPSTREAMS = 10, "outcome: the proxy has upstreams behind unix sockets.";
        HEAD_BEGUN = 11, "outcome: of the upstream's last answer a status line was seen, and no end of the head.";
        HEAD_WHOLE = 12, "outcome: the whole head was seen.";
        HEAD_LONG = 13, "outcome: a status line was seen in a read too long to be looked at.";
        OBSERVED = 14, "verdict: the status is the one that the proxy was seen to give.";
        NO_HANDSHAKE = 15, "reset_sent: a listener with a full queue answers an ACK for which it knows no handshake.";
        ANSWERS_UNWATCHED = 16, "connection_ended: nobody looked at what processes answer.";
    }
}

/// The kernel's names of the TCP states, by number (include/net/tcp_states.h).
const STATES: [&str; 13] = [
    "UNKNOWN",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// A state's name; of one without a name its number.
pub(super) fn state_name(state: State) -> std::borrow::Cow<'static, str> {
    let number = match state {
        State::Established => 1,
        State::SynSent => 2,
        State::FinWait1 => 4,
        State::Close => 7,
        State::CloseWait => 8,
        State::Listen => 10,
        State::Other(number) => number,
    };
    match STATES.get(usize::from(number)) {
        Some(name) => (*name).into(),
        None => number.to_string().into(),
    }
}

/// The state of that name or number.
pub(super) fn state_named(name: &str) -> Option<State> {
    let by_name = || STATES.iter().position(|each| *each == name).and_then(|number| u8::try_from(number).ok());
    Some(match by_name().or_else(|| name.parse().ok())? {
        1 => State::Established,
        2 => State::SynSent,
        4 => State::FinWait1,
        7 => State::Close,
        8 => State::CloseWait,
        10 => State::Listen,
        other => State::Other(other),
    })
}

pub(super) const OVERFLOW_PATHS: [(OverflowPath, &str); 3] =
    [(OverflowPath::Syn, "syn"), (OverflowPath::Ack, "ack"), (OverflowPath::SynQueue, "syn_queue")];

/// The word for what a proxy did, and the status if it answered.
pub(super) fn did_name(did: Did) -> (&'static str, Option<u16>) {
    match did {
        Did::Answered(status) => ("answered", Some(status)),
        Did::Hidden => ("hidden", None),
        Did::Retried => ("retried", None),
        Did::ClientGone => ("client_gone", None),
    }
}

pub(super) fn did_named(name: &str, status: Option<u16>) -> Option<Did> {
    match name {
        "answered" => status.map(Did::Answered),
        "hidden" => Some(Did::Hidden),
        "retried" => Some(Did::Retried),
        "client_gone" => Some(Did::ClientGone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_their_own_and_come_back() {
        for (kind, name, _) in Kind::ALL {
            assert_eq!((Kind::named(name), kind.name()), (Some(kind), name));
        }
        for number in 0..=255 {
            let state = state_named(&number.to_string()).unwrap();
            assert_eq!(state_named(&state_name(state)), Some(state));
        }
        assert_eq!(state_name(State::Other(5)), "FIN_WAIT2");
    }

    #[test]
    fn no_bit_means_two_things() {
        let mut bits: Vec<_> = flag::ALL.iter().map(|(bit, ..)| bit).collect();
        bits.dedup();
        assert_eq!(bits.len(), flag::ALL.len());
    }
}
