//! The replaying source: a recording's events in their order, at a pace, from wherever one likes.

mod ahead;
mod pace;
mod survey;

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use super::{Polled, Source};
use crate::{
    diagnose::Engine,
    event::Event,
    host,
    snapshot::{
        Folded, Frame, Playback,
        playback::{Command, Standing},
    },
    time::{Moment, Speed, Time},
    trace::{About, ReadError, Reader, Tail},
};
use ahead::{Ahead, Next};
use pace::Pace;
use survey::{Keyframe, Survey};

/// Events given out at a time, so that whoever looks on need not wait for more.
const MAX_BATCH: usize = 8192;
/// Commands that may wait; nobody types so far ahead.
const MAX_COMMANDS: usize = 64;
/// What a step is.
const STEP: Duration = Duration::from_secs(1);
/// An incident that became known this long ago is still the present one: the one before it is meant by the one before.
const PRESENT: Duration = Duration::from_secs(2);
const NOT_READ: &str = "the thread that reads the recording has gone";
const UNFINISHED: &str =
    "the recording was not ended: it is still being written, or its recorder was killed, and up to a second is missing";

/// A recording being replayed.
pub struct Replay {
    about: About,
    /// None only if the thread that reads cannot be had.
    ahead: Option<Ahead>,
    /// What the first event follows upon.
    engine: Engine,
    pace: Pace,
    /// The kernel's clock, which alone says how much time has passed between two polls.
    clock: fn() -> Time,
    /// Read and not yet given out.
    waiting: VecDeque<Event>,
    /// Time of the first event.
    begin: Time,
    /// The latest time of an event that has been given out.
    newest: Time,
    ended: bool,
    trouble: Option<String>,
    control: Option<Control>,
}

/// What somebody needs who looks on and may want to see another time.
struct Control {
    commands: Receiver<Command>,
    survey: Survey,
}

impl Replay {
    /// Opens a recording: the files of all its segments, or of some in a row. It begins at once, at that speed.
    pub fn open(files: &[PathBuf], speed: Speed) -> Result<Self, ReadError> {
        Self::of(Reader::open(files)?, speed, host::now)
    }

    fn of(mut reader: Reader, speed: Speed, clock: fn() -> Time) -> Result<Self, ReadError> {
        let about = reader.about().clone();
        let since = about.since;
        let (engine, trouble) = match state_at_begin(&mut reader) {
            Ok(engine) => (engine, None),
            Err(trouble) => (Engine::default(), Some(trouble)),
        };
        let mut replay = Self {
            about,
            ahead: Some(Ahead::start(reader).map_err(ReadError::Thread)?),
            engine,
            pace: Pace::new(speed, since),
            clock,
            waiting: VecDeque::new(),
            begin: since,
            newest: since,
            ended: false,
            trouble,
            control: None,
        };
        if replay.read_on()
            && let Some(first) = replay.waiting.front()
        {
            replay.begin = first.time;
            replay.newest = first.time;
            replay.pace = Pace::new(speed, first.time);
        }
        Ok(replay)
    }

    /// What the recording says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// What to show around it.
    pub fn frame(&self) -> Frame {
        let About { since, wall, watching, hooks, .. } = self.about();
        Frame { since: *since, wall: *wall, watching: watching.clone(), hooks: hooks.clone() }
    }

    /// What its events follow upon.
    pub fn folded(&self) -> Folded {
        Folded::upon(self.engine.clone())
    }

    /// That time in this recording.
    pub fn time_of(&self, moment: Moment) -> Time {
        moment.resolve(self.begin, self.about().wall)
    }

    /// Gives out everything up to that time as fast as it can.
    pub fn run_to(&mut self, time: Time) {
        self.pace.run_to(time);
    }

    /// Ends there: nothing later is given out.
    pub fn stop_at(&mut self, time: Time) {
        self.pace.stop_at(time);
    }

    /// Lets somebody control it, up to `limit`, and has the recording read ahead in a thread of its own: `again` is another
    /// reader of it, at its beginning.
    pub fn controlled(&mut self, again: Reader, limit: Time) -> io::Result<SyncSender<Command>> {
        self.pace.stop_at(limit);
        let (control, commands) = sync_channel(MAX_COMMANDS);
        let survey = Survey::start(again, self.folded(), self.begin, limit)?;
        self.control = Some(Control { commands, survey });
        Ok(control)
    }

    /// Reads on until there is an event to give out; false at the end.
    fn read_on(&mut self) -> bool {
        while self.waiting.is_empty() && !self.ended {
            let mut events = Vec::new();
            match self.ahead.as_ref().and_then(Ahead::next) {
                Some(Next::Batch(packed)) => match packed.unpack(&mut events) {
                    Ok(_) => self.waiting = events.into(),
                    Err(error) => {
                        self.ended = true;
                        self.troubled(error.to_string());
                    }
                },
                Some(Next::End(tail)) => {
                    self.ended = true;
                    if tail == Tail::Unfinished {
                        self.troubled(UNFINISHED.to_owned());
                    }
                }
                Some(Next::Broken(error)) => {
                    self.ended = true;
                    self.troubled(error.to_string());
                }
                None => {
                    self.ended = true;
                    self.troubled(NOT_READ.to_owned());
                }
            }
        }
        !self.waiting.is_empty()
    }

