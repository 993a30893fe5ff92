//! Whether what was measured shows that a finding of a configuration is so. Where it does not settle that, it says so.

use std::{fmt, time::Duration};

use super::{Engine, causes::no_live_upstreams};
use crate::{
    event::{Configuration, Configured, ProxySample, Server},
    model::{Model, Upstream, UpstreamKey},
    time::Human,
};

/// Connections from which on it can be told whether they are kept.
const CONNECTIONS: u64 = 20;
/// Answers of each server from which on their times can be compared.
const ANSWERS: u64 = 50;
/// Half of one server's answers take this many times as long as half of another's: no accident of what they were asked.
const SLOWER: u32 = 3;
/// Times shorter than this differ by what else the host does.
const SLOW: Duration = Duration::from_millis(5);
/// Failures from which on it can be told that they are one server's.
const FAILURES: u64 = 20;
/// One server has this many times as many failures as all others together.
const CONCENTRATED: u64 = 9;
/// Tries at each server from which on it can be told that it was asked.
const TRIES: u64 = 20;
/// Percent of something limited from which on it is about to be gone.
const NEARLY: u64 = 80;

/// What the measurements say of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is so.
    Confirmed,
    /// Nothing, or too little.
    Unsettled,
    /// Nothing ever: it cannot be measured.
    Unmeasurable,
    /// It is not so.
    Refuted,
}

impl Standing {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unsettled => "not settled",
            Self::Unmeasurable => "not measurable",
            Self::Refuted => "not so",
        }
    }
}

/// A finding held against what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What comes of it.
    pub standing: Standing,
    /// What was measured, in a sentence.
    pub seen: String,
}

impl Held {
    /// Whether it is so, where that is known.
    pub fn confirmed(&self) -> Option<bool> {
        match self.standing {
            Standing::Confirmed => Some(true),
            Standing::Refuted => Some(false),
            Standing::Unsettled | Standing::Unmeasurable => None,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.standing.name(), self.seen)
    }
}

fn held(standing: Standing, seen: impl Into<String>) -> Held {
    Held { standing, seen: seen.into() }
}

/// Whether a finding is about an upstream: one of its servers, and seen from the proxy's network namespace. One without servers is about
/// whatever its processes use.
pub fn is_about(of: &Configuration, finding: &Configured, key: &UpstreamKey, upstreams_proxy: u32) -> bool {
    if finding.servers.is_empty() {
        return of.master.pid == upstreams_proxy || is_worker(of, upstreams_proxy);
    }
    names(of, &finding.servers, key)
}

fn names(of: &Configuration, servers: &[Server], key: &UpstreamKey) -> bool {
    let here = !of.netns.known() || !key.netns.known() || of.netns == key.netns;
    let is = |server: &Server| match *server {
        Server::At(at) => here && key.endpoint == Some(at),
        Server::Port(port) => here && key.endpoint.is_some_and(|at| at.port == port),
        Server::Unix(path) => key.path == Some(path),
    };
    servers.iter().any(is)
}

fn is_worker(of: &Configuration, pid: u32) -> bool {
    of.workers.iter().any(|worker| worker.pid == pid)
}

/// Holds a finding of a configuration against what was measured.
pub fn hold(engine: &Engine, of: &Configuration, finding: &Configured) -> Held {
    let model = engine.model();
    let upstreams: Vec<_> = model.upstreams().filter(|(key, _)| names(of, &finding.servers, key)).collect();
    match &finding.code[..] {
        "keepalive-absent" | "keepalive-not-in-effect" => kept(&upstreams),
        "connect-timeout-long" => {
            let long = longest(&upstreams, |upstream| upstream.long_connects);
            waited(long, "handshake", "waited for in vain")
        }
        "read-timeout-long" => read_timeout(&upstreams),
        "retries-unlimited" => retried(&upstreams),
        "max-fails-default" => left_out(engine, of, finding, &upstreams),
        "files-below-connections" => files(model, of, finding.number),
        "worker-connections-near" => connections(model, of, finding.number),
        "unequal-upstreams" => unequal(&upstreams, finding.servers.len()),
        "buffering-off" => held(Standing::Unmeasurable, "how fast clients read is not seen"),
        "max-fails-in-vain" => held(Standing::Unmeasurable, "what the proxy counts is not seen"),
        _ => held(Standing::Unmeasurable, "this kind of finding is not known here"),
    }
}

