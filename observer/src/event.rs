//! The Event: everything the model and the rules ever learn comes as one of these, from the kernel, from samples of
//! the host, or from a recording. A stream of them is complete in itself.

mod application;
mod configured;
mod counters;
mod logged;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use application::{Application, ApplicationSample, Place, Software};
pub use configured::{
    Configuration, Configured, LONG_CONNECT, LONG_READ, MAX_FINDINGS, MAX_SERVERS, MAX_WORKERS, Server,
};
pub use counters::{Counters, Lost};
pub use logged::{LogLine, LogSample, MAX_METHOD, MAX_SAID, MAX_TARGET, MAX_WRITERS, Request};
use serde::{Deserialize, Serialize};

use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    text::Comm,
    time::Time,
    untrusted::{at_most, harmless},
};

/// Something that happened or was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, by the kernel's clock.
    pub time: Time,
    /// What.
    pub body: Body,
}

/// What an [`Event`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A proxy's connection left the states in which it could carry a request.
    ConnectionEnded(Box<ConnectionEnded>),
    /// A client gave up a connection unserved.
    Unserved(Unserved),
    /// A proxy's connect() failed at once.
    ConnectFailed(Box<ConnectFailed>),
    /// An accept queue overflowed.
    ListenOverflow(ListenOverflow),
    /// A listener opened or closed.
    ListenerChanged(ListenerChanged),
    /// This host sent a RST.
    ResetSent(ResetSent),
    /// A proxy's connection sent something again.
    Retransmit(Retransmit),
    /// A listener sent a SYN-ACK again although the handshake was complete for the client.
    SynAckRetransmit(Flow),
    /// What became of a try that a proxy let go of.
    Outcome(Box<Outcome>),
    /// An application closed a connection with a request unanswered, or by dying.
    Hurt(Box<Hurt>),
    /// A process was sent a signal that ends or stops it.
    Signal(Box<Signal>),
    /// The host's processors, as they stand.
    HostSample(HostSample),
    /// A proxy's process as it stands.
    ProxySample(Box<ProxySample>),
    /// A listener as it stands.
    ListenerSample(Box<ListenerSample>),
    /// A network namespace as it stands.
    NamespaceSample(Box<NamespaceSample>),
    /// The kernel's counters, totals since attaching: every second, and as soon as records are known to be lost, when all else is
    /// as told before. They are seldom told and would make every event twice as large.
    Counters(Box<Counters>),
    /// Nothing but the time.
    Tick,
    /// A listening unix socket as it stands.
    UnixListenerSample(Box<UnixListenerSample>),
    /// An upstream completed a handshake.
    Handshake(Handshake),
    /// How long an upstream took of late to begin its answers.
    FirstBytes(Box<FirstBytes>),
    /// A proxy wrote of a failure into its own log. Shared with whoever has to wait for its try.
    LogLine(Arc<LogLine>),
    /// A proxy's log as it is followed.
    LogSample(Box<LogSample>),
    /// A proxy's configuration, as far as it is known to lead to 502s.
    Configuration(Box<Configuration>),
    /// Which application server is behind a listener.
    ApplicationSample(Box<ApplicationSample>),
}

/// The ends of a connection as one socket sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The socket's own end.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// The socket's namespace.
    pub netns: NetNs,
}

/// A process, named by the kernel in its own context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process id; 0 when unknown.
    pub pid: u32,
    /// The name it gives itself: untrusted, control characters escaped.
    pub comm: Comm,
}

/// TCP states, by the kernel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// `ESTABLISHED`
    Established,
    /// `SYN_SENT`
    SynSent,
    /// `FIN_WAIT1`
    FinWait1,
    /// `CLOSE`
    Close,
    /// `CLOSE_WAIT`
    CloseWait,
    /// `LISTEN`
    Listen,
    /// Any other, by number.
    Other(u8),
}

