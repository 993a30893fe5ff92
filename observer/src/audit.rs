//! What is known to lead to 502s before it does: a proxy's configuration, read against what nginx makes of it.

pub mod host;
mod limits;
mod pools;
mod waits;

use std::{fmt::Write as _, net::IpAddr};

use serde_json::{Value, json};

use crate::{
    addr::Endpoint,
    model::Model,
    proxy::nginx::{
        Version,
        config::{Config, Place},
        site::Site,
    },
    text::escape,
};

/// Something that is better changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind it is.
    pub code: &'static str,
    /// Where to change it.
    pub place: Place,
    /// What else it follows from.
    pub also: Vec<Place>,
    /// Servers that it is about, where the kernel can show whether it is so: addresses, where they are said, and ports.
    pub servers: Vec<(Option<IpAddr>, u16)>,
    /// What a recording shows of it.
    pub seen: Option<Seen>,
    /// What is written there, and what comes of it. Harmless to show.
    pub what: String,
    /// What to write instead, and where; lines.
    pub fix: String,
}

impl Finding {
    fn new(code: &'static str, place: &Place, what: String, fix: impl Into<String>) -> Self {
        Self { code, place: place.clone(), also: Vec::new(), servers: Vec::new(), seen: None, what, fix: fix.into() }
    }

    fn because_of(mut self, place: &Place) -> Self {
        self.also.push(place.clone());
        self
    }
}

/// What a recording shows of a finding: connections that ended well, and those of them that had carried a single request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// All.
    pub connections: u64,
    /// Of a single request.
    pub one_shot: u64,
}

impl Seen {
    /// Whether it confirms that connections are not kept; `None` if too few were seen, or they were of both kinds.
    pub fn confirms(self) -> Option<bool> {
        let (all, one_shot) = (u128::from(self.connections), u128::from(self.one_shot));
        match () {
            () if all < ENOUGH => None,
            () if one_shot * 20 >= all * 19 => Some(true),
            () if one_shot * 2 <= all => Some(false),
            () => None,
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connections, one_shot } = self;
        let word = match self.confirms() {
            Some(true) => "confirmed",
            Some(false) => "not so in the recording",
            None => "the recording does not settle it",
        };
        write!(f, "{word}: {one_shot} of {connections} connections carried a single request")
    }
}

/// Connections from which on it can be told whether they are kept.
const ENOUGH: u128 = 20;

/// What was found in a configuration.
#[derive(Debug)]
pub struct Audit {
    /// The configuration's own file, harmless to show.
    pub file: String,
    /// How many files it is.
    pub files: usize,
    /// Places in it where requests are passed on.
    pub passes: usize,
    /// The version that it was judged by.
    pub version: Version,
    /// Ports of the servers that requests are passed to, each once, in order.
    pub upstream_ports: Vec<u16>,
    /// In the order of their places; each once.
    pub findings: Vec<Finding>,
}

/// Reads a configuration against what a version of nginx makes of it, whose processes may have so many files open, if that is known.
pub fn nginx(file: &str, config: &Config, version: Version, open_files: Option<u64>) -> Audit {
    let site = Site::of(config, version, open_files);
    let mut findings = [pools::findings(&site), waits::findings(&site), limits::findings(&site)].concat();
    findings.sort_by(|a, b| (&a.place, a.code, &a.what).cmp(&(&b.place, b.code, &b.what)));
    // What is set once may hold in many places.
    findings.dedup_by(|a, b| (&a.place, a.code, &a.what) == (&b.place, b.code, &b.what));
    Audit {
        file: escape(file.as_bytes()),
        files: config.files,
        passes: site.passes.len(),
        version,
        upstream_ports: site.upstream_ports(),
        findings,
    }
}

