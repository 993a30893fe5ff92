//! What is known of the host, folded from Events. Sees no kernel, file, screen or clock; every table is bounded.

pub mod answers;
pub mod attempt;
pub mod bounded;
pub mod contact;
pub mod door;
pub mod flow;
pub mod holes;
pub mod listener;
pub mod namespace;
pub mod processors;
pub mod upstream;
pub mod window;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

pub use answers::Answers;
pub use attempt::{Answer, Attempt, Ending};
pub use contact::Contact;
pub use door::Door;
pub use flow::{FlowEvidence, FlowKey};
pub use holes::Holes;
pub use listener::Listener;
pub use namespace::Namespace;
pub use processors::Processors;
pub use upstream::{Upstream, UpstreamKey};

use serde::{Deserialize, Serialize};

use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    event::{
        ApplicationSample, Body, Configuration, ConnectionEnded, Counters, Event, Flow, ListenOverflow,
        ListenerChanged, ListenerSample, OverflowPath, Place, ProxySample, ResetSent, Signal, State,
    },
    time::Time,
};
use bounded::{Generations, Recent};

/// Upstreams kept; the one idle longest goes first.
pub const MAX_UPSTREAMS: usize = 1024;
/// Listeners kept; the one idle longest goes first.
pub const MAX_LISTENERS: usize = 4096;
/// Listening unix sockets kept; the one idle longest goes first.
pub const MAX_UNIX_LISTENERS: usize = 4096;
/// Network namespaces kept.
pub const MAX_NAMESPACES: usize = 512;
/// Ports of this host that are in trouble with clients elsewhere; the one quiet longest goes first.
pub const MAX_DOORS: usize = 1024;
/// Proxies' processes whose limits are kept.
pub const MAX_PROXIES: usize = 1024;
/// Proxies' configurations kept; the one told longest ago goes first.
pub const MAX_CONFIGURATIONS: usize = 64;
/// Proxies' processes whose failures are kept.
pub const MAX_FAILING: usize = 1024;
const SIGCONT: u32 = 18;
/// Processes whose last signal is kept.
pub const MAX_SIGNALS: usize = 1024;
/// Closing a listening unix socket has no event: one that the samples, a second apart, no longer show has gone.
pub const UNIX_SEEN_WITHIN: Duration = Duration::from_secs(3);
/// Connections whose server-side evidence is kept (as many as fit two hash tables of 65,536 places): up to 30 MiB, but with less of it a
/// proxy's timer of a minute would outlast what a busy listener did. Full, the oldest half goes, and is counted as evicted.
pub const MAX_FLOWS: usize = 114_688;
/// How long that evidence is kept at least: longer than the kernel's own connect timeout
/// (131 s by the defaults of tcp_syn_retries and tcp_syn_linear_timeouts; tcp_write_timeout, net/ipv4/tcp_timer.c).
pub const FLOW_MEMORY_SECONDS: u64 = 140;

/// How a proxy's process has failed of late.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    /// The last try that failed.
    pub last: Time,
    /// At what.
    pub upstream: UpstreamKey,
    /// How many have failed since one last went well.
    pub since_success: u32,
}

/// Where an address is at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In this namespace of this host.
    Here(NetNs),
    /// In several of them: it cannot be told which is meant.
    Several,
    /// On no interface of this host.
    Elsewhere,
}

/// The state of the host as the events told it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Model {
    now: Time,
    upstreams: Recent<UpstreamKey, Upstream, MAX_UPSTREAMS>,
    listeners: Recent<(NetNs, Endpoint), Listener, MAX_LISTENERS>,
    unix_listeners: Recent<(NetNs, UnixPath), Listener, MAX_UNIX_LISTENERS>,
    namespaces: Recent<NetNs, Namespace, MAX_NAMESPACES>,
    flows: Generations<FlowKey, FlowEvidence, MAX_FLOWS, FLOW_MEMORY_SECONDS>,
    signals: Recent<u32, (Time, Signal), MAX_SIGNALS>,
    continued: Recent<u32, Time, MAX_SIGNALS>,
    failures: Recent<u32, Failures, MAX_FAILING>,
    proxies: Recent<u32, (Time, ProxySample), MAX_PROXIES>,
    doors: Recent<(NetNs, Endpoint), Door, MAX_DOORS>,
    configurations: Recent<u32, Configuration, MAX_CONFIGURATIONS>,
    processors: Processors,
    counters: Counters,
    holes: Holes,
    events: u64,
}

