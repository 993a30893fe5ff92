//! Pools of upstreams: connections that are not kept although they could be, and what happens when a server fails.

use super::{Finding, shown};
use crate::{
    event,
    proxy::nginx::{
        Version,
        config::{Directive, Place},
        site::{Pass, Pool, Protocol, Server, Site},
    },
};

/// Kept where nothing else is known: nginx's own default since 1.29.7.
const USUAL_KEEPALIVE: u32 = 32;

pub(super) fn findings(site: &Site) -> Vec<Finding> {
    let mut all = Vec::new();
    for (pool, passes) in site.used_pools() {
        let mut found = keepalive_of(site, pool, &passes);
        found.extend(retries(pool, &passes));
        if pool.has_a_choice() {
            found.extend(max_fails_unsaid(pool));
            found.extend(by_turns(site, pool));
        } else {
            found.extend(max_fails_in_vain(pool));
        }
        let servers = pool.addresses();
        all.extend(found.into_iter().map(|finding| finding.about(servers.clone())));
    }
    let outside = site.passes.iter().filter(|pass| site.pool(pass).is_none());
    all.extend(outside.filter_map(|pass| Some(without_pool(site, pass)?.about(site.servers(pass)))));
    all
}

fn keepalive_of(site: &Site, pool: &Pool, passes: &[&Pass]) -> Vec<Finding> {
    let name = shown(pool.name);
    let told = pool.keepalive();
    match told {
        Some((0, place)) => {
            let what = format!(
                "no connection to the upstream {name} is kept: each request opens one, and leaves a port in TIME_WAIT"
            );
            return vec![Finding::new("keepalive-absent", place, what, format!("keepalive {USUAL_KEEPALIVE};"))];
        }
        None if !keeps_by_default(site) => return absent(site, pool, passes),
        _ => {}
    }
    let mut all = Vec::new();
    let place = told.map_or(pool.place, |(_, place)| place);
    if let Some(method) = pool.method_behind_keepalive().filter(|_| !keeps_by_default(site)) {
        let method = shown(&method.name);
        let what =
            format!("{method} stands behind keepalive in the upstream {name}, and undoes it: connections are not kept");
        all.push(Finding::new("keepalive-not-in-effect", place, what, format!("write {method} before keepalive")));
    }
    for pass in passes {
        match pass.protocol {
            Protocol::Http => all.extend(not_in_effect(site, pool, place, pass)),
            // Where it is nginx's default nobody has asked for it.
            _ if told.is_some() => all.extend(not_by_protocol(pool, place, pass)),
            _ => {}
        }
    }
    all
}

fn keeps_by_default(site: &Site) -> bool {
    site.version >= Version::KEEPS_CONNECTIONS
}

/// A pool that keeps connections, where requests are passed by a protocol that needs more, or cannot.
fn not_by_protocol(pool: &Pool, keepalive: &Place, pass: &Pass) -> Option<Finding> {
    let name = shown(pool.name);
    let (what, fix) = match pass.protocol {
        Protocol::FastCgi => {
            if pass.one("fastcgi_keep_conn").is_some_and(|directive| directive.arg() == "on") {
                return None;
            }
            ("asks each server to close them: fastcgi_keep_conn is off", "fastcgi_keep_conn on;")
        }
        Protocol::Uwsgi | Protocol::Scgi => (
            "this protocol has one request a connection",
            "pass requests on by HTTP (proxy_pass), or take keepalive out",
        ),
        // HTTP/2 keeps them; a stream is one.
        Protocol::Http | Protocol::Grpc | Protocol::Stream => return None,
    };
    let what = format!("the upstream {name} keeps connections, but {what}");
    Some(Finding::new("keepalive-not-in-effect", pass.place, what, fix).because_of(keepalive))
}

/// Why requests do not leave a connection open.
struct Ended<'a> {
    /// They go out as HTTP/1.0.
    old: Option<Old<'a>>,
    /// They say `Connection: close`.
    closes: Option<Closes<'a>>,
}

/// Why requests are of that version.
enum Old<'a> {
    /// Nothing says otherwise.
    ByDefault,
    /// It is written.
    Written(&'a Place),
}