type Upstreams<'a> = [(&'a UpstreamKey, &'a Upstream)];

fn sum(upstreams: &Upstreams<'_>, of: impl Fn(&Upstream) -> u64) -> u64 {
    upstreams.iter().fold(0, |sum, (_, upstream)| sum.saturating_add(of(upstream)))
}

/// Connections that ended well, and those of them that had carried a single request.
fn kept(upstreams: &Upstreams<'_>) -> Held {
    let all = sum(upstreams, |upstream| upstream.tries.saturating_sub(upstream.failed));
    let one_shot = sum(upstreams, |upstream| upstream.one_shot);
    let standing = match () {
        () if all < CONNECTIONS => Standing::Unsettled,
        () if u128::from(one_shot) * 20 >= u128::from(all) * 19 => Standing::Confirmed,
        () if u128::from(one_shot) * 2 <= u128::from(all) => Standing::Refuted,
        () => Standing::Unsettled,
    };
    held(standing, format!("{one_shot} of {all} connections carried a single request"))
}

fn longest(upstreams: &Upstreams<'_>, of: impl Fn(&Upstream) -> (u64, Duration)) -> (u64, Duration) {
    let most = upstreams.iter().map(|(_, upstream)| of(upstream).1).max().unwrap_or_default();
    (sum(upstreams, |upstream| of(upstream).0), most)
}

fn waited((count, most): (u64, Duration), one: &str, how: &str) -> Held {
    match count {
        0 => held(Standing::Unsettled, format!("no {one} was {how} so long")),
        1 => held(Standing::Confirmed, format!("1 {one} was {how} for {}", Human(most))),
        _ => held(Standing::Confirmed, format!("{count} {one}s were {how}, for up to {}", Human(most))),
    }
}

/// An answer that came late shows what the timer is good for.
fn read_timeout(upstreams: &Upstreams<'_>) -> Held {
    let (count, most) = longest(upstreams, |upstream| upstream.long_waits);
    let came = sum(upstreams, |upstream| upstream.answers.longer_than(crate::event::LONG_READ));
    match (count, came) {
        (0, 1..) => held(
            Standing::Refuted,
            format!("{came} answers began after more than a minute, none was waited for in vain"),
        ),
        _ => waited((count, most), "answer", "waited for in vain"),
    }
}

fn retried(upstreams: &Upstreams<'_>) -> Held {
    let (retried, failed) = (sum(upstreams, |upstream| upstream.retried), sum(upstreams, |upstream| upstream.failed));
    match retried {
        0 => held(Standing::Unsettled, format!("none of {failed} failed tries was seen to be followed by another")),
        _ => held(Standing::Confirmed, format!("{retried} failed tries were followed by another of the same request")),
    }
}

/// That all of them were left out at a time is told by the proxy's log, and by that all of them have failed.
fn left_out(engine: &Engine, of: &Configuration, finding: &Configured, upstreams: &Upstreams<'_>) -> Held {
    let failed = sum(upstreams, |upstream| upstream.failed);
    let has_failed = |server: &Server| {
        let own = |key: &UpstreamKey| names(of, std::slice::from_ref(server), key);
        upstreams.iter().any(|(key, upstream)| upstream.failed > 0 && own(key))
    };
    let without = engine.incidents().iter().filter(|incident| {
        let latest = &incident.latest;
        incident.cause == no_live_upstreams::RULE.code && latest.log.is_some() && is_worker(of, latest.proxy.pid)
    });
    let without = without.fold(0, |sum: u64, incident| sum.saturating_add(incident.count));
    if without > 0 && finding.servers.iter().all(has_failed) {
        return held(
            Standing::Confirmed,
            format!("{without} requests found no live server, and each of these has failed"),
        );
    }
    held(Standing::Unsettled, format!("{failed} tries failed; no request was seen to find all of the servers left out"))
}