impl Model {
    /// Takes in one event, and gives back the try that it ended, if it did.
    pub fn apply(&mut self, event: &Event) -> Option<Attempt> {
        self.now = self.now.max(event.time);
        let now = self.now;
        if !matches!(event.body, Body::Tick) {
            self.events = self.events.saturating_add(1);
        }
        match &event.body {
            Body::ConnectionEnded(ended) => return Some(self.connection_ended(event.time, ended)),
            // A resolver or a logger that is not there is no upstream.
            Body::ConnectFailed(failed) if !failed.to.is_upstream() => {}
            Body::ConnectFailed(failed) => {
                let attempt = Attempt::from_connect(now, event.time, failed);
                self.upstream_mut(attempt.upstream).connect_failed(now, &attempt);
                self.note_failure(&attempt);
                return Some(attempt);
            }
            Body::Unserved(unserved) => {
                if let Some(door) = self.door_mut(&unserved.flow) {
                    door.unserved(now, unserved);
                }
                self.flow_mut(FlowKey::of_server(&unserved.flow)).unserved = Some(Box::new(*unserved));
            }
            Body::ListenOverflow(overflow) => self.overflowed(overflow),
            Body::ListenerChanged(changed) => self.listener_changed(changed),
            Body::ResetSent(reset) => self.reset_sent(reset),
            Body::Retransmit(retransmit) => {
                let key = UpstreamKey::tcp(retransmit.flow.netns, retransmit.flow.remote);
                let second = self.upstream_mut(key).window.at(now);
                second.retransmits = second.retransmits.saturating_add(1);
            }
            Body::SynAckRetransmit(flow) => {
                let evidence = self.flow_mut(FlowKey::of_server(flow));
                evidence.synacks_again = evidence.synacks_again.saturating_add(1);
            }
            Body::ListenerSample(sample) => self.listener_sampled(sample),
            Body::NamespaceSample(sample) => {
                self.namespaces.entry(sample.netns, Namespace::default).sampled(now, sample);
                for (key, upstream) in self.upstreams.iter_mut() {
                    if key.netns == sample.netns {
                        let of_ours = sample.time_wait_by_destination.iter().find(|(to, _)| key.endpoint == Some(*to));
                        upstream.time_wait_sampled(now, of_ours.map_or(0, |(_, count)| *count));
                    }
                }
            }
            Body::Hurt(hurt) => {
                self.flow_mut(FlowKey::of_server(&hurt.flow)).hurt = Some(hurt.clone());
                if let Some(door) = self.door_mut(&hurt.flow) {
                    door.hurt(now, hurt);
                }
            }
            Body::Signal(signal) if signal.number == SIGCONT => self.continued.put(signal.to.pid, now),
            Body::Signal(signal) => {
                self.signals.put(signal.to.pid, (now, Signal::clone(signal)));
            }
            Body::ProxySample(sample) => self.proxies.put(sample.process.pid, (now, ProxySample::clone(sample))),
            Body::HostSample(sample) => self.processors.sampled(now, *sample),
            Body::UnixListenerSample(sample) => {
                let key = (sample.netns, sample.path);
                self.unix_listeners.entry(key, Listener::default).sampled_unix(now, sample);
            }
            Body::ApplicationSample(sample) => self.application_sampled(sample),
            Body::Handshake(handshake) => {
                let key = UpstreamKey::tcp(handshake.flow.netns, handshake.flow.remote);
                self.upstream_mut(key).contact.handshake(now, handshake.syn_retransmits);
            }
            Body::Counters(counters) => {
                self.holes.told(event.time, &counters.lost);
                self.counters = **counters;
            }
            Body::FirstBytes(told) => {
                let upstream = self.upstream_mut(UpstreamKey::tcp(told.netns, told.upstream));
                told.within.iter().for_each(|(nanos, count)| upstream.answers.add_within(*nanos, *count));
            }
            Body::Configuration(told) => self.configurations.put(told.master.pid, Configuration::clone(told)),
            // Outcomes and log lines are the engine's concern: it knows which try is meant.
            Body::Outcome(_) | Body::LogLine(_) | Body::LogSample(_) | Body::Tick => {}
        }
        None
    }

    fn connection_ended(&mut self, told: Time, ended: &ConnectionEnded) -> Attempt {
        let now = self.now;
        let mut attempt = Attempt::from_connection(now, told, ended);
        if attempt.ending == Ending::Abandoned {
            attempt.ending = self.ending_of_abandoned(ended, &attempt);
        }
        self.upstream_mut(attempt.upstream).connection_ended(now, ended, &attempt);
        self.note_failure(&attempt);
        attempt
    }