/// What makes requests say so.
enum Closes<'a> {
    /// Nothing says otherwise.
    ByDefault,
    /// A header that is set.
    Header(&'a Place),
    /// An entry of a map, for requests that ask for no upgrade.
    Map(&'a Directive),
}

impl<'a> Ended<'a> {
    fn of(site: &Site<'a>, pass: &Pass<'a>) -> Self {
        let version = pass.one("proxy_http_version");
        let is_version = |text| version.is_some_and(|directive| directive.arg() == text);
        // HTTP/2 has no such header.
        if is_version("2") {
            return Self { old: None, closes: None };
        }
        let old = is_version("1.0") || (version.is_none() && !keeps_by_default(site));
        let headers = pass.header("Connection");
        // HTTP/1.0 can keep connections, if it is asked to.
        let keeps = headers.iter().any(|(value, _)| value.eq_ignore_ascii_case("keep-alive"));
        let closes = headers.iter().find_map(|(value, directive)| {
            if value.eq_ignore_ascii_case("close") {
                return Some(Closes::Header(&directive.place));
            }
            site.without_upgrade(value).filter(|entry| entry.arg().eq_ignore_ascii_case("close")).map(Closes::Map)
        });
        // `ngx_http_proxy_headers` (src/http/modules/ngx_http_proxy_module.c) has it up to 1.29.6.
        let by_default = headers.is_empty() && !keeps_by_default(site);
        Self {
            old: (old && !keeps).then(|| version.map_or(Old::ByDefault, |directive| Old::Written(&directive.place))),
            closes: closes.or_else(|| by_default.then_some(Closes::ByDefault)),
        }
    }

    /// What to write where requests are passed, in lines; what is to be written elsewhere says where.
    fn fixes(&self, pass: &Pass) -> Vec<String> {
        let mut fixes = Vec::new();
        if self.old.is_some() {
            fixes.push("proxy_http_version 1.1;".to_owned());
        }
        match &self.closes {
            None => {}
            Some(Closes::Map(entry)) => {
                // A second entry of one name is an error.
                let how = if entry.name.is_empty() { "in the map, instead of" } else { "in the map, beside" };
                fixes.push(format!("\"\" \"\";  {how} {}:{}", entry.place.file, entry.place.line));
            }
            Some(Closes::ByDefault | Closes::Header(_)) => {
                fixes.push(header(pass, "Connection \"\""));
            }
        }
        fixes
    }
}

/// A header to set. Where others are set around, one that is set here would replace them all.
fn header(pass: &Pass, what: &str) -> String {
    let set = format!("proxy_set_header {what};");
    match pass.headers_from_around() {
        Some(around) => format!("{set}  beside the other headers, {}:{}", around.file, around.line),
        None => set,
    }
}

/// A pool that keeps connections, where requests are passed in a way in which none can be kept.
fn not_in_effect<'a>(site: &Site<'a>, pool: &Pool, keepalive: &Place, pass: &Pass<'a>) -> Option<Finding> {
    let ended = Ended::of(site, pass);
    let why = match (&ended.old, &ended.closes) {
        (None, None) => return None,
        (Some(_), Some(_)) => "as HTTP/1.0 and with \"Connection: close\"",
        (Some(_), None) => "as HTTP/1.0",
        (None, Some(_)) => "with \"Connection: close\"",
    };
    let what = format!(
        "the upstream {} keeps connections, but requests are passed to it {why}: each opens one of its own",
        shown(pool.name)
    );
    // Where it is written, if it is; else where it would have to be.
    let place = match (&ended.closes, &ended.old) {
        (Some(Closes::Header(place)), _) | (None | Some(Closes::ByDefault), Some(Old::Written(place))) => place,
        (Some(Closes::Map(entry)), _) => &entry.place,
        _ => pass.place,
    };
    Some(Finding::new("keepalive-not-in-effect", place, what, ended.fixes(pass).join("\n")).because_of(keepalive))
}

/// A pool that keeps no connections, where they could be.
fn absent<'a>(site: &Site<'a>, pool: &Pool, passes: &[&Pass<'a>]) -> Vec<Finding> {
    // Over unix sockets there are no ports to run out of; a FastCGI server's workers each hold on to a kept connection.
    let could = passes.iter().find(|pass| matches!(pass.protocol, Protocol::Http | Protocol::Grpc));
    let Some(pass) = could.filter(|_| !pool.is_unix()) else { return Vec::new() };
    let what = format!(
        "the upstream {} keeps no connections: each request opens one, and leaves a port in TIME_WAIT for a minute",
        shown(pool.name)
    );
    let mut fix = vec![format!("keepalive {USUAL_KEEPALIVE};")];
    if pass.protocol == Protocol::Http {
        let where_passed = Ended::of(site, pass).fixes(pass);
        if !where_passed.is_empty() {
            fix.push(format!("and where requests are passed to it, {}:{}", pass.place.file, pass.place.line));
            fix.extend(where_passed);
        }
    }
    vec![Finding::new("keepalive-absent", pool.place, what, fix.join("\n"))]
}

