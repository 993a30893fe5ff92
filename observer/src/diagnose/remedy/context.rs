//! What a remedy is written from: the verdict with its evidence, and what is known of the upstream now. Where both have a
//! number the evidence's is taken, for it is the one in the verdict's own sentence.

use std::{net::IpAddr, time::Duration};

use super::{Facts, proxies::Proxy, shell};
use crate::{
    diagnose::{
        evidence::Value,
        verdict::{Confidence, StatusFrom, Verdict},
    },
    event::{Process, Software},
    model::UpstreamKey,
    time::Human,
};

/// Head-room on what was measured, as a share of it: a measure of seconds misses the peaks of a minute.
const HEAD_ROOM: f64 = 0.2;
/// More than this of anything counted here is an error of measurement.
const ABSURD: f64 = 1e6;

/// A failure and its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub(super) verdict: &'a Verdict,
    pub(super) facts: &'a Facts,
}

impl<'a> Context<'a> {
    pub(super) fn new(verdict: &'a Verdict, facts: &'a Facts) -> Self {
        Self { verdict, facts }
    }

    /// `127.0.0.1:8000`, `unix:/run/app.sock`
    pub(super) fn at(&self) -> String {
        let UpstreamKey { endpoint, path, .. } = self.verdict.upstream;
        if endpoint.is_none() && path.is_none() { "the upstream".to_owned() } else { self.verdict.upstream.to_string() }
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.verdict.upstream.endpoint.map(|at| at.port)
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.verdict.upstream.endpoint.map(|at| at.ip)
    }

    /// The upstream as the `server` of a proxy's configuration; a placeholder where it cannot be written there as it is.
    pub(super) fn server(&self) -> String {
        let text = self.verdict.upstream.path.map(|path| path.as_str().to_owned());
        match (self.verdict.upstream.endpoint, text) {
            (Some(at), _) => at.to_string(),
            (None, Some(path)) if shell::is_plain(&path) && shell::is_true_path(&path) => self.unix(&path),
            (None, Some(_)) => self.unix("SOCKET"),
            (None, None) => "ADDRESS:PORT".to_owned(),
        }
    }

    fn unix(&self, path: &str) -> String {
        let by = if self.proxy() == Proxy::Haproxy { "unix@" } else { "unix:" };
        format!("{by}{path}")
    }

