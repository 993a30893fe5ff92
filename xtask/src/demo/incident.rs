//! What the demo stages, and what nginx says came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lab::{Backend, BackendKind, Load, Nginx, Stage, Sysctls, Topology};
use crate::{lab, paths, shell};

const WORKERS: usize = 8;
const SECONDS_A_REQUEST: u32 = 3;
const ARRIVING: u32 = 50;
const SOMAXCONN: u32 = 128;

pub(super) struct Incident {
    stage: Stage,
    clients: Child,
    started: Instant,
}

impl Incident {
    /// Requests arrive for `span` at most.
    pub(super) fn stage(span: Duration) -> Result<Self> {
        lab::sweep()?;
        let mut stage = Stage::new(paths::lab_runs().join("demo"), Topology::Remote, &sysctls())?;
        stage.start_backend(&Backend { kind: BackendKind::Gunicorn, workers: WORKERS, ..Backend::default() })?;
        // With nginx's own timeouts of a minute what is reset shows at once, and what is dropped in silence much later.
        stage.start_nginx(&Nginx::default())?;
        eprintln!(
            "demo: gunicorn with {WORKERS} sync workers, {SECONDS_A_REQUEST} s a request, {ARRIVING} requests/s arriving \
             through nginx, accept queue of {SOMAXCONN}, tcp_abort_on_overflow=1"
        );
        let seconds = usize::try_from(span.as_secs()).unwrap_or(usize::MAX);
        let load = Load {
            paths: vec![format!("/sleep/{SECONDS_A_REQUEST}")],
            requests: seconds.saturating_mul(ARRIVING as usize),
            rate: Some(f64::from(ARRIVING)),
            ..Load::default()
        };
        let report = stage.folder().join("load.json");
        let clients = stage.start_load(&load, &report)?;
        Ok(Self { stage, clients, started: Instant::now() })
    }

    /// nginx's own account, from the first request until now.
    pub(super) fn answers(&self) -> Result<Answers> {
        let log = self.stage.access_log()?;
        Ok(Answers { failed: log.failed().len(), by_status: log.by_status(), during: self.started.elapsed() })
    }
}

impl Drop for Incident {
    fn drop(&mut self) {
        shell::end(&mut self.clients);
    }
}

/// Set in the stage's namespaces, not on the host.
fn sysctls() -> Sysctls {
    let upstream = [
        ("net.core.somaxconn", SOMAXCONN.to_string()),
        // Without it the kernel drops in silence, and all that the proxy ever sees is a timeout.
        ("net.ipv4.tcp_abort_on_overflow", "1".to_owned()),
    ];
    Sysctls {
        proxy: BTreeMap::new(),
        upstream: upstream.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

pub(super) struct Answers {
    failed: usize,
    by_status: BTreeMap<String, usize>,
    during: Duration,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.by_status.values().sum();
        write!(
            f,
            "demo: nginx's access log over the same {} s: {total} answers, {} failed",
            self.during.as_secs(),
            self.failed
        )?;
        for (status, count) in &self.by_status {
            write!(f, "\n  {count:>6} x {status}")?;
        }
        write!(f, "\n  (failures come in bursts; one at the very end may be in one account only)")
    }
}
