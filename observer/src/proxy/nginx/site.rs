//! What a configuration has nginx do: which pools of upstreams there are, and what holds where requests are passed on.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::{
    Version,
    config::{Config, Directive, Place},
};
use crate::{
    addr::{Endpoint, UnixPath},
    event,
    text::escape,
};

/// How requests are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `proxy_pass` of the http module.
    Http,
    /// `grpc_pass`
    Grpc,
    /// `fastcgi_pass`
    FastCgi,
    /// `uwsgi_pass`
    Uwsgi,
    /// `scgi_pass`
    Scgi,
    /// `proxy_pass` of the stream module, which passes on connections.
    Stream,
}

impl Protocol {
    /// What the names of its directives begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Http | Self::Stream => "proxy",
            Self::Grpc => "grpc",
            Self::FastCgi => "fastcgi",
            Self::Uwsgi => "uwsgi",
            Self::Scgi => "scgi",
        }
    }

    fn of(name: &str, stream: bool) -> Option<Self> {
        Some(match name {
            "proxy_pass" if stream => Self::Stream,
            "proxy_pass" => Self::Http,
            "grpc_pass" => Self::Grpc,
            "fastcgi_pass" => Self::FastCgi,
            "uwsgi_pass" => Self::Uwsgi,
            "scgi_pass" => Self::Scgi,
            _ => return None,
        })
    }
}

/// A place where requests are passed on.
#[derive(Debug)]
pub struct Pass<'a> {
    /// How.
    pub protocol: Protocol,
    /// Where to, as it is written.
    pub to: &'a str,
    /// Where that is written.
    pub place: &'a Place,
    /// The blocks that it is in, the outermost first.
    levels: Vec<&'a [Directive]>,
}

impl<'a> Pass<'a> {
    /// The directives of a name that hold here: those of the innermost block that has any (`ngx_conf_merge_value` and its
    /// like, src/core/ngx_conf_file.h: what is set in a block replaces what is set around it, lists too).
    pub fn all(&self, name: &str) -> Vec<&'a Directive> {
        let of = |level: &&'a [Directive]| level.iter().filter(|directive| directive.name == name).collect::<Vec<_>>();
        self.levels.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The one directive of a name that holds here.
    pub fn one(&self, name: &str) -> Option<&'a Directive> {
        self.all(name).first().copied()
    }

    /// The one of its protocol: `proxy_read_timeout` for `read_timeout`.
    pub fn own(&self, name: &str) -> Option<&'a Directive> {
        self.one(&format!("{}_{name}", self.protocol.prefix()))
    }

    /// A time that holds here, and where it is set; `None` if it is not.
    pub fn time(&self, name: &str) -> Option<(Duration, &'a Place)> {
        let directive = self.own(name)?;
        Some((time(directive.arg())?, &directive.place))
    }

    /// The values of a header that are sent to the upstream, and the directives; none if nothing says what it is.
    pub fn header(&self, name: &str) -> Vec<(&'a str, &'a Directive)> {
        let all = self.all("proxy_set_header").into_iter();
        let named = all.filter(|directive| directive.arg().eq_ignore_ascii_case(name));
        named.map(|directive| (directive.args.get(1).map_or("", String::as_str), directive)).collect()
    }

    /// Where headers are set that hold here although they are set around it: one that is set here would replace them all.
    pub fn headers_from_around(&self) -> Option<&'a Place> {
        let innermost = self.levels.last()?;
        let first = self.one("proxy_set_header")?;
        (!innermost.iter().any(|directive| std::ptr::eq(directive, first))).then_some(&first.place)
    }

    /// Whether connections are switched to another protocol here, as those of WebSockets are: they stay open for long.
    pub fn upgrades(&self) -> bool {
        self.protocol == Protocol::Http && self.header("Upgrade").iter().any(|(value, _)| !value.is_empty())
    }

    /// What it is passed to, without `scheme://`.
    fn rest(&self) -> &'a str {
        self.to.split_once("://").map_or(self.to, |(_, rest)| rest)
    }

    /// What it is passed to, where that is no pool: by the host's address if it has no name, and the port that is said or meant.
    fn address(&self) -> Option<event::Server> {
        if let Some(path) = self.rest().strip_prefix("unix:") {
            // What is behind the second colon is the request's.
            return Some(unix(path.split(':').next().unwrap_or(path)));
        }
        let default = if self.to.starts_with("https:") { HTTPS } else { HTTP };
        let (host, behind) = self.host()?;
        Some(server(ip(host), port(behind, default)?))
    }

    /// Whether it is passed to a unix socket.
    pub fn is_unix(&self) -> bool {
        self.rest().starts_with("unix:")
    }

    /// The host, or the name of a pool, and what is behind it: a port, a path. With variables in its name nobody knows before a
    /// request comes.
    pub fn host(&self) -> Option<(&'a str, &'a str)> {
        let rest = self.rest();
        let end = match rest.strip_prefix('[') {
            Some(address) => address.find(']').map_or(rest.len(), |at| at + 2),
            None => rest.find([':', '/', '?', '$']).unwrap_or(rest.len()),
        };
        let (host, behind) = rest.split_at_checked(end)?;
        // These begin with the path's slash.
        let known = !behind.starts_with('$') || behind.starts_with("$request_uri") || behind.starts_with("$uri");
        (!self.is_unix() && !host.is_empty() && known).then_some((host, behind))
    }
}

