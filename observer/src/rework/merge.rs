//! Two hosts' recordings of one incident as one: the proxy's side, and the upstream's, whose evidence settles what the
//! proxy's alone leaves open. To the model it is one host with namespaces of both.

mod about;
mod offset;

use std::{collections::VecDeque, io::Write, path::PathBuf, time::Duration};

pub use offset::Offset;
use offset::{Both, Seen};

use super::{
    Rewritten,
    change::{Change, change},
};
use crate::{
    addr::NetNs,
    event::{Body, Counters, Event, Lost, Process},
    time::Time,
    trace::{About, ReadError, Reader, WriteError},
};

/// What is added to the ids of the upstream's processes, so that they cannot be taken for the proxy's: more than there are ids
/// (`PID_MAX_LIMIT`, include/linux/threads.h). Twice that for the second upstream's side, and so on.
pub const PID_SHIFT: u32 = 10_000_000;
/// Upstreams' sides that can be joined to one proxy's, one after another: each has its own numbers of namespaces.
pub const MAX_JOINED: u32 = 13;
/// The kernel's numbers of namespaces begin with 0xe or 0xf (PROC_DYNAMIC_FIRST, PROC_NET_INIT_INO: include/linux/proc_ns.h);
/// the upstream's get which side it is instead, from 1 on.
const NETNS_SHIFT: u32 = 28;

/// How two recordings can fail to become one.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// They cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new one cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There are not two.
    #[error("{0} recordings were given: two are joined, the proxy's side and the upstream's")]
    NotTwo(usize),
    /// Both saw proxies' connections.
    #[error(
        "both recordings have tries of proxies, so that neither is the upstream's side: record there with --proxy and a name \
         that no process has"
    )]
    BothProxies,
    /// None did.
    #[error("neither recording has tries of a proxy")]
    NoProxy,
    /// Nothing tells how far their clocks are apart.
    #[error(
        "no connection shows on both sides (addresses may be translated between them): give the offset of the upstream's \
         clock with --offset, 0s if both are kept by NTP"
    )]
    NothingInCommon,
    /// Connections tell different offsets.
    #[error(
        "the connections on both sides do not agree on the offset of the clocks, {agree} of {seen} at most: give it with \
         --offset"
    )]
    Contradiction {
        /// How many agree at most.
        agree: usize,
        /// Of how many.
        seen: usize,
    },
    /// There are too many already.
    #[error("{MAX_JOINED} upstreams' sides have been joined already, no more can be")]
    TooMany,
}

/// What came of it.
#[derive(Debug)]
pub struct Merged {
    /// The proxy's host.
    pub proxy: String,
    /// The upstream's.
    pub upstream: String,
    /// Nanoseconds by which the upstream's wall clock was ahead.
    pub ahead: i128,
    /// How that is known; `None` if it was given.
    pub offset: Option<Offset>,
    /// What of either could not be read.
    pub left_out: Vec<ReadError>,
    /// The first file of each whose own beginning is not among the files: what observer knew before it is not taken over.
    pub begun_before: Vec<PathBuf>,
}

