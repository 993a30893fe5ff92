//! The programs on either side.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    pub(crate) kind: BackendKind,
    /// On a unix socket instead of a port.
    #[serde(default)]
    pub(crate) unix: bool,
    /// What the application asks for; None is the program's own default.
    pub(crate) backlog: Option<u32>,
    /// Seconds after which the lab's own closes an idle connection.
    pub(crate) idle: Option<f64>,
    /// gunicorn's.
    #[serde(default)]
    pub(crate) workers: usize,
    /// Seconds that gunicorn's master gives a worker before it kills it.
    pub(crate) timeout: Option<u32>,
    /// gunicorn with a certificate of its own making.
    #[serde(default)]
    pub(crate) tls: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    /// Nobody listens.
    #[default]
    None,
    /// The lab's own, which misbehaves as the path asks (`lab_backend`).
    Raw,
    /// gunicorn with sync workers and `xtask/lab/app.py`.
    Gunicorn,
}

/// The proxy's patience, in seconds. None: 60.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeouts {
    pub(in crate::lab) connect: Option<f64>,
    /// From the last byte of the request to the first of the answer.
    pub(in crate::lab) read: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nginx {
    pub(crate) workers: usize,
    /// Whom the workers run as.
    pub(crate) user: String,
    pub(crate) worker_connections: usize,
    /// Open files of a worker.
    pub(crate) files: usize,
    /// Idle upstream connections kept; None leaves the directive out.
    pub(crate) keepalive: Option<usize>,
    /// Of `proxy_pass`.
    pub(crate) scheme: String,
    /// Directives of the location that proxies.
    pub(crate) location: Vec<String>,
    /// Off, since a second try would blur which failure the answer tells of.
    pub(crate) next_upstream: String,
    /// Parameters of the `server` directive.
    pub(crate) server: String,
    /// Parameters of the `listen` directive.
    pub(crate) listen: String,
    /// Whether the backend is among the servers.
    pub(crate) alive: bool,
}

impl Default for Nginx {
    fn default() -> Self {
        Self {
            workers: 1,
            user: "root".to_owned(),
            worker_connections: 16384,
            files: 20_000,
            keepalive: None,
            scheme: "http".to_owned(),
            location: Vec::new(),
            next_upstream: "off".to_owned(),
            server: String::new(),
            listen: String::new(),
            alive: true,
        }
    }
}