impl Audit {
    /// Holds it against what was seen of upstreams.
    pub fn hold_against(&mut self, model: &Model) {
        for finding in self.findings.iter_mut().filter(|finding| !finding.servers.is_empty()) {
            let is =
                |at: Endpoint, (ip, port): &(Option<IpAddr>, u16)| at.port == *port && ip.is_none_or(|ip| ip == at.ip);
            let is_meant = |at: Endpoint| finding.servers.iter().any(|server| is(at, server));
            let upstreams = model.upstreams().filter(|(key, _)| key.endpoint.is_some_and(is_meant));
            let seen = upstreams.fold(Seen { connections: 0, one_shot: 0 }, |seen, (_, upstream)| Seen {
                connections: seen.connections.saturating_add(upstream.tries.saturating_sub(upstream.failed)),
                one_shot: seen.one_shot.saturating_add(upstream.one_shot),
            });
            finding.seen = Some(seen);
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A name or value of the configuration's, to be shown.
fn shown(text: &str) -> String {
    escape(text.as_bytes())
}

impl Audit {
    /// Lines for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}: {}; requests are passed on in {}; read as nginx {} does",
            self.file,
            counted(self.files, "file"),
            counted(self.passes, "place"),
            self.version
        );
        for finding in &self.findings {
            let _ = writeln!(text, "\n{}:{}: {}", finding.place.file, finding.place.line, finding.code);
            let _ = writeln!(text, "  {}", finding.what);
            if let Some(seen) = finding.seen {
                let _ = writeln!(text, "  {seen}");
            }
            for place in &finding.also {
                let _ = writeln!(text, "  see {}:{}", place.file, place.line);
            }
            for line in finding.fix.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        match self.findings.len() {
            0 => text.push_str("nothing found\n"),
            count => {
                let _ = writeln!(text, "\n{count} found");
            }
        }
        text
    }

    /// One object for machines.
    pub fn to_json(&self) -> Value {
        let place = |place: &Place| json!({ "file": &*place.file, "line": place.line });
        let findings = self.findings.iter().map(|finding| {
            json!({
                "code": finding.code,
                "file": &*finding.place.file,
                "line": finding.place.line,
                "what": finding.what,
                "fix": finding.fix,
                "confirmed": finding.seen.and_then(Seen::confirms),
                "seen": finding.seen.map(|seen| json!({ "connections": seen.connections, "single_request": seen.one_shot })),
                "also": finding.also.iter().map(place).collect::<Vec<_>>(),
            })
        });
        json!({
            "file": self.file,
            "files": self.files,
            "passes": self.passes,
            "version": self.version.to_string(),
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Body, ConnectionEnded},
        proxy::nginx::config,
        testing::{connection, event},
    };

    #[test]
    fn few_or_mixed_connections_settle_nothing() {
        let confirms = |one_shot, connections| Seen { connections, one_shot }.confirms();
        assert_eq!(confirms(412, 412), Some(true));
        assert_eq!(confirms(10, 412), Some(false));
        assert_eq!(confirms(300, 412), None);
        assert_eq!(confirms(19, 19), None);
        assert_eq!(confirms(u64::MAX, u64::MAX), Some(true));
    }

    #[test]
    fn a_finding_is_held_against_what_its_upstreams_did() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        // Port 8000, as the connections below.
        std::fs::write(
            &file,
            "events {} http { upstream a { server 10.0.0.2:8000; keepalive 8; }\nserver { location / { proxy_pass http://a; } } }",
        )
        .unwrap();
        let config = config::read(std::path::Path::new("/"), &file).unwrap();
        let mut audit = nginx("nginx.conf", &config, Version(1, 22, 1), None);
        let mut model = Model::default();
        for n in 0..30 {
            let since_received = Some(std::time::Duration::from_millis(4));
            let ended = ConnectionEnded { bytes_received: 150, since_received, ..connection() };
            model.apply(&event(n, Body::ConnectionEnded(Box::new(ended))));
        }
        audit.hold_against(&model);
        let finding = audit.findings.iter().find(|finding| finding.code == "keepalive-not-in-effect").unwrap();
        assert_eq!(finding.seen.unwrap().to_string(), "confirmed: 30 of 30 connections carried a single request");
        assert!(audit.to_text().contains("30 of 30"));
        let told = audit.to_json();
        let told =
            told["findings"].as_array().unwrap().iter().find(|told| told["code"] == "keepalive-not-in-effect").unwrap();
        assert_eq!(told["confirmed"], true);
    }
}