/// Writes the recordings in these files as one. `ahead` gives by how many nanoseconds the upstream's wall clock was ahead,
/// instead of finding it out.
pub fn merge(files: &[PathBuf], ahead: Option<i128>, out: impl Write) -> Result<Merged, MergeError> {
    let recordings = recordings(files)?;
    let [one, other] = &recordings[..] else { return Err(MergeError::NotTwo(recordings.len())) };
    let ((of_one, seen_by_one), (of_other, seen_by_other)) = (survey(one)?, survey(other)?);
    let (proxy, upstream, seen) = match (of_one, of_other) {
        (true, false) => (one, other, seen_by_other),
        (false, true) => (other, one, seen_by_one),
        (true, true) => return Err(MergeError::BothProxies),
        (false, false) => return Err(MergeError::NoProxy),
    };
    let (here, there) = (Reader::open(proxy)?, Reader::open(upstream)?);
    let (about, other) = (here.about().clone(), there.about().clone());
    let later = [&here, &there].into_iter().filter(|reader| reader.about().segment > 1);
    let begun_before = later.map(|reader| reader.segments()[0].path.clone()).collect();
    if about.joined >= MAX_JOINED {
        return Err(MergeError::TooMany);
    }
    // Of the clocks that observer's times are of, if the wall clocks were equal.
    let equal = i128::from(other.wall.offset) - i128::from(about.wall.offset);
    let offset = if ahead.is_none() { Some(find(proxy, seen, equal)?) } else { None };
    let nanos = offset.map_or(equal - ahead.unwrap_or(0), |offset| offset.nanos);
    let joined = about::join(&about, &other);
    let mut streams = [
        Stream { reader: here, waiting: VecDeque::new(), shift: None, left_out: None },
        Stream {
            reader: there,
            waiting: VecDeque::new(),
            shift: Some(Shift { nanos, side: joined.joined }),
            left_out: None,
        },
    ];
    let mut rewritten = Rewritten::begin(&joined, out)?;
    let mut mixer = Mixer { several: about.joined > 0, counters: [Counters::default(); 2] };
    while let Some((side, event)) = next(&mut streams) {
        if let Some(event) = mixer.mixed(side, event) {
            rewritten.event(event)?;
        }
    }
    rewritten.finish()?;
    Ok(Merged {
        proxy: about.host,
        upstream: other.host,
        ahead: equal - nanos,
        offset,
        left_out: streams.into_iter().filter_map(|stream| stream.left_out).collect(),
        begun_before,
    })
}

/// The files by recording.
fn recordings(files: &[PathBuf]) -> Result<Vec<Vec<PathBuf>>, ReadError> {
    let mut recordings: Vec<(About, Vec<PathBuf>)> = Vec::new();
    for file in files {
        let reader = Reader::open(std::slice::from_ref(file))?;
        let about = About { segment: 0, ..reader.about().clone() };
        match recordings.iter_mut().find(|(other, _)| *other == about) {
            Some((_, files)) => files.push(file.clone()),
            None => recordings.push((about, vec![file.clone()])),
        }
    }
    Ok(recordings.into_iter().map(|(_, files)| files).collect())
}

/// Whether a recording has tries of proxies, and what it saw as an upstream's side.
fn survey(files: &[PathBuf]) -> Result<(bool, Seen), ReadError> {
    let (mut tries, mut seen) = (false, Seen::default());
    each(files, |event| {
        tries |= matches!(event.body, Body::ConnectionEnded(_) | Body::ConnectFailed(_) | Body::Outcome(_));
        seen.event(event);
    })?;
    Ok((tries, seen))
}

fn find(proxy: &[PathBuf], seen: Seen, expected: i128) -> Result<Offset, MergeError> {
    let mut both = Both::new(seen);
    each(proxy, |event| both.event(event))?;
    let offset = both.offset(expected).ok_or(MergeError::NothingInCommon)?;
    let Offset { connections, seen, .. } = offset;
    if connections * 2 <= seen && seen > 1 {
        return Err(MergeError::Contradiction { agree: connections, seen });
    }
    Ok(offset)
}

/// All events that can be read; what cannot is told when they are read again.
fn each(files: &[PathBuf], mut take: impl FnMut(&Event)) -> Result<(), ReadError> {
    let mut reader = Reader::open(files)?;
    let mut batch = Vec::new();
    while let Ok(Some(_)) = reader.next_batch(&mut batch) {
        for event in batch.drain(..) {
            take(&event);
        }
    }
    Ok(())
}

/// The events of one side, by the proxy's clock.
struct Stream {
    reader: Reader,
    waiting: VecDeque<Event>,
    /// For the upstream's side.
    shift: Option<Shift>,
    left_out: Option<ReadError>,
}

impl Stream {
    /// Time of its next event.
    fn peek(&mut self) -> Option<Time> {
        let mut batch = Vec::new();
        while self.waiting.is_empty() && self.left_out.is_none() {
            match self.reader.next_batch(&mut batch) {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => self.left_out = Some(error),
            }
            if let Some(shift) = &mut self.shift {
                for event in &mut batch {
                    change(event, shift);
                }
            }
            self.waiting.extend(batch.drain(..));
        }
        self.waiting.front().map(|event| event.time)
    }
}

