//! The live source: the kernel's ring and the host's samples, as batches of Events.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};

use super::{
    Polled, Source, attention, configured, logs,
    sampler::{self, Attached, Round},
    teller::Teller,
};
use crate::{
    event::{Body, Counters, Event, Lost},
    hooks::Hooks,
    host,
    kernel::{
        LoadError, Options,
        decode::Decoder,
        losses::Losses,
        statistics::{RunTime, Statistics},
    },
    time::Time,
};

/// Records taken from the ring at a time; the rest is for the next call, so that a flood cannot starve the views, and what they
/// become takes a few megabytes at most.
pub const MAX_BATCH: usize = 8192;
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
    /// Proxies' own logs, if any are to be followed.
    logs: Option<Teller>,
    /// Their configurations, if any can be read.
    configurations: Option<Teller>,
    /// Why it could not be looked at closely when that was wanted.
    trouble: Option<String>,
    /// When the kernel's thread was last told that something goes wrong.
    alarmed: Time,
    /// Samples and log lines that are younger than the records read so far, in the order of time.
    waiting: VecDeque<Event>,
    /// Records read and not yet handed on.
    read: Vec<Event>,
    losses: Losses,
    /// Size of the ring, bytes.
    room: usize,
    /// Bytes read since the ring was last found empty.
    read_bytes: usize,
    /// As last told.
    counters: Counters,
    hooks: Hooks,
    statistics: Statistics,
    undecoded: u64,
    /// Time of the last tick; of the start before there is one.
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
    /// Attaches, and returns when every hook is in place, the host has been sampled once, and the logs have been found.
    pub fn start(options: Options, logs: logs::Options) -> Result<Self, StartError> {
        let (started, room) = (host::now(), usize::try_from(options.ring).unwrap_or(usize::MAX));
        let logs = logs::start(logs)?;
        let configurations = configured::start(&options.proxies, options.netns)?;
        let (attached, is_attached) = sync_channel(1);
        let (samples_in, samples) = sync_channel(MAX_SAMPLES);
        let (alarm, alarms) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("observer-kernel".into())
            .spawn(move || sampler::run(&options, &attached, &samples_in, &alarms))?;
        let Attached { ring, decoder, losses, hooks, statistics } =
            is_attached.recv().map_err(|_| StartError::Ended)??;
        let waiting = logs.as_ref().map(Teller::first).unwrap_or_default().into();
        Ok(Self {
            ring,
            decoder,
            samples,
            logs,
            configurations,
            waiting,
            read: Vec::new(),
            losses,
            room,
            read_bytes: 0,
            counters: Counters::default(),
            hooks,
            statistics,
            undecoded: 0,
            ticked: started,
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

    /// A round of samples may take longer than the ticks wait; what is told after a tick must not be from before it, or a
    /// recording without that tick would mean something else.
    fn take_samples(&mut self, round: Round) {
        let Round { events, last: _, trouble } = round;
        self.trouble = trouble.map(|why| format!("could not look closely: {why}")).or(self.trouble.take());
        self.wait(events);
    }

    fn take_what_is_told(&mut self) {
        let tellers = [&self.logs, &self.configurations].into_iter().flatten();
        let told: Vec<_> = tellers.flat_map(|teller| std::iter::from_fn(|| teller.take())).flatten().collect();
        if !told.is_empty() {
            self.wait(told);
        }
    }

    fn wait(&mut self, events: Vec<Event>) {
        let ticked = self.ticked;
        self.waiting.extend(events.into_iter().map(|Event { time, body }| Event { time: time.max(ticked), body }));
        self.waiting.make_contiguous().sort_by_key(|event| event.time);
    }

    /// Has the kernel's thread look closely if something goes wrong.
    fn raise_alarm(&mut self, now: Time, events: &[Event]) {
        if now >= self.alarmed + ALARM_EVERY && events.iter().any(|event| attention::is_trouble(&event.body)) {
            self.alarmed = now;
            // Full, it has been told already.
            let _ = self.alarm.as_ref().map(|alarm| alarm.try_send(()));
        }
    }

    /// What is in the ring, as far as it fits into a batch; whether it did not.
    fn read(&mut self) -> bool {
        let mut taken = 0;
        while taken < MAX_BATCH
            && let Some(record) = self.ring.next()
        {
            taken += 1;
            self.read_bytes += record.len();
            match self.decoder.decode(&record) {
                Ok(event) => self.read.push(event),
                Err(_) => self.undecoded += 1,
            }
        }
        taken == MAX_BATCH
    }

    /// Tells at once of records that were lost, ahead of all that was read since the last tick: some of it came after them, and
    /// must not be judged as if nothing were missing. All else is as last told.
    ///
    /// What finds the ring full leaves a whole ring to be read, most of it in this reading or in the next: who has read less, and to the
    /// end, need not ask.
    fn tell_losses(&mut self, batch: &mut Vec<Event>, more: bool) {
        if !more && self.read_bytes < self.room / 4 {
            return;
        }
        // What cannot be read now can be with the next batch, or with the next samples.
        let records = self.losses.read().unwrap_or(self.counters.lost.records);
        let lost = Lost { records, undecoded: self.undecoded, ..self.counters.lost };
        if lost != self.counters.lost {
            self.counters.lost = lost;
            batch.push(Event { time: self.ticked, body: Body::Counters(Box::new(self.counters)) });
        }
    }

    /// The first of the samples that wait, if it is not younger than that.
    fn sampled_by(&mut self, time: Time) -> Option<Event> {
        let mut event = self.waiting.pop_front_if(|event| event.time <= time)?;
        if let Body::Counters(counters) = &mut event.body {
            // They were read before the losses that have been told since.
            for (count, told) in counters.lost.records.iter_mut().zip(self.counters.lost.records) {
                *count = told.max(*count);
            }
            counters.lost.undecoded = self.undecoded;
            self.counters = **counters;
        }
        Some(event)
    }
}

impl Source for Live {
    /// In the order of time, with a tick at the end. Records lie in the ring until they are read, samples do not: one that comes
    /// first would have tries judged whose evidence is still to be read.
    fn poll(&mut self, batch: &mut Vec<Event>) -> Polled {
        let (before, first) = (host::now(), batch.len());
        if self.waiting.is_empty() {
            while let Ok(round) = self.samples.try_recv() {
                self.take_samples(round);
            }
            self.take_what_is_told();
        }
        let more = self.read();
        self.tell_losses(batch, more);
        let mut read = std::mem::take(&mut self.read);
        for event in read.drain(..) {
            while let Some(sample) = self.sampled_by(event.time) {
                batch.push(sample);
            }
            batch.push(event);
        }
        self.read = read;
        if more {
            self.raise_alarm(before, &batch[first..]);
            return Polled::More;
        }
        while let Some(sample) = self.sampled_by(Time(u64::MAX)) {
            batch.push(sample);
        }
        self.raise_alarm(before, &batch[first..]);
        self.read_bytes = 0;
        self.ticked = before - SETTLED;
        batch.push(Event { time: self.ticked, body: Body::Tick });
        Polled::Idle
    }

    /// The final counters are among it. What comes while the programs are being detached
    /// is nobody's concern any more.
    fn last(&mut self) -> Vec<Event> {
        // Dropping the sender ends the thread's wait; it takes a last sample and then detaches.
        drop(self.alarm.take());
        for mut teller in [self.logs.take(), self.configurations.take()].into_iter().flatten() {
            self.wait(teller.last());
        }
        while let Ok(round) = self.samples.recv() {
            let last = round.last;
            self.take_samples(round);
            if last {
                break;
            }
        }
        let mut batch = Vec::new();
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
