//! What of the host is known to lead to 502s: its settings in each network namespace that a proxy or an upstream is in, the limits of
//! accept queues, and of open files.

use serde_json::{Value, json};

use crate::{
    event::Process,
    source::inspect::{Bound, Host, Space},
};

/// `net.core.somaxconn` of the kernels from 5.4 on (`SOMAXCONN`, include/linux/socket.h).
const SOMAXCONN: u32 = 4096;
/// Fewer places than these in an accept queue are gone in one burst: what servers ask for at least, by their defaults (nginx 511,
/// gunicorn 2048, Node 511, uWSGI 100).
const SMALL_BACKLOG: u32 = 100;
/// Fewer ephemeral ports than these are gone in a minute at a rate that any site has, where connections are not kept.
const FEW_PORTS: u32 = 10_000;
/// Seconds that a port is in TIME_WAIT (`TCP_TIMEWAIT_LEN`, include/net/tcp.h).
const TIME_WAIT_SECONDS: u32 = 60;
/// Share of something limited from which on it is about to be gone.
const NEARLY: f64 = 0.8;

/// Something of the host that is better changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind it is.
    pub code: &'static str,
    /// Whose it is.
    pub whose: String,
    /// How it stands, and what comes of it.
    pub what: String,
    /// What to do instead; lines.
    pub fix: String,
}

impl Finding {
    /// Lines for people.
    pub fn to_text(&self) -> String {
        let fix: Vec<_> = self.fix.lines().map(|line| format!("    {line}")).collect();
        format!("{}: {}\n  {}\n{}\n", self.whose, self.code, self.what, fix.join("\n"))
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        json!({ "code": self.code, "whose": self.whose, "what": self.what, "fix": self.fix })
    }
}

/// What there is to find, where the configurations pass requests on to these ports.
pub fn findings(host: &Host, upstream_ports: &[u16]) -> Vec<Finding> {
    let mut found: Vec<_> = host
        .unseen
        .iter()
        .map(|what| Finding {
            code: "not-seen",
            whose: "this host".to_owned(),
            what: what.clone(),
            fix: "run it as root, on the host itself".to_owned(),
        })
        .collect();
    for space in &host.spaces {
        let is_upstream = |bound: &&Bound| upstream_ports.contains(&bound.at.port);
        let upstreams: Vec<&Bound> = space.listeners.iter().filter(is_upstream).collect();
        if upstreams.is_empty() && space.proxies.is_empty() {
            continue;
        }
        queues(space, &upstreams, &mut found);
        if !space.proxies.is_empty() {
            ports(space, &mut found);
        }
        taken(space, &upstreams, &mut found);
    }
    limits(host, &mut found);
    found
}

fn named(process: Option<&Process>) -> String {
    process.map(|process| format!(" ({}[{}])", process.comm, process.pid)).unwrap_or_default()
}

fn name(space: &Space) -> String {
    format!("network namespace {}{}", space.netns.0, named(space.proxies.first()))
}

fn queues(space: &Space, upstreams: &[&Bound], found: &mut Vec<Finding>) {
    for bound in upstreams {
        let whose = format!("{}{}", bound.at, named(bound.owner.as_ref()));
        let limit = bound.limit;
        if space.somaxconn == Some(limit) && limit < SOMAXCONN {
            found.push(Finding {
                code: "backlog-clamped",
                whose,
                what: format!(
                    "its accept queue has {limit} places, all that net.core.somaxconn allows: it asked for as many or more, and a burst of \
                     more is dropped"
                ),
                fix: format!(
                    "{}sysctl -w net.core.somaxconn={SOMAXCONN}\nand start it anew: listen() is what asks",
                    bound.owner.as_ref().map(|owner| format!("nsenter -t {} -n ", owner.pid)).unwrap_or_default()
                ),
            });
        } else if limit < SMALL_BACKLOG {
            found.push(Finding {
                code: "backlog-small",
                whose,
                what: format!("its accept queue has {limit} places, which one burst fills: what comes then is dropped"),
                fix: "a longer backlog (gunicorn --backlog 2048, uWSGI --listen 1024, listen(511) in Node), no more than somaxconn; it \
                      helps against bursts, not against workers that cannot keep up"
                    .to_owned(),
            });
        }
    }
    if upstreams.is_empty() {
        return;
    }
    if space.abort_on_overflow == Some(1) {
        found.push(Finding {
            code: "abort-on-overflow",
            whose: name(space),
            what: "net.ipv4.tcp_abort_on_overflow is 1: a full accept queue answers with a RST, and a burst that would have cost a second is a \
                   502 at once"
                .to_owned(),
            fix: "sysctl -w net.ipv4.tcp_abort_on_overflow=0".to_owned(),
        });
    }
    if space.syncookies == Some(0) {
        let room = space.max_syn_backlog.map(|room| format!(" of {room}")).unwrap_or_default();
        found.push(Finding {
            code: "syncookies-off",
            whose: name(space),
            what: format!("net.ipv4.tcp_syncookies is 0: SYNs that find the queue{room} full are dropped"),
            fix: "sysctl -w net.ipv4.tcp_syncookies=1".to_owned(),
        });
    }
}

