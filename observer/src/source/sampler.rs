//! The kernel thread: holds the attached programs, and samples what has no event of its own (queue depths, TIME_WAIT,
//! sysctls, counters) in every network namespace of the host.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::fd::AsFd as _,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use nix::sched::{CloneFlags, setns};
use observer_common::{COMM_LEN, Task, listener::Sample};

use super::{
    attention::Attention,
    procs::{self, Owners},
};
use crate::{
    addr::{Endpoint, NetNs},
    event::{Body, Event, ListenerSample, MAX_DESTINATIONS, NamespaceSample, Process, ProxySample, UnixListenerSample},
    hooks::Hooks,
    host,
    kernel::{
        Kernel, LoadError, Options,
        decode::Decoder,
        first_bytes::Read,
        losses::Losses,
        memory,
        statistics::Statistics,
        walk::{Open, Walked},
        walk_unix::UnixListener,
    },
    time::Time,
};

/// Between two rounds of samples.
pub const EVERY: Duration = Duration::from_secs(1);
/// Processor time that a round may take: a walk goes through the host's whole table of connections, whichever the namespace.
/// Waiting for a processor costs nobody anything, and a busy host is when samples matter. What does not fit takes its turn in the
/// next rounds; only the first round looks at all.
pub const ROUND_BUDGET: Duration = Duration::from_millis(20);
/// After a round nothing is sampled for this many times the processor time that it took: 2 % of a core at most while the host is
/// looked at closely, a quarter of a per cent else.
const PAUSE_CLOSELY: u32 = 50;
const PAUSE_LIGHTLY: u32 = 400;
/// But no longer than this, however many connections the host has. What a close look finds is judged by samples that are fresh
/// (`UNIX_SEEN_WITHIN` in the model).
const MAX_PAUSE_CLOSELY: Duration = Duration::from_secs(2);
const MAX_PAUSE_LIGHTLY: Duration = Duration::from_secs(15);

/// One round of samples.
pub(super) struct Round {
    pub(super) events: Vec<Event>,
    /// There will be no other: the thread detaches now.
    pub(super) last: bool,
    /// Why the host cannot be looked at closely, though that is wanted.
    pub(super) trouble: Option<String>,
}

/// What the kernel thread hands over when everything is attached.
pub(super) struct Attached {
    pub(super) ring: RingBuf<MapData>,
    pub(super) decoder: Decoder,
    pub(super) losses: Losses,
    pub(super) hooks: Hooks,
    pub(super) statistics: Statistics,
}