/// See [`Body::ConnectionEnded`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the kernel saw: each is a fact of its own, no state of a machine"
)]
pub struct ConnectionEnded {
    /// The proxy's end is local.
    pub flow: Flow,
    /// The proxy.
    pub proxy: Process,
    /// connect(); zero if before observer attached.
    pub started: Time,
    /// End of the handshake, if there was one.
    pub established: Option<Time>,
    /// State before.
    pub old: State,
    /// State after.
    pub new: State,
    /// `sk_err`, 0 for none.
    pub error: u16,
    /// The proxy had closed the socket itself.
    pub closed_by_proxy: bool,
    /// A RST had come.
    pub reset_received: bool,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes that the upstream's kernel has acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Bytes written and not acknowledged, sent or not.
    pub unacked: u32,
    /// Segments with payload sent.
    pub data_segments_out: u32,
    /// Since payload was last sent, to the jiffy; `None` if never.
    pub since_sent: Option<Duration>,
    /// Since payload last came, to the jiffy; `None` if never.
    pub since_received: Option<Duration>,
    /// The last payload went out, by jiffies, rather than came in.
    pub sent_last: bool,
    /// Bytes that the proxy wrote since it last read, where its reads were seen: a request that was out, if any.
    pub written_since_read: Option<u32>,
    /// Bytes received and not read.
    pub unread: u32,
    /// HTTP status of the last answer whose head was read here.
    pub answer_status: Option<u16>,
    /// An error that did not end it, when one was last reported (an ICMP error, mostly); 0 for none.
    pub soft_error: u16,
    /// When the proxy last read.
    pub last_read: Option<Time>,
    /// Answers begun, since observer's start.
    pub exchanges: u32,
    /// The process has answered a client in plain HTTP: its answer to this try, too, can be expected to be seen.
    pub answers_visible: bool,
    /// Nobody looked at what processes answer: no outcome names it, unless that changed before the proxy let go of it.
    pub answers_unwatched: bool,
    /// SYNs sent again.
    pub syn_retransmits: u16,
    /// Other segments sent again.
    pub data_retransmits: u16,
}

/// See [`Body::Unserved`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unserved {
    /// The listener's end is local.
    pub flow: Flow,
    /// State after.
    pub new: State,
    /// A process had accepted it.
    pub accepted: bool,
    /// The client reset it.
    pub reset: bool,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Bytes of the answer that were not acknowledged.
    pub unacked: u32,
    /// Since payload last came, to the jiffy; `None` if never.
    pub waited: Option<Duration>,
}

/// See [`Body::ConnectFailed`].
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectFailed {
    /// The proxy.
    pub proxy: Process,
    /// Where it wanted to go.
    pub to: Destination,
    /// The errno, positive.
    pub error: u16,
    /// The call had got as far as to begin a handshake.
    pub began: bool,
    /// See [`ConnectionEnded::answers_visible`].
    pub answers_visible: bool,
}

/// Where a connect() wanted to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// TCP; the local port is 0 if none was free.
    Tcp(Flow),
    /// A unix socket's path, control characters escaped; an abstract one begins with `@`.
    Unix(String),
}

/// Unix sockets of the system's own services, to which the C library connects in any process: name caches, loggers, the
/// message bus, service management.
pub(crate) const SERVICES: [&str; 6] =
    ["/var/run/nscd/", "/run/nscd/", "/dev/log", "/run/systemd/", "/var/lib/sss/", "/run/dbus/"];

impl Destination {
    /// Whether it may be an upstream.
    pub fn is_upstream(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Unix(path) => !SERVICES.iter().any(|service| path.starts_with(service)),
        }
    }
}

/// The places at which a full queue turns a client away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowPath {
    /// The SYN was dropped.
    Syn,
    /// The final ACK (or data after it) was dropped, or answered with a RST.
    Ack,
    /// The SYN was dropped, by a full SYN queue without cookies: no overflow of the accept queue.
    SynQueue,
}

/// See [`Body::Outcome`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The proxy.
    pub proxy: Process,
    /// Time of the event that told how the try ended; `None` if no try is known to have come before.
    pub told: Option<Time>,
    /// What it did.
    pub did: Did,
    /// The client that it concerned, where that was looked up.
    pub client: Option<Endpoint>,
    /// How much of an HTTP head the proxy had read as the try's last answer.
    pub head: Head,
    /// Payload bytes that it left unread there.
    pub left_unread: u32,
    /// Time of the event that told of this answer before, then without its try.
    pub told_before: Option<Time>,
    /// HTTP status of the last answer whose head was read there.
    pub upstream_status: Option<u16>,
    /// The proxy has upstreams behind unix sockets, on which nothing can be followed.
    pub unix: bool,
}

