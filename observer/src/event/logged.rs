//! What proxies write into their own logs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Process;
use crate::{
    addr::{Endpoint, UnixPath},
    time::Time,
    untrusted::{at_most, harmless},
};

/// See [`super::Body::LogLine`]. Untrusted, all of it: whoever can write to the file may have written it. Told when it was read, a little
/// after it was written. Of a log with a line for each request (access log), only such as tell of a failure, or of a request of which
/// another log says that a try for it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Who wrote it, by the process id that it bears.
    pub process: Process,
    /// When the log was last read to its end before: it was written after this.
    pub after: Time,
    /// The number that its writer has for the client's connection; 0 if it says none.
    pub connection: u64,
    /// What happened, and while doing what; escaped, at most [`MAX_SAID`] bytes; empty where there is a status alone.
    #[serde(deserialize_with = "harmless")]
    pub said: String,
    /// The upstream's address.
    pub at: Option<Endpoint>,
    /// The upstream's unix socket.
    pub path: Option<UnixPath>,
    /// The request.
    pub request: Request,
    /// The port of its client, where the log names it.
    pub port: Option<u16>,
    /// What the client got, of a log with a line for each request.
    pub status: Option<u16>,
}

/// A request, as a proxy's log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Its method, escaped, at most [`MAX_METHOD`] bytes; empty if unknown.
    #[serde(deserialize_with = "harmless")]
    pub method: String,
    /// Its path without what is behind `?`, escaped, at most [`MAX_TARGET`] bytes; empty if unknown.
    #[serde(deserialize_with = "harmless")]
    pub target: String,
    /// Who asked.
    pub client: Option<IpAddr>,
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        match self.client {
            Some(client) => write!(f, " for {client}"),
            None => Ok(()),
        }
    }
}

/// Bytes kept of what a log line says: more than any message of nginx's has before its fields, but what an upstream sent is in some.
pub const MAX_SAID: usize = 256;
/// Bytes kept of a request's method.
pub const MAX_METHOD: usize = 16;
/// Bytes kept of a request's path.
pub const MAX_TARGET: usize = 256;

/// See [`super::Body::LogSample`]. Told when it was found, and whenever something of it has changed, at most once a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSample {
    /// Which file it is, whatever its name: device and inode.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// The file, by the name that the proxy has for it, escaped.
    #[serde(deserialize_with = "harmless")]
    pub path: String,
    /// Who writes to it, [`MAX_WRITERS`] at most.
    #[serde(deserialize_with = "at_most::<MAX_WRITERS, _, _, _>")]
    pub writers: Vec<Process>,
    /// It has a line for each request, rather than for what went wrong.
    pub requests: bool,
    /// Lines read since it was found.
    pub lines: u64,
    /// Bytes passed over, for they came faster than they could be read.
    pub missed: u64,
    /// Times that it was emptied, perhaps with lines in it that had not been read.
    pub emptied: u64,
    /// Nobody writes to it any more, and it is followed no longer: it was rotated, or its proxy has gone.
    pub left: bool,
    /// Why it is not followed, if it is not.
    #[serde(deserialize_with = "harmless")]
    pub trouble: Option<String>,
}

/// Processes named as writers of one log: as many as a proxy has workers on the largest machines.
pub const MAX_WRITERS: usize = 1024;
