//! Where Events come from. What follows is the same for all sources.

mod applications;
mod attention;
mod configured;
pub mod inspect;
pub mod live;
pub mod logs;
pub mod procs;
pub mod replay;
pub mod sampler;
mod sock_diag;
mod teller;

pub use live::Live;
pub use replay::{Replay, state_at_begin};

use crate::{
    event::Event,
    kernel::statistics::RunTime,
    snapshot::{Folded, Playback},
};

/// Yields Events in batches.
pub trait Source: Send {
    /// What the next events follow upon, if not upon those before: somebody has asked to see another time. To be asked before
    /// [`Source::poll`].
    fn jump(&mut self) -> Option<Folded> {
        None
    }

    /// Appends what has come to `batch`. Never waits.
    fn poll(&mut self, batch: &mut Vec<Event>) -> Polled;

    /// Ends: what has come up to now.
    fn last(&mut self) -> Vec<Event>;

    /// Why it ended before its time, if it did, in a sentence.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Has the cost of its programs in the kernel measured, or not any more.
    fn measure(&mut self, _on: bool) {}

    /// What each of them has cost while that was measured; `None` if it has no such programs.
    fn run_times(&self) -> Option<Vec<RunTime>> {
        None
    }

    /// Where it stands, if it can be controlled.
    fn playback(&self) -> Option<Playback> {
        None
    }
}

/// How a source stands after it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// More may be there at once.
    More,
    /// That was all for now.
    Idle,
    /// That was all.
    Ended,
}