/// Where a host is named instead of a pool connections cannot be kept, in any version.
fn without_pool<'a>(site: &Site<'a>, pass: &Pass<'a>) -> Option<Finding> {
    let (host, behind) = pass.host().filter(|_| pass.protocol == Protocol::Http)?;
    let (port, path) = behind.split_at(behind.find(['/', '?', '$']).unwrap_or(behind.len()));
    let secure = pass.to.starts_with("https:");
    let (scheme, usual) = if secure { ("https", ":443") } else { ("http", ":80") };
    let (host, path) = (shown(host), shown(path));
    let port = if port.is_empty() { usual.to_owned() } else { shown(port) };
    let what = format!(
        "requests are passed to {host} without an upstream block: connections to it cannot be kept, each request opens one"
    );
    let mut fix = vec![
        "upstream app {".to_owned(),
        format!("  server {host}{port};"),
        format!("  keepalive {USUAL_KEEPALIVE};"),
        "}".to_owned(),
        "and here".to_owned(),
        format!("proxy_pass {scheme}://app{path};"),
    ];
    fix.extend(Ended::of(site, pass).fixes(pass));
    // What these are by default is what proxy_pass names.
    if pass.header("Host").is_empty() {
        fix.push(header(pass, &format!("Host {host}")));
    }
    if secure && pass.one("proxy_ssl_name").is_none() {
        fix.push(format!("proxy_ssl_name {host};"));
    }
    Some(Finding::new("keepalive-absent", pass.place, what, fix.join("\n")))
}

/// A failed request goes to the next server, and the next, as long as there are any.
fn retries(pool: &Pool, passes: &[&Pass]) -> Option<Finding> {
    if !pool.has_a_choice() {
        return None;
    }
    let unlimited = |pass: &&&Pass| {
        let next = pass.own("next_upstream");
        let off = next.is_some_and(|directive| directive.args.iter().any(|condition| condition == "off"));
        // Of both 0 stands for no limit, and a number is a time too.
        let limited = |name: &str| pass.time(name).is_some_and(|(limit, _)| !limit.is_zero());
        !off && !limited("next_upstream_tries") && !limited("next_upstream_timeout")
    };
    let pass = passes.iter().find(unlimited)?;
    let prefix = pass.protocol.prefix();
    let what = format!(
        "a request that fails is tried at every server of {}, for as long as that takes: when all are slow, each request loads all of them",
        shown(pool.name)
    );
    let fix = format!("{prefix}_next_upstream_tries 2;\n{prefix}_next_upstream_timeout 10s;");
    let place = pass.own("next_upstream").map_or(pass.place, |directive| &directive.place);
    Some(Finding::new("retries-unlimited", place, what, fix).because_of(pool.place))
}

/// When a server is left out, and for how long, is nginx's default: one failure, ten seconds.
fn max_fails_unsaid(pool: &Pool) -> Option<Finding> {
    let unsaid =
        |server: &&Server| server.parameter("max_fails").is_none() && server.parameter("fail_timeout").is_none();
    let server = pool.in_turn().find(unsaid)?;
    let left = if pool.has_a_spare() { "only the spare is left" } else { "everybody gets 502 (no live upstreams)" };
    let what = format!(
        "one failed try takes a server of {} out for 10 s (the default): when all have failed once, {left}",
        shown(pool.name)
    );
    let said: Vec<_> =
        std::iter::once(server.address).chain(server.parameters.iter().map(String::as_str)).map(shown).collect();
    let fix = format!("server {} max_fails=3 fail_timeout=10s;\nand the others likewise", said.join(" "));
    Some(Finding::new("max-fails-default", server.place, what, fix).because_of(pool.place))
}

/// nginx does not take its only server out, whatever it is told (`peers->single`, src/http/ngx_http_upstream_round_robin.c).
fn max_fails_in_vain(pool: &Pool) -> Option<Finding> {
    let said = |server: &&Server| {
        let given = |name| server.parameter(name).is_some_and(|value| value != "0");
        given("max_fails") || given("fail_timeout")
    };
    // With a spare it does count.
    if pool.servers.len() > 1 {
        return None;
    }
    let server = pool.in_turn().filter(|server| server.is_one()).find(said)?;
    let what = format!(
        "max_fails and fail_timeout do nothing here: {} has no other server to go to, and nginx never leaves out its only one",
        shown(pool.name)
    );
    Some(Finding::new("max-fails-in-vain", server.place, what, "add a second server (or `backup`), or take them out"))
}

/// Each server gets as many requests as the others: right where they are equal, which what is measured shows. Only of servers with
/// addresses, that are of this pool alone, can it be told which is which and what it is asked for.
fn by_turns(site: &Site, pool: &Pool) -> Option<Finding> {
    let weighted = |server: &Server| server.parameter("weight").is_some();
    let spare = |server: &Server| !server.is_in_turn();
    if pool.method().is_some() || pool.servers.iter().any(|server| weighted(server) || spare(server)) {
        return None;
    }
    let servers = pool.addresses();
    let has_address = |server: &event::Server| matches!(server, event::Server::At(_));
    if servers.len() != pool.servers.len() || !servers.iter().all(has_address) || !site.has_alone(pool, &servers) {
        return None;
    }
    let what = format!("the servers of {} are asked in turn, as if all were equal", shown(pool.name));
    let fix = "least_conn;\nahead of the servers, or a weight= for each, if one is merely slower; one that fails is to be mended or taken out: \
               with least_conn it would be asked more often";
    Some(Finding { only_if_seen: true, ..Finding::new("unequal-upstreams", pool.place, what, fix) })
}