fn ports(space: &Space, found: &mut Vec<Finding>) {
    if let Some((low, high)) = space.port_range {
        let count = u32::from(high.saturating_sub(low)) + 1;
        if count < FEW_PORTS {
            found.push(Finding {
                code: "ports-few",
                whose: name(space),
                what: format!(
                    "net.ipv4.ip_local_port_range is {low} to {high}: {count} ports towards each upstream, {} connections a second where none \
                     are kept and each waits {TIME_WAIT_SECONDS} s",
                    count / TIME_WAIT_SECONDS
                ),
                fix: "keep connections (keepalive): then few ports do\nor widen net.ipv4.ip_local_port_range there (32768 60999 by default), and \
                      reserve the ports in it on which something listens (net.ipv4.ip_local_reserved_ports)"
                    .to_owned(),
            });
        }
    }
    if space.tw_reuse == Some(0) {
        found.push(Finding {
            code: "time-wait-not-reused",
            whose: name(space),
            what: format!(
                "net.ipv4.tcp_tw_reuse is 0: a port that the proxy closed first is not to be had again for {TIME_WAIT_SECONDS} s, on loopback \
                 neither"
            ),
            fix: "sysctl -w net.ipv4.tcp_tw_reuse=2, the kernel's default; 1 for upstreams elsewhere, whose clocks (timestamps) are kept"
                .to_owned(),
        });
    }
    if let (Some(now), Some(most)) = (space.time_wait, space.max_tw_buckets)
        && nearly(now.into(), most.into())
    {
        found.push(Finding {
            code: "time-wait-buckets",
            whose: name(space),
            what: format!(
                "{now} of {most} sockets in TIME_WAIT (net.ipv4.tcp_max_tw_buckets): beyond that they are cut short"
            ),
            fix: "keep connections to the upstream (keepalive): see what this finds in the configuration".to_owned(),
        });
    }
}

/// Ports of upstreams that the kernel may give to a connection while the upstream is being restarted.
fn taken(space: &Space, upstreams: &[&Bound], found: &mut Vec<Finding>) {
    let Some((low, high)) = space.port_range else { return };
    for bound in upstreams {
        let port = bound.at.port;
        let is_reserved = space.reserved.iter().any(|(from, to)| (*from..=*to).contains(&port));
        if (low..=high).contains(&port) && !is_reserved {
            found.push(Finding {
                code: "port-ephemeral",
                whose: format!("{}{}", bound.at, named(bound.owner.as_ref())),
                what: format!(
                    "its port is one of those that connections are given ({low} to {high}): while it restarts one may take it, and it cannot \
                     listen then"
                ),
                fix: format!(
                    "sysctl -w net.ipv4.ip_local_reserved_ports={}\nor a port below {low}",
                    with_reserved(&space.reserved, upstreams)
                ),
            });
        }
    }
}

/// Ports that are reserved, with those of these listeners: to set them is to set all.
fn with_reserved(reserved: &[(u16, u16)], more: &[&Bound]) -> String {
    let range = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let is_new = |port: &u16| !reserved.iter().any(|(from, to)| (*from..=*to).contains(port));
    let mut new: Vec<u16> = more.iter().map(|bound| bound.at.port).filter(is_new).collect();
    new.sort_unstable();
    new.dedup();
    let all: Vec<_> = reserved.iter().map(range).chain(new.iter().map(u16::to_string)).collect();
    all.join(",")
}

fn limits(host: &Host, found: &mut Vec<Finding>) {
    for (process, open, limit) in &host.files {
        if nearly(*open, *limit) {
            found.push(Finding {
                code: "open-files",
                whose: format!("{}[{}]", process.comm, process.pid),
                what: format!("{open} of {limit} files are open: without one to spare it answers 500, and takes no connections"),
                fix: "nginx: worker_rlimit_nofile 65536; under systemd LimitNOFILE=. See first whether connections pile up because an \
                      upstream is slow"
                    .to_owned(),
            });
        }
    }
    if let Some((now, most)) = host.conntrack
        && nearly(now, most)
    {
        found.push(Finding {
            code: "conntrack-full",
            whose: "this host".to_owned(),
            what: format!(
                "netfilter tracks {now} of {most} connections: beyond that packets of new ones are dropped, SYNs first"
            ),
            fix: format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}\nand keep connections: each is an entry",
                most.saturating_mul(2)
            ),
        });
    }
    if let Some((now, pressure)) = host.memory
        && now >= pressure
    {
        found.push(Finding {
            code: "tcp-memory",
            whose: "this host".to_owned(),
            what: format!("TCP has {now} pages, and is short of memory from {pressure} on (net.ipv4.tcp_mem): it drops, and shrinks windows"),
            fix: "find who keeps data unread (ss -tm); net.ipv4.tcp_mem is set by the memory there is".to_owned(),
        });
    }
}

