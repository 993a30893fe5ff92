//! The one place that knows every stage. A thread of its own moves batches from the source through model and rules;
//! what is said goes through a bounded channel, what is shown through a slot that holds the latest snapshot.

mod cost;
mod recording;
mod tail;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::{mpsc, watch};

use crate::{
    diagnose::{MAX_DELAY, Said},
    event::Event,
    host,
    kernel::Options,
    sink::{Overflowed, Summary},
    snapshot::{Desk, Folded, Frame, Recording, Snapshot},
    source::{Live, Polled, Replay, Source, logs},
    time::Time,
    trace::{About, RecordOptions, Recorder},
};
use cost::Meter;
use recording::Tape;
use tail::Gathered;

/// How often the source is asked. Nobody is woken per event: a verdict is late by this much at most. More often would take more of a
/// processor, on a quiet host for nothing, on a busy one because whatever is needed for an event has left the caches by the next time.
const POLL_EVERY: Duration = Duration::from_millis(40);
/// How often a snapshot is made while somebody looks.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);
/// Verdicts and warnings handed over together at most: waking a reader costs more than ten of them.
const SAID_TOGETHER: usize = 64;
/// Such handfuls that may wait for a slow reader. Full, the pipeline waits, the ring fills, and the kernel counts what is
/// lost.
const MAX_SAID: usize = 64;

/// A running pipeline.
pub struct Pipeline {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    summary: Receiver<Summary>,
    /// What is said, in order, as much at a time as came together; closed when the pipeline ends.
    pub said: mpsc::Receiver<Vec<Said>>,
    /// The latest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How the recording stands.
    pub recording: watch::Receiver<Recording>,
    /// What is watched, since when, through which hooks, by which clock.
    pub frame: Frame,
    /// Where a view leaves what it wants.
    pub desk: Desk,
}

/// What the pipeline is to produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What is said of this window, one by one. The pipeline ends with the source.
    Said(Window),
    /// Neither: what comes is recorded.
    Nothing,
    /// Snapshots. A source that has ended may be asked to begin again, so the pipeline goes on.
    Snapshots,
}

/// A span of time, both ends included. What is said belongs to it by the time that it bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub from: Time,
    /// Its end.
    pub to: Time,
}

impl Window {
    /// All times.
    pub const ALL: Self = Self { from: Time(0), to: Time(u64::MAX) };

    fn contains(self, time: Time) -> bool {
        self.from <= time && time <= self.to
    }
}

impl Pipeline {
    /// Attaches and begins to watch this host, and to record if that is wanted. Returns when every hook is in place.
    pub fn live(
        options: Options,
        logs: logs::Options,
        watching: String,
        wanted: Wanted,
        record: Option<RecordOptions>,
    ) -> Result<Self> {
        // Refused before anything is attached.
        record.as_ref().map(RecordOptions::check).transpose()?;
        let live = Live::start(options, logs)?;
        let hooks = live.hooks().clone();
        let frame = Frame { since: host::now(), wall: host::wall_clock(), watching, hooks };
        let recorder = record.map(|record| Recorder::start(record, about(&frame))).transpose()?;
        // In the current directory.
        let folder = Some(PathBuf::new());
        Self::start(live, Folded::default(), frame, wanted, Records { recorder, folder }, Desk::default())
    }

    /// Begins to replay a recording.
    pub fn replay(mut replay: Replay, wanted: Wanted) -> Result<Self> {
        if let Wanted::Said(window) = wanted {
            // Later events bring nothing that belongs to it.
            replay.stop_at(window.to + MAX_DELAY);
        }
        let (folded, frame) = (replay.folded(), replay.frame());
        Self::start(replay, folded, frame, wanted, Records::default(), Desk::default())
    }

    /// Begins to take in what the source yields; it follows upon `folded`.
    fn start(
        source: impl Source + 'static,
        folded: Folded,
        frame: Frame,
        wanted: Wanted,
        Records { recorder, folder }: Records,
        desk: Desk,
    ) -> Result<Self> {
        let (say, said) = mpsc::channel(MAX_SAID);
        let first = Snapshot { playback: source.playback(), ..Snapshot::take(&folded, &frame) };
        let (show, snapshots) = watch::channel(Arc::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let (say, show, window) = match wanted {
            Wanted::Said(window) => (Some(say), None, window),
            Wanted::Nothing => (None, None, Window::ALL),
            Wanted::Snapshots => (None, Some(show), Window::ALL),
        };
        // What was said before this began belongs to a window without a beginning.
        let told = match window.from {
            Time(0) => folded.engine.incidents().totals().clone(),
            _ => BTreeMap::new(),
        };
        let (tape, recording) = Tape::new(recorder);
        let stages = Stages {
            source,
            folded,
            frame: frame.clone(),
            voice: Voice { say, held: Vec::new(), window, told },
            show,
            tape,
            folder,
            desk: desk.clone(),
            gathered: Gathered::default(),
            meter: Meter::default(),
        };
        let (sum_up, summary) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("observer-pipeline".into())
            .spawn({
                let stop = Arc::clone(&stop);
                move || stages.run(&stop, &sum_up)
            })
            .context("starting the pipeline's thread")?;
        Ok(Self { stop, thread, summary, said, snapshots, recording, frame, desk })
    }

    /// Asks the pipeline to end. What it still has to say comes through `said`, which then closes.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }

    /// What it came to, as soon as nothing more is taken in. Nobody reads `said` any more by then.
    pub fn sum_up(&mut self) -> Result<Summary> {
        self.stop();
        self.said.close();
        self.summary.recv().map_err(|_| anyhow!("the pipeline's thread panicked"))
    }

    /// Waits until everything is detached.
    pub fn finish(self) -> Result<()> {
        self.stop();
        drop(self.said);
        self.thread.join().map_err(|_| anyhow!("the pipeline's thread panicked"))
    }
}

/// What is recorded.
#[derive(Default)]
struct Records {
    /// What is from the beginning.
    recorder: Option<Recorder>,
    /// Where recordings go that somebody asks for later; `None` if there is nothing to record.
    folder: Option<PathBuf>,
}

struct Stages<S> {
    source: S,
    folded: Folded,
    frame: Frame,
    voice: Voice,
    show: Option<watch::Sender<Arc<Snapshot>>>,
    tape: Tape,
    /// See [`Records`].
    folder: Option<PathBuf>,
    desk: Desk,
    gathered: Gathered,
    meter: Meter,
}

impl<S: Source> Stages<S> {
    fn run(mut self, stop: &AtomicBool, sum_up: &SyncSender<Summary>) {
        let mut batch = Vec::new();
        let mut shown = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if let Some(folded) = self.source.jump() {
                self.folded = folded;
                self.gathered.jump();
            }
            self.gathered.look(self.desk.looked_at().tail);
            let polled = self.source.poll(&mut batch);
            self.fold(&mut batch);
            self.record();
            if polled == Polled::Ended {
                if self.show.is_none() {
                    break;
                }
                self.finish();
            }
            if shown.elapsed() >= SNAPSHOT_EVERY {
                shown = Instant::now();
                self.publish();
            }
            if polled != Polled::More {
                thread::park_timeout(POLL_EVERY);
            }
        }
        // Nobody may be waiting for it.
        let _ = sum_up.send(self.end());
        // Detaching takes a while, and ends with this.
        drop(self.source);
    }