    /// The path that was asked for, if it is known and can stand in a command as it is.
    pub(super) fn target(&self) -> Option<&'a str> {
        let target = self.verdict.log.as_ref()?.request.target.as_str();
        Some(target).filter(|target| target.starts_with('/') && shell::is_plain(target))
    }

    pub(super) fn proxy(&self) -> Proxy {
        Proxy::of(&self.verdict.proxy.comm)
    }

    /// As its processes show it, else by the name of the eldest.
    pub(super) fn software(&self) -> Option<Software> {
        let told = self.text("software").and_then(Software::named);
        let seen = || self.facts.application.map(|application| application.software);
        told.or_else(seen).or_else(|| Software::by_comm(&self.comm()))
    }

    fn comm(&self) -> String {
        let process = self.facts.process.as_ref().map(|process| process.comm.to_string());
        let told = || ["listener_comm", "worker_comm", "sender_comm"].into_iter().find_map(|name| self.text(name));
        process.or_else(|| told().map(str::to_owned)).unwrap_or_default()
    }

    /// The pid of a process that has the listener.
    pub(super) fn listener_pid(&self) -> Option<u32> {
        // Who had a listener that has closed may be gone, and its number another's.
        let closed = self.verdict.cause == "upstream-refused" || self.has("listener-restarted");
        if closed && !self.flag("listens_now") {
            return None;
        }
        let told = self.count("listener_pid");
        told.or_else(|| self.facts.process.as_ref().map(|process| process.pid)).filter(|pid| *pid != 0)
    }

    /// The systemd unit of the application for a command, looked up there if a process of it is known.
    pub(super) fn unit(&self) -> String {
        self.listener_pid().map_or_else(|| "SERVICE".to_owned(), |pid| format!("\"$(ps -o unit= -p {pid})\""))
    }

    /// ` (gunicorn[12])`
    pub(super) fn owner(&self) -> String {
        match (&self.facts.process, self.text("listener_comm"), self.count("listener_pid")) {
            (_, Some(comm), Some(pid)) => format!(" ({comm}[{pid}])"),
            (Some(Process { pid, comm }), _, _) => format!(" ({comm}[{pid}])"),
            _ => String::new(),
        }
    }

    /// The upstream's listener is on this host.
    pub(super) fn here(&self) -> bool {
        let loopback = self.ip().is_some_and(|ip| ip.is_loopback());
        let facts = self.facts;
        facts.listener.is_some()
            || facts.local == Some(true)
            || loopback
            || facts.process.is_some()
            || self.verdict.upstream.path.is_some()
    }

    /// What an expectation begins with where the command belongs on the other host.
    pub(super) fn there(&self) -> &'static str {
        if self.here() { "" } else { "On the upstream's host: " }
    }

    /// A command, in the proxy's network namespace.
    pub(super) fn by_proxy(&self, command: &str) -> String {
        within(Some(self.verdict.proxy.pid), command)
    }

    /// A command, in the network namespace of the upstream's listener.
    pub(super) fn by_upstream(&self, command: &str) -> String {
        let (proxy, listener) = (self.verdict.upstream.netns, self.facts.listener_netns);
        let together = self.ip().is_some_and(|ip| ip.is_loopback()) || proxy.known() && proxy == listener;
        within(self.listener_pid().or(together.then_some(self.verdict.proxy.pid)), command)
    }

    /// The path of a unix socket for a command, and whether it is one of the file system that is written as it is.
    pub(super) fn path(&self) -> Option<String> {
        let path = self.verdict.upstream.path?;
        shell::is_true_path(path.as_str()).then(|| shell::quote(path.as_str()))
    }

    /// `The client got a 504`
    pub(super) fn client(&self) -> String {
        match (self.verdict.status, self.verdict.status_from()) {
            (Some(status), Some(StatusFrom::Observed)) => format!("The client got a {status}"),
            (Some(status), Some(StatusFrom::Logged)) => format!("The client got a {status}, by the proxy's log"),
            // What is most likely is nginx's answer.
            (Some(status), _) if self.proxy() == Proxy::Nginx => format!("The client most likely got a {status}"),
            _ => "What the client got was not seen".to_owned(),
        }
    }

    /// How sure, as a sentence.
    pub(super) fn sure(&self, certain: &str, otherwise: &str) -> String {
        match self.verdict.confidence {
            Confidence::Certain => format!("This is certain: {certain}."),
            confidence => format!("This is {}, not certain: {otherwise}.", confidence.name()),
        }
    }

    /// Whether this lies under it as well.
    pub(super) fn has(&self, code: &str) -> bool {
        self.verdict.because == Some(code) || self.verdict.also.contains(&code)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match self.verdict.evidence.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.verdict.evidence.get(name), Some(Value::Flag(true)))
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.verdict.evidence.get(name) {
            Some(Value::Number(number)) => Some(*number).filter(|number| number.is_finite()),
            Some(Value::Count(count)) => u32::try_from(*count).ok().map(f64::from),
            _ => None,
        }
    }

    /// A time that is given in milliseconds; none of zero.
    pub(super) fn time(&self, name: &str) -> Option<Human> {
        let ms = self.number(name).filter(|ms| *ms > 0.0)?;
        Duration::try_from_secs_f64(ms / 1e3).ok().map(Human)
    }

    pub(super) fn count(&self, name: &str) -> Option<u32> {
        match self.verdict.evidence.get(name) {
            Some(Value::Count(count)) => u32::try_from(*count).ok(),
            Some(Value::Number(number)) => whole(*number),
            _ => None,
        }
    }

    /// Connections in the queue, and how many may be; never a pair of zeros, which stands for unknown.
    pub(super) fn queue(&self) -> (Option<u32>, Option<u32>) {
        match (self.count("queue_depth"), self.count("queue_limit")) {
            (Some(0) | None, Some(0) | None) => {
                (self.facts.depth.filter(|_| self.facts.limit != Some(0)), self.facts.limit.filter(|limit| *limit != 0))
            }
            told => told,
        }
    }

    pub(super) fn workers(&self) -> Option<u32> {
        self.count("workers").or(self.facts.workers).filter(|workers| *workers > 0)
    }

    /// Requests that each worker serves at once, where that is known.
    pub(super) fn threads(&self) -> Option<u32> {
        let seen = || self.facts.application.and_then(|application| application.threads);
        self.count("threads").or_else(seen).filter(|threads| *threads > 0)
    }

    pub(super) fn arrivals(&self) -> Option<f64> {
        self.number("arrivals_per_second").or(self.facts.arrivals_per_second).filter(|rate| *rate > 0.0)
    }

    pub(super) fn seconds_each(&self) -> Option<f64> {
        self.number("service_time_s").or(self.facts.seconds_per_request).filter(|seconds| *seconds > 0.0)
    }

    /// Requests a second that the workers can do.
    pub(super) fn can_do(&self) -> Option<f64> {
        let at_once = || Some(self.workers()?.saturating_mul(self.threads().unwrap_or(1)));
        let by_workers = || Some(f64::from(at_once()?) / self.seconds_each()?);
        self.number("accepted_per_second").filter(|rate| *rate > 0.0).or_else(by_workers)
    }

    /// Workers that would do, without head-room: measured, or arrivals times the time of each.
    pub(super) fn needed(&self) -> Option<u32> {
        let each = f64::from(self.threads().unwrap_or(1));
        let by_rate = || whole((self.arrivals()? * self.seconds_each()? / each).ceil());
        self.count("workers_needed").or(self.facts.needed).or_else(by_rate).filter(|needed| *needed > 0)
    }

    /// The same with head-room.
    pub(super) fn workers_to_have(&self) -> Option<u32> {
        self.needed().and_then(|needed| whole((f64::from(needed) * (1.0 + HEAD_ROOM)).ceil()))
    }

    /// A backlog to ask for: twice what was too little, and no less than comes in a second.
    pub(super) fn backlog(&self) -> Option<u32> {
        let (_, limit) = self.queue();
        let burst = self.arrivals().and_then(|rate| whole(rate.ceil())).unwrap_or_default();
        limit.map(|limit| limit.saturating_mul(2).max(burst).next_power_of_two())
    }

    pub(super) fn connections_per_second(&self) -> Option<f64> {
        self.number("connections_per_second").or(self.facts.connections_per_second).filter(|rate| *rate > 0.0)
    }

    /// Connections to keep idle: as many as are in use at once, by their rate and duration, with head-room.
    pub(super) fn connections_to_keep(&self) -> Option<u32> {
        let at_once = self.connections_per_second()? * self.seconds_each()?;
        whole((at_once * (1.0 + HEAD_ROOM)).ceil()).map(|count| count.max(1))
    }

    pub(super) fn ports(&self) -> Option<u32> {
        self.count("ports").or(self.facts.ports).filter(|ports| *ports > 0)
    }

    pub(super) fn time_wait(&self) -> Option<u32> {
        self.count("time_wait_to_upstream").or(self.facts.time_wait)
    }

    pub(super) fn somaxconn(&self) -> Option<u32> {
        self.count("somaxconn").or(self.facts.somaxconn)
    }
}

/// A command in the network namespace of a process, if that is known.
fn within(pid: Option<u32>, command: &str) -> String {
    match pid.filter(|pid| *pid != 0) {
        Some(pid) => format!("nsenter -t {pid} -n {command}"),
        None => command.to_owned(),
    }
}

/// A measure as a count, if it makes sense as one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the guard keeps it within u32")]
pub(super) fn whole(number: f64) -> Option<u32> {
    (0.0..=ABSURD).contains(&number).then_some(number as u32)
}