/// A server of a pool.
#[derive(Debug)]
pub struct Server<'a> {
    /// Its address, as it is written.
    pub address: &'a str,
    /// What is said of it: `weight=2`, `down`.
    pub parameters: &'a [String],
    /// Where.
    pub place: &'a Place,
}

impl Server<'_> {
    /// Whether it takes requests while the others are up.
    pub fn is_in_turn(&self) -> bool {
        !self.parameters.iter().any(|parameter| parameter == "down" || parameter == "backup")
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether it is a path, or the address of one host: a name may stand for several, each of which is tried.
    pub fn is_one(&self) -> bool {
        if self.address.starts_with("unix:") {
            return true;
        }
        let host = self.address.rsplit_once(':').map_or(self.address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().is_ok() || self.address.parse::<std::net::Ipv6Addr>().is_ok()
    }
}

/// An `upstream` block.
#[derive(Debug)]
pub struct Pool<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is.
    pub place: &'a Place,
    /// Its servers.
    pub servers: Vec<Server<'a>>,
    directives: &'a [Directive],
}

/// What chooses among servers. Once one of these has been read, what `keepalive` put in its place is forgotten (before 1.29.7).
const METHODS: [&str; 8] = [
    "least_conn",
    "ip_hash",
    "hash",
    "random",
    "least_time",
    "sticky",
    "balancer_by_lua_block",
    "balancer_by_lua_file",
];

impl<'a> Pool<'a> {
    /// Where its servers are.
    pub fn addresses(&self) -> Vec<event::Server> {
        let address = |each: &Server| {
            if let Some(path) = each.address.strip_prefix("unix:") {
                return Some(unix(path));
            }
            let host = match each.address.find(']') {
                Some(end) => &each.address[..=end],
                None => each.address.split(':').next().unwrap_or_default(),
            };
            Some(server(ip(host), port(each.address, HTTP)?))
        };
        self.servers.iter().filter_map(address).collect()
    }

    /// What chooses among its servers, if they are not asked in turn.
    pub fn method(&self) -> Option<&'a Directive> {
        self.directives.iter().find(|directive| METHODS.contains(&&directive.name[..]))
    }

    /// How many idle connections it keeps, and where that is said; `None` if it is not.
    pub fn keepalive(&self) -> Option<(u32, &'a Place)> {
        let directive = self.directives.iter().find(|directive| directive.name == "keepalive")?;
        Some((directive.arg().parse().ok()?, &directive.place))
    }

    /// A method of choosing that comes behind `keepalive`.
    pub fn method_behind_keepalive(&self) -> Option<&'a Directive> {
        let at = self.directives.iter().position(|directive| directive.name == "keepalive")?;
        self.directives[at..].iter().find(|directive| METHODS.contains(&&directive.name[..]))
    }

    /// Servers that take their turn.
    pub fn in_turn(&self) -> impl Iterator<Item = &Server<'a>> {
        self.servers.iter().filter(|server| server.is_in_turn())
    }

    /// Whether there is surely another server to go to. A name may stand for several, but need not.
    pub fn has_a_choice(&self) -> bool {
        self.in_turn().count() > 1
    }

    /// Whether there is one for when all others are left out.
    pub fn has_a_spare(&self) -> bool {
        self.servers.iter().any(|server| server.parameters.iter().any(|parameter| parameter == "backup"))
    }

    /// Whether its servers are all unix sockets, which need no ports.
    pub fn is_unix(&self) -> bool {
        self.servers.iter().all(|server| server.address.starts_with("unix:"))
    }
}

