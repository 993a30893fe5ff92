//! A proxy's try at an upstream, and how it ended. Only what the proxy's own socket shows; why is for the rules.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    addr::{Endpoint, UnixPath},
    event::{ConnectFailed, ConnectionEnded, Destination, Did, Head, LogLine, Outcome, Process, State},
    model::{flow::FlowKey, upstream::UpstreamKey},
    time::Time,
};

/// `EPIPE`
pub const EPIPE: u16 = 32;
/// `EADDRNOTAVAIL`
pub const EADDRNOTAVAIL: u16 = 99;
/// `ECONNRESET`
pub const ECONNRESET: u16 = 104;
/// `ETIMEDOUT`
pub const ETIMEDOUT: u16 = 110;
/// `ECONNREFUSED`
pub const ECONNREFUSED: u16 = 111;

/// A proxy that has waited this long for an answer gave up on it: its timers are set in seconds. One that closes sooner
/// does so because its client left (nginx: 499), or just says goodbye on a kept-alive connection (a TLS alert). A
/// little under a second, for stamps that are told to the jiffy.
const GAVE_UP_AFTER: Duration = Duration::from_millis(950);

/// A SYN is sent again after a second (`TCP_TIMEOUT_INIT`, include/net/tcp.h). One that is as old as this and was not is kept
/// from leaving this host: a repetition that a firewall takes away at once is none (tcp_retransmit_skb,
/// net/ipv4/tcp_output.c).
pub const SYN_OVERDUE: Duration = Duration::from_millis(1_500);

/// What fits in a TLS close_notify: a record of five bytes around an alert of two and its protection. A request is longer.
pub const GOODBYE_BYTES: u32 = 31;

/// A try at an upstream that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub time: Time,
    /// Who tried.
    pub proxy: Process,
    /// At what.
    pub upstream: UpstreamKey,
    /// How it ended.
    pub ending: Ending,
    /// Its connection, if it came to one (it has a source address then).
    pub connection: Option<ConnectionEnded>,
    /// Where the server's side of it is noted.
    pub flow: Option<FlowKey>,
    /// Time of the event that told its end: the name by which its outcome refers to it.
    pub told: Time,
    /// The proxy's answer can be expected to be seen.
    pub answers_visible: bool,
    /// What the proxy made of it, once that is known.
    pub answer: Option<Answer>,
    /// What the proxy wrote of it into its own log, if that is followed.
    pub line: Option<Arc<LogLine>>,
    /// The status that the client got by the proxy's log of requests, where its answer was not seen.
    pub logged_status: Option<u16>,
}

/// What a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The status, unless it was hidden (TLS, HTTP/2).
    pub status: Option<u16>,
    /// Who got it, where that is known.
    pub client: Option<Endpoint>,
    /// How much of a head the upstream's last answer had been when the proxy first read of it.
    pub head: Head,
    /// Payload bytes that the proxy left unread.
    pub left_unread: u32,
    /// HTTP status of that answer.
    pub upstream_status: Option<u16>,
    /// The proxy has upstreams behind unix sockets, too.
    pub unix: bool,
}

/// How a try ended, by the proxy's socket alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Nothing was outstanding: answered, idle, or never used.
    Completed,
    /// The proxy closed before any SYN had to be repeated, or soon after its request: its client left, most likely.
    Abandoned,
    /// No port was free for this destination.
    NoPort,
    /// connect() failed with this errno, at once or by what the network answered.
    ConnectError(u16),
    /// The handshake was refused.
    Refused {
        /// By a RST; else by ICMP.
        by_reset: bool,
    },
    /// The handshake was never answered.
    ConnectTimedOut {
        /// The kernel gave up; else the proxy did.
        by_kernel: bool,
    },
    /// A request was out and the proxy (or the kernel, with an error) gave up waiting.
    NoAnswer,
    /// A RST came while a request was out, or before one could be sent.
    Reset,
    /// The upstream closed while a request was out, or before one could be sent.
    ClosedEarly,
    /// The proxy wrote on a connection that the upstream had closed before.
    SentOnClosed,
    /// The upstream answered, and the proxy would not have it: it closed, and told its client of an error.
    Rejected,
    /// The proxy told its client of an error without having tried anything.
    NoTry,
}