    /// Empties the batch.
    fn fold(&mut self, batch: &mut Vec<Event>) {
        let Self { folded, voice, tape, gathered, .. } = self;
        for event in batch.drain(..) {
            folded.apply(&event, &mut |said| {
                tape.said(&said);
                voice.say(said);
            });
            match (gathered.wants(&event), tape.runs()) {
                (true, true) => {
                    gathered.keep(event.clone());
                    tape.event(event);
                }
                (true, false) => gathered.keep(event),
                (false, _) => tape.event(event),
            }
        }
        voice.hand_over();
    }

    /// Starts or ends a recording that was asked for, and writes what is due.
    fn record(&mut self) {
        let Self { folded: Folded { engine, .. }, frame, tape, folder, desk, .. } = self;
        // While one ends the next has to wait.
        if !tape.is_closing()
            && desk.take_record()
            && let Some(folder) = folder
        {
            tape.toggle(|| recording::begin(folder, &about(frame), host::now(), engine));
        }
        tape.turn(Instant::now(), engine);
    }

    /// Judges what still waits.
    fn finish(&mut self) {
        let Self { folded, voice, tape, .. } = self;
        folded.finish(&mut |said| {
            tape.said(&said);
            voice.say(said);
        });
        voice.hand_over();
    }

    fn publish(&mut self) {
        let Some(show) = &self.show else { return };
        let snapshot = Snapshot::take(&self.folded, &self.frame);
        self.meter.turn(self.desk.looked_at().cost, &mut self.source, snapshot.events);
        let (recording, playback) = (self.tape.state(), self.source.playback());
        let (tail, cost) = (self.gathered.show(), self.meter.show());
        show.send_replace(Arc::new(Snapshot { recording, playback, tail, cost, ..snapshot }));
    }

    /// Takes in what is left and judges what still waits. Closes `said`.
    fn end(&mut self) -> Summary {
        let mut left = self.source.last();
        self.fold(&mut left);
        self.finish();
        self.publish();
        self.tape.finish();
        self.voice.say = None;
        let engine = &self.folded.engine;
        Summary {
            time: engine.model().now().min(self.voice.window.to),
            verdicts: self.voice.told.clone(),
            events: engine.model().events(),
            counters: *engine.model().counters(),
            harmless: engine.harmless(),
            overflowed: Overflowed::all(engine.model()),
            logs: engine.lines().logs().cloned().collect(),
            lines_matched: engine.lines().matched_count(),
            lines_unmatched: engine.lines().unmatched(),
            evicted: engine.model().evicted().saturating_add(engine.hurried()),
            hooks: self.frame.hooks.clone(),
            trouble: self.source.trouble(),
        }
    }
}

/// Says what belongs to the window, and counts it.
struct Voice {
    say: Option<mpsc::Sender<Vec<Said>>>,
    /// Said, and not handed over yet.
    held: Vec<Said>,
    window: Window,
    /// Verdicts by cause.
    told: BTreeMap<&'static str, u64>,
}

impl Voice {
    fn say(&mut self, said: Said) {
        if !self.window.contains(said.time()) {
            return;
        }
        if let Said::Verdict(verdict) = &said {
            *self.told.entry(verdict.cause).or_default() += 1;
        }
        if self.say.is_some() {
            self.held.push(said);
            if self.held.len() >= SAID_TOGETHER {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        if let Some(say) = &self.say
            && !self.held.is_empty()
        {
            // Fails only when the reader has gone, and then nobody misses it.
            let _ = say.blocking_send(std::mem::take(&mut self.held));
        }
    }
}

/// What a trace of this host says of itself.
fn about(frame: &Frame) -> About {
    let Frame { since, wall, watching, hooks } = frame.clone();
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host::name(),
        kernel: host::kernel(),
        machine: std::env::consts::ARCH.to_owned(),
        wall,
        since,
        watching,
        hooks,
        settings: host::settings().into_iter().map(|setting| (setting.name.to_owned(), setting.value)).collect(),
        segment: 1,
        joined: 0,
    }
}

#[cfg(test)]
mod tests;
