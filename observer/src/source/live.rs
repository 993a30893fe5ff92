//! The live source: the kernel's ring and the host's samples, as batches of Events.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};

use super::{
    Polled, Source, attention,
    sampler::{self, Attached, Round},
};
use crate::{
    event::{Body, Event},
    hooks::Hooks,
    host,
    kernel::{
        LoadError, Options,
        decode::Decoder,
        statistics::{RunTime, Statistics},
    },
    time::Time,
};

/// Records taken from the ring at a time; the rest is for the next call, so that a flood cannot starve the views.
pub const MAX_BATCH: usize = 65_536;
/// Samples that may wait for the pipeline. Full, the sampler waits: samples are replaced by newer ones anyway.
const MAX_SAMPLES: usize = 16;
/// A tick says that everything up to it has been told. The ring was emptied after its time was read, and a record
/// takes far less than this from its time stamp to the ring.
const SETTLED: Duration = Duration::from_millis(10);

/// That something goes wrong is told no more often: it is known for much longer than this (`STAY`).
const ALARM_EVERY: Duration = Duration::from_secs(1);

/// A running live source. Dropping it detaches everything.
pub struct Live {
    ring: RingBuf<MapData>,
    decoder: Decoder,
    samples: Receiver<Round>,
    /// Why it could not be looked at closely when that was wanted.
    trouble: Option<String>,
    /// When the kernel's thread was last told that something goes wrong.
    alarmed: Time,
    hooks: Hooks,
    statistics: Statistics,
    undecoded: u64,
    /// Time of the last tick.
    ticked: Time,
    /// To the kernel's thread: something goes wrong. Dropped, it ends.
    alarm: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How the live source can fail to start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The programs could not be attached.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The thread ended before it was ready.
    #[error("the kernel thread ended unexpectedly")]
    Ended,
}

impl Live {
    /// Attaches, and returns when every hook is in place and the host has been sampled once.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let (attached, is_attached) = sync_channel(1);
        let (samples_in, samples) = sync_channel(MAX_SAMPLES);
        let (alarm, alarms) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("observer-kernel".into())
            .spawn(move || sampler::run(&options, &attached, &samples_in, &alarms))?;
        let Attached { ring, decoder, hooks, statistics } = is_attached.recv().map_err(|_| StartError::Ended)??;
        Ok(Self {
            ring,
            decoder,
            samples,
            hooks,
            statistics,
            undecoded: 0,
            ticked: Time::default(),
            trouble: None,
            alarmed: Time::default(),
            alarm: Some(alarm),
            thread: Some(thread),
        })
    }

    /// How each hook stands.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    fn take_samples(&mut self, round: Round, batch: &mut Vec<Event>) {
        let Round { mut events, last: _, trouble } = round;
        self.trouble = trouble.or(self.trouble.take());
        for event in &mut events {
            // A round of samples may take longer than the ticks wait; what is told after a tick must not be from before it, or
            // a recording without that tick would mean something else.
            event.time = event.time.max(self.ticked);
            if let Body::Counters(counters) = &mut event.body {
                counters.lost.undecoded = self.undecoded;
            }
        }
        batch.append(&mut events);
    }
}

impl Source for Live {
    /// With a tick at the end.
    fn poll(&mut self, batch: &mut Vec<Event>) -> Polled {
        let before = host::now();
        let first = batch.len();
        while let Ok(round) = self.samples.try_recv() {
            self.take_samples(round, batch);
        }
        let mut taken = 0;
        while taken < MAX_BATCH
            && let Some(record) = self.ring.next()
        {
            taken += 1;
            match self.decoder.decode(&record) {
                Ok(event) => batch.push(event),
                Err(_) => self.undecoded += 1,
            }
        }
        if before >= self.alarmed + ALARM_EVERY && batch[first..].iter().any(|event| attention::is_trouble(&event.body))
        {
            self.alarmed = before;
            // Full, it has been told already.
            let _ = self.alarm.as_ref().map(|alarm| alarm.try_send(()));
        }
        if taken == MAX_BATCH {
            return Polled::More;
        }
        self.ticked = before - SETTLED;
        batch.push(Event { time: self.ticked, body: Body::Tick });
        Polled::Idle
    }

    /// The final counters are among it. What comes while the programs are being detached
    /// is nobody's concern any more.
    fn last(&mut self) -> Vec<Event> {
        // Dropping the sender ends the thread's wait; it takes a last sample and then detaches.
        drop(self.alarm.take());
        let mut batch = Vec::new();
        while let Ok(round) = self.samples.recv() {
            let last = round.last;
            self.take_samples(round, &mut batch);
            if last {
                break;
            }
        }
        while self.poll(&mut batch) == Polled::More {}
        batch
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn measure(&mut self, on: bool) {
        self.statistics.measure(on);
    }

    fn run_times(&self) -> Option<Vec<RunTime>> {
        // The programs are the other thread's, which detaches them once it is stopped.
        self.alarm.is_some().then(|| self.statistics.read())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.alarm.take());
        // Whatever it still wants to send is refused, so it ends.
        let (_, nothing) = sync_channel(0);
        self.samples = nothing;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
