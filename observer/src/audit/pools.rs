//! Pools of upstreams: connections that are not kept although they could be, and what happens when a server fails.

use super::{Finding, shown};
use crate::proxy::nginx::{
    Version,
    config::Place,
    site::{Pass, Pool, Protocol, Server, Site},
};

/// Kept where nothing else is known: nginx's own default since 1.29.7.
const USUAL_KEEPALIVE: u32 = 32;

pub(super) fn findings(site: &Site) -> Vec<Finding> {
    let mut all = Vec::new();
    for (pool, passes) in site.used_pools() {
        all.extend(keepalive_of(site, pool, &passes));
        all.extend(retries(pool, &passes));
        if pool.has_a_choice() {
            all.extend(max_fails_unsaid(pool));
        } else {
            all.extend(max_fails_in_vain(pool));
        }
    }
    let outside = site.passes.iter().filter(|pass| site.pool(pass).is_none());
    all.extend(outside.filter_map(without_pool));
    all
}

fn keepalive_of(site: &Site, pool: &Pool, passes: &[&Pass]) -> Vec<Finding> {
    let by_default = site.version >= Version::KEEPS_CONNECTIONS;
    let told = pool.keepalive();
    let name = shown(pool.name);
    match told {
        Some((0, place)) => {
            let what = format!(
                "no connection to the upstream {name} is kept: each request opens one, and leaves a port in TIME_WAIT"
            );
            return vec![Finding::new("keepalive-absent", place, what, format!("keepalive {USUAL_KEEPALIVE};"))];
        }
        None if !by_default => return absent(pool, passes),
        _ => {}
    }
    let mut all = Vec::new();
    let place = told.map_or(pool.place, |(_, place)| place);
    if let Some(method) = pool.method_behind_keepalive().filter(|_| !by_default) {
        let what = format!(
            "{} stands behind keepalive in the upstream {name}, and undoes it: connections are not kept",
            shown(&method.name)
        );
        all.push(Finding::new(
            "keepalive-not-in-effect",
            place,
            what,
            format!("write {} before keepalive", shown(&method.name)),
        ));
    }
    all.extend(passes.iter().filter_map(|pass| not_in_effect(site, pool, place, pass)));
    all
}

/// A pool that keeps connections, where requests are passed in a way in which none can be kept.
fn not_in_effect(site: &Site, pool: &Pool, keepalive: &Place, pass: &Pass) -> Option<Finding> {
    let name = shown(pool.name);
    let found = |place: &Place, what: String, fix: &str| {
        Some(Finding::new("keepalive-not-in-effect", place, what, fix).because_of(keepalive))
    };
    match pass.protocol {
        Protocol::Http => {}
        Protocol::FastCgi => {
            if pass.one("fastcgi_keep_conn").is_some_and(|directive| directive.arg() == "on") {
                return None;
            }
            let what = format!(
                "the upstream {name} keeps connections, but asks each server to close them: fastcgi_keep_conn is off"
            );
            return found(pass.place, what, "fastcgi_keep_conn on;");
        }
        Protocol::Uwsgi | Protocol::Scgi => {
            let what = format!("the upstream {name} keeps connections, but this protocol has one request a connection");
            return found(pass.place, what, "pass requests on by HTTP (proxy_pass), or take keepalive out");
        }
        // HTTP/2 keeps them; a stream is one.
        Protocol::Grpc | Protocol::Stream => return None,
    }
    let by_default = site.version >= Version::KEEPS_CONNECTIONS;
    let version = pass.one("proxy_http_version");
    let old = version.map_or(!by_default, |directive| directive.arg() == "1.0");
    let closes = closes(site, pass, by_default);
    if !old && closes.is_none() {
        return None;
    }
    let mut fixes = Vec::new();
    if old {
        fixes.push("proxy_http_version 1.1;");
    }
    if closes.is_some() {
        fixes.push("proxy_set_header Connection \"\";");
    }
    let why = match (old, &closes) {
        (true, Some(_)) => "as HTTP/1.0 and with \"Connection: close\"",
        (true, None) => "as HTTP/1.0",
        (false, _) => "with \"Connection: close\"",
    };
    let what = format!(
        "the upstream {name} keeps connections, but requests are passed to it {why}: each opens one of its own"
    );
    // Where it is written, if it is; else where it would have to be.
    let written = closes.flatten().or(version.filter(|_| old).map(|directive| &directive.place));
    found(written.unwrap_or(pass.place), what, &fixes.join("\n"))
}

/// Whether requests tell the upstream to close the connection, and where that is written, if it is.
#[expect(clippy::option_option, reason = "not at all, by default, or because of what is written somewhere")]
fn closes<'a>(site: &Site<'a>, pass: &Pass<'a>, by_default: bool) -> Option<Option<&'a Place>> {
    let Some((value, directive)) = pass.header("Connection") else {
        // `ngx_http_proxy_headers` (src/http/modules/ngx_http_proxy_module.c) has it up to 1.29.6.
        return (!by_default).then_some(None);
    };
    if value.eq_ignore_ascii_case("close") {
        return Some(Some(&directive.place));
    }
    let (value, place) = site.without_upgrade(value)?;
    value.eq_ignore_ascii_case("close").then_some(Some(place))
}

/// A pool that keeps no connections, where they could be.
fn absent(pool: &Pool, passes: &[&Pass]) -> Vec<Finding> {
    // Over unix sockets there are no ports to run out of; a FastCGI server's workers each hold on to a kept connection.
    let could = passes.iter().any(|pass| matches!(pass.protocol, Protocol::Http | Protocol::Grpc));
    if !could || pool.is_unix() {
        return Vec::new();
    }
    let what = format!(
        "the upstream {} keeps no connections: each request opens one, and leaves a port in TIME_WAIT for a minute",
        shown(pool.name)
    );
    let fix = format!(
        "keepalive {USUAL_KEEPALIVE};\nand where requests are passed to it:\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";"
    );
    vec![Finding::new("keepalive-absent", pool.place, what, fix)]
}

/// Where a host is named instead of a pool connections cannot be kept, in any version.
fn without_pool(pass: &Pass) -> Option<Finding> {
    let host = pass.host().filter(|_| pass.protocol == Protocol::Http)?;
    let host = shown(host);
    let what = format!(
        "requests are passed to {host} without an upstream block: connections to it cannot be kept, each request opens one"
    );
    let fix = format!(
        "upstream app {{\n  server {host}:PORT;\n  keepalive {USUAL_KEEPALIVE};\n}}\nand here:\nproxy_pass http://app;\nproxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";"
    );
    Some(Finding::new("keepalive-absent", pass.place, what, fix))
}

/// A failed request goes to the next server, and the next, as long as there are any.
fn retries(pool: &Pool, passes: &[&Pass]) -> Option<Finding> {
    if !pool.has_a_choice() {
        return None;
    }
    let unlimited = |pass: &&&Pass| {
        let next = pass.own("next_upstream");
        let off = next.is_some_and(|directive| directive.arg() == "off");
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
    let what = format!(
        "one failed try takes a server of {} out for 10 s (the default): when all have failed once, everybody gets 502 (no live upstreams)",
        shown(pool.name)
    );
    let fix = format!("server {} max_fails=3 fail_timeout=10s;\nand the others likewise", shown(server.address));
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