/// All of it.
#[derive(Debug)]
pub struct Site<'a> {
    /// The version that reads it.
    pub version: Version,
    /// Files that a worker may have open unless the configuration says otherwise, if that is known.
    pub open_files: Option<u64>,
    /// The `main` block.
    pub main: &'a [Directive],
    /// Where requests are passed on, in the order in which it is read.
    pub passes: Vec<Pass<'a>>,
    /// The pools, of the http module and of the stream module, by their names in lower case (`ngx_http_upstream_add`,
    /// src/http/ngx_http_upstream.c, tells no case).
    pools: HashMap<(bool, String), Pool<'a>>,
    /// The maps of the http module, by the variable that each makes: from what, and the values.
    maps: HashMap<String, (String, &'a [Directive])>,
}

/// What is meant where no port is said (`ngx_http_upstream_add`; `ngx_http_proxy_pass`, src/http/modules/ngx_http_proxy_module.c).
const HTTP: u16 = 80;
/// The same of `https://`.
const HTTPS: u16 = 443;

/// A host that is an address.
fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// A server at a port of a host that has an address, or a name.
fn server(ip: Option<IpAddr>, port: u16) -> event::Server {
    // As the kernel's side tells them: IPv4 addresses are never in their mapped form.
    ip.map_or(event::Server::Port(port), |ip| event::Server::At(Endpoint { ip: ip.to_canonical(), port }))
}

fn unix(path: &str) -> event::Server {
    event::Server::Unix(UnixPath::new(&escape(path.as_bytes())))
}

/// The port in an address, or in what is behind a host: `10.0.0.2:8000`, `[::1]:80`, `:8000/path`. None of a unix socket.
fn port(address: &str, default: u16) -> Option<u16> {
    if address.starts_with("unix:") {
        return None;
    }
    let behind_host = address.rsplit_once(']').map_or(address, |(_, behind)| behind);
    let authority = behind_host.split(['/', '?']).next().unwrap_or_default();
    match authority.split_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => Some(default),
    }
}

impl<'a> Site<'a> {
    /// What a configuration comes to.
    pub fn of(config: &'a Config, version: Version, open_files: Option<u64>) -> Self {
        let mut site = Self {
            version,
            open_files,
            main: &config.directives,
            passes: Vec::new(),
            pools: HashMap::new(),
            maps: HashMap::new(),
        };
        for directive in &config.directives {
            if directive.name == "http" || directive.name == "stream" {
                site.gather(directive, directive.name == "stream", &mut Vec::new());
            }
        }
        site
    }

    fn gather(&mut self, block: &'a Directive, stream: bool, levels: &mut Vec<&'a [Directive]>) {
        levels.push(block.inside());
        for directive in block.inside() {
            match &directive.name[..] {
                "upstream" => {
                    let servers =
                        directive.inside().iter().filter(|inside| inside.name == "server").map(|server| Server {
                            address: server.arg(),
                            parameters: server.args.get(1..).unwrap_or_default(),
                            place: &server.place,
                        });
                    let pool = Pool {
                        name: directive.arg(),
                        place: &directive.place,
                        servers: servers.collect(),
                        directives: directive.inside(),
                    };
                    self.pools.insert((stream, pool.name.to_ascii_lowercase()), pool);
                }
                "map" if !stream => {
                    if let [from, to] = &directive.args[..] {
                        self.maps.insert(variable(to), (variable(from), directive.inside()));
                    }
                }
                // What these hold are no directives.
                "geo" | "types" | "split_clients" | "charset_map" | "map" => {}
                name => {
                    if let Some(protocol) = Protocol::of(name, stream) {
                        let levels = levels.clone();
                        self.passes.push(Pass { protocol, to: directive.arg(), place: &directive.place, levels });
                    } else if directive.block.is_some() {
                        self.gather(directive, stream, levels);
                    }
                }
            }
        }
        levels.pop();
    }

