//! The recording beside the pipeline: it may fail at any time, and nothing else does for that.

use std::time::Instant;

use tokio::sync::watch;

use crate::{
    diagnose::{self, Engine},
    event::Event,
    snapshot::Recording,
    trace::{RecordError, Recorder},
};

/// What goes into the trace, until that fails.
pub(super) struct Tape {
    recorder: Option<Recorder>,
    state: watch::Sender<Recording>,
}

impl Tape {
    /// Nothing is recorded without a recorder.
    pub(super) fn new(recorder: Option<Recorder>) -> (Self, watch::Receiver<Recording>) {
        let state = recorder.as_ref().map_or(Recording::Off, |recorder| Recording::On(recorder.recorded().clone()));
        let (state, seen) = watch::channel(state);
        (Self { recorder, state }, seen)
    }

    /// How it stands.
    pub(super) fn state(&self) -> Recording {
        self.state.borrow().clone()
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
        if let Some(recorder) = self.recorder.take() {
            self.state.send_replace(match recorder.finish() {
                Ok(recorded) => Recording::Done(recorded),
                Err(error) => Recording::Failed(error.to_string()),
            });
        }
    }

    fn then(&mut self, step: impl FnOnce(&mut Recorder) -> Result<(), RecordError>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = step(recorder)
        {
            self.recorder = None;
            self.state.send_replace(Recording::Failed(error.to_string()));
        }
    }
}
