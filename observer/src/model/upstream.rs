//! Upstreams as the proxies use them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    answers::Answers,
    attempt::{Attempt, Ending},
    contact::Contact,
    window::Window,
};
use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    event::{ConnectionEnded, LONG_CONNECT, LONG_READ, Process, State},
    time::Time,
};

/// Segments of payload in which a single request fits: headers, and a body behind them.
const ONE_REQUEST_SEGMENTS: u32 = 2;
/// A connection that ends this soon after the last payload came was not kept for another request. Two of the longest
/// jiffies (HZ=100), which is as well as the kernel's time stamps can tell.
const AT_ONCE: Duration = Duration::from_millis(20);

/// A connection closed sooner than this after its last answer was not closed for lying idle.
const IDLE: Duration = Duration::from_millis(900);

/// A timer of just that long is not longer: it is told to the jiffy, and a timer goes off a little late.
const TIMERS_LATE: Duration = Duration::from_millis(500);

/// Of a smaller share of the ports in TIME_WAIT it cannot be told when the rest will be gone.
const FORECAST_SHARE: f64 = 0.25;
/// TIME_WAIT lasts this long (`TCP_TIMEWAIT_LEN`, include/net/tcp.h): growth beyond it evens out by itself.
const TIME_WAIT: Duration = Duration::from_mins(1);

/// An upstream as seen from one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UpstreamKey {
    /// The proxy's namespace; unknown when connect() failed before the kernel chose a route.
    pub netns: NetNs,
    /// Where, over TCP.
    pub endpoint: Option<Endpoint>,
    /// Where, over a unix socket.
    pub path: Option<UnixPath>,
}

impl UpstreamKey {
    /// None was tried.
    pub const NONE: Self = Self { netns: NetNs(0), endpoint: None, path: None };

    /// A TCP upstream.
    pub fn tcp(netns: NetNs, endpoint: Endpoint) -> Self {
        Self { netns, endpoint: Some(endpoint), path: None }
    }

    /// A unix socket. Paths belong to mount namespaces, which are not told apart.
    pub fn unix(path: UnixPath) -> Self {
        Self { netns: NetNs(0), endpoint: None, path: Some(path) }
    }
}

impl std::fmt::Display for UpstreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.endpoint, self.path) {
            (Some(endpoint), _) => endpoint.fmt(f),
            (None, Some(path)) => path.fmt(f),
            (None, None) => f.write_str("no upstream"),
        }
    }
}

/// What is known of an upstream. Counts are of the events that came, lower bounds when some were lost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Upstream {
    /// Tries that ended.
    pub tries: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Connections that carried one request and were closed at once.
    pub one_shot: u64,
    /// Tries that failed and were followed by another of the same request.
    pub retried: u64,
    /// Handshakes that were waited for in vain for longer than [`LONG_CONNECT`], and the longest of these waits.
    pub long_connects: (u64, Duration),
    /// Answers that were waited for in vain for longer than [`LONG_READ`], and the longest of these waits.
    pub long_waits: (u64, Duration),
    /// How long answers took to begin.
    pub answers: Answers,
    /// The last minute.
    pub window: Window,
    /// After how long it last closed a connection that lay idle.
    pub idle_close: Option<Duration>,
    /// Who uses it.
    pub proxy: Process,
    /// TIME_WAIT sockets of the proxy's namespace towards it, when last sampled.
    pub time_wait: u32,
    /// How fast that number grew between the last two samples, per second.
    pub time_wait_growth: f64,
    /// Connections that the proxy closed first since then: each left a TIME_WAIT more.
    pub time_wait_since: u32,
    time_wait_at: Option<Time>,
    /// What was heard from it.
    pub contact: Contact,
}