    fn overflowed(&mut self, overflow: &ListenOverflow) {
        let now = self.now;
        let evidence = self.flow_mut(FlowKey::of_server(&overflow.flow));
        evidence.server_netns = overflow.flow.netns;
        let first = evidence.overflows() == 0;
        match overflow.path {
            OverflowPath::Ack => evidence.overflows_ack = evidence.overflows_ack.saturating_add(1),
            OverflowPath::Syn => evidence.overflows_syn = evidence.overflows_syn.saturating_add(1),
            OverflowPath::SynQueue => {
                evidence.syn_queue_drops = evidence.syn_queue_drops.saturating_add(1);
                let listener = self.listener_at_mut(overflow.flow.netns, overflow.flow.local);
                return listener.syn_queue_dropped(now, overflow.depth, overflow.limit);
            }
        }
        (evidence.depth, evidence.limit) = (overflow.depth, overflow.limit);
        let listener = self.listener_at_mut(overflow.flow.netns, overflow.flow.local);
        listener.overflowed(now, overflow.depth, overflow.limit, first);
    }

    fn reset_sent(&mut self, reset: &ResetSent) {
        let now = self.now;
        if self.is_of_a_client(&reset.flow) {
            return;
        }
        let evidence = self.flow_mut(FlowKey::of_server(&reset.flow));
        if reset.retracts_overflow {
            evidence.overflows_ack = evidence.overflows_ack.saturating_sub(1);
        }
        evidence.reset_sent(now, reset);
        if let Some(door) = self.door_mut(&reset.flow) {
            door.reset_sent(now, reset);
        }
        if reset.retracts_overflow {
            self.listener_at_mut(reset.flow.netns, reset.flow.local).overflow_retracted(now);
        }
    }

    /// Whether the local end is that of a try at an upstream, from which nothing of the upstream can be learned. What is closed while
    /// the other side still sends is answered with a RST: on a busy proxy's host there may be as many of these as connections.
    fn is_of_a_client(&self, flow: &Flow) -> bool {
        self.upstreams.get(&UpstreamKey::tcp(flow.netns, flow.remote)).is_some()
            && self.listener_at(flow.netns, flow.local).is_none()
    }

    /// A try that the proxy gave up soon, before its socket showed anything amiss: the server's side may have.
    fn ending_of_abandoned(&self, ended: &ConnectionEnded, attempt: &Attempt) -> Ending {
        let flow = self.evidence(attempt);
        match ended.old {
            State::SynSent if flow.overflows_syn > 0 || flow.syn_queue_drops > 0 => {
                Ending::ConnectTimedOut { by_kernel: false }
            }
            State::Established if flow.overflows_ack > 0 && ended.unacked > 0 => Ending::NoAnswer,
            _ => Ending::Abandoned,
        }
    }

    /// The port of this host that a connection from elsewhere came to.
    fn door_mut(&mut self, flow: &Flow) -> Option<&mut Door> {
        if self.is_local(flow.remote.ip) {
            return None;
        }
        Some(self.doors.entry((flow.netns, flow.local), Door::default))
    }

    fn note_failure(&mut self, attempt: &Attempt) {
        let pid = attempt.proxy.pid;
        if !attempt.ending.failed() {
            // One that nobody has failed with need not be remembered.
            if self.failures.get(&pid).is_some() {
                let unfailed = Failures { last: self.now, upstream: attempt.upstream, since_success: 0 };
                self.failures.put(pid, unfailed);
            }
            return;
        }
        let before = self.failures.get(&pid).map_or(0, |failures| failures.since_success);
        let failures = Failures { last: self.now, upstream: attempt.upstream, since_success: before.saturating_add(1) };
        self.failures.put(pid, failures);
    }

    fn listener_changed(&mut self, changed: &ListenerChanged) {
        let now = self.now;
        let listener = self.listeners.entry((changed.netns, changed.at), Listener::default);
        if changed.opened {
            listener.opened(now, changed.limit, changed.process.clone());
        } else {
            listener.closed(now, changed.depth);
        }
    }

    fn listener_sampled(&mut self, sample: &ListenerSample) {
        let now = self.now;
        self.listeners.entry((sample.netns, sample.at), Listener::default).sampled(now, sample);
    }

    fn application_sampled(&mut self, sample: &ApplicationSample) {
        let &ApplicationSample { place, netns, application, .. } = sample;
        match place {
            Place::At(at) => self.listeners.entry((netns, at), Listener::default).application = application,
            Place::Path(path) => self.unix_listeners.entry((netns, path), Listener::default).application = application,
        }
    }