fn nearly(now: u64, most: u64) -> bool {
    let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    most > 0 && number(now) >= NEARLY * number(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Endpoint, NetNs};

    fn space() -> Space {
        let process = |pid, comm: &str| Process { pid, comm: comm.into() };
        let at = Endpoint { ip: [127, 0, 0, 1].into(), port: 8000 };
        Space {
            netns: NetNs(7),
            proxies: vec![process(42, "nginx")],
            listeners: vec![Bound { at, limit: 511, owner: Some(process(9, "gunicorn")) }],
            somaxconn: Some(4096),
            abort_on_overflow: Some(0),
            syncookies: Some(1),
            max_syn_backlog: Some(1024),
            port_range: Some((32_768, 60_999)),
            reserved: Vec::new(),
            tw_reuse: Some(2),
            max_tw_buckets: Some(131_072),
            time_wait: Some(900),
        }
    }

    fn codes(change: impl FnOnce(&mut Space)) -> Vec<&'static str> {
        let mut space = space();
        change(&mut space);
        let host = Host { spaces: vec![space], ..Host::default() };
        findings(&host, &[8000]).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_host_as_it_comes_has_nothing_to_be_found() {
        assert_eq!(codes(|_| ()), [""; 0]);
    }

    #[test]
    fn each_trap_is_found() {
        let few = |space: &mut Space| space.port_range = Some((40_000, 40_099));
        assert_eq!(codes(few), ["ports-few"]);
        assert_eq!(codes(|space| space.tw_reuse = Some(0)), ["time-wait-not-reused"]);
        assert_eq!(codes(|space| space.time_wait = Some(120_000)), ["time-wait-buckets"]);
        assert_eq!(codes(|space| space.abort_on_overflow = Some(1)), ["abort-on-overflow"]);
        assert_eq!(codes(|space| space.syncookies = Some(0)), ["syncookies-off"]);
        assert_eq!(codes(|space| space.listeners[0].limit = 5), ["backlog-small"]);
        assert_eq!(codes(|space| (space.somaxconn, space.listeners[0].limit) = (Some(128), 128)), ["backlog-clamped"]);
        assert_eq!(codes(|space| space.port_range = Some((1024, 65_535))), ["port-ephemeral"]);
        let reserved = |space: &mut Space| {
            (space.port_range, space.reserved) = (Some((1024, 65_535)), vec![(22, 22), (7999, 8001)]);
        };
        assert_eq!(codes(reserved), [""; 0]);
    }

    #[test]
    fn what_is_reserved_stays_so() {
        let mut space = space();
        (space.port_range, space.reserved) = (Some((1024, 65_535)), vec![(22, 22), (7000, 7005)]);
        let found = findings(&Host { spaces: vec![space], ..Host::default() }, &[8000]);
        assert!(found[0].fix.contains("ip_local_reserved_ports=22,7000-7005,8000\n"), "{}", found[0].fix);
    }

    #[test]
    fn only_what_a_proxy_or_an_upstream_is_in_matters() {
        let other = |space: &mut Space| {
            space.proxies.clear();
            space.listeners[0].at.port = 22;
            space.abort_on_overflow = Some(1);
        };
        assert_eq!(codes(other), [""; 0]);
        // Of an upstream's own namespace the ports do not matter: it does not connect.
        let upstreams = |space: &mut Space| {
            space.proxies.clear();
            (space.tw_reuse, space.abort_on_overflow) = (Some(0), Some(1));
        };
        assert_eq!(codes(upstreams), ["abort-on-overflow"]);
    }

    #[test]
    fn limits_of_the_host_are_told_before_they_are_met() {
        let process = Process { pid: 42, comm: "nginx".into() };
        let codes = |host: &Host| findings(host, &[]).iter().map(|finding| finding.code).collect::<Vec<_>>();
        let near = Host {
            files: vec![(process.clone(), 900, 1024)],
            conntrack: Some((240_000, 262_144)),
            memory: Some((200, 100)),
            ..Host::default()
        };
        assert_eq!(codes(&near), ["open-files", "conntrack-full", "tcp-memory"]);
        let far = Host {
            files: vec![(process, 9, 1024)],
            conntrack: Some((9, 262_144)),
            memory: Some((9, 100)),
            ..Host::default()
        };
        assert_eq!(codes(&far), [""; 0]);
    }
}