/// The worker that comes nearest to a limit.
fn nearest<'a>(
    model: &'a Model,
    of: &Configuration,
    limit: impl Fn(&ProxySample) -> u64,
) -> Option<(&'a ProxySample, u64)> {
    let workers = model.proxies().map(|(_, sample)| sample).filter(|sample| is_worker(of, sample.process.pid));
    let left = |(sample, limit): &(&ProxySample, u64)| limit.saturating_sub(sample.open_files);
    workers.map(|sample| (sample, limit(sample))).min_by_key(left)
}

fn nearly(used: u64, limit: u64) -> bool {
    u128::from(used) * 100 >= u128::from(limit) * u128::from(NEARLY)
}

/// The kernel knows the limit in effect, whoever has set it.
fn files(model: &Model, of: &Configuration, wanted: Option<u64>) -> Held {
    let Some((sample, limit)) = nearest(model, of, |sample| sample.open_files_limit) else {
        return held(Standing::Unsettled, "no worker was looked at");
    };
    let ProxySample { process, open_files, .. } = sample;
    let seen = format!("{}[{}] has {open_files} of {limit} files open", process.comm, process.pid);
    let standing = match wanted {
        Some(wanted) if limit >= wanted => Standing::Refuted,
        _ if nearly(*open_files, limit) => Standing::Confirmed,
        _ => Standing::Unsettled,
    };
    held(standing, seen)
}

/// Nearly all that a busy worker has open is connections.
fn connections(model: &Model, of: &Configuration, may: Option<u64>) -> Held {
    let Some((sample, may)) = may.and_then(|may| nearest(model, of, |_| may)) else {
        return held(Standing::Unsettled, "no worker was looked at");
    };
    let ProxySample { process, open_files, .. } = sample;
    let standing = if nearly(*open_files, may) { Standing::Confirmed } else { Standing::Unsettled };
    let seen = format!(
        "{}[{}] has {open_files} files open, connections mostly, and may have {may} connections",
        process.comm, process.pid
    );
    held(standing, seen)
}

/// Servers that are asked in turn and are not equal: half of one's answers take much longer than half of another's, or the failures are
/// one's.
fn unequal(upstreams: &Upstreams<'_>, servers: usize) -> Held {
    // A connect() that failed before the kernel chose a route is of no namespace.
    let upstreams: Vec<_> = upstreams.iter().copied().filter(|(key, _)| key.netns.known()).collect();
    let upstreams = &upstreams[..];
    if upstreams.len() < 2 || upstreams.len() != servers {
        return held(Standing::Unsettled, format!("{} of {servers} servers have been seen", upstreams.len()));
    }
    let measured = upstreams.iter().filter(|(_, upstream)| upstream.answers.count() >= ANSWERS);
    let times: Vec<_> = measured.filter_map(|(key, upstream)| Some((upstream.answers.median()?, *key))).collect();
    if let (Some((fast, first)), Some((slow, last))) = (times.iter().min(), times.iter().max())
        && *slow >= SLOW
        && *slow >= *fast * SLOWER
    {
        let seen =
            format!("half of the answers of {last} begin within {}, of {first} within {}", Human(*slow), Human(*fast));
        return held(Standing::Confirmed, seen);
    }
    let failed = sum(upstreams, |upstream| upstream.failed);
    let asked = upstreams.iter().all(|(_, upstream)| upstream.tries >= TRIES);
    if let Some((key, worst)) = upstreams.iter().max_by_key(|(_, upstream)| upstream.failed)
        && asked
        && worst.failed >= FAILURES
        && worst.failed >= (failed - worst.failed).saturating_mul(CONCENTRATED)
    {
        return held(Standing::Confirmed, format!("{} of {failed} failed tries were at {key}", worst.failed));
    }
    held(Standing::Unsettled, "their answers' times and failures do not tell them apart")
}

#[cfg(test)]
mod tests;
