//! What is known to lead to 502s before it does: a proxy's configuration, read against what nginx makes of it.

mod limits;
mod pools;
mod waits;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
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
    /// What is written there, and what comes of it. Harmless to show.
    pub what: String,
    /// What to write instead, and where; lines.
    pub fix: String,
}

impl Finding {
    fn new(code: &'static str, place: &Place, what: String, fix: impl Into<String>) -> Self {
        Self { code, place: place.clone(), also: Vec::new(), what, fix: fix.into() }
    }

    fn because_of(mut self, place: &Place) -> Self {
        self.also.push(place.clone());
        self
    }
}

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
    Audit { file: escape(file.as_bytes()), files: config.files, passes: site.passes.len(), version, findings }
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