    /// Notes what is to be told, once: one may come by several times.
    fn troubled(&mut self, what: String) {
        match &mut self.trouble {
            Some(trouble) if trouble.contains(&what) => {}
            Some(trouble) => *trouble = format!("{trouble}; {what}"),
            None => self.trouble = Some(what),
        }
    }

    /// What to follow upon, if that is not what has been given out so far.
    fn obey(&mut self, command: Command) -> Option<Folded> {
        let survey = &self.control.as_ref()?.survey;
        let heading = self.pace.target().unwrap_or(self.pace.playhead());
        let to = match command {
            Command::Pause => {
                self.pace.paused = !self.pace.paused;
                return None;
            }
            Command::Slower => {
                self.pace.speed = self.pace.speed.slower();
                return None;
            }
            Command::Faster => {
                self.pace.speed = self.pace.speed.faster();
                return None;
            }
            Command::Step => {
                self.pace.paused = true;
                heading + STEP
            }
            Command::Back(by) => heading - by,
            Command::On(by) => heading + by,
            Command::Begin => self.begin,
            Command::End => Time(u64::MAX),
            Command::NextIncident => survey.timeline().next_incident(heading)?,
            Command::PreviousIncident => survey.timeline().previous_incident(heading - PRESENT)?,
        };
        self.seek(to.max(self.begin))
    }

    fn seek(&mut self, to: Time) -> Option<Folded> {
        let keyframe = self.control.as_ref()?.survey.keyframe(to)?;
        // The way there leads on from here, unless a state is known that is nearer.
        let jump = to < self.pace.playhead() || keyframe.time > self.newest;
        let jump = jump && self.go_back_or_on(&keyframe);
        self.pace.run_to(to);
        jump.then(|| keyframe.folded.clone())
    }

    fn go_back_or_on(&mut self, keyframe: &Keyframe) -> bool {
        let Some(mut reader) = self.ahead.take().and_then(Ahead::stop) else {
            self.troubled(NOT_READ.to_owned());
            return false;
        };
        let sought = reader.seek(keyframe.position).map_err(|error| error.to_string());
        match sought.and_then(|()| Ahead::start(reader).map_err(|error| error.to_string())) {
            Ok(ahead) => self.ahead = Some(ahead),
            Err(error) => {
                self.troubled(error);
                return false;
            }
        }
        self.waiting.clear();
        self.ended = false;
        self.newest = keyframe.time.max(self.begin);
        self.pace.behind(self.newest);
        true
    }
}

/// What a recording's first event follows upon: of one whose first segments are gone, the state with which the first of the
/// others begins. An error says why that cannot be had.
pub fn state_at_begin(reader: &mut Reader) -> Result<Engine, String> {
    let segment = reader.about().segment;
    if segment == 1 {
        return Ok(Engine::default());
    }
    let begin = reader.position();
    let first = reader.next_batch(&mut Vec::new());
    reader.seek(begin).map_err(|error| error.to_string())?;
    let checkpoint = first.ok().flatten().and_then(|besides| besides.checkpoint);
    let state = checkpoint.map(|checkpoint| Engine::restore(&checkpoint).map_err(|error| error.to_string()));
    let missing = || Err("it does not tell the state at its beginning".to_owned());
    let unknown =
        |why| format!("what was before segment {segment} is not known ({why}): the first verdicts may differ");
    state.unwrap_or_else(missing).map_err(unknown)
}

impl Source for Replay {
    fn jump(&mut self) -> Option<Folded> {
        let mut jumped = None;
        while let Some(command) = self.control.as_ref().and_then(|control| control.commands.try_recv().ok()) {
            jumped = self.obey(command).or(jumped);
        }
        jumped
    }

    /// An event waits while any before it in the recording does: the order is that of the live run.
    fn poll(&mut self, batch: &mut Vec<Event>) -> Polled {
        let due = self.pace.due((self.clock)());
        for _ in 0..MAX_BATCH {
            if !self.read_on() {
                self.pace.arrived(self.newest);
                return Polled::Ended;
            }
            let Some(event) = self.waiting.pop_front_if(|event| event.time <= due) else {
                self.pace.arrived(due);
                return if self.pace.at_limit() && self.control.is_none() { Polled::Ended } else { Polled::Idle };
            };
            self.newest = self.newest.max(event.time);
            batch.push(event);
        }
        self.pace.behind(self.newest);
        Polled::More
    }

    fn last(&mut self) -> Vec<Event> {
        Vec::new()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn playback(&self) -> Option<Playback> {
        let timeline = self.control.as_ref()?.survey.timeline();
        let standing = if self.pace.target().is_some() {
            Standing::Seeking
        } else if self.ended || self.pace.at_limit() {
            Standing::Ended
        } else if self.pace.paused {
            Standing::Paused
        } else {
            Standing::Playing
        };
        Some(Playback {
            host: self.about().host.clone(),
            playhead: self.pace.playhead(),
            standing,
            speed: self.pace.speed,
            timeline,
            trouble: self.trouble.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