/// The next event of both, and whether it is the upstream's side's. Each side's own order stays: it is the one in which
/// things were learned.
fn next(streams: &mut [Stream; 2]) -> Option<(usize, Event)> {
    let times = streams.each_mut().map(Stream::peek);
    let side = match times {
        [Some(here), Some(there)] => usize::from(there < here),
        [None, _] => 1,
        [_, None] => 0,
    };
    streams[side].waiting.pop_front().map(|event| (side, event))
}

/// Makes what is of a whole host one for both.
struct Mixer {
    /// There are several upstreams' sides.
    several: bool,
    /// As last told by either side.
    counters: [Counters; 2],
}

impl Mixer {
    fn mixed(&mut self, side: usize, event: Event) -> Option<Event> {
        match event.body {
            // Rules ask about the upstream's processors; of several it cannot be said whose they are.
            Body::HostSample(_) if side == 0 || self.several => None,
            Body::Counters(counters) => {
                self.counters[side] = *counters;
                let [here, there] = &self.counters;
                Some(Event { body: Body::Counters(Box::new(sum(here, there))), ..event })
            }
            _ => Some(event),
        }
    }
}

fn sum(here: &Counters, there: &Counters) -> Counters {
    let mut records = here.lost.records;
    for (count, more) in records.iter_mut().zip(there.lost.records) {
        *count = count.saturating_add(more);
    }
    let add = |of: fn(&Counters) -> u64| of(here).saturating_add(of(there));
    Counters {
        connections_started: add(|it| it.connections_started),
        connections_adopted: add(|it| it.connections_adopted),
        connections_ended: add(|it| it.connections_ended),
        connects_failed: add(|it| it.connects_failed),
        listen_overflow_syn: add(|it| it.listen_overflow_syn),
        listen_overflow_ack: add(|it| it.listen_overflow_ack),
        resets_sent: add(|it| it.resets_sent),
        resets_received: add(|it| it.resets_received),
        retransmits: add(|it| it.retransmits),
        synack_retransmits: add(|it| it.synack_retransmits),
        time_waits_entered: add(|it| it.time_waits_entered),
        unaccepted: add(|it| it.unaccepted),
        listener_changes: add(|it| it.listener_changes),
        answers: add(|it| it.answers),
        answers_failed: add(|it| it.answers_failed),
        application_errors: add(|it| it.application_errors),
        syn_queue_drops: add(|it| it.syn_queue_drops),
        sees_syn_drops: here.sees_syn_drops && there.sees_syn_drops,
        light_look: here.light_look || there.light_look,
        looked_away: here.looked_away || there.looked_away,
        lost: Lost {
            records,
            tries_untracked: add(|it| it.lost.tries_untracked),
            connects_untracked: add(|it| it.lost.connects_untracked),
            skipped: add(|it| it.lost.skipped),
            undecoded: add(|it| it.lost.undecoded),
            unadopted: add(|it| it.lost.unadopted),
        },
    }
}

/// Makes the upstream's side's events of the proxy's side's clock and host.
struct Shift {
    nanos: i128,
    /// Which upstream's side it is, from 1.
    side: u32,
}

impl Change for Shift {
    fn time(&mut self, time: &mut Time) {
        let shifted = i128::from(time.0) + self.nanos;
        // Never zero, which means unknown.
        *time = Time(u64::try_from(shifted.max(1)).unwrap_or(u64::MAX));
    }

    fn netns(&mut self, netns: &mut NetNs) {
        netns.0 = netns.0 & ((1 << NETNS_SHIFT) - 1) | self.side << NETNS_SHIFT;
    }

    fn process(&mut self, process: &mut Process) {
        if process.pid != 0 {
            process.pid = process.pid.saturating_add(self.side * PID_SHIFT);
        }
    }
}

/// A duration that may be negative, in nanoseconds: `3.7s`, `-200ms`.
pub fn parse_ahead(text: &str) -> Result<i128, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let duration: Duration =
        humantime::parse_duration(rest).map_err(|error| format!("{error} (try 3s 700ms, or -200ms)"))?;
    i128::try_from(duration.as_nanos()).map(|nanos| sign * nanos).map_err(|_| "too long".to_owned())
}

#[cfg(test)]
mod tests;
