//! Reads a recording ahead of its replay, in a thread of its own: what fails when, and states from which a replay can go on
//! when it is asked for another time.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    snapshot::{Folded, Timeline},
    time::Time,
    trace::{Reader, reader::Position},
};

/// States kept: each may take as much memory as a live run. Full, every other one goes, and the next are further apart.
const MAX_KEYFRAMES: usize = 32;
/// Of the recording's time from one to the next, at first.
const FIRST_SPACING: Duration = Duration::from_secs(10);
/// Batches of the recording after which it is shown how far the survey has come.
const SHOW_EVERY: u32 = 16;

/// A survey that goes on, or is done. Dropping it ends it.
pub(super) struct Survey {
    found: Arc<Mutex<Found>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A state of the recording.
pub(super) struct Keyframe {
    /// No event before it is later than this.
    pub(super) time: Time,
    /// From where on to read.
    pub(super) position: Position,
    /// What has been folded up to there.
    pub(super) folded: Folded,
}

struct Found {
    timeline: Arc<Timeline>,
    /// In order; the first is the beginning.
    keyframes: Vec<Arc<Keyframe>>,
}

impl Survey {
    /// Begins at the reader's position, which follows upon `folded`, and goes up to `limit`. `begin` is the first event's time.
    pub(super) fn start(reader: Reader, folded: Folded, begin: Time, limit: Time) -> io::Result<Self> {
        let first = Keyframe { time: Time(0), position: reader.position(), folded: folded.clone() };
        let timeline = Timeline::new(begin);
        let found = Found { timeline: Arc::new(timeline.clone()), keyframes: vec![Arc::new(first)] };
        let found = Arc::new(Mutex::new(found));
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { reader, folded, timeline, newest: begin, kept: begin, spacing: FIRST_SPACING, limit };
        let thread = thread::Builder::new().name("observer-survey".into()).spawn({
            let (found, stop) = (Arc::clone(&found), Arc::clone(&stop));
            move || work.run(&found, &stop)
        })?;
        Ok(Self { found, stop, thread: Some(thread) })
    }

    /// As far as it has come.
    pub(super) fn timeline(&self) -> Arc<Timeline> {
        Arc::clone(&lock(&self.found).timeline)
    }

    /// The latest state that is not after `time`.
    pub(super) fn keyframe(&self, time: Time) -> Option<Arc<Keyframe>> {
        lock(&self.found).keyframes.iter().rfind(|keyframe| keyframe.time <= time).map(Arc::clone)
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    reader: Reader,
    folded: Folded,
    timeline: Timeline,
    newest: Time,
    /// Time of the last keyframe.
    kept: Time,
    spacing: Duration,
    limit: Time,
}

impl Work {
    fn run(mut self, found: &Mutex<Found>, stop: &AtomicBool) {
        let mut batch = Vec::new();
        let mut unshown = 0;
        // What cannot be read is told by the replay, which comes to the same place.
        while matches!(self.reader.next_batch(&mut batch), Ok(Some(_))) {
            for event in batch.drain(..) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if event.time > self.limit {
                    self.timeline.reach(self.limit);
                    return self.complete(found);
                }
                self.newest = self.newest.max(event.time);
                let mut told = Vec::new();
                self.folded.apply(&event, &mut |said| told.push(said));
                self.timeline.note(&told, self.folded.engine.incidents(), self.newest);
            }
            self.keep(found);
            unshown += 1;
            if unshown == SHOW_EVERY {
                unshown = 0;
                self.show(found);
            }
        }
        let mut told = Vec::new();
        self.folded.finish(&mut |said| told.push(said));
        self.timeline.note(&told, self.folded.engine.incidents(), self.newest);
        self.complete(found);
    }

    fn keep(&mut self, found: &Mutex<Found>) {
        if self.newest < self.kept + self.spacing {
            return;
        }
        self.kept = self.newest;
        let (time, position) = (self.newest, self.reader.position());
        let keyframe = Arc::new(Keyframe { time, position, folded: self.folded.clone() });
        let keyframes = &mut lock(found).keyframes;
        if keyframes.len() >= MAX_KEYFRAMES {
            let mut index = 0;
            keyframes.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.spacing *= 2;
        }
        keyframes.push(keyframe);
    }

    fn show(&mut self, found: &Mutex<Found>) {
        self.timeline.reach(self.newest);
        lock(found).timeline = Arc::new(self.timeline.clone());
    }

    fn complete(mut self, found: &Mutex<Found>) {
        self.timeline.complete();
        self.show(found);
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}
