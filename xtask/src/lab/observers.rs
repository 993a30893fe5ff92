//! All observers of one trial: one that sees the whole host, and in the remote topology one for each side.

use anyhow::Result;

use super::proxy::Kind;
use super::scenario::Topology;
use super::stage::Stage;
use super::verdict::Verdict;
use super::watch::{Warning, Watch};

/// By the kernel alone.
const NO_LOGS: &[&str] = &["--no-logs"];

pub(super) struct Observers {
    pub(super) host: Watch,
    pub(super) sides: Option<Pair>,
}

/// Each sees one network namespace only, as if it ran on a host of its own.
pub(super) struct Pair {
    pub(super) proxy: Watch,
    pub(super) upstream: Watch,
}

impl Observers {
    /// Returns when all are attached, so that nothing of the load can be missed.
    /// Only the one that sees the whole host follows the log of the proxy, if any is to: of this one.
    pub(super) fn start(stage: &Stage, topology: Topology, logs: Option<Kind>) -> Result<Self> {
        let folder = stage.folder();
        let access_log = stage.access_log_path().to_string_lossy().into_owned();
        let logs: &[&str] = match logs {
            // The stage writes it, in place of a syslog daemon.
            Some(Kind::Haproxy) => &["--access-log", &access_log],
            Some(_) => &[],
            None => NO_LOGS,
        };
        let host = Watch::spawn_recording(folder, "observer", None, logs)?;
        let sides = match topology {
            Topology::Local => None,
            Topology::Remote => Some(Pair {
                proxy: Watch::spawn_recording(folder, "observer-proxy", Some(stage.proxy()), NO_LOGS)?,
                upstream: Watch::spawn_recording(folder, "observer-upstream", Some(stage.upstream()), NO_LOGS)?,
            }),
        };
        let mut observers = Self { host, sides };
        for watch in observers.all() {
            watch.wait_ready()?;
        }
        Ok(observers)
    }

    fn all(&mut self) -> Vec<&mut Watch> {
        let sides = self.sides.as_mut().map(|Pair { proxy, upstream }| [proxy, upstream]);
        [&mut self.host].into_iter().chain(sides.into_iter().flatten()).collect()
    }

    /// Takes in what they have printed so far.
    pub(super) fn pump(&mut self) -> Result<()> {
        self.all().into_iter().try_for_each(Watch::pump)
    }

    /// Whether all that see the proxy have said so much of it.
    pub(super) fn have_said(&self, verdicts: usize, ours: impl Fn(&Verdict) -> bool) -> bool {
        let proxy = self.sides.as_ref().map(|pair| &pair.proxy);
        let mut see_it = [&self.host].into_iter().chain(proxy);
        see_it.all(|watch| watch.verdicts.iter().filter(|verdict| ours(verdict)).count() >= verdicts)
    }

    /// In what the recordings differ from what was said live. They have been stopped.
    pub(super) fn replayed(&mut self) -> Result<Vec<String>> {
        self.all().into_iter().filter_map(|watch| watch.replayed().transpose()).collect()
    }

    /// Ends them, and drops what they said of others on this host.
    pub(super) fn stop(&mut self, ours: impl Fn(&Verdict) -> bool, about_us: impl Fn(&Warning) -> bool) -> Result<()> {
        for watch in self.all() {
            watch.stop()?;
            watch.verdicts.retain(&ours);
            watch.warnings.retain(&about_us);
        }
        Ok(())
    }
}
