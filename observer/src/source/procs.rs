//! Processes, and what they hold: network namespaces and listening sockets, out of /proc.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use nix::{fcntl::readlinkat, ifaddrs::getifaddrs};
use observer_common::state;

use super::applications::{self, Holder, Proc, Server};
use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    event::{Application, ApplicationSample, Place, Process},
    text::escape,
};

/// Rounds after which the owner of a listener is looked up again: it may have been restarted within a second.
const REFRESH_ROUNDS: u32 = 10;
/// Rounds after which an application is told again though nothing has changed: a listener that was opened anew is known again by then.
const TELL_ROUNDS: u32 = 60;
/// Sockets looked at per round in search of owners. On a host with more, some listeners stay without a name.
const MAX_SOCKETS: usize = 200_000;

/// Process ids of the host, as this pid namespace numbers them.
fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// All network namespaces that a process is in or that `ip netns` has given a name, each with a path to enter it by;
/// in a stable order.
pub(super) fn namespaces() -> Vec<(NetNs, PathBuf)> {
    let of_processes = pids().map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")));
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = HashMap::new();
    for path in of_processes.chain(named) {
        if let Some(netns) = netns_at(&path) {
            found.entry(netns).or_insert(path);
        }
    }
    let mut list: Vec<_> = found.into_iter().collect();
    list.sort();
    list
}

/// Addresses of the interfaces in the namespace that this thread is in.
pub(super) fn addresses() -> Vec<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Who holds which listener, remembered over rounds.
#[derive(Debug, Default)]
pub(super) struct Owners {
    round: u32,
    known: HashMap<(NetNs, Endpoint), Owner>,
    /// The same by the socket's inode.
    sockets_known: HashMap<u64, Owner>,
    /// Holders of the sockets looked for in this round, made once when first needed.
    sockets: Option<Sockets>,
    /// The same for the first round, being made.
    early: Option<JoinHandle<Sockets>>,
    /// The holders are from before the round.
    are_early: bool,
    /// Holders met in this round.
    processes: HashMap<u32, Met>,
    /// What the first processes of servers were found to be in this round.
    servers: HashMap<u32, Option<Server>>,
    /// What was told of applications, and in which round.
    told: HashMap<(NetNs, Place), (Found, u32)>,
}

/// An application, and its first process.
type Found = (Application, Process);

/// A process that was met.
#[derive(Debug)]
struct Met {
    started: u64,
    parent: u32,
    process: Process,
}

impl Met {
    fn of(pid: u32) -> Self {
        let stat = stat(pid);
        let field = |at: usize| stat.get(at).and_then(|field| field.parse().ok());
        let parent = field(PARENT).and_then(|parent| u32::try_from(parent).ok()).unwrap_or(0);
        let process = Process { pid, comm: comm(pid).into() };
        Self { started: field(STARTED).unwrap_or(u64::MAX), parent, process }
    }
}

/// Every socket that a process holds open, with the processes.
type Sockets = HashMap<u64, Vec<u32>>;

#[derive(Debug)]
struct Owner {
    process: Option<Process>,
    application: Option<Found>,
    holders: Vec<u32>,
    /// The round in which it is looked up again.
    due: u32,
}

impl Owner {
    fn told(&self) -> (Option<Process>, u32) {
        (self.process.clone(), u32::try_from(self.holders.len()).unwrap_or(u32::MAX))
    }
}

impl Owners {
    /// Begins to look for those of the first round, in a thread of its own: on a host with many sockets that takes as long as
    /// attaching. Who is not found so is looked for again in the second round.
    pub(super) fn early() -> Self {
        let early = thread::Builder::new().name("observer-owners".into()).spawn(sockets_of_processes).ok();
        Self { early, ..Self::default() }
    }