    fn upstream_mut(&mut self, key: UpstreamKey) -> &mut Upstream {
        self.upstreams.entry(key, Upstream::default)
    }

    fn flow_mut(&mut self, key: FlowKey) -> &mut FlowEvidence {
        let evidence = self.flows.entry(key, self.now);
        evidence.told = self.now;
        evidence
    }

    /// The evidence on a connection has served, if nothing came after `until`: its ends may be another's by then.
    pub fn forget_flow(&mut self, key: &FlowKey, until: Time) {
        if self.flows.get(key).is_some_and(|evidence| evidence.told <= until) {
            self.flows.remove(key);
        }
    }

    /// The listener that takes connections to `at` in this namespace, bound to any address perhaps; made if unknown.
    fn listener_at_mut(&mut self, netns: NetNs, at: Endpoint) -> &mut Listener {
        let any = Endpoint { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: at.port };
        let bound = [at, any].into_iter().find(|bound| self.listeners.get(&(netns, *bound)).is_some());
        self.listeners.entry((netns, bound.unwrap_or(at)), Listener::default)
    }

    /// The latest time seen.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Events taken in, ticks not counted.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The kernel's counters as last told.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When records were lost.
    pub fn holes(&self) -> &Holes {
        &self.holes
    }

    /// How the tries of a proxy's process have failed of late, if any did.
    pub fn failures(&self, pid: u32) -> Option<&Failures> {
        self.failures.get(&pid)
    }

    /// Proxies' processes as last sampled, each with when.
    pub fn proxies(&self) -> impl Iterator<Item = &(Time, ProxySample)> {
        self.proxies.iter().map(|(_, sample)| sample)
    }

    /// The configurations that proxies run with, the one told longest ago first.
    pub fn configurations(&self) -> impl Iterator<Item = &Configuration> {
        self.configurations.iter().map(|(_, told)| told).filter(|told| !told.gone)
    }

    /// A failed try was followed by another.
    pub fn retried(&mut self, key: UpstreamKey) {
        let upstream = self.upstream_mut(key);
        upstream.retried = upstream.retried.saturating_add(1);
    }

    /// The last signal that a process was sent, and when; SIGCONT apart.
    pub fn signal(&self, pid: u32) -> Option<&(Time, Signal)> {
        self.signals.get(&pid)
    }

    /// When a process was last told to go on.
    pub fn continued(&self, pid: u32) -> Option<Time> {
        self.continued.get(&pid).copied()
    }

    /// The host's processors of late.
    pub fn processors(&self) -> &Processors {
        &self.processors
    }

    /// All upstreams, the one idle longest first.
    pub fn upstreams(&self) -> impl Iterator<Item = (&UpstreamKey, &Upstream)> {
        self.upstreams.iter()
    }

    /// One upstream.
    pub fn upstream(&self, key: &UpstreamKey) -> Option<&Upstream> {
        self.upstreams.get(key)
    }

    /// All listeners, the one idle longest first.
    pub fn listeners(&self) -> impl Iterator<Item = (&(NetNs, Endpoint), &Listener)> {
        self.listeners.iter()
    }

    /// The upstream at the same address, if it is known in one namespace and this one's is not: a log names none.
    pub fn known_as(&self, key: UpstreamKey) -> UpstreamKey {
        let known = self.upstreams.iter().map(|(known, _)| *known).filter(|known| known.endpoint == key.endpoint);
        let mut known = known.filter(|_| key.endpoint.is_some() && !key.netns.known());
        match (known.next(), known.next()) {
            (Some(only), None) => only,
            _ => key,
        }
    }

    /// What was heard from an address on any of its ports, from whatever namespace.
    pub fn contact_with(&self, ip: IpAddr) -> Contact {
        let there = self.upstreams.iter().filter(|(key, _)| key.endpoint.is_some_and(|at| at.ip == ip));
        there.fold(Contact::default(), |all, (_, upstream)| all.with(&upstream.contact))
    }

    /// The namespace of this host in which connections to an address arrive, as far as addresses tell.
    pub fn home_of(&self, upstream: &UpstreamKey, netns: NetNs) -> Home {
        let Some(at) = upstream.endpoint else { return Home::Elsewhere };
        if netns.known() {
            return Home::Here(netns);
        }
        if at.ip.is_loopback() {
            return Home::Here(upstream.netns);
        }
        let having =
            self.namespaces.iter().filter(|(_, namespace)| namespace.has_address(at.ip)).map(|(netns, _)| *netns);
        let bound = self.listeners.iter().filter(|((_, bound), _)| bound.ip == at.ip).map(|((netns, _), _)| *netns);
        let mut here: Vec<_> = having.chain(bound).collect();
        here.sort_unstable();
        here.dedup();
        match here[..] {
            [] => Home::Elsewhere,
            [netns] => Home::Here(netns),
            // Where nothing listens no queue can be full: only the one with a listener is in question.
            _ => self.listener_behind(upstream, netns).map_or(Home::Several, |(netns, _, _)| Home::Here(netns)),
        }
    }

