//! What configurations have in them that is better changed, held against what was measured.

use super::UpstreamRow;
use crate::{
    diagnose::{
        Engine, Held,
        configured::{self, Standing},
    },
    event::{Configuration, Configured, Process},
    model::UpstreamKey,
};

/// A finding of a configuration.
#[derive(Clone, Debug)]
pub struct ConfiguredRow {
    /// The master that runs with it.
    pub master: Process,
    /// What was found.
    pub finding: Configured,
    /// What was measured of it.
    pub held: Held,
    /// The upstreams that it is about.
    pub upstreams: Vec<UpstreamKey>,
}

impl ConfiguredRow {
    /// Where it is to be changed: `/etc/nginx/nginx.conf:12`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.finding.file, self.finding.line)
    }
}

/// Findings shown at once; of more than that those of the masters told longest ago.
const MAX_ROWS: usize = 256;
/// Upstreams that one finding is shown at.
const MAX_UPSTREAMS: usize = 256;

/// All that is told of them: first what is confirmed, last what is not so.
pub(super) fn rows(engine: &Engine, upstreams: &[UpstreamRow]) -> Vec<ConfiguredRow> {
    let row = |of: &Configuration, finding: &Configured| {
        let held = configured::hold(engine, of, finding);
        if finding.only_if_seen && held.standing != Standing::Confirmed {
            return None;
        }
        let concerned = upstreams.iter().filter(|row| configured::is_about(of, finding, &row.key, row.proxy.pid));
        let upstreams = concerned.map(|row| row.key).take(MAX_UPSTREAMS).collect();
        Some(ConfiguredRow { master: of.master.clone(), finding: finding.clone(), held, upstreams })
    };
    let all = engine.model().configurations().flat_map(|of| of.findings.iter().map(move |finding| (of, finding)));
    let mut rows: Vec<_> = all.take(MAX_ROWS).filter_map(|(of, finding)| row(of, finding)).collect();
    let order = |row: &ConfiguredRow| (row.held.standing, row.finding.file.clone(), row.finding.line);
    rows.sort_by_cached_key(order);
    rows
}
