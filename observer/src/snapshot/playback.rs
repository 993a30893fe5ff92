//! Where the replay of a recording stands, and what can be asked of it.

use std::{sync::Arc, time::Duration};

use super::timeline::Timeline;
use crate::time::{Speed, Time};

/// One moment of a replay.
#[derive(Clone, Debug)]
pub struct Playback {
    /// The host that was recorded.
    pub host: String,
    /// Everything up to this has been taken in.
    pub playhead: Time,
    /// What goes on.
    pub standing: Standing,
    /// How fast it goes when it plays.
    pub speed: Speed,
    /// The whole recording, as far as it has been read ahead.
    pub timeline: Arc<Timeline>,
    /// Why not all of it can be read, if so.
    pub trouble: Option<String>,
}

/// What a replay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on by itself.
    Playing,
    /// It waits to be told to go on.
    Paused,
    /// It is on its way to the time that was asked for.
    Seeking,
    /// There is no more.
    Ended,
}

/// What can be asked of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Wait, or go on.
    Pause,
    /// Wait, a second later.
    Step,
    /// Go back by that.
    Back(Duration),
    /// Go on by that.
    On(Duration),
    /// Go to the beginning.
    Begin,
    /// Go to the end.
    End,
    /// Go to where the next incident becomes known.
    NextIncident,
    /// Go to where the one before did.
    PreviousIncident,
    /// Half as fast.
    Slower,
    /// Twice as fast.
    Faster,
}