impl Ending {
    /// Whether the network brought it about, rather than the proxy.
    pub fn by_network(self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::ConnectError(_)
            | Self::ConnectTimedOut { by_kernel: true }
            | Self::Reset
            | Self::ClosedEarly
            | Self::SentOnClosed => true,
            Self::Completed
            | Self::Abandoned
            | Self::NoPort
            | Self::ConnectTimedOut { by_kernel: false }
            | Self::NoAnswer
            | Self::Rejected
            | Self::NoTry => false,
        }
    }

    /// Whether a request failed by it, as far as the socket shows.
    pub fn failed(self) -> bool {
        !matches!(self, Self::Completed | Self::Abandoned)
    }
}

impl Attempt {
    /// The try behind a connection, whose end was `told` at a time that may lie a little before the model's.
    pub fn from_connection(time: Time, told: Time, ended: &ConnectionEnded) -> Self {
        Self {
            time,
            proxy: ended.proxy.clone(),
            upstream: UpstreamKey::tcp(ended.flow.netns, ended.flow.remote),
            ending: ending(time, ended),
            flow: Some(FlowKey::of_client(&ended.flow)),
            connection: Some(ended.clone()),
            told,
            answers_visible: ended.answers_visible,
            answer: None,
            line: None,
            logged_status: None,
        }
    }

    /// An error that the proxy answered with on its own account.
    pub fn without_try(time: Time, outcome: &Outcome) -> Self {
        Self {
            time,
            proxy: outcome.proxy.clone(),
            upstream: UpstreamKey::NONE,
            ending: Ending::NoTry,
            flow: None,
            connection: None,
            told: time,
            answers_visible: true,
            answer: Answer::of(outcome),
            line: None,
            logged_status: None,
        }
    }

    /// A request that failed by what the proxy's log says alone.
    pub fn from_line(time: Time, upstream: UpstreamKey, ending: Ending, line: Arc<LogLine>) -> Self {
        Self {
            time,
            proxy: line.process.clone(),
            upstream,
            ending,
            flow: None,
            connection: None,
            told: time,
            answers_visible: false,
            answer: None,
            line: Some(line),
            logged_status: None,
        }
    }

    /// Takes in what the proxy answered. An error told to the client shows that the try failed even where its socket alone
    /// does not.
    pub fn answered(&mut self, answer: Answer) {
        self.answer = Some(answer);
        let Some(ended) = &mut self.connection else { return };
        // The end may have been told before the proxy read what there was.
        ended.answer_status = answer.upstream_status.or(ended.answer_status);
        if self.ending.failed() || answer.status.is_none() {
            return;
        }
        self.ending = match (ended.old, ended.new) {
            (State::SynSent, _) if answer.status == Some(504) || ended.syn_retransmits > 0 => {
                Ending::ConnectTimedOut { by_kernel: false }
            }
            // It gave up at once, for a reason that was not seen.
            (State::SynSent, _) => Ending::ConnectError(0),
            (State::CloseWait, _) => Ending::SentOnClosed,
            // Its timer ended the wait. What has come since is an answer that it did not get to.
            _ if answer.status == Some(504) => Ending::NoAnswer,
            // The upstream had closed, but what it had said was all there, or more than the proxy cared to read.
            (_, State::CloseWait) if answer.head == Head::Whole || answer.left_unread > GOODBYE_BYTES => {
                Ending::Rejected
            }
            (_, State::CloseWait) => Ending::ClosedEarly,
            (_, State::Close) if ended.reset_received || ended.error != 0 => Ending::Reset,
            // The proxy closed. It did so for want of an answer, or because of the one that it got.
            _ if !ended.heard_since_asked() => Ending::NoAnswer,
            _ => Ending::Rejected,
        };
    }