/// The thread's whole life: attach, say so, sample until stopped, sample once more, detach.
pub(super) fn run(
    options: &Options,
    attached: &SyncSender<Result<Attached, LoadError>>,
    samples: &SyncSender<Round>,
    alarms: &Receiver<()>,
) {
    let owners = Owners::early();
    let started = Kernel::attach(options).and_then(|mut kernel| {
        let ring = kernel.take_ring()?;
        let (decoder, hooks) = (kernel.decoder(), kernel.hooks());
        let losses = kernel.losses()?;
        let ready = Attached { ring, decoder, losses, hooks, statistics: kernel.statistics() };
        Ok((kernel, ready))
    });
    let (mut kernel, ready) = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = attached.send(Err(error));
            return;
        }
    };
    let mut logger = if options.verbose { kernel.take_logger() } else { None };
    let mut rounds = Sampler {
        kernel: &mut kernel,
        owners,
        turn: 0,
        first: true,
        only: options.netns,
        unix: options.ports.is_empty(),
        proxies: Proxies { names: &options.proxies, known: Vec::new(), rounds: 0 },
        first_bytes: Read::default(),
        overflows: HashMap::new(),
    };
    // The programs are attached, so that a connection which ends meanwhile is seen to end. What cannot be taken over stays
    // unfollowed, and one that cannot be walked says so in the status of its hook.
    let held = held_by_proxies(rounds.kernel, options);
    let _ = rounds.kernel.adopt(&held);
    let first = Round { events: rounds.round(), last: false, trouble: None };
    let _ = rounds.kernel.adopted(&held);
    drop(held);
    if samples.send(first).is_err() || attached.send(Ok(ready)).is_err() {
        return;
    }
    memory::give_back();
    let mut attention = Attention::new(options.look, host::now());
    let mut next = host::now() + EVERY;
    let _ = rounds.kernel.look(attention.closely(host::now()));
    loop {
        let mut now = host::now();
        let due = attention.next(now).map_or(next, |look| look.min(next));
        let stop = match alarms.recv_timeout(due.since(now)) {
            Ok(()) => {
                attention.trouble(host::now());
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        now = host::now();
        let looked = rounds.kernel.look(attention.closely(now));
        if looked == Ok(true) && rounds.kernel.looks_closely() {
            next = next.min(now);
        }
        if now < next && !stop && matches!(looked, Ok(false)) {
            continue;
        }
        if let Some(logger) = &mut logger {
            logger.flush();
        }
        let mut events = Vec::new();
        if now >= next || stop {
            let begun = host::processor_time();
            events = rounds.round();
            rounds.kernel.mind_skips();
            if rounds.needs_a_close_look(&events) {
                attention.trouble(host::now());
            }
            let took = host::processor_time().saturating_sub(begun);
            let pause = if rounds.kernel.looks_closely() {
                (took * PAUSE_CLOSELY).min(MAX_PAUSE_CLOSELY)
            } else {
                (took * PAUSE_LIGHTLY).min(MAX_PAUSE_LIGHTLY)
            };
            next = (next + EVERY).max(now + pause);
        } else {
            rounds.count(&mut events);
        }
        if samples.send(Round { events, last: stop, trouble: looked.err() }).is_err() || stop {
            return;
        }
    }
}

/// The sockets that proxies hold. Their processes are known as proxies from now on.
fn held_by_proxies(kernel: &mut Kernel, options: &Options) -> Vec<Open> {
    let proxies = procs::processes_of(&options.proxies);
    let known: Vec<_> = proxies.iter().map(|process| (process.pid, crate::proxy::threading(&process.comm))).collect();
    // Those that do not fit are recognised when they next connect.
    let _ = kernel.recognise(&known);
    procs::sockets_of(&proxies).into_iter().map(|(inode, process)| (inode, task(&process))).collect()
}

fn matters(only: Option<NetNs>, netns: NetNs) -> bool {
    only.is_none_or(|only| only == netns)
}

fn task(process: &Process) -> Task {
    let mut comm = [0; COMM_LEN];
    for (to, from) in comm.iter_mut().take(COMM_LEN - 1).zip(process.comm.bytes()) {
        *to = from;
    }
    Task { pid: process.pid, tid: process.pid, comm }
}

/// Whether an accept queue of some namespace has overflowed since it was sampled before.
fn overflowed(before: &mut HashMap<NetNs, u64>, events: &[Event]) -> bool {
    let mut any = false;
    for event in events {
        if let Body::NamespaceSample(sample) = &event.body
            && let Some(overflows) = sample.listen_overflows
        {
            any |= before.insert(sample.netns, overflows).is_some_and(|before| overflows > before);
        }
    }
    any
}

/// Calls `visit` in each of these namespaces that still exists and may be entered, until it says no, and comes back.
pub(super) fn visit_namespaces(namespaces: &[(NetNs, PathBuf)], mut visit: impl FnMut(NetNs) -> bool) {
    let home = File::open("/proc/thread-self/ns/net");
    for (netns, path) in namespaces {
        let entered = File::open(path).is_ok_and(|file| setns(file.as_fd(), CloneFlags::CLONE_NEWNET).is_ok());
        if entered && !visit(*netns) {
            break;
        }
    }
    if let Ok(home) = home {
        let _ = setns(home.as_fd(), CloneFlags::CLONE_NEWNET);
    }
}

struct Sampler<'a> {
    kernel: &'a mut Kernel,
    owners: Owners,
    /// Where the next round begins among the namespaces.
    turn: usize,
    /// No round has been made yet.
    first: bool,
    /// The only namespace that matters.
    only: Option<NetNs>,
    /// Unix sockets matter too: not where the filter is a port.
    unix: bool,
    proxies: Proxies<'a>,
    first_bytes: Read,
    /// Each namespace's `ListenOverflows` as last sampled.
    overflows: HashMap<NetNs, u64>,
}

/// The proxies' processes, looked up again every [`Proxies::REFRESH`] rounds.
struct Proxies<'a> {
    names: &'a [String],
    known: Vec<Process>,
    rounds: u32,
}

impl Proxies<'_> {
    const REFRESH: u32 = 10;

    fn sample(&mut self, events: &mut Vec<Event>) {
        if self.rounds.is_multiple_of(Self::REFRESH) {
            self.known = procs::processes_of(self.names);
        }
        self.rounds += 1;
        let time = host::now();
        events.extend(self.known.iter().filter_map(|process| {
            let (open_files, open_files_limit) = procs::open_files(process.pid)?;
            let sample = ProxySample { process: process.clone(), open_files, open_files_limit };
            Some(Event { time, body: Body::ProxySample(Box::new(sample)) })
        }));
    }
}

