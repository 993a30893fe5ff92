//! The recording beside the pipeline: it may start, end and fail at any time, and nothing else does for that.

use std::{path::Path, time::Instant};

use tokio::sync::watch;

use crate::{
    diagnose::{self, Engine},
    event::Event,
    snapshot::Recording,
    time::Time,
    trace::{About, Closing, RecordError, RecordOptions, Recorder},
};

/// Recordings begun within one second that get names of their own.
const MAX_SAME_SECOND: u32 = 9;

/// What goes into the trace, until that fails or somebody ends it.
pub(super) struct Tape {
    recorder: Option<Recorder>,
    /// One that was ended; the disk still has to take the rest of it.
    closing: Option<Closing>,
    state: watch::Sender<Recording>,
}

/// Begins a recording in the midst of a watch: `observer-<time in UTC>.arrows.zst` in `folder`, over no file that is there.
pub(super) fn begin(folder: &Path, about: &About, now: Time, engine: &Engine) -> Result<Recorder, RecordError> {
    let time = humantime::format_rfc3339_seconds(about.wall.at(now)).to_string();
    let time = time.replace(['-', ':'], "");
    let mut number = 1;
    loop {
        let again = if number == 1 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("observer-{time}{again}.arrows.zst"));
        let options = RecordOptions { path, ring: None, level: None, force: false };
        match Recorder::start_upon(options, about.clone(), engine.model().now(), engine.checkpoint().ok()) {
            Err(RecordError::Exists(_)) if number < MAX_SAME_SECOND => number += 1,
            result => return result,
        }
    }
}

impl Tape {
    /// Nothing is recorded without a recorder.
    pub(super) fn new(recorder: Option<Recorder>) -> (Self, watch::Receiver<Recording>) {
        let state = recorder.as_ref().map_or(Recording::Off, |recorder| Recording::On(recorder.recorded().clone()));
        let (state, seen) = watch::channel(state);
        (Self { recorder, closing: None, state }, seen)
    }

    /// How it stands.
    pub(super) fn state(&self) -> Recording {
        self.state.borrow().clone()
    }

    /// Whether events are taken in.
    pub(super) fn runs(&self) -> bool {
        self.recorder.is_some()
    }

    /// Whether it is about to end.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Ends what runs, or begins anew. Between two batches of events only.
    pub(super) fn toggle(&mut self, begin: impl FnOnce() -> Result<Recorder, RecordError>) {
        let done = match self.recorder.take() {
            Some(recorder) => recorder.close().map(|closing| self.closing = Some(closing)),
            None => begin().map(|recorder| {
                self.state.send_replace(Recording::On(recorder.recorded().clone()));
                self.recorder = Some(recorder);
            }),
        };
        if let Err(error) = done {
            self.state.send_replace(failed(&error));
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.then(|recorder| recorder.event(event));
    }

    pub(super) fn said(&mut self, said: &diagnose::Said) {
        if self.recorder.is_some() {
            self.then(|recorder| recorder.said(said.into()));
        }
    }

    /// Between two batches of events; the engine has taken in all that was told before.
    pub(super) fn turn(&mut self, now: Instant, engine: &Engine) {
        if let Some(ended) = self.closing.as_ref().and_then(Closing::poll) {
            self.closing = None;
            self.state.send_replace(ended.map_or_else(|error| failed(&error), Recording::Done));
        }
        self.then(|recorder| recorder.turn(now, || engine.checkpoint().ok()));
        if let Some(recorder) = &self.recorder {
            let recorded = recorder.recorded();
            self.state.send_if_modified(|state| match state {
                Recording::On(known) if known.bytes == recorded.bytes => false,
                _ => {
                    *state = Recording::On(recorded.clone());
                    true
                }
            });
        }
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self) {
        let closing = self.closing.take().map(Closing::wait);
        let ended = closing.or_else(|| self.recorder.take().map(Recorder::finish));
        if let Some(ended) = ended {
            self.state.send_replace(ended.map_or_else(|error| failed(&error), Recording::Done));
        }
    }

    fn then(&mut self, step: impl FnOnce(&mut Recorder) -> Result<(), RecordError>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = step(recorder)
        {
            self.recorder = None;
            self.state.send_replace(failed(&error));
        }
    }
}

fn failed(error: &RecordError) -> Recording {
    Recording::Failed(error.to_string())
}
