//! Which processes are reverse proxies, how they are configured, and what they write into their logs.

pub mod access;
mod files;
pub mod haproxy;
pub mod nginx;
pub mod tail;

use crate::text::escape;
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

/// The path of what was asked for.
fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Escaped, and of what is longer than `most` bytes the beginning.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let mut text = escape(&text.as_bytes()[..text.floor_char_boundary(most)]);
    text.truncate(text.floor_char_boundary(most));
    text
}
