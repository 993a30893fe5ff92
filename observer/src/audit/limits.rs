//! What a worker may have open.

use super::Finding;
use crate::proxy::nginx::{config::Directive, site::Site};

/// What a service gets as its soft limit of open files unless told otherwise (systemd's DefaultLimitNOFILE, and the kernel's
/// INR_OPEN_CUR).
const USUAL_FILES: u64 = 1024;
/// Without `worker_connections` (`DEFAULT_CONNECTIONS`, src/event/ngx_event.c).
const DEFAULT_CONNECTIONS: u64 = 512;

pub(super) fn findings(site: &Site) -> Vec<Finding> {
    let of = |block: &'_ [Directive], name: &str| block.iter().find(|directive| directive.name == name).cloned();
    let number = |directive: &Directive| directive.arg().parse::<u64>().ok();
    let events = of(site.main, "events");
    let connections = events.as_ref().and_then(|events| of(events.inside(), "worker_connections"));
    let files = of(site.main, "worker_rlimit_nofile");
    let wanted = connections.as_ref().map_or(Some(DEFAULT_CONNECTIONS), number);
    let Some(wanted) = wanted.filter(|_| !site.passes.is_empty()) else { return Vec::new() };
    let started_with = site.open_files.unwrap_or(USUAL_FILES);
    let allowed = files.as_ref().map_or(Some(started_with), number);
    let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) else { return Vec::new() };
    let why = match (&files, site.open_files) {
        (Some(_), _) => "",
        (None, Some(_)) => " (what it was started with)",
        (None, None) => " (what services usually start with)",
    };
    let what = format!(
        "a worker may have {wanted} connections, but only {allowed} open files{why}: beyond that accept() and socket() fail (24: Too many \
         open files)"
    );
    // A proxied request has two connections, an answer that is buffered a file.
    let fix = format!("worker_rlimit_nofile {};\nat the top, outside of events", wanted.saturating_mul(2));
    let Some(place) = files.or(connections).map(|directive| directive.place) else { return Vec::new() };
    vec![Finding::new("files-below-connections", &place, what, fix)]
}