impl Sampler<'_> {
    /// One round over the namespaces, and the counters.
    fn round(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut namespaces = procs::namespaces();
        namespaces.retain(|(netns, _)| matters(self.only, *netns));
        // They are in order still. Containers come and go, and what is gone is not kept.
        self.overflows.retain(|netns, _| namespaces.binary_search_by_key(netns, |(here, _)| *here).is_ok());
        let count = namespaces.len().max(1);
        namespaces.rotate_left(self.turn % count);
        self.owners.begin_round();
        let begun = host::processor_time();
        let mut visited = 0;
        visit_namespaces(&namespaces, |netns| {
            self.sample(netns, &mut events);
            visited += 1;
            self.first || host::processor_time().saturating_sub(begun) < ROUND_BUDGET
        });
        self.first = false;
        // Those that have gone meanwhile are not counted; being a few places off does no harm.
        self.turn = (self.turn + visited) % count;
        // With one namespace asked for, whose process is in which is not looked up.
        if self.only.is_none() {
            self.proxies.sample(&mut events);
        }
        if let Some(sample) = host::processors() {
            events.push(Event { time: host::now(), body: Body::HostSample(sample) });
        }
        let time = host::now();
        let first_bytes = self.first_bytes.on(self.kernel).unwrap_or_default().into_iter();
        events.extend(first_bytes.map(|told| Event { time, body: Body::FirstBytes(Box::new(told)) }));
        self.count(&mut events);
        events
    }

    /// Whether a round shows what only a close look can tell of: an accept queue has overflowed since the round before, or a
    /// proxy has upstreams behind unix sockets, whose failures show in no connection.
    fn needs_a_close_look(&mut self, events: &[Event]) -> bool {
        overflowed(&mut self.overflows, events)
            || self.proxies.known.iter().any(|proxy| self.kernel.has_unix_upstreams(proxy.pid))
    }

    /// The counters as they stand.
    fn count(&self, events: &mut Vec<Event>) {
        if let Ok(counters) = self.kernel.counters() {
            events.push(Event { time: host::now(), body: Body::Counters(Box::new(counters)) });
        }
    }

    /// Samples the namespace that this thread is in.
    fn sample(&mut self, netns: NetNs, events: &mut Vec<Event>) {
        // A walk goes through the host's whole table: most containers of a large host have nothing in it.
        let walked = if has_sockets() { self.kernel.walk() } else { Ok(Walked::default()) };
        let Walked { listeners, mut time_waits, accepted } = walked.unwrap_or_default();
        let mut inodes: HashMap<Endpoint, Vec<u64>> = HashMap::new();
        for listener in &listeners {
            inodes.entry(Endpoint::from_wire(listener.addr, listener.port)).or_default().push(listener.inode);
        }
        let time = host::now();
        time_waits.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        time_waits.truncate(MAX_DESTINATIONS);
        let drops = netstat();
        let namespace = NamespaceSample {
            netns,
            time_wait: sockstat_time_wait().unwrap_or(0),
            time_wait_by_destination: time_waits,
            addresses: procs::addresses(),
            port_range: port_range(),
            somaxconn: sysctl("net/core/somaxconn"),
            tw_reuse: sysctl("net/ipv4/tcp_tw_reuse"),
            abort_on_overflow: sysctl("net/ipv4/tcp_abort_on_overflow"),
            listen_overflows: drops.get("ListenOverflows").copied(),
            listen_drops: drops.get("ListenDrops").copied(),
        };
        events.push(Event { time, body: Body::NamespaceSample(Box::new(namespace)) });
        for listener in merge(&listeners) {
            let at = Endpoint::from_wire(listener.addr, listener.port);
            let (process, holders) = self.owners.of(netns, at, &inodes[&at]);
            let (stopped, runnable) = if listener.depth > 0 { self.owners.states(netns, at) } else { (0, 0) };
            let sample = ListenerSample {
                at,
                netns,
                depth: listener.depth,
                limit: listener.limit,
                stopped,
                runnable,
                accepted_open: accepted.get(&at.port).copied().unwrap_or(0),
                arrivals: self.kernel.arrivals(netns, at.port),
                process,
                holders,
            };
            events.push(Event { time, body: Body::ListenerSample(Box::new(sample)) });
            let application = self.owners.application_at(netns, at);
            events.extend(application.map(|told| Event { time, body: Body::ApplicationSample(Box::new(told)) }));
        }
        if self.unix {
            self.sample_unix(netns, time, events);
        }
    }

    fn sample_unix(&mut self, netns: NetNs, time: Time, events: &mut Vec<Event>) {
        for UnixListener { path, inode, depth, limit } in self.kernel.unix_listeners().unwrap_or_default() {
            let (process, holders) = self.owners.of_inode(inode);
            let sample = UnixListenerSample { path, netns, depth, limit, process, holders };
            events.push(Event { time, body: Body::UnixListenerSample(Box::new(sample)) });
            let application = self.owners.application_of_inode(netns, path, inode);
            events.extend(application.map(|told| Event { time, body: Body::ApplicationSample(Box::new(told)) }));
        }
    }
}