    /// The try behind a connect() that failed at once.
    pub fn from_connect(time: Time, told: Time, failed: &ConnectFailed) -> Self {
        let (upstream, no_port) = match &failed.to {
            // The kernel looks for a port once it has an address and has begun (tcp_v4_connect, net/ipv4/tcp_ipv4.c):
            // without an address (IPv6 off, say) the same errno comes earlier. A port of its own that is taken for this
            // destination is the proxy's configuration.
            Destination::Tcp(flow) => (UpstreamKey::tcp(flow.netns, flow.remote), failed.began && flow.local.port == 0),
            Destination::Unix(path) => (UpstreamKey::unix(UnixPath::new(path)), false),
        };
        let ending = match failed.error {
            EADDRNOTAVAIL if no_port => Ending::NoPort,
            error => Ending::ConnectError(error),
        };
        Self {
            time,
            proxy: failed.proxy.clone(),
            upstream,
            ending,
            connection: None,
            flow: None,
            told,
            answers_visible: failed.answers_visible,
            answer: None,
            line: None,
            logged_status: None,
        }
    }

    /// The status that the client got, if it was seen.
    pub fn status(&self) -> Option<u16> {
        self.answer.and_then(|answer| answer.status)
    }
}

impl Answer {
    /// The answer in an outcome, if it is one.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let status = match outcome.did {
            Did::Answered(status) => Some(status),
            Did::Hidden => None,
            Did::Retried | Did::ClientGone => return None,
        };
        let Outcome { client, head, left_unread, upstream_status, unix, .. } = *outcome;
        Some(Self { status, client, head, left_unread, upstream_status, unix })
    }
}

impl ConnectionEnded {
    /// The connection had carried a request and its answer before the one that was out.
    pub fn reused(&self) -> bool {
        if self.written_since_read.is_some() { self.exchanges > 0 } else { self.bytes_received > 0 }
    }

    /// Something came after the last request.
    pub fn heard_since_asked(&self) -> bool {
        match self.written_since_read {
            Some(0) => self.bytes_received > 0,
            Some(_) => self.unread > 0,
            None => self.bytes_received > 0 && !self.sent_last,
        }
    }

    /// Since the request went out; without retransmissions to the jiffy, else at most this.
    pub fn waited(&self, now: Time) -> Option<Duration> {
        let since = self.last_read.or(self.established);
        // Retransmissions renew the stamp of the last payload sent, and so does a goodbye.
        let goodbye = (1..=GOODBYE_BYTES).contains(&self.unacked);
        match (self.data_retransmits, since) {
            (1.., Some(since)) => Some(now.since(since)),
            (_, Some(since)) if goodbye => Some(now.since(since)),
            _ => self.since_sent,
        }
    }

    /// How long a connection that had served lay idle before its last request.
    pub fn idle_before(&self, now: Time) -> Option<Duration> {
        let lay = now.since(self.last_read?);
        Some(lay.saturating_sub(self.since_sent.unwrap_or_default()))
    }
}

/// The socket's error. A proxy that asks for it (SO_ERROR) on another CPU clears it between the kernel's setting it and
/// the state change that shows it; the RST was seen all the same, and `tcp_reset` (net/ipv4/tcp_input.c) gives the
/// error by state.
fn error(ended: &ConnectionEnded) -> u16 {
    match (ended.error, ended.old) {
        (0, State::SynSent) if ended.reset_received => ECONNREFUSED,
        (0, State::CloseWait) if ended.reset_received => EPIPE,
        (0, _) if ended.reset_received => ECONNRESET,
        // One that the proxy was told of, and that is why it closed.
        (0, State::SynSent) => ended.soft_error,
        (error, _) => error,
    }
}

