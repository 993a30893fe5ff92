//! Which processes are reverse proxies, how they are configured, and what they write into their logs.

pub mod nginx;
pub mod tail;

use observer_common::answer::{ANSWERS_FIRST, THREAD_PER_REQUEST, THREADS_SHARED};

/// `comm` names of the proxies that are recognised unless `--proxy` says otherwise.
pub const KNOWN: [&str; 8] = ["nginx", "openresty", "haproxy", "apache2", "httpd", "caddy", "envoy", "traefik"];

/// Those written in Go, whose requests move between threads.
const GO: [&str; 2] = ["caddy", "traefik"];

/// How a proxy's threads go about its requests, as the wire contract numbers it.
pub fn threading(comm: &str) -> u8 {
    match comm {
        "haproxy" => ANSWERS_FIRST,
        go if GO.contains(&go) => THREADS_SHARED,
        _ => THREAD_PER_REQUEST,
    }
}
