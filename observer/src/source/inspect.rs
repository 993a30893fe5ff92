//! One look at this host, without eBPF: what its settings and limits are in each network namespace, and who listens there.

use std::{collections::HashMap, fs, io, thread};

use super::{
    procs,
    sampler::{port_range, sockstat, sockstat_time_wait, sysctl, visit_namespaces},
    sock_diag,
};
use crate::{
    addr::{Endpoint, NetNs},
    event::Process,
};

/// What was read of this host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Network namespaces.
    pub spaces: Vec<Space>,
    /// Proxies' processes with the files that they have open, and may have.
    pub files: Vec<(Process, u64, u64)>,
    /// What could not be looked at, in sentences.
    pub unseen: Vec<String>,
    /// Connections that netfilter tracks, and may track (`nf_conntrack_count`, `nf_conntrack_max`), where it does.
    pub conntrack: Option<(u64, u64)>,
    /// Pages that TCP has taken, and from how many on it is short of memory (`/proc/net/sockstat`, `net.ipv4.tcp_mem`).
    pub memory: Option<(u64, u64)>,
}

/// A network namespace. What a sysctl is called; `None` where it could not be read.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// Which one.
    pub netns: NetNs,
    /// Proxies in it.
    pub proxies: Vec<Process>,
    /// What listens there.
    pub listeners: Vec<Bound>,
    /// `net.core.somaxconn`
    pub somaxconn: Option<u32>,
    /// `net.ipv4.tcp_abort_on_overflow`
    pub abort_on_overflow: Option<u32>,
    /// `net.ipv4.tcp_syncookies`
    pub syncookies: Option<u32>,
    /// `net.ipv4.tcp_max_syn_backlog`
    pub max_syn_backlog: Option<u32>,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub port_range: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`, each range with both ends.
    pub reserved: Vec<(u16, u16)>,
    /// `net.ipv4.tcp_tw_reuse`
    pub tw_reuse: Option<u32>,
    /// `net.ipv4.tcp_max_tw_buckets`
    pub max_tw_buckets: Option<u32>,
    /// Sockets in TIME_WAIT.
    pub time_wait: Option<u32>,
}

/// Something that listens.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Where.
    pub at: Endpoint,
    /// Its accept queue's limit.
    pub limit: u32,
    /// Who holds it.
    pub owner: Option<Process>,
}

/// Looks, in a thread of its own: to look into a namespace it has to enter it.
pub fn host(proxies: &[String]) -> Host {
    thread::scope(|scope| scope.spawn(|| look(proxies)).join()).unwrap_or_default()
}

fn look(names: &[String]) -> Host {
    let proxies = procs::processes_of(names);
    let mut owners: Option<HashMap<u64, Process>> = None;
    let (mut spaces, mut unseen, mut visited) = (Vec::new(), Vec::new(), 0);
    let namespaces = procs::namespaces();
    visit_namespaces(&namespaces, |netns| {
        visited += 1;
        let space = match space(netns, &proxies, &mut owners) {
            Ok(space) => space,
            Err(error) => {
                unseen.push(format!("the listeners of network namespace {} cannot be listed: {error}", netns.0));
                return true;
            }
        };
        if !space.listeners.is_empty() || !space.proxies.is_empty() {
            spaces.push(space);
        }
        true
    });
    let files = |process: &Process| {
        let (open, limit) = procs::open_files(process.pid)?;
        Some((process.clone(), open, limit))
    };
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let conntrack = number("/proc/sys/net/netfilter/nf_conntrack_count");
    // low, pressure, high
    let pressure = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok();
    let pressure = pressure.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    if visited < namespaces.len() {
        unseen.push(format!("{} network namespaces could not be entered", namespaces.len() - visited));
    }
    Host {
        spaces,
        unseen,
        files: proxies.iter().filter_map(files).collect(),
        conntrack: conntrack.zip(number("/proc/sys/net/netfilter/nf_conntrack_max")),
        memory: sockstat("sockstat", "TCP:", "mem").map(u64::from).zip(pressure),
    }
}

/// The namespace that this thread is in.
fn space(netns: NetNs, proxies: &[Process], owners: &mut Option<HashMap<u64, Process>>) -> io::Result<Space> {
    let listening = sock_diag::listeners()?;
    let owners = owners.get_or_insert_with(procs::owners_of_sockets);
    let bound = listening.iter().map(|listener| Bound {
        at: listener.at,
        limit: listener.limit,
        owner: owners.get(&listener.inode).cloned(),
    });
    let here = |process: &&Process| procs::netns_of(process.pid) == Some(netns);
    Ok(Space {
        netns,
        proxies: proxies.iter().filter(here).cloned().collect(),
        listeners: bound.collect(),
        somaxconn: sysctl("net/core/somaxconn"),
        abort_on_overflow: sysctl("net/ipv4/tcp_abort_on_overflow"),
        syncookies: sysctl("net/ipv4/tcp_syncookies"),
        max_syn_backlog: sysctl("net/ipv4/tcp_max_syn_backlog"),
        port_range: port_range(),
        reserved: fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports")
            .map_or_else(|_| Vec::new(), |text| reserved(&text)),
        tw_reuse: sysctl("net/ipv4/tcp_tw_reuse"),
        max_tw_buckets: sysctl("net/ipv4/tcp_max_tw_buckets"),
        time_wait: sockstat_time_wait(),
    })
}

/// `22,8000-8010`
fn reserved(text: &str) -> Vec<(u16, u16)> {
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn reserved_ports_are_read() {
        assert_eq!(reserved("22,8000-8010\n"), [(22, 22), (8000, 8010)]);
        assert_eq!(reserved("\n"), []);
        assert_eq!(reserved("x,-,1-y,70000"), []);
    }

    #[test]
    fn our_own_listener_is_seen_with_us() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let host = host(&[]);
        let mut bound = host.spaces.iter().flat_map(|space| &space.listeners);
        let ours = bound.find(|bound| bound.at.ip == at.ip() && bound.at.port == at.port()).unwrap();
        assert_eq!(ours.owner.as_ref().unwrap().pid, std::process::id());
        assert!(ours.limit > 0);
    }
}