    /// All listening unix sockets.
    pub fn unix_listeners(&self) -> impl Iterator<Item = (&(NetNs, UnixPath), &Listener)> {
        self.unix_listeners.iter()
    }

    /// The unix socket that listens at this path and was seen within [`UNIX_SEEN_WITHIN`] before `now`; `None` too where there
    /// are several, in containers perhaps, for then it cannot be told which is meant.
    pub fn unix_listener(&self, path: &UnixPath, now: Time) -> Option<(NetNs, &Listener)> {
        let mut here = self
            .unix_listeners
            .iter()
            .filter(|((_, bound), listener)| bound == path && now.since(listener.seen) <= UNIX_SEEN_WITHIN);
        let ((netns, _), listener) = here.next()?;
        here.next().is_none().then_some((*netns, listener))
    }

    /// Ports of this host that have been in trouble with clients elsewhere.
    pub fn doors(&self) -> impl Iterator<Item = (&(NetNs, Endpoint), &Door)> {
        self.doors.iter()
    }

    /// The listener that takes connections to `at` in this namespace, bound to any address perhaps.
    pub fn listener_at(&self, netns: NetNs, at: Endpoint) -> Option<&Listener> {
        let any = Endpoint { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: at.port };
        [at, any].into_iter().find_map(|bound| self.listeners.get(&(netns, bound)))
    }

    /// A namespace as last sampled.
    pub fn namespace(&self, netns: NetNs) -> Option<&Namespace> {
        self.namespaces.get(&netns)
    }

    /// All namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = (&NetNs, &Namespace)> {
        self.namespaces.iter()
    }

    /// What the server's side of a try's connection told since it began.
    pub fn evidence(&self, attempt: &Attempt) -> FlowEvidence {
        let began = attempt.connection.as_ref().map_or(Time::default(), |connection| connection.started);
        let evidence = attempt.flow.as_ref().and_then(|key| self.flows.get(key));
        evidence.filter(|evidence| evidence.told >= began).cloned().unwrap_or_default()
    }

    /// Whether something that was heard of an upstream may not be known any more, or never was.
    pub fn may_have_forgotten(&self) -> bool {
        self.upstreams.evicted() > 0 || self.counters.lost.total() > 0
    }

    /// Entries dropped from full tables.
    pub fn evicted(&self) -> u64 {
        let tables = [
            self.upstreams.evicted(),
            self.listeners.evicted(),
            self.unix_listeners.evicted(),
            self.namespaces.evicted(),
            self.flows.evicted(),
            self.configurations.evicted(),
        ];
        tables.into_iter().fold(0, u64::saturating_add)
    }

    /// Whether an address is this host's, in any namespace.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.namespaces.iter().any(|(_, namespace)| namespace.has_address(ip))
    }

    /// The listener behind an upstream, if it is on this host: in `netns` where that is known from the connection
    /// itself, else in the proxy's own namespace for a loopback address, else in the one namespace that has the address.
    /// `None` too where several have it, for then it cannot be told which is meant.
    pub fn listener_behind(&self, upstream: &UpstreamKey, netns: NetNs) -> Option<(NetNs, Endpoint, &Listener)> {
        let at = upstream.endpoint?;
        let home = if netns.known() { Some(netns) } else { at.ip.is_loopback().then_some(upstream.netns) };
        if let Some(home) = home {
            return self.listener_covering(home, at);
        }
        let having = self.namespaces.iter().filter(|(_, namespace)| namespace.has_address(at.ip));
        let mut found = having.filter_map(|(netns, _)| self.listener_covering(*netns, at));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The listener in this namespace that takes connections to `at`: one on the very address hides one on any address, an
    /// open one tells more than a closed one.
    fn listener_covering(&self, netns: NetNs, at: Endpoint) -> Option<(NetNs, Endpoint, &Listener)> {
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let bound = any.into_iter().chain([at.ip]).map(|ip| Endpoint { ip, port: at.port });
        let found = bound.filter_map(|bound| Some((netns, bound, self.listeners.get(&(netns, bound))?)));
        found.max_by_key(|(_, bound, listener)| (listener.is_open(), bound.ip == at.ip))
    }
}