    /// A new round begins; what was not seen for long is forgotten.
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
        self.sockets = self.early.take().and_then(|early| early.join().ok());
        self.are_early = self.sockets.is_some();
        self.processes.clear();
        self.servers.clear();
        let round = self.round;
        self.told.retain(|_, (_, told)| round <= *told + TELL_ROUNDS + REFRESH_ROUNDS);
        self.known.retain(|_, owner| round <= owner.due + REFRESH_ROUNDS);
        self.sockets_known.retain(|_, owner| round <= owner.due + REFRESH_ROUNDS);
    }

    /// The eldest process that holds one of these sockets, which listen there, and how many do.
    pub(super) fn of(&mut self, netns: NetNs, at: Endpoint, inodes: &[u64]) -> (Option<Process>, u32) {
        let round = self.round;
        let stale = |owner: &Owner| round >= owner.due;
        if self.known.get(&(netns, at)).is_none_or(stale) {
            let owner = self.holding(inodes);
            self.known.insert((netns, at), owner);
        }
        self.known.get(&(netns, at)).map_or((None, 0), Owner::told)
    }

    /// The same of the socket with this inode.
    pub(super) fn of_inode(&mut self, inode: u64) -> (Option<Process>, u32) {
        let round = self.round;
        let stale = |owner: &Owner| round >= owner.due;
        if self.sockets_known.get(&inode).is_none_or(stale) {
            let owner = self.holding(&[inode]);
            self.sockets_known.insert(inode, owner);
        }
        self.sockets_known.get(&inode).map_or((None, 0), Owner::told)
    }

    /// The application behind the listener there, if something of it is to be told.
    pub(super) fn application_at(&mut self, netns: NetNs, at: Endpoint) -> Option<ApplicationSample> {
        let found = self.known.get(&(netns, at)).and_then(|owner| owner.application.clone());
        self.news_of(netns, Place::At(at), found)
    }

    /// The same of the unix socket with this inode.
    pub(super) fn application_of_inode(
        &mut self,
        netns: NetNs,
        path: UnixPath,
        inode: u64,
    ) -> Option<ApplicationSample> {
        let found = self.sockets_known.get(&inode).and_then(|owner| owner.application.clone());
        self.news_of(netns, Place::Path(path), found)
    }

    fn news_of(&mut self, netns: NetNs, place: Place, found: Option<Found>) -> Option<ApplicationSample> {
        let key = (netns, place);
        let Some(found) = found else {
            let ((_, process), _) = self.told.remove(&key)?;
            return Some(ApplicationSample { place, netns, process, application: None });
        };
        let same = |(told, round): &(Found, u32)| *told == found && self.round < round + TELL_ROUNDS;
        if self.told.get(&key).is_some_and(same) {
            return None;
        }
        let (application, process) = found.clone();
        self.told.insert(key, (found, self.round));
        Some(ApplicationSample { place, netns, process, application: Some(application) })
    }

    /// How many of the processes that hold a listener are stopped, and how many run, as far as they are known.
    pub(super) fn states(&self, netns: NetNs, at: Endpoint) -> (u32, u32) {
        let holders = self.known.get(&(netns, at)).map_or(&[][..], |owner| &owner.holders);
        let states: Vec<_> = holders.iter().filter_map(|pid| stat(*pid).into_iter().next()).collect();
        let count = |wanted: &str| u32::try_from(states.iter().filter(|state| *state == wanted).count()).unwrap_or(0);
        (count("T"), count("R"))
    }

    fn holding(&mut self, inodes: &[u64]) -> Owner {
        let sockets = self.sockets.get_or_insert_with(sockets_of_processes);
        let holders: HashSet<u32> = inodes.iter().filter_map(|inode| sockets.get(inode)).flatten().copied().collect();
        for pid in &holders {
            self.processes.entry(*pid).or_insert_with(|| Met::of(*pid));
        }
        // The one that opened it started first; its children inherited it.
        let mut met: Vec<&Met> = holders.iter().filter_map(|pid| self.processes.get(pid)).collect();
        met.sort_unstable_by_key(|met| (met.started, met.process.pid));
        let family: Vec<_> = met.iter().map(|met| Holder { pid: met.process.pid, parent: met.parent }).collect();
        let application = applications::recognise(&family, &Proc, &mut self.servers);
        let application = application.and_then(|(application, first)| {
            let first = met.iter().find(|met| met.process.pid == first)?;
            Some((application, first.process.clone()))
        });
        let wait = if self.are_early && holders.is_empty() { 1 } else { REFRESH_ROUNDS };
        Owner {
            process: met.first().map(|met| met.process.clone()),
            application,
            holders: holders.into_iter().collect(),
            due: self.round + wait,
        }
    }
}

/// `0100007F:1F90`, words of the address in host byte order.
fn parse_endpoint(text: &str) -> Option<Endpoint> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            let v6 = Ipv6Addr::from(bytes);
            if v6.is_unspecified() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { v6.to_canonical() }
        }
        _ => return None,
    };
    Some(Endpoint { ip, port })
}

/// A line of /proc/net/tcp: an end-to-end connection or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    local: Endpoint,
    remote: Endpoint,
    state: u8,
    inode: u64,
}