fn ending(time: Time, ended: &ConnectionEnded) -> Ending {
    let error = error(ended);
    match (ended.old, ended.new) {
        (State::SynSent, _) => match error {
            ECONNREFUSED => Ending::Refused { by_reset: ended.reset_received },
            ETIMEDOUT => Ending::ConnectTimedOut { by_kernel: true },
            0 if ended.closed_by_proxy && ended.syn_retransmits == 0 && time.since(ended.started) < SYN_OVERDUE => {
                Ending::Abandoned
            }
            0 if ended.closed_by_proxy => Ending::ConnectTimedOut { by_kernel: false },
            // Undone by shutdown() (`inet_shutdown`, net/ipv4/af_inet.c), which is how HAProxy gives up.
            0 if ended.syn_retransmits > 0 || time.since(ended.started) >= GAVE_UP_AFTER => {
                Ending::ConnectTimedOut { by_kernel: false }
            }
            0 if ended.flow.local.port == 0 => Ending::NoPort,
            // Refused within connect() with a port of its own: the very connection exists already.
            0 => Ending::ConnectError(EADDRNOTAVAIL),
            error => Ending::ConnectError(error),
        },
        (State::Established, State::FinWait1) => closed_by_proxy(time, ended),
        (State::Established, State::CloseWait) if outstanding(time, ended) => Ending::ClosedEarly,
        (State::Established, State::Close) => match error {
            ECONNRESET if outstanding(time, ended) => Ending::Reset,
            // The proxy itself resets: HAProxy ends its connections so.
            0 => closed_by_proxy(time, ended),
            ECONNRESET => Ending::Completed,
            _ if outstanding(time, ended) => Ending::NoAnswer,
            _ => Ending::Completed,
        },
        (State::CloseWait, State::Close) if error != 0 && asked_after_fin(ended) => Ending::SentOnClosed,
        // Told only where the proxy had asked for more.
        (State::CloseWait, State::Other(observer_common::state::LAST_ACK)) if asked_after_fin(ended) => {
            Ending::SentOnClosed
        }
        _ => Ending::Completed,
    }
}

/// The proxy wrote more than a goodbye after the upstream had closed.
fn asked_after_fin(ended: &ConnectionEnded) -> bool {
    match ended.written_since_read {
        Some(written) => written > GOODBYE_BYTES && ended.unread == 0,
        None => ended.unacked > GOODBYE_BYTES,
    }
}

/// A request was out, or one was about to be: nothing ever came, or what was last came from the proxy. A connection on
/// which nothing was ever sent is taken for one about to be used while it is young; later it was a spare.
fn outstanding(time: Time, ended: &ConnectionEnded) -> bool {
    let asked = ended.bytes_sent > 0 || ended.unacked > 0;
    let young = ended.established.is_some_and(|since| time.since(since) < GAVE_UP_AFTER);
    match ended.written_since_read {
        Some(written) if ended.exchanges > 0 => written > GOODBYE_BYTES && ended.unread == 0,
        _ if ended.bytes_received == 0 => asked || young,
        Some(_) => ended.unread == 0,
        None => ended.sent_last,
    }
}