    /// The pool that a pass goes to; `None` if it goes to a host, or nobody knows.
    pub fn pool(&self, pass: &Pass<'a>) -> Option<&Pool<'a>> {
        self.pools.get(&(pass.protocol == Protocol::Stream, pass.host()?.0.to_ascii_lowercase()))
    }

    /// The pools of the http module or of the stream module that requests are passed to, each with where from, in the order of their
    /// places.
    pub fn used_pools(&self) -> Vec<(&Pool<'a>, Vec<&Pass<'a>>)> {
        let mut used: Vec<(&Pool, Vec<&Pass>)> = Vec::new();
        for pass in &self.passes {
            let Some(pool) = self.pool(pass) else { continue };
            match used.iter_mut().find(|(known, _)| known.place == pool.place) {
                Some((_, passes)) => passes.push(pass),
                None => used.push((pool, vec![pass])),
            }
        }
        used.sort_by_key(|(pool, _)| pool.place);
        used
    }

    /// The servers that a pass goes to.
    pub fn servers(&self, pass: &Pass<'a>) -> Vec<event::Server> {
        match self.pool(pass) {
            Some(pool) => pool.addresses(),
            None => pass.address().into_iter().collect(),
        }
    }

    /// Whether nothing else is passed to the servers of a pool: they are in no other, and are asked without one nowhere.
    pub fn has_alone(&self, pool: &Pool<'a>, servers: &[event::Server]) -> bool {
        let port = |server: &event::Server| match server {
            event::Server::At(Endpoint { port, .. }) | event::Server::Port(port) => Some(*port),
            event::Server::Unix(_) => None,
        };
        // One with a name may stand for any at its port.
        let may_be = |other: &event::Server, server: &event::Server| {
            other == server || matches!(other, event::Server::Port(_)) && port(other) == port(server)
        };
        let others = self.passes.iter().filter(|pass| self.pool(pass).is_none_or(|other| other.place != pool.place));
        !others.flat_map(|pass| self.servers(pass)).any(|other| servers.iter().any(|server| may_be(&other, server)))
    }

    /// Ports of the servers that requests are passed to, each once, in order.
    pub fn upstream_ports(&self) -> Vec<u16> {
        let port = |server| match server {
            event::Server::At(Endpoint { port, .. }) | event::Server::Port(port) => Some(port),
            event::Server::Unix(_) => None,
        };
        let servers = self.passes.iter().flat_map(|pass| self.servers(pass));
        let mut ports: Vec<u16> = servers.filter_map(port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The entry of a map that says what a value comes to for a request without an `Upgrade` header, if one does.
    pub fn without_upgrade(&self, value: &str) -> Option<&'a Directive> {
        let (from, values) = self.maps.get(&variable(value))?;
        if from != "$http_upgrade" {
            return None;
        }
        let named = |name: &str| values.iter().find(|entry| entry.name == name);
        named("").or_else(|| named("default"))
    }
}

/// A variable's name in one form: `${Name}` is `$name`.
fn variable(text: &str) -> String {
    let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    name.map_or_else(|| text.to_ascii_lowercase(), |name| format!("${}", name.to_ascii_lowercase()))
}

/// A time as nginx reads it (`ngx_parse_time`, src/core/ngx_parse.c): numbers with units, the larger first; seconds without one.
pub fn time(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
        let (unit, millis) = units.into_iter().find(|(unit, _)| rest.starts_with(unit)).unwrap_or(("", 1000));
        if unit.is_empty() && !rest.is_empty() {
            return None;
        }
        rest = rest[unit.len()..].trim_start();
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_nginx_reads_them() {
        for (text, millis) in
            [("60", 60_000), ("1m 30s", 90_000), ("1m30s", 90_000), ("500ms", 500), ("0", 0), ("1d", 86_400_000)]
        {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "-1", "99999999999999999999", "18446744073709551615w"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn the_port_of_a_server_is_said_or_meant() {
        for (address, expected) in [
            ("10.0.0.2:8000", Some(8000)),
            ("10.0.0.2", Some(HTTP)),
            ("[::1]:81", Some(81)),
            ("[::1]", Some(HTTP)),
            (":8443/x:9", Some(8443)),
            ("/x:9", Some(HTTP)),
            ("unix:/run/a.sock", None),
            ("a:$port", None),
            ("a:99999", None),
        ] {
            assert_eq!(port(address, HTTP), expected, "{address}");
        }
    }

    #[test]
    fn a_host_is_what_a_pool_could_be_called() {
        let place = Place { file: "f".into(), line: 1 };
        let host = |to| Pass { protocol: Protocol::Http, to, place: &place, levels: Vec::new() }.host();
        for (to, expected) in [
            ("http://app", Some(("app", ""))),
            ("https://app:8443/x", Some(("app", ":8443/x"))),
            ("http://[::1]:80/", Some(("[::1]", ":80/"))),
            ("http://[::1", Some(("[::1", ""))),
            ("app:9000", Some(("app", ":9000"))),
            ("http://app/v1/$1$is_args$args", Some(("app", "/v1/$1$is_args$args"))),
            ("http://app$request_uri", Some(("app", "$request_uri"))),
            ("http://app$suffix", None),
            ("http://unix:/run/a.sock:/", None),
            ("unix:/run/a.sock", None),
            ("http://$backend", None),
            ("http://", None),
            ("http://app?x", Some(("app", "?x"))),
        ] {
            assert_eq!(host(to), expected, "{to}");
        }
    }
}
