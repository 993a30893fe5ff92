//! Upstreams as a table shows them.

use std::time::Duration;

use crate::{
    addr::NetNs,
    event::{Application, Process},
    model::{Listener, Namespace, Upstream, UpstreamKey, window::Second},
    time::Time,
};

use super::{Folded, Quantiles, RATE_SECONDS};

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
    /// Segments sent again to it per second of late.
    pub retransmits_per_second: f64,
    /// Connections reset by it per second of late.
    pub resets_per_second: f64,
    /// The last minute, second by second, oldest first; the last is the running one.
    pub minute: Vec<Second>,
    /// Its address is this host's.
    pub local: bool,
    /// Its listener, if on this host, with namespace and bound address or path.
    pub listener: Option<(NetNs, String, Listener)>,
    /// TIME_WAIT sockets of the proxy's namespace towards it.
    pub time_wait: u32,
    /// Ephemeral ports in that namespace's range, if known.
    pub ports: Option<u32>,
    /// From connect() to the end of the handshake, of connections that were made in the last minute and have ended since: each
    /// is measured when it ends. `None` where there is none.
    pub connect: Option<Quantiles>,
    /// From when a request was sent (its last packet; the last time if it was sent again) to when the proxy read the first bytes
    /// of the answer, of answers in plain HTTP/1 or FastCGI that began in the last minute; `None` where none was measured, as with
    /// TLS to the upstream, or where the kernel does not let observer look ([`crate::event::FirstBytes`]).
    pub first_byte: Option<Quantiles>,
    /// The listener's workers against what comes in, if on this host and known.
    pub pool: Option<Pool>,
    /// When the ephemeral ports towards it are gone at this rate, if they will be: see [`Upstream::ports_gone_in`].
    pub ports_gone_in: Option<Duration>,
    /// `net.core.somaxconn` of the listener's namespace.
    pub somaxconn: Option<u32>,
    /// Failures by cause in the seconds of [`minute`](Self::minute); the most frequent cause first. A try may have to wait for
    /// its evidence, so the last seconds may still fill.
    pub by_cause: Vec<(&'static str, Vec<u32>)>,
}

/// The processes that accept from a listener, and what came to it in the last ten seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// How many there are.
    pub workers: u32,
    /// Which server they are, if that is known.
    pub application: Option<Application>,
    /// Open connections that they have accepted, as many as all workers serve at once at most ([`Listener::at_once`]): no more
    /// than that are at work. A connection that is kept open counts while it lies idle.
    pub busy: u32,
    /// Clients that came per second, those turned away among them.
    pub arrivals_per_second: f64,
    /// Connections accepted per second.
    pub accepted_per_second: f64,
    /// How long one connection takes up a worker, or one of its threads where they are known: as many as all serve at once by
    /// connections accepted per second. Told only while they are all
    /// known to be at work ([`Listener::at_capacity`]), for else that would be idle time too. Where each request has a
    /// connection of its own, as of gunicorn's sync workers, it is the time of a request.
    pub seconds_per_request: Option<f64>,
    /// Workers that it would take to accept all that come: arrivals per second by those seconds, by a worker's threads where they
    /// are known, rounded up.
    pub needed: Option<u32>,
}

impl Pool {
    fn of(listener: &Listener, now: Time) -> Option<Self> {
        let workers = listener.workers()?;
        let flux = listener.rates(now)?;
        let at_capacity = listener.at_capacity(&flux);
        Some(Self {
            workers,
            application: listener.application,
            busy: listener.accepted_open.min(listener.at_once().unwrap_or(u32::MAX)),
            arrivals_per_second: flux.comes(),
            accepted_per_second: flux.can_do(),
            seconds_per_request: listener.at_once().and_then(|at_once| flux.service(at_once)).filter(|_| at_capacity),
            needed: listener.workers_needed(&flux).filter(|_| at_capacity),
        })
    }
}

