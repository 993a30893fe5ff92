//! What a key or the mouse can ask for, what that means on the screen that is shown, and what comes of it.

use super::{entry::EntryId, screen::Screen};
use crate::{
    diagnose::{Incident, Verdict},
    model::UpstreamKey,
    snapshot::playback::Command,
    time::Time,
};

/// A wish of the user, whatever key it came by. What it means depends on what is shown: see [`super::steer`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Intent {
    /// This, on any screen.
    Do(Action),
    /// To another row, or further down.
    Move(Step),
    /// To the column, upstream or incident before.
    Before,
    /// To the one behind.
    Behind,
    /// To what lies behind what is selected.
    Open,
    /// To why what is selected failed.
    Cause,
    /// To the next snippet.
    NextSnippet,
    /// To the clipboard with what is selected.
    Copy,
    /// To a file with all that the screen has.
    Write,
    /// What lies there, counted from the upper left.
    Click(u16, u16),
}

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A row up.
    Up,
    /// A row down.
    Down,
    /// Some rows up, by the mouse.
    WheelUp,
    /// Some rows down.
    WheelDown,
    /// As many rows up as there are on the screen.
    PageUp,
    /// As many down.
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
}

/// What changes the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// End the view.
    Quit,
    /// Show or hide the help.
    Help,
    /// Freeze what is shown, or go on.
    Freeze,
    /// Hold what comes against what failed until now, or no longer.
    Compare,
    /// Show that screen.
    Show(Screen),
    /// Leave what was opened last.
    Back,
    /// Select that upstream; `None` follows whichever comes first.
    Select(Option<UpstreamKey>),
    /// Show why this failed.
    Explain(Subject),
    /// Begin the screen with that line.
    Scroll(usize),
    /// Sort by that column.
    Sort(Sort),
    /// Sort the other way.
    Reverse,
    /// Begin to type a filter.
    Type,
    /// A character more of it.
    Typed(char),
    /// One less.
    Erase,
    /// None at all.
    Clear,
    /// It is as it should be.
    Accept,
    /// It is to be as it was before.
    Cancel,
    /// Select that snippet; begin the screen with that line, to have it in sight.
    Snippet(usize, Option<usize>),
    /// Select that event, and follow no longer.
    Read(EntryId),
    /// Follow the events again.
    Follow,
    /// Show times the other way.
    Times,
    /// Copy that.
    Copy(Text),
    /// Write that.
    Write(Text),
    /// Start or end a recording.
    Record,
    /// What is to be done by the replay.
    Replay(Command),
}

/// What the cause screen is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Subject {
    /// Failures of that cause at that upstream, which began then.
    Incident {
        /// Its cause.
        cause: &'static str,
        /// Where.
        upstream: UpstreamKey,
        /// Since when.
        first: Time,
    },
    /// One failure.
    Verdict(Box<Verdict>),
}

impl Subject {
    /// That incident.
    pub(crate) fn of(incident: &Incident) -> Self {
        Self::Incident { cause: incident.cause, upstream: incident.upstream, first: incident.first }
    }
}

/// In which order upstreams are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    /// By the column with that header; `None` for the snapshot's own order, the most failures first.
    pub(crate) by: Option<&'static str>,
    /// The other way than it usually would.
    pub(crate) reversed: bool,
}

/// Something to copy or to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// What it is, in a few words; for a file, part of its name.
    pub(crate) what: String,
    /// The text.
    pub(crate) text: String,
}

/// What the outside must do after an [`Action`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Nothing: all is as before.
    Nothing,
    /// Draw.
    Redraw,
    /// Ask the replay for it; what comes of it comes as a snapshot.
    Replay(Command),
    /// Send it to the clipboard.
    Copy(Text),
    /// Write it into a new file.
    Write(Text),
    /// Start or end a recording; what comes of it comes as a snapshot.
    Record,
    /// End the view.
    Quit,
}