/// How much of the head of an answer was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// Nothing, or it was not looked for.
    #[default]
    Unseen,
    /// A status line, and no end of the head.
    Begun,
    /// All of it.
    Whole,
    /// A status line in a read too long to be looked at.
    Long,
}

/// What a proxy did after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It answered its client in plain HTTP, with this status.
    Answered(u16),
    /// It wrote something to its client that cannot be read (TLS, HTTP/2).
    Hidden,
    /// It tried again.
    Retried,
    /// It closed its client's connection without a word.
    ClientGone,
}

/// See [`Body::Hurt`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hurt {
    /// The application's end is local.
    pub flow: Flow,
    /// The application's process.
    pub process: Process,
    /// How it was dying at that moment, if it was.
    pub death: Option<Death>,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
}

/// How a process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// By this signal.
    Signal(u8),
    /// It exited with this status.
    Exit(u8),
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(number) => write!(f, "killed by {}", signal_name(u32::from(*number))),
            Self::Exit(status) => write!(f, "exited with status {status}"),
        }
    }
}

/// The usual name of a signal.
pub fn signal_name(number: u32) -> String {
    match number {
        6 => "SIGABRT".to_owned(),
        7 => "SIGBUS".to_owned(),
        9 => "SIGKILL".to_owned(),
        11 => "SIGSEGV".to_owned(),
        15 => "SIGTERM".to_owned(),
        19 => "SIGSTOP".to_owned(),
        other => format!("signal {other}"),
    }
}

/// See [`Body::Signal`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Who sent it; `None` for the kernel itself.
    pub from: Option<Process>,
    /// Who got it.
    pub to: Process,
    /// Its number.
    pub number: u32,
}

/// See [`Body::ProxySample`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySample {
    /// Which.
    pub process: Process,
    /// Descriptors that it holds open.
    pub open_files: u64,
    /// How many it may (`RLIMIT_NOFILE`, the soft limit).
    pub open_files_limit: u64,
}

/// See [`Body::HostSample`]. Totals since boot, over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSample {
    /// Time of all processors, in clock ticks (`/proc/stat`).
    pub ticks: u64,
    /// Of it, what was stolen by the hypervisor.
    pub stolen: u64,
    /// Microseconds in which some task waited for a processor (`/proc/pressure/cpu`, `some`); `None` without PSI.
    pub waited_us: Option<u64>,
}

/// See [`Body::ListenOverflow`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListenOverflow {
    /// The listener's end is local.
    pub flow: Flow,
    /// Where in the handshake.
    pub path: OverflowPath,
    /// Connections in the queue; for the SYN queue, handshakes.
    pub depth: u32,
    /// The queue's limit, which both have in common; full means deeper than that.
    pub limit: u32,
}

/// See [`Body::ListenerChanged`].
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerChanged {
    /// Where it listens or listened.
    pub at: Endpoint,
    /// In which namespace.
    pub netns: NetNs,
    /// Who did it.
    pub process: Process,
    /// It opened; else it closed.
    pub opened: bool,
    /// Connections in the queue, reset if it closed.
    pub depth: u32,
    /// The queue's limit.
    pub limit: u32,
}

/// See [`Body::ResetSent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "as above")]
pub struct ResetSent {
    /// The sender's end is local.
    pub flow: Flow,
    /// The sending process, for a RST of its own accord.
    pub process: Option<Process>,
    /// Name of the reason without its prefix (`NO_SOCKET`), if this kernel gives one.
    #[serde(deserialize_with = "harmless")]
    pub reason: Option<String>,
    /// The socket's state; `None` without a socket.
    pub state: Option<State>,
    /// It answers a SYN.
    pub answers_syn: bool,
    /// A process owned the socket.
    pub owned: bool,
    /// It had sent something since it last received.
    pub answered: bool,
    /// Bytes received that nobody had read.
    pub unread: u32,
    /// For a listener: connections in its queue.
    pub depth: u32,
    /// For a listener: the queue's limit.
    pub limit: u32,
    /// A listener with a full queue answers an ACK for which it knows no handshake.
    pub no_handshake: bool,
    /// So an overflow told before, of the same flow, was none: where every packet is looked at before the kernel does.
    pub retracts_overflow: bool,
    /// How the sending process was dying, if it was.
    pub death: Option<Death>,
}

