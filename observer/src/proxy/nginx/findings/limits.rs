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
    let near = connections_near(site, wanted, connections.as_ref().or(events.as_ref()));
    near.into_iter().chain(files_below(site, wanted, files, connections)).collect()
}

fn files_below(site: &Site, wanted: u64, files: Option<Directive>, connections: Option<Directive>) -> Option<Finding> {
    let started_with = site.open_files.unwrap_or(USUAL_FILES);
    let allowed = files.as_ref().map_or(Some(started_with), |files| files.arg().parse().ok());
    let allowed = allowed.filter(|allowed| *allowed < wanted)?;
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
    let place = files.or(connections)?.place;
    Some(Finding { number: Some(wanted), ..Finding::new("files-below-connections", &place, what, fix) })
}

/// How many connections a worker has is not seen, how many files it has open is: nearly the same, unless it keeps files open besides.
fn connections_near(site: &Site, wanted: u64, written: Option<&Directive>) -> Option<Finding> {
    if anywhere(site.main, "open_file_cache") {
        return None;
    }
    let what = format!("a worker may have {wanted} connections, those to clients and those to upstreams together");
    let fix = format!(
        "worker_connections {more};\nin the events block; and at the top worker_rlimit_nofile {more}; or more",
        more = wanted.saturating_mul(2)
    );
    let finding = Finding::new("worker-connections-near", &written?.place, what, fix);
    Some(Finding { number: Some(wanted), only_if_seen: true, ..finding })
}

fn anywhere(block: &[Directive], name: &str) -> bool {
    block.iter().any(|directive| directive.name == name || anywhere(directive.inside(), name))
}