pub(super) fn row(
    key: UpstreamKey,
    upstream: &Upstream,
    Folded { engine, lately, .. }: &Folded,
    listener: Option<(NetNs, String, Listener)>,
    rate_seconds: f64,
) -> UpstreamRow {
    let model = engine.model();
    let now = model.now();
    let by_cause = lately.by_cause(&key, now);
    let mut minute = upstream.window.so_far(now);
    // A connection that ended well may have carried what its proxy made an error of.
    for (index, second) in minute.iter_mut().enumerate() {
        let told = by_cause.iter().filter_map(|(_, counts)| counts.get(index));
        second.failed = second.failed.max(told.fold(0, |sum: u32, count| sum.saturating_add(*count)));
    }
    let told = engine.incidents().iter().filter(|incident| incident.upstream == key);
    let told = told.fold(0, |sum: u64, incident| sum.saturating_add(incident.count));
    let running_and_before = usize::try_from(RATE_SECONDS + 1).unwrap_or(usize::MAX);
    let late = minute.iter().rev().take(running_and_before).copied().fold(Second::default(), Second::with);
    let per_second = |count: u32| f64::from(count) / rate_seconds;
    let ports = model.namespace(key.netns).and_then(Namespace::ports);
    let pool = listener.as_ref().and_then(|(_, _, listener)| Pool::of(listener, now));
    let home = listener.as_ref().and_then(|(netns, _, _)| model.namespace(*netns));
    UpstreamRow {
        key,
        proxy: upstream.proxy.clone(),
        tries: upstream.tries,
        failed: upstream.failed.max(told),
        tries_per_second: per_second(late.tries),
        failed_per_second: per_second(late.failed),
        retransmits_per_second: per_second(late.retransmits),
        resets_per_second: per_second(late.resets),
        minute,
        local: key.endpoint.is_none_or(|at| model.is_local(at.ip)),
        listener,
        time_wait: upstream.time_wait_estimate(),
        ports,
        connect: lately.connect(&key, now),
        first_byte: lately.first_byte(&key, now),
        pool,
        ports_gone_in: ports.and_then(|ports| upstream.ports_gone_in(ports)),
        somaxconn: home.and_then(|home| home.sample.somaxconn),
        by_cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Body, Event, ListenerSample, NamespaceSample},
        snapshot::{Frame, Snapshot},
        testing::{
            NETNS, about, endpoint, event,
            stage::{GUNICORN, SERVERS, Stage},
        },
    };

    /// Sampled every second: connections that have come so far, and how many wait.
    fn sample(second: u64, arrivals: u64, depth: u32) -> Event {
        let sample = ListenerSample {
            at: endpoint("0.0.0.0:8000"),
            netns: SERVERS,
            depth,
            limit: 128,
            process: None,
            holders: 9,
            stopped: 0,
            runnable: 0,
            accepted_open: 3,
            arrivals: Some(arrivals),
        };
        let process = Some(Process { pid: 9, comm: "gunicorn".into() });
        event(second * 1000, Body::ListenerSample(Box::new(ListenerSample { process, ..sample })))
    }

    fn time_wait(second: u64, count: u32) -> Event {
        let sample = NamespaceSample {
            netns: NETNS,
            time_wait_by_destination: vec![(endpoint(GUNICORN), count)],
            port_range: Some((40_000, 40_999)),
            ..NamespaceSample::default()
        };
        event(second * 1000, Body::NamespaceSample(Box::new(sample)))
    }

    fn row_after(events: impl IntoIterator<Item = Event>) -> UpstreamRow {
        let mut folded = Folded::default();
        let mut stage = Stage::default();
        stage.ended(0, GUNICORN, 0, crate::testing::connection());
        let addresses = vec![endpoint(GUNICORN).ip];
        let home = NamespaceSample { netns: SERVERS, addresses, somaxconn: Some(512), ..NamespaceSample::default() };
        stage.push(0, Body::NamespaceSample(Box::new(home)));
        let started = stage.events().into_iter().take(2).collect::<Vec<_>>();
        for event in started.into_iter().chain(events) {
            folded.apply(&event, &mut |_| {});
        }
        let crate::trace::About { since, wall, watching, hooks, .. } = about();
        let frame = Frame { since, wall, watching, hooks };
        Snapshot::take(&folded, &frame).upstreams.remove(0)
    }

    #[test]
    fn a_pool_at_work_tells_how_many_workers_would_do() {
        let pool = row_after((0..=8).map(|second| sample(second, 129 + second * 4, 20))).pool.unwrap();
        assert_eq!((pool.workers, pool.busy, pool.needed), (8, 3, Some(8)));
        assert!((pool.arrivals_per_second - 4.0).abs() < 1e-9 && (pool.accepted_per_second - 4.0).abs() < 1e-9);
        assert!((pool.seconds_per_request.unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn of_a_pool_with_time_to_spare_no_service_time_is_told() {
        let pool = row_after((0..=8).map(|second| sample(second, 129 + second * 4, 0))).pool.unwrap();
        assert_eq!((pool.seconds_per_request, pool.needed), (None, None));
        assert!((pool.arrivals_per_second - 4.0).abs() < 1e-9);
        assert_eq!(row_after([sample(0, 1, 0), sample(1, 5, 0)]).pool, None, "rates need some seconds");
    }

    #[test]
    fn ports_are_forecast_as_the_warning_does() {
        let row = row_after([time_wait(1, 300), time_wait(2, 400)]);
        assert_eq!((row.ports, row.ports_gone_in), (Some(1000), Some(Duration::from_secs(6))));
        assert_eq!(row_after([time_wait(1, 100), time_wait(2, 200)]).ports_gone_in, None, "too early to tell");
        assert_eq!(row_after([time_wait(1, 400), time_wait(2, 401)]).ports_gone_in, None, "it evens out before that");
        assert_eq!(row_after([sample(1, 1, 0)]).somaxconn, Some(512));
    }
}
