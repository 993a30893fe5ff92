//! Upstreams as a table shows them.

use std::time::Duration;

use crate::{
    addr::NetNs,
    event::Process,
    model::{Listener, Model, Namespace, Upstream, UpstreamKey, window::Second},
    time::Time,
};

use super::RATE_SECONDS;

/// An upstream for a table.
#[derive(Clone, Debug)]
pub struct UpstreamRow {
    /// Which.
    pub key: UpstreamKey,
    /// Who uses it.
    pub proxy: Process,
    /// Tries that ended since the start.
    pub tries: u64,
    /// Tries that failed since the start.
    pub failed: u64,
    /// Tries per second of late.
    pub tries_per_second: f64,
    /// Failures per second of late.
    pub failed_per_second: f64,
    /// The last minute, second by second, oldest first.
    pub minute: Vec<Second>,
    /// Its address is this host's.
    pub local: bool,
    /// Its listener, if on this host, with namespace and bound address or path.
    pub listener: Option<(NetNs, String, Listener)>,
    /// TIME_WAIT sockets of the proxy's namespace towards it.
    pub time_wait: u32,
    /// Ephemeral ports in that namespace's range, if known.
    pub ports: Option<u32>,
    /// From connect() to the end of the handshake, connections of the last minute; `None` where none was measured.
    pub connect: Option<Quantiles>,
    /// From a request to the first bytes of its answer, of the last minute; `None` where none was measured.
    pub first_byte: Option<Quantiles>,
    /// The listener's workers against what comes in, if on this host and known.
    pub pool: Option<Pool>,
    /// When the ephemeral ports towards it are gone at this rate, if they will be within an hour.
    pub ports_gone_in: Option<Duration>,
    /// `net.core.somaxconn` of the listener's namespace.
    pub somaxconn: Option<u32>,
    /// Failures of the last minute by cause, second by second, oldest first; the most frequent cause first.
    pub by_cause: Vec<(&'static str, Vec<u32>)>,
}

/// How times are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 in 100 took no longer.
    pub p99: Duration,
}

/// The processes that accept from a listener, and what comes to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// How many there are.
    pub workers: u32,
    /// How many of them have a connection open, at most all.
    pub busy: u32,
    /// Clients that came per second, those turned away among them.
    pub arrivals_per_second: f64,
    /// Connections accepted per second.
    pub accepted_per_second: f64,
    /// How long a worker is taken up by one, where that can be told.
    pub seconds_per_request: Option<f64>,
    /// Workers that it would take to serve all that come, where that can be told.
    pub needed: Option<u32>,
}

pub(super) fn row(
    key: UpstreamKey,
    upstream: &Upstream,
    model: &Model,
    listener: Option<(NetNs, String, Listener)>,
    since: Time,
) -> UpstreamRow {
    let now = model.now();
    let late = upstream.window.sum(now, u64::from(RATE_SECONDS));
    // Whole seconds that have been watched: at the start there are fewer.
    let watched = u32::try_from(now.seconds().saturating_sub(since.seconds())).unwrap_or(u32::MAX);
    let per_second = |count: u32| f64::from(count) / f64::from(watched.clamp(1, RATE_SECONDS));
    UpstreamRow {
        key,
        proxy: upstream.proxy.clone(),
        tries: upstream.tries,
        failed: upstream.failed,
        tries_per_second: per_second(late.tries),
        failed_per_second: per_second(late.failed),
        minute: upstream.window.last(now, crate::model::window::SECONDS),
        local: key.endpoint.is_none_or(|at| model.is_local(at.ip)),
        listener,
        time_wait: upstream.time_wait_estimate(),
        ports: model.namespace(key.netns).and_then(Namespace::ports),
        connect: None,
        first_byte: None,
        pool: None,
        ports_gone_in: None,
        somaxconn: None,
        by_cause: Vec::new(),
    }
}
