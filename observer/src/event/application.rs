//! Application servers behind listeners.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Process;
use crate::addr::{Endpoint, NetNs, UnixPath};

/// An application server, or what else answers requests, whose settings are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Software {
    /// gunicorn, whatever its worker class.
    Gunicorn,
    /// uvicorn by itself; as a worker class it is gunicorn.
    Uvicorn,
    /// uWSGI.
    Uwsgi,
    /// PHP-FPM.
    PhpFpm,
    /// Puma.
    Puma,
    /// Node.js.
    Node,
    /// Java: Tomcat, most likely, perhaps within Spring Boot.
    Java,
    /// nginx as the upstream.
    Nginx,
}

/// How it is called, and how the names of its processes begin; threads and pools append to them.
const NAMES: [(Software, &str, &str); 9] = [
    (Software::Gunicorn, "gunicorn", "gunicorn"),
    (Software::Uvicorn, "uvicorn", "uvicorn"),
    (Software::Uwsgi, "uWSGI", "uwsgi"),
    (Software::PhpFpm, "php-fpm", "php-fpm"),
    (Software::Puma, "puma", "puma"),
    (Software::Node, "node", "node"),
    (Software::Java, "java", "java"),
    (Software::Nginx, "nginx", "nginx"),
    (Software::Nginx, "nginx", "openresty"),
];

impl Software {
    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(software, ..)| *software == self).map_or("", |(_, name, _)| name)
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, each, _)| *each == name).map(|(software, ..)| *software)
    }

    /// By the name of a process.
    pub fn by_comm(comm: &str) -> Option<Self> {
        NAMES.iter().find(|(.., begins)| comm.starts_with(begins)).map(|(software, ..)| *software)
    }
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a server takes on requests, as far as that is known for sure: where it is not, there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Which server.
    pub software: Software,
    /// Processes that accept, their master not among them; never 0.
    pub workers: Option<u32>,
    /// Requests that each of them serves at once, never 0; `None` where that is not known, or no fixed number. Puma begins its
    /// threads as they are needed: those that it has begun.
    pub threads: Option<u32>,
    /// A worker is an event loop: how many requests it has at hand is not bounded by its threads.
    pub event_loop: bool,
}

impl Application {
    /// Requests that all workers serve at once.
    pub fn at_once(&self) -> Option<u32> {
        self.workers.zip(self.threads).map(|(workers, threads)| workers.saturating_mul(threads))
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { software, workers, threads, event_loop } = *self;
        write!(f, "{software}")?;
        match workers {
            None => {}
            Some(1) => write!(f, ", 1 worker")?,
            Some(workers) => write!(f, ", {workers} workers")?,
        }
        match threads {
            _ if event_loop => f.write_str(", event loop"),
            None => Ok(()),
            Some(1) => f.write_str(", 1 request each"),
            Some(threads) => write!(f, ", {threads} threads each"),
        }
    }
}

/// Where something listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// TCP.
    At(Endpoint),
    /// A unix socket.
    Path(UnixPath),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Path(path) => write!(f, "unix:{path}"),
        }
    }
}

/// See [`super::Body::ApplicationSample`]. Told when a server is recognised, when something of it has changed, and about once a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationSample {
    /// Where it listens.
    pub place: Place,
    /// In which namespace.
    pub netns: NetNs,
    /// Its master, or the process itself where there is none.
    pub process: Process,
    /// What it is; `None` if what was told of this listener holds no longer, and nothing is known in its stead.
    pub application: Option<Application>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for (software, name, comm) in NAMES {
            assert_eq!((Software::named(name), software.name()), (Some(software), name));
            assert_eq!(Software::by_comm(comm), Some(software));
        }
        assert_eq!(Software::by_comm("php-fpm8.2"), Some(Software::PhpFpm));
        assert_eq!(Software::by_comm("python3"), None);
    }
}
