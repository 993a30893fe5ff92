//! What is known to lead to 502s before it does: a proxy's configuration, read against what nginx makes of it.

pub mod host;

use std::fmt::Write as _;

use serde_json::{Value, json};

pub use crate::proxy::nginx::findings::Finding;
use crate::{
    diagnose::{
        Engine, Held,
        configured::{self, Standing},
    },
    event::Configuration,
    proxy::nginx::{
        Version,
        config::{Config, Place},
        findings,
        site::Site,
    },
    text::escape,
};

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
    /// What would be a mistake only if something were measured that nobody has held it against.
    pub in_doubt: Vec<Finding>,
    /// What is measured of each of [`findings`](Self::findings), if they were held against something.
    pub held: Vec<Held>,
}

/// Reads a configuration against what a version of nginx makes of it, whose processes may have so many files open, if that is known.
pub fn nginx(file: &str, config: &Config, version: Version, open_files: Option<u64>) -> Audit {
    let site = Site::of(config, version, open_files);
    let (in_doubt, findings) = findings::findings(&site).into_iter().partition(|finding| finding.only_if_seen);
    Audit {
        file: escape(file.as_bytes()),
        files: config.files,
        passes: site.passes.len(),
        version,
        upstream_ports: site.upstream_ports(),
        findings,
        in_doubt,
        held: Vec::new(),
    }
}

impl Audit {
    /// Holds it against what was measured.
    pub fn hold_against(&mut self, engine: &Engine) {
        // What ran with the same file when that was measured: its workers, and where it was.
        let of = engine.model().configurations().find(|told| told.file == self.file).cloned();
        let of = of.unwrap_or_else(|| Configuration { file: self.file.clone(), ..Configuration::default() });
        let hold = |finding: &Finding| configured::hold(engine, &of, &finding.told());
        let in_doubt = std::mem::take(&mut self.in_doubt).into_iter();
        self.findings.extend(in_doubt.filter(|finding| hold(finding).standing == Standing::Confirmed));
        self.findings.sort_by(|a, b| a.place.cmp(&b.place));
        self.held = self.findings.iter().map(hold).collect();
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
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
        for (index, finding) in self.findings.iter().enumerate() {
            let _ = writeln!(text, "\n{}:{}: {}", finding.place.file, finding.place.line, finding.code);
            let _ = writeln!(text, "  {}", finding.what);
            if let Some(held) = self.held.get(index) {
                let _ = writeln!(text, "  {held}");
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
        let findings = self.findings.iter().enumerate().map(|(index, finding)| {
            let held = self.held.get(index);
            json!({
                "code": finding.code,
                "file": &*finding.place.file,
                "line": finding.place.line,
                "what": finding.what,
                "fix": finding.fix,
                "confirmed": held.and_then(Held::confirmed),
                "seen": held.map(|held| &held.seen),
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
        event::{Body, ConnectionEnded, FirstBytes},
        proxy::nginx::config,
        testing::{connection, event},
    };

    #[test]
    fn the_page_tells_of_every_code() {
        let page = include_str!("../docs/audit.md");
        let of_the_host = include_str!("audit/host.rs").split("code: \"").skip(1);
        let of_the_host: Vec<_> = of_the_host.filter_map(|rest| rest.split('"').next()).collect();
        assert!(of_the_host.len() >= 12, "{of_the_host:?}");
        let mut codes: Vec<_> = findings::CODES.into_iter().chain(of_the_host).collect();
        codes.sort_unstable();
        codes.dedup();
        let mut told: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        told.sort_unstable();
        assert_eq!(told, codes);
    }

    #[test]
    fn what_is_no_mistake_by_itself_is_told_only_where_it_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        let text = "events {} http { upstream a { server 10.0.0.2:8000; server 10.0.0.3:8000; }\n\
                    server { location / { proxy_pass http://a; } } }";
        std::fs::write(&file, text).unwrap();
        let config = config::read(std::path::Path::new("/"), &file).unwrap();
        let mut audit = nginx("nginx.conf", &config, Version(1, 22, 1), None);
        let is_there = |audit: &Audit| audit.findings.iter().any(|finding| finding.code == "unequal-upstreams");
        assert!(!is_there(&audit));
        let mut engine = Engine::default();
        for (upstream, ms) in [("10.0.0.2:8000", 900_u64), ("10.0.0.3:8000", 20)] {
            let (netns, upstream) = (crate::testing::NETNS, crate::testing::endpoint(upstream));
            let told = FirstBytes { netns, upstream, within: vec![(ms * 1_000_000, 90)], unmeasured: 0 };
            engine.apply(&event(1, Body::FirstBytes(Box::new(told))), &mut |_| {});
        }
        audit.hold_against(&engine);
        assert!(
            is_there(&audit) && audit.to_text().contains("confirmed: half of the answers of 10.0.0.2:8000"),
            "{}",
            audit.to_text()
        );
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
        let mut engine = Engine::default();
        for n in 0..30 {
            let since_received = Some(std::time::Duration::from_millis(4));
            let ended = ConnectionEnded { bytes_received: 150, since_received, ..connection() };
            engine.apply(&event(n, Body::ConnectionEnded(Box::new(ended))), &mut |_| {});
        }
        audit.hold_against(&engine);
        assert!(audit.to_text().contains("confirmed: 30 of 30 connections carried a single request"));
        let told = audit.to_json();
        let told =
            told["findings"].as_array().unwrap().iter().find(|told| told["code"] == "keepalive-not-in-effect").unwrap();
        assert_eq!(told["confirmed"], true);
    }
}
