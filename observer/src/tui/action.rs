//! What a key can ask for, and what comes of it.

use crate::snapshot::playback::Command;

/// A wish of the user, whatever key it came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// End the view.
    Quit,
    /// Show or hide the help.
    Help,
    /// Freeze what is shown, or go on.
    Pause,
    /// Select the upstream above.
    Up,
    /// Select the upstream below.
    Down,
    /// Select the first upstream, and follow whichever comes first.
    First,
    /// Select the last upstream.
    Last,
    /// Show all about the selected upstream.
    Open,
    /// Leave what was opened last.
    Back,
    /// What is to be done by the replay.
    Replay(Command),
}

/// What the outside must do after an [`Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: all is as before.
    Nothing,
    /// Draw.
    Redraw,
    /// Ask the replay for it; what comes of it comes as a snapshot.
    Replay(Command),
    /// End the view.
    Quit,
}