/// See [`Body::Retransmit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retransmit {
    /// The proxy's end is local.
    pub flow: Flow,
    /// A SYN; else data.
    pub syn: bool,
}

/// See [`Body::ListenerSample`].
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSample {
    /// Where it listens.
    pub at: Endpoint,
    /// In which namespace.
    pub netns: NetNs,
    /// Connections in the accept queue.
    pub depth: u32,
    /// Its limit.
    pub limit: u32,
    /// The process that holds it, the eldest if there are several.
    pub process: Option<Process>,
    /// How many processes hold it.
    pub holders: u32,
    /// How many of them are stopped (state `T`); looked at only while connections wait.
    pub stopped: u32,
    /// How many of them run or want to (state `R`); likewise.
    pub runnable: u32,
    /// Open connections that they have accepted, on any address of the port.
    pub accepted_open: u32,
    /// Connections that have come to its accept queue since observer attached; those to other addresses of the same port
    /// and namespace are among them. `None` if none has.
    pub arrivals: Option<u64>,
}

/// See [`Body::Handshake`]. At most one a second for each upstream, and each that took more than one SYN; at the start also
/// one for each upstream to which a connection is open already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Handshake {
    /// The proxy's end is local.
    pub flow: Flow,
    /// SYNs that had to be sent again.
    pub syn_retransmits: u16,
}

/// See [`Body::FirstBytes`]. Told about once a second of each upstream that began answers, plain HTTP/1 and FastCGI alone: from
/// when the request was sent (its last packet; the last time if it was sent again) to when the proxy read the first bytes of the
/// answer. A lower bound: of answers that several processors counted at once one may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstBytes {
    /// The proxy's namespace.
    pub netns: NetNs,
    /// The upstream.
    pub upstream: Endpoint,
    /// Nanoseconds, and how many took less than that, but no less than eight ninths of it (of the shortest, 9216: anything
    /// less); the shortest first, at most [`MAX_WITHIN`].
    pub within: Vec<(u64, u32)>,
    /// Answers of any upstream that were not measured for want of room, since observer attached.
    pub unmeasured: u64,
}

/// Widths of time that are told apart.
pub const MAX_WITHIN: usize = observer_common::latency::BUCKETS;

/// See [`Body::UnixListenerSample`].
#[derive(Clone, Debug, PartialEq)]
pub struct UnixListenerSample {
    /// Where it is bound.
    pub path: UnixPath,
    /// In which network namespace it was made.
    pub netns: NetNs,
    /// Connections that wait to be accepted.
    pub depth: u32,
    /// How many may; one more than that is full.
    pub limit: u32,
    /// The process that holds it, the eldest if there are several.
    pub process: Option<Process>,
    /// How many processes hold it.
    pub holders: u32,
}

/// See [`Body::NamespaceSample`]. What a sysctl or counter is called there; `None` where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSample {
    /// Which one.
    pub netns: NetNs,
    /// TIME_WAIT sockets (sockstat `tw`), FIN_WAIT2 stand-ins among them.
    pub time_wait: u32,
    /// The same by destination, the busiest first, at most [`MAX_DESTINATIONS`].
    #[serde(deserialize_with = "at_most::<MAX_DESTINATIONS, _, _, _>")]
    pub time_wait_by_destination: Vec<(Endpoint, u32)>,
    /// Addresses of its interfaces.
    pub addresses: Vec<IpAddr>,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub port_range: Option<(u16, u16)>,
    /// `net.core.somaxconn`
    pub somaxconn: Option<u32>,
    /// `net.ipv4.tcp_tw_reuse`
    pub tw_reuse: Option<u32>,
    /// `net.ipv4.tcp_abort_on_overflow`
    pub abort_on_overflow: Option<u32>,
    /// `ListenOverflows` since the namespace began.
    pub listen_overflows: Option<u64>,
    /// `ListenDrops` since the namespace began.
    pub listen_drops: Option<u64>,
}

/// Destinations told per namespace and sample; the rest is in the total only.
pub const MAX_DESTINATIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_services_are_no_upstreams() {
        // What glibc asks for at each start of nginx, for the name of its user.
        assert!(!Destination::Unix("/var/run/nscd/socket".into()).is_upstream());
        assert!(Destination::Unix("/run/gunicorn.sock".into()).is_upstream());
    }
}
