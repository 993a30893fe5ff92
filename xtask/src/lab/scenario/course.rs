//! What happens when.

use serde::Deserialize;

use super::network::Side;

/// One phase of the load.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// Seconds after the first phase began; None: when all earlier phases have ended.
    pub(crate) at: Option<f64>,
    /// Asked for in turn.
    pub(crate) paths: Vec<String>,
    pub(crate) requests: usize,
    /// Closed loop: so many clients, each with one request at a time.
    pub(crate) concurrency: Option<usize>,
    /// Open loop: so many requests a second, whatever becomes of them.
    pub(crate) rate: Option<f64>,
    /// Whether the clients keep their connections to the proxy.
    #[serde(default)]
    pub(crate) keepalive: bool,
    /// Seconds between a client's requests, in the closed loop.
    pub(crate) pause: Option<f64>,
    /// Bytes sent with each request, which is a POST then.
    pub(crate) body: Option<usize>,
    /// Seconds after which the clients leave without their answer.
    pub(crate) patience: Option<f64>,
}

/// Bare connections to the upstream's address, from the proxy's namespace: no request is ever sent on them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Probe {
    /// Seconds after the first phase of the load began.
    pub(in crate::lab) at: f64,
    pub(in crate::lab) connections: u16,
    /// The first of as many ports; None: all to the upstream's own.
    pub(in crate::lab) ports_from: Option<u16>,
    /// Source port of the first of them; the others follow. None: as the kernel likes.
    pub(in crate::lab) source_port: Option<u16>,
}

/// Something that happens to a program while the load runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Event {
    /// Seconds after the first phase of the load began.
    pub(in crate::lab) at: Option<f64>,
    /// Instead: once so many phases of the load have ended, and before the next begins.
    pub(in crate::lab) after: Option<usize>,
    pub(in crate::lab) to: Side,
    pub(in crate::lab) action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::lab) enum Action {
    /// SIGSTOP to all its processes.
    Freeze,
    /// SIGCONT to all its processes.
    Thaw,
    /// SIGKILL to all its processes.
    Kill,
    /// SIGTERM to its first process.
    Terminate,
    /// SIGHUP to its first process.
    Reload,
    /// SIGTERM to its first process, and when it is gone a new one is started. The upstream's only.
    Restart,
}
