//! The one place that knows every stage. A thread of its own moves batches from the source through model and rules;
//! what is said goes through a bounded channel, what is shown through a slot that holds the latest snapshot.

use std::{
    collections::VecDeque,
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
    diagnose::{Engine, Said, Verdict},
    event::Event,
    hooks::Hooks,
    host,
    kernel::Options,
    sink::{Overflowed, Summary},
    snapshot::{Frame, RECENT_VERDICTS, Snapshot},
    source::Live,
    time::WallClock,
};

/// How often the source is asked. Nobody is woken per event: a verdict is late by this much at most.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// How often a snapshot is made while somebody looks.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);
/// Verdicts and warnings that may wait for a slow reader. Full, the pipeline waits, the ring fills, and the kernel
/// counts what is lost.
const MAX_SAID: usize = 4096;

/// A running pipeline.
pub struct Pipeline {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    summary: Receiver<Summary>,
    /// What is said, in order; closed when the pipeline ends.
    pub said: mpsc::Receiver<Said>,
    /// The latest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How each hook stands.
    pub hooks: Hooks,
    /// Turns times into times of day.
    pub wall: WallClock,
}

/// What the pipeline is to produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What is said, one by one.
    Said,
    /// Snapshots.
    Snapshots,
}

impl Pipeline {
    /// Attaches and begins to watch. Returns when every hook is in place.
    pub fn start(options: Options, watching: String, wanted: Wanted) -> Result<Self> {
        let live = Live::start(options)?;
        let hooks = live.hooks().clone();
        let wall = host::wall_clock();
        let frame = Frame { since: host::now(), wall, watching, hooks: hooks.clone() };
        let (say, said) = mpsc::channel(MAX_SAID);
        let first = Snapshot::take(&Engine::default(), &VecDeque::new(), &frame);
        let (show, snapshots) = watch::channel(Arc::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let stages = Stages {
            live,
            engine: Engine::default(),
            recent: VecDeque::new(),
            frame,
            say: (wanted == Wanted::Said).then_some(say),
            show: (wanted == Wanted::Snapshots).then_some(show),
        };
        let (sum_up, summary) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("observer-pipeline".into())
            .spawn({
                let stop = Arc::clone(&stop);
                move || stages.run(&stop, &sum_up)
            })
            .context("starting the pipeline's thread")?;
        Ok(Self { stop, thread, summary, said, snapshots, hooks, wall })
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

struct Stages {
    live: Live,
    engine: Engine,
    recent: VecDeque<Verdict>,
    frame: Frame,
    say: Option<mpsc::Sender<Said>>,
    show: Option<watch::Sender<Arc<Snapshot>>>,
}

impl Stages {
    fn run(mut self, stop: &AtomicBool, sum_up: &SyncSender<Summary>) {
        let mut batch = Vec::new();
        let mut shown = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            batch.clear();
            let more = self.live.poll(&mut batch);
            self.fold(&batch);
            if shown.elapsed() >= SNAPSHOT_EVERY {
                shown = Instant::now();
                self.publish();
            }
            if !more {
                thread::park_timeout(POLL_EVERY);
            }
        }
        // Nobody may be waiting for it.
        let _ = sum_up.send(self.end());
        // Detaching takes a while, and ends with this.
        drop(self.live);
    }

    fn fold(&mut self, batch: &[Event]) {
        for event in batch {
            let (recent, say) = (&mut self.recent, &self.say);
            self.engine.apply(event, &mut |said| hand_out(said, recent, say.as_ref()));
        }
    }

    fn publish(&self) {
        if let Some(show) = &self.show {
            show.send_replace(Arc::new(Snapshot::take(&self.engine, &self.recent, &self.frame)));
        }
    }

    /// Takes in what is left and judges what still waits. Closes `said`.
    fn end(&mut self) -> Summary {
        let Self { live, engine, recent, frame, say, show: _ } = self;
        let say = say.take();
        for event in live.last() {
            engine.apply(&event, &mut |said| hand_out(said, recent, say.as_ref()));
        }
        engine.finish(&mut |said| hand_out(said, recent, say.as_ref()));
        Summary {
            time: engine.model().now(),
            verdicts: engine.incidents().totals().clone(),
            events: engine.model().events(),
            counters: *engine.model().counters(),
            harmless: engine.harmless(),
            overflowed: Overflowed::all(engine.model()),
            evicted: engine.model().evicted() + engine.hurried(),
            hooks: frame.hooks.clone(),
        }
    }
}

fn hand_out(said: Said, recent: &mut VecDeque<Verdict>, say: Option<&mpsc::Sender<Said>>) {
    if let Said::Verdict(verdict) = &said {
        if recent.len() >= RECENT_VERDICTS {
            recent.pop_front();
        }
        recent.push_back(Verdict::clone(verdict));
    }
    if let Some(say) = say {
        // Fails only when the reader has gone, and then nobody misses it.
        let _ = say.blocking_send(said);
    }
}
