//! How a proxy is configured, as far as that is known to lead to 502s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Process;
use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    untrusted::{at_most, harmless},
};

/// See [`super::Body::Configuration`]. Untrusted, all of it: whoever runs a process that calls itself nginx wrote it. Told when it was
/// first read, and whenever something of it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The master process that runs with it.
    pub master: Process,
    /// Its network namespace.
    pub netns: NetNs,
    /// Its processes besides the master, [`MAX_WORKERS`] at most.
    #[serde(deserialize_with = "at_most::<MAX_WORKERS, _, _, _>")]
    pub workers: Vec<Process>,
    /// The file that the proxy begins to read, by the name that it has for it, escaped.
    #[serde(deserialize_with = "harmless")]
    pub file: String,
    /// What was found in it, [`MAX_FINDINGS`] at most.
    #[serde(deserialize_with = "at_most::<MAX_FINDINGS, _, _, _>")]
    pub findings: Vec<Configured>,
    /// How many more were found.
    pub left_out: u32,
    /// The master has gone.
    pub gone: bool,
    /// Why it could not be read, if it could not.
    #[serde(deserialize_with = "harmless")]
    pub trouble: Option<String>,
}

/// Something in a configuration that is better changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configured {
    /// What kind it is (docs/audit.md); another version of observer may know others.
    #[serde(deserialize_with = "harmless")]
    pub code: String,
    /// The file to change it in, by the name that the proxy has for it, escaped.
    #[serde(deserialize_with = "harmless")]
    pub file: String,
    /// The line there, from 1.
    pub line: u32,
    /// What is written there, and what comes of it, in a sentence.
    #[serde(deserialize_with = "harmless")]
    pub what: String,
    /// What to write instead, and where; lines.
    #[serde(deserialize_with = "harmless")]
    pub fix: Vec<String>,
    /// The servers that it is about, [`MAX_SERVERS`] at most; none if it is about the proxy as a whole.
    #[serde(deserialize_with = "at_most::<MAX_SERVERS, _, _, _>")]
    pub servers: Vec<Server>,
    /// What it turns on, where that is a number: connections of a worker.
    pub number: Option<u64>,
    /// There is nothing wrong with what is written: it is a mistake only where what is measured says so.
    pub only_if_seen: bool,
}

/// Where a configuration says that a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// At an address.
    At(Endpoint),
    /// At this port of a host that has a name.
    Port(u16),
    /// At a unix socket.
    Unix(UnixPath),
}

/// Longer than this a client has given up, and the proxy's connections pile up meanwhile: nginx's own default of how long to wait for an
/// answer.
pub const LONG_READ: Duration = Duration::from_mins(1);
/// A handshake that takes longer has lost several SYNs (sent again after 1, 3 and 7 s).
pub const LONG_CONNECT: Duration = Duration::from_secs(10);

/// Processes told as a master's workers: as many as a proxy has on the largest machines.
pub const MAX_WORKERS: usize = 1024;
/// Findings told of one configuration: more than anybody reads.
pub const MAX_FINDINGS: usize = 64;
/// Servers told of one finding; pools are seldom larger.
pub const MAX_SERVERS: usize = 64;
/// Bytes of a file's name or a sentence.
const MAX_TEXT: usize = 512;
/// Bytes of a code.
const MAX_CODE: usize = 64;
/// Lines of what to write: a whole upstream block, and what belongs where it is passed to.
const MAX_LINES: usize = 12;
/// Bytes of such a line.
const MAX_LINE: usize = 256;

impl Configuration {
    /// The same with nothing in it that is longer than it may be: what is left out is at the end of each.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.workers.truncate(MAX_WORKERS);
        let more = self.findings.len().saturating_sub(MAX_FINDINGS);
        self.left_out = self.left_out.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.findings.truncate(MAX_FINDINGS);
        for Configured { code, file, line: _, what, fix, servers, number: _, only_if_seen: _ } in &mut self.findings {
            cut(code, MAX_CODE);
            cut(file, MAX_TEXT);
            cut(what, MAX_TEXT);
            fix.truncate(MAX_LINES);
            for line in fix {
                cut(line, MAX_LINE);
            }
            servers.truncate(MAX_SERVERS);
        }
        cut(&mut self.file, MAX_TEXT);
        if let Some(trouble) = &mut self.trouble {
            cut(trouble, MAX_TEXT);
        }
        self
    }
}

fn cut(text: &mut String, limit: usize) {
    text.truncate(text.floor_char_boundary(limit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_longer_than_a_row_holds() {
        let long = || "\\\"".repeat(100_000);
        let finding = Configured {
            code: long(),
            file: long(),
            what: long(),
            fix: vec![long(); 100],
            servers: vec![Server::Port(1); 1000],
            ..Configured::default()
        };
        let workers = vec![Process { pid: u32::MAX, comm: "x".repeat(15).as_str().into() }; 5000];
        let told = Configuration { findings: vec![finding; 100], workers, file: long(), ..Configuration::default() };
        let told = told.bounded();
        assert_eq!((told.findings.len(), told.left_out, told.workers.len()), (64, 36, 1024));
        let row = serde_json::to_string(&told).unwrap();
        assert!(row.len() < 1 << 20, "{}", row.len());
        assert_eq!(serde_json::from_str::<Configuration>(&row).unwrap(), told);
    }
}