/// The TCP sockets of the namespace that this thread is in, listeners first.
fn tcp_lines() -> Vec<Line> {
    let tables = ["tcp", "tcp6"].into_iter().filter_map(|table| {
        let file = File::open(Path::new("/proc/thread-self/net").join(table)).ok()?;
        Some(BufReader::new(file).lines().skip(1).map_while(Result::ok))
    });
    tables.flatten().filter_map(|line| parse_line(&line)).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
    Some(Line {
        local: parse_endpoint(local)?,
        remote: parse_endpoint(remote)?,
        state: u8::from_str_radix(state, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Processes of these names.
pub(super) fn processes_of(comms: &[String]) -> Vec<Process> {
    // The kernel cuts names; so must those be that are looked for.
    let cut = |name: &String| name.chars().take(observer_common::COMM_LEN - 1).collect::<String>();
    let wanted: HashSet<String> = comms.iter().map(cut).collect();
    let all = pids().map(|pid| Process { pid, comm: comm(pid).into() });
    all.filter(|process| wanted.contains(&*process.comm)).collect()
}

/// The processes of these names that are wanted, by the eldest of each family: a proxy's master, with its workers.
pub(super) fn families_of(comms: &[String], wanted: impl Fn(&Process) -> bool) -> HashMap<u32, Vec<Process>> {
    let processes: HashMap<u32, Process> =
        processes_of(comms).into_iter().map(|process| (process.pid, process)).collect();
    let mut families: HashMap<u32, Vec<Process>> = HashMap::new();
    for process in processes.values().filter(|process| wanted(process)) {
        families.entry(eldest(process.pid, &processes)).or_default().push(process.clone());
    }
    for family in families.values_mut() {
        family.sort_by_key(|process| process.pid);
    }
    families
}

/// Whether a proxy's processes were all replaced but for its master: it has loaded its configuration anew. One that died and was started
/// again has what the others have, whatever stands in the files by now.
pub(super) fn were_replaced(master: u32, before: &[Process], now: &[Process]) -> bool {
    let workers = |family: &[Process]| -> Vec<u32> {
        family.iter().map(|process| process.pid).filter(|pid| *pid != master).collect()
    };
    let (before, now) = (workers(before), workers(now));
    let goes_on = |pid: &u32| now.contains(pid) && !is_leaving(*pid);
    !now.is_empty() && !before.iter().any(goes_on)
}

/// Whether a worker of nginx's ends as soon as its requests have (`ngx_worker_process_cycle`, src/os/unix/ngx_process_cycle.c).
fn is_leaving(pid: u32) -> bool {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    title.windows(LEAVING.len()).any(|part| part == LEAVING)
}

/// What it calls itself then.
const LEAVING: &[u8] = b"is shutting down";

/// The process of these that is an ancestor of this one and has none among them itself.
fn eldest(mut pid: u32, processes: &HashMap<u32, Process>) -> u32 {
    // Parents started before their children, but numbers may be given again while this is read.
    for _ in 0..processes.len() {
        match parent(pid).filter(|parent| processes.contains_key(parent)) {
            Some(parent) => pid = parent,
            None => break,
        }
    }
    pid
}

/// Descriptors that a process holds open, and how many it may. `None` if it is gone, or not ours to look at.
pub(super) fn open_files(pid: u32) -> Option<(u64, u64)> {
    let folder = format!("/proc/{pid}/fd");
    // The folder's size is their number since 6.2 (proc_fd_getattr, fs/proc/fd.c); before, they must be counted.
    let open = match fs::metadata(&folder).ok()?.len() {
        0 => fs::read_dir(&folder).ok()?.count() as u64,
        size => size,
    };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = line.split_whitespace().next()?.parse().unwrap_or(u64::MAX);
    Some((open, limit))
}

/// Processes of one name that behave like a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Their name.
    pub comm: String,
    /// One of them.
    pub pid: u32,
    /// Connections that they have begun, in the network namespace that was looked at.
    pub onward: usize,
}

/// Processes of the calling thread's network namespace that listen and have connections onward, by name, the busiest
/// first; those of `names` left out. An application with a database behind it is among them.
pub fn relays(names: &[&str]) -> Vec<Relay> {
    let holders = sockets_of_processes();
    let lines = tcp_lines();
    let of = |line: &Line| holders.get(&line.inode).into_iter().flatten().copied();
    let listening = lines.iter().filter(|line| line.state == state::LISTEN);
    let accept: HashSet<u32> = listening.clone().flat_map(of).collect();
    let ports: HashSet<u16> = listening.map(|line| line.local.port).collect();
    let onward = lines.iter().filter(|line| line.state == state::ESTABLISHED && !ports.contains(&line.local.port));
    let mut relays: HashMap<String, Relay> = HashMap::new();
    for pid in onward.flat_map(of).filter(|pid| accept.contains(pid)) {
        let comm = comm(pid);
        if !names.contains(&comm.as_str()) {
            relays.entry(comm.clone()).or_insert(Relay { comm, pid, onward: 0 }).onward += 1;
        }
    }
    let mut relays: Vec<_> = relays.into_values().collect();
    relays.sort_by(|a, b| b.onward.cmp(&a.onward).then(a.comm.cmp(&b.comm)));
    relays
}

/// Sockets that these processes hold, each with its process.
pub(super) fn sockets_of(processes: &[Process]) -> HashMap<u64, Process> {
    let of = |process: &Process| socket_inodes(process.pid).map(|inode| (inode, process.clone())).collect::<Vec<_>>();
    processes.iter().flat_map(of).collect()
}

/// Inodes of the sockets that a process holds open.
fn socket_inodes(pid: u32) -> impl Iterator<Item = u64> {
    let path = format!("/proc/{pid}/fd");
    let folder = File::open(&path).ok();
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        // Each would be looked up from the root else, which is most of the time that it takes.
        let target = readlinkat(folder.as_ref()?, entry.file_name().as_os_str()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// The eldest process that holds each socket.
pub(super) fn owners_of_sockets() -> HashMap<u64, Process> {
    let eldest = |pids: &Vec<u32>| pids.iter().copied().min_by_key(|pid| (started(*pid), *pid));
    let sockets = sockets_of_processes();
    let mut met: HashMap<u32, Process> = HashMap::new();
    let mut process = |pid: u32| met.entry(pid).or_insert_with(|| Process { pid, comm: comm(pid).into() }).clone();
    sockets.iter().filter_map(|(inode, pids)| Some((*inode, process(eldest(pids)?)))).collect()
}

/// Of those that this process may look at.
fn sockets_of_processes() -> Sockets {
    let mut sockets = Sockets::new();
    let mut left = MAX_SOCKETS;
    for pid in pids() {
        for inode in socket_inodes(pid).take(left) {
            left -= 1;
            sockets.entry(inode).or_default().push(pid);
        }
    }
    sockets
}

fn comm(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    escape(bytes.strip_suffix(b"\n").unwrap_or(&bytes))
}

/// The process that started another.
pub(super) fn parent(pid: u32) -> Option<u32> {
    stat(pid).get(PARENT)?.parse().ok()
}

/// The number that a process has in its own namespace of processes, the last of `NSpid` in /proc/PID/status
/// (`task_state`, fs/proc/array.c).
pub(super) fn own_number(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()?.parse().ok()).unwrap_or(pid)
}

/// The network namespace that a process is in.
pub(super) fn netns_of(pid: u32) -> Option<NetNs> {
    netns_at(Path::new(&format!("/proc/{pid}/ns/net")))
}

/// The network namespace that a file stands for. Inode numbers of namespaces are 32 bits wide (`ns_alloc_inum`, fs/nsfs.c).
fn netns_at(path: &Path) -> Option<NetNs> {
    u32::try_from(fs::metadata(path).ok()?.ino()).ok().map(NetNs)
}

/// Fields of a process's stat line after its name's bracket (proc_pid_stat(5), fields 4 and 22).
const PARENT: usize = 1;
const STARTED: usize = 19;

/// When a process started, in clock ticks since boot.
fn started(pid: u32) -> u64 {
    stat(pid).get(STARTED).and_then(|field| field.parse().ok()).unwrap_or(u64::MAX)
}

/// The fields of a process's stat line after its name's bracket; the first is its state. Empty if it is gone.
fn stat(pid: u32) -> Vec<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.iter().rposition(|byte| *byte == b')').map_or(&[][..], |end| &stat[end + 1..]);
    String::from_utf8_lossy(after_name).split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernels_notation_is_read() {
        let show = |text| parse_endpoint(text).map(|at| at.to_string());
        assert_eq!(show("0100007F:1F90"), Some("127.0.0.1:8080".into()));
        assert_eq!(show("00000000000000000000000001000000:0050"), Some("[::1]:80".into()));
        assert_eq!(show("00000000000000000000000000000000:0050"), Some("0.0.0.0:80".into()));
        for bad in ["", "0100007F", "01:", "xyz:1", "0100007F:12345", "0100007é:0050"] {
            assert_eq!(parse_endpoint(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_process_that_listens_and_connects_onward_is_found_by_what_it_does() {
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let onward = std::net::TcpStream::connect(other.local_addr().unwrap()).unwrap();
        let ours = comm(std::process::id());
        assert!(relays(&[]).iter().any(|relay| relay.comm == ours), "{:?}", relays(&[]));
        assert!(!relays(&[&ours]).iter().any(|relay| relay.comm == ours));
        drop((front, onward));
    }

    #[test]
    fn a_listener_of_our_own_is_traced_to_us() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let at = Endpoint { ip: address.ip(), port: address.port() };
        let mut owners = Owners::default();
        owners.begin_round();
        let own = File::open("/proc/self/net/tcp").unwrap();
        let lines = BufReader::new(own).lines().map_while(Result::ok).filter_map(|line| parse_line(&line));
        let inodes: Vec<_> = lines.filter(|line| line.local == at).map(|line| line.inode).collect();
        let (process, holders) = owners.of(NetNs(1), at, &inodes);
        assert_eq!(process.map(|process| process.pid), Some(std::process::id()));
        assert!(holders >= 1);
    }
}
