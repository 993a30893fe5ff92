//! How long the proxy waits, and what for.

use std::time::Duration;

use super::{Finding, shown};
use crate::{
    event::{LONG_CONNECT, LONG_READ},
    proxy::nginx::site::{Pass, Pool, Protocol, Site},
};

/// nginx's own default.
const DEFAULT_CONNECT: Duration = Duration::from_mins(1);

pub(super) fn findings(site: &Site) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut by_default: Vec<&str> = Vec::new();
    for pass in &site.passes {
        let servers = || site.servers(pass);
        all.extend(read_timeout(pass).into_iter().chain(buffering(pass)).map(|finding| finding.about(servers())));
        // connect() on a unix socket never waits.
        if pass.is_unix() || site.pool(pass).is_some_and(Pool::is_unix) {
            continue;
        }
        match pass.time("connect_timeout") {
            Some((time, place)) if time > LONG_CONNECT => {
                let what = format!(
                    "the proxy waits {} s for a handshake: a server that is gone holds each request so long",
                    time.as_secs()
                );
                all.push(Finding::new("connect-timeout-long", place, what, connect_fix(pass)).about(servers()));
            }
            Some(_) => {}
            // Once for each upstream: it is often unset throughout.
            None if by_default.contains(&pass.to) => {}
            None => {
                by_default.push(pass.to);
                let what = format!(
                    "the proxy waits {} s for a handshake with {} (the default): a server that is gone holds each request so long",
                    DEFAULT_CONNECT.as_secs(),
                    shown(pass.to)
                );
                all.push(Finding::new("connect-timeout-long", pass.place, what, connect_fix(pass)).about(servers()));
            }
        }
    }
    all
}

fn connect_fix(pass: &Pass) -> String {
    format!("{}_connect_timeout 3s;", pass.protocol.prefix())
}

fn read_timeout(pass: &Pass) -> Option<Finding> {
    // Connections that say nothing for long are what WebSockets and streams are like.
    if pass.upgrades() || matches!(pass.protocol, Protocol::Grpc | Protocol::Stream) {
        return None;
    }
    let (time, place) = pass.time("read_timeout").filter(|(time, _)| *time > LONG_READ)?;
    let what = format!(
        "an upstream may say nothing for {} s before the proxy gives up: trouble shows as requests that hang, and they pile up",
        time.as_secs()
    );
    let fix = format!(
        "{prefix}_read_timeout 60s;\nand more only in the locations that need it",
        prefix = pass.protocol.prefix()
    );
    Some(Finding::new("read-timeout-long", place, what, fix))
}

fn buffering(pass: &Pass) -> Option<Finding> {
    if pass.upgrades() {
        return None;
    }
    let directive = pass.own("buffering").filter(|directive| directive.arg() == "off")?;
    let what = "an upstream's worker is held for as long as the slowest client takes to read the answer".to_owned();
    let fix = format!("{}_buffering on;\nand off only where answers are streamed", pass.protocol.prefix());
    Some(Finding::new("buffering-off", &directive.place, what, fix))
}