impl Upstream {
    pub(super) fn connection_ended(&mut self, now: Time, ended: &ConnectionEnded, attempt: &Attempt) {
        let second = self.window.at(now);
        let one_shot = attempt.ending == Ending::Completed && one_shot(ended);
        second.one_shot = second.one_shot.saturating_add(one_shot.into());
        self.one_shot = self.one_shot.saturating_add(one_shot.into());
        second.resets = second.resets.saturating_add(ended.reset_received.into());
        if ended.new == State::CloseWait && attempt.ending == Ending::Completed && ended.unread == 0 {
            let idle = ended.last_read.map(|read| now.since(read)).filter(|idle| *idle >= IDLE);
            self.idle_close = idle.or(self.idle_close);
        }
        if ended.new == State::FinWait1 {
            self.time_wait_since = self.time_wait_since.saturating_add(1);
        }
        self.waited(now, ended, attempt.ending);
        self.contact.connection_ended(now, ended, attempt);
        self.ended(now, attempt);
    }

    /// For what was waited long in vain, if anything was.
    fn waited(&mut self, now: Time, ended: &ConnectionEnded, ending: Ending) {
        let (told, waited, long) = match ending {
            Ending::ConnectTimedOut { .. } if ended.started > Time(0) => {
                (&mut self.long_connects, Some(now.since(ended.started)), LONG_CONNECT)
            }
            Ending::NoAnswer => (&mut self.long_waits, ended.waited(now), LONG_READ),
            _ => return,
        };
        if let Some(waited) = waited.filter(|waited| *waited > long + TIMERS_LATE) {
            *told = (told.0.saturating_add(1), told.1.max(waited));
        }
    }

    pub(super) fn connect_failed(&mut self, now: Time, attempt: &Attempt) {
        self.ended(now, attempt);
    }

    fn ended(&mut self, now: Time, attempt: &Attempt) {
        let failed = attempt.ending.failed();
        let second = self.window.at(now);
        second.tries = second.tries.saturating_add(1);
        second.failed = second.failed.saturating_add(failed.into());
        self.tries = self.tries.saturating_add(1);
        self.failed = self.failed.saturating_add(failed.into());
        self.proxy.clone_from(&attempt.proxy);
    }

    pub(super) fn time_wait_sampled(&mut self, now: Time, count: u32) {
        if let Some(before) = self.time_wait_at {
            let seconds = now.since(before).as_secs_f64();
            if seconds > 0.0 {
                self.time_wait_growth = (f64::from(count) - f64::from(self.time_wait)) / seconds;
            }
        }
        self.time_wait = count;
        self.time_wait_since = 0;
        self.time_wait_at = Some(now);
    }

    /// In how many seconds none of `ports` would be left if TIME_WAIT went on to grow as between the last two samples.
    pub fn seconds_left(&self, ports: u32) -> Option<f64> {
        let left = f64::from(ports.saturating_sub(self.time_wait));
        (self.time_wait_growth > 0.0).then(|| left / self.time_wait_growth)
    }

    /// When they will be gone at this rate. Told only of a good part in use already, and of no more than a minute: what is
    /// added now leaves after that, so growth that would take longer never gets there.
    pub fn ports_gone_in(&self, ports: u32) -> Option<Duration> {
        let share = f64::from(self.time_wait) / f64::from(ports.max(1));
        let left = Duration::try_from_secs_f64(self.seconds_left(ports)?).ok()?;
        (share >= FORECAST_SHARE && left <= TIME_WAIT).then_some(left)
    }

    /// TIME_WAIT sockets towards it now: the last sample, and what must have come since.
    pub fn time_wait_estimate(&self) -> u32 {
        self.time_wait.saturating_add(self.time_wait_since)
    }
}

/// Answered, and closed rather than kept: one request had a connection to itself.
fn one_shot(ended: &ConnectionEnded) -> bool {
    ended.data_segments_out <= ONE_REQUEST_SEGMENTS
        && ended.bytes_received > 0
        && ended.since_received.is_some_and(|idle| idle <= AT_ONCE)
}