/// Listeners that share an address (`SO_REUSEPORT`) as one: the fullest, for it is the one that overflows.
fn merge(listeners: &[Sample]) -> Vec<Sample> {
    let mut merged: HashMap<([u8; 16], u16), Sample> = HashMap::new();
    for listener in listeners {
        let room = |sample: &Sample| i64::from(sample.limit) - i64::from(sample.depth);
        merged
            .entry((listener.addr, listener.port))
            .and_modify(|kept| {
                if room(listener) < room(kept) {
                    *kept = *listener;
                }
            })
            .or_insert(*listener);
    }
    merged.into_values().collect()
}

/// A sysctl of the namespace that this thread is in: /proc/sys/net shows the reader's own.
pub(crate) fn sysctl(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// `net.ipv4.ip_local_port_range` of the namespace that this thread is in.
pub(crate) fn port_range() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// TIME_WAIT sockets of the namespace that this thread is in, both families (`sockstat_seq_show`, net/ipv4/proc.c).
pub(super) fn sockstat_time_wait() -> Option<u32> {
    sockstat("sockstat", "TCP:", "tw")
}

/// Whether the namespace that this thread is in has any TCP socket with a port, TIME_WAIT among them; yes if that cannot be told.
fn has_sockets() -> bool {
    let some = |count: Option<u32>| count.is_none_or(|count| count > 0);
    // Without IPv6 there is no such file.
    let v6 = sockstat("sockstat6", "TCP6:", "inuse").is_some_and(|count| count > 0);
    v6 || some(sockstat("sockstat", "TCP:", "inuse")) || some(sockstat_time_wait())
}

/// A number behind its name in a line like `TCP: inuse 5 orphan 0 tw 12 alloc 7 mem 1`.
pub(super) fn sockstat(file: &str, protocol: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?;
    let line = text.lines().find(|line| line.starts_with(protocol))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// The `TcpExt` counters: a line of names, a line of numbers.
fn netstat() -> HashMap<String, u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return HashMap::new() };
    let numbers = numbers.split_whitespace().filter_map(|number| number.parse().ok());
    names.split_whitespace().map(str::to_owned).zip(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_on_one_address_are_told_by_the_fullest() {
        let sample = |depth, limit| Sample { port: 80, depth, limit, ..Sample::default() };
        let merged = merge(&[sample(1, 128), sample(100, 128), sample(3, 128)]);
        assert_eq!(merged.iter().map(|sample| sample.depth).collect::<Vec<_>>(), vec![100]);
    }

    #[test]
    fn an_overflow_is_noticed_by_the_kernels_own_count() {
        let round = |counts: &[(u32, u64)]| -> Vec<Event> {
            let sample = |(netns, count): &(u32, u64)| NamespaceSample {
                netns: NetNs(*netns),
                listen_overflows: Some(*count),
                ..NamespaceSample::default()
            };
            let event = |sample| Event { time: Time::default(), body: Body::NamespaceSample(Box::new(sample)) };
            counts.iter().map(|count| event(sample(count))).collect()
        };
        let mut before = HashMap::new();
        let mut noticed = |counts| overflowed(&mut before, &round(counts));
        // What was counted before observer came, or a namespace that it sees for the first time, says nothing.
        assert!(!noticed(&[(1, 7), (2, 0)]) && !noticed(&[(1, 7), (3, 9)]));
        assert!(noticed(&[(3, 9), (1, 8)]) && !noticed(&[(1, 8)]));
    }

    #[test]
    fn this_hosts_figures_can_be_read() {
        assert!(sockstat_time_wait().is_some());
        assert!(netstat().contains_key("ListenOverflows"));
        assert!(port_range().is_some_and(|(low, high)| low < high));
    }
}