/// The proxy closed an established connection. One on which it sent nothing was a health check by connect().
fn closed_by_proxy(time: Time, ended: &ConnectionEnded) -> Ending {
    let asked = ended.bytes_sent > 0 || ended.unacked > 0;
    let answered = ended.reused() || ended.bytes_received > 0;
    let waits = asked && outstanding(time, ended);
    // Retransmissions renew the stamp of the last payload sent, so the first request is timed from the handshake.
    let since_request = if answered { ended.waited(time) } else { ended.established.map(|since| time.since(since)) };
    let patient = since_request.is_none_or(|waited| waited >= GAVE_UP_AFTER) || ended.data_retransmits > 0;
    match (waits, patient) {
        (true, true) => Ending::NoAnswer,
        (true, false) if !answered || ended.written_since_read.is_some() => Ending::Abandoned,
        _ => Ending::Completed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, connection, refused_connection};

    #[test]
    fn an_answered_connection_is_no_failure_whoever_closes() {
        for new in [State::FinWait1, State::CloseWait, State::Close] {
            let answered = ConnectionEnded { new, bytes_received: 150, ..connection() };
            assert_eq!(ending(at(2_000), &answered), Ending::Completed, "{new:?}");
        }
        let reset_when_idle =
            ConnectionEnded { new: State::Close, error: ECONNRESET, bytes_received: 150, ..connection() };
        assert_eq!(ending(at(2_000), &reset_when_idle), Ending::Completed);
    }

    #[test]
    fn an_unanswered_one_is_told_by_who_ended_it() {
        let unanswered =
            |new, error| ending(at(2_000), &ConnectionEnded { new, error, bytes_received: 0, ..connection() });
        assert_eq!(unanswered(State::FinWait1, 0), Ending::NoAnswer);
        assert_eq!(unanswered(State::CloseWait, 0), Ending::ClosedEarly);
        assert_eq!(unanswered(State::Close, ECONNRESET), Ending::Reset);
    }

    #[test]
    fn a_spare_connection_that_the_upstream_closes_is_no_failure() {
        let spare = |new, error| ConnectionEnded { new, error, bytes_sent: 0, unacked: 0, ..connection() };
        for (new, error) in [(State::CloseWait, 0), (State::Close, ECONNRESET)] {
            assert_eq!(ending(at(60_000), &spare(new, error)), Ending::Completed);
            assert!(ending(at(2), &spare(new, error)).failed(), "one that was to be used at once");
        }
    }

    #[test]
    fn a_goodbye_to_an_upstream_that_has_closed_is_no_request() {
        let goodbye = |unacked| {
            let (old, new) = (State::CloseWait, State::Close);
            ConnectionEnded { old, new, error: EPIPE, bytes_received: 900, unacked, ..connection() }
        };
        assert_eq!(ending(at(2_000), &goodbye(24)), Ending::Completed);
        assert_eq!(ending(at(2_000), &goodbye(80)), Ending::SentOnClosed);
    }

    #[test]
    fn a_request_given_up_soon_is_its_clients_doing() {
        let unanswered = ConnectionEnded { new: State::FinWait1, bytes_received: 0, ..connection() };
        assert_eq!(ending(at(300), &unanswered), Ending::Abandoned);
        let repeated = ConnectionEnded { data_retransmits: 1, ..unanswered };
        assert_eq!(ending(at(300), &repeated), Ending::NoAnswer, "the upstream's side was silent already");
    }

    #[test]
    fn a_goodbye_after_an_answer_is_not_giving_up() {
        let close = |waited_ms| ConnectionEnded {
            new: State::FinWait1,
            bytes_received: 150,
            sent_last: true,
            since_sent: Some(Duration::from_millis(waited_ms)),
            ..connection()
        };
        assert_eq!(ending(at(2_000), &close(0)), Ending::Completed);
        assert_eq!(ending(at(2_000), &close(5_000)), Ending::NoAnswer);
    }

    #[test]
    fn handshakes_that_fail_are_told_apart() {
        let base = refused_connection();
        assert_eq!(ending(at(2_000), &base), Ending::Refused { by_reset: true });
        assert_eq!(
            ending(at(2_000), &ConnectionEnded { reset_received: false, ..base.clone() }),
            Ending::Refused { by_reset: false }
        );
        let silent = ConnectionEnded { error: 0, reset_received: false, ..base.clone() };
        let gave_up = ConnectionEnded { closed_by_proxy: true, ..silent.clone() };
        assert_eq!(ending(at(900), &gave_up), Ending::Abandoned);
        assert_eq!(ending(at(2_000), &gave_up), Ending::ConnectTimedOut { by_kernel: false });
        assert_eq!(
            ending(at(2_000), &ConnectionEnded { syn_retransmits: 1, ..gave_up }),
            Ending::ConnectTimedOut { by_kernel: false }
        );
        let mut no_port = ConnectionEnded { started: at(2_000), ..silent };
        no_port.flow.local.port = 0;
        assert_eq!(ending(at(2_000), &no_port), Ending::NoPort);
    }

    #[test]
    fn an_error_that_the_proxy_fetched_first_is_not_missed() {
        let fetched = ConnectionEnded { new: State::Close, error: 0, reset_received: true, ..connection() };
        assert_eq!(ending(at(2_000), &fetched), Ending::Reset);
        assert_eq!(
            ending(at(2_000), &ConnectionEnded { error: 0, ..refused_connection() }),
            Ending::Refused { by_reset: true }
        );
    }

    #[test]
    fn a_connect_check_that_sends_nothing_is_no_failure() {
        let check =
            ConnectionEnded { new: State::FinWait1, bytes_sent: 0, bytes_received: 0, unacked: 0, ..connection() };
        assert_eq!(ending(at(2_000), &check), Ending::Completed);
    }
}
