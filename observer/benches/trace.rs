//! What a trace costs: bytes an event on the disk, processor time to record, and how fast it is read and replayed. Over a
//! recording that is given (`cargo bench -p observer --bench trace -- FILE`), again and again; or over the incident that the
//! tests read, among the connections of a busy proxy that go well. With `--memory`, what the process has in memory while fifty million
//! of these events are judged. The last line is the same as one JSON object.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use observer::{
    diagnose::Engine,
    event::{Body, Event},
    pipeline::{Pipeline, Wanted, Window},
    snapshot::Folded,
    source::Replay,
    time::{Speed, Time},
    trace::{About, Reader, RecordOptions, Recorder, recorder::BATCH_EVERY},
};

/// Events a second at which recording is measured.
const RATE: u32 = 50_000;
/// Events that are recorded and replayed.
const EVENTS: usize = 1_000_000;
/// Events after which memory is looked at, where that is asked for.
const MARKS: [usize; 4] = [1_000_000, 10_000_000, 25_000_000, 50_000_000];
/// Connections that went well for each event of the incident, where no recording is given: about one try in thirty fails.
const HEALTHY: u32 = 9;

fn main() {
    let memory = std::env::args().any(|argument| argument == "--memory");
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let healthy = if given.is_some() { 0 } else { HEALTHY };
    let path = given.unwrap_or_else(golden);
    let bytes = std::fs::metadata(&path).expect("the recording is there").len();
    let (about, events) = read(&[path]);
    let count = told(&events);
    println!("recording          {count} events, {bytes} bytes: {:.1} bytes an event", ratio(bytes, count));

    let folder = tempfile::tempdir().expect("a folder");
    let again = folder.path().join("again.arrows.zst");
    let mut recorder = Recorder::start(options(again.clone()), about).expect("recording begins");
    let mut now = Instant::now();
    let (mut making, mut total) = (Duration::ZERO, 0);
    let before = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    let mut rounds = Rounds::of(events.clone(), healthy);
    while total < EVENTS {
        let begun = processor_time(ClockId::CLOCK_THREAD_CPUTIME_ID);
        let second = rounds.next_second();
        making += processor_time(ClockId::CLOCK_THREAD_CPUTIME_ID).saturating_sub(begun);
        total += told(&second);
        for event in second {
            recorder.event(event).expect("recording goes on");
        }
        recorder.turn(now, || None).expect("recording goes on");
        now += BATCH_EVERY;
        recorder.turn(now, || None).expect("recording goes on");
    }
    let written = recorder.finish().expect("recording ends");
    let spent = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID).saturating_sub(before).saturating_sub(making);
    let each = each_of(spent, total);
    println!(
        "recorded           {total} events at {RATE} a second: {each:.0} ns each, {:.1} % of a core; {:.1} bytes an event",
        each * f64::from(RATE) / 1e7,
        ratio(written.bytes, total)
    );

    let (mut reading, mut judging) = (Duration::ZERO, Duration::ZERO);
    let (mut back, mut said) = (0, 0_u64);
    let mut reader = Reader::open(std::slice::from_ref(&again)).expect("it is a trace");
    let mut engine = Engine::default();
    let mut batch = Vec::new();
    loop {
        let begun = Instant::now();
        let more = reader.next_batch(&mut batch).expect("it is whole").is_some();
        reading += begun.elapsed();
        back += told(&batch);
        let begun = Instant::now();
        for event in batch.drain(..) {
            engine.apply(&event, &mut |_| said += 1);
        }
        judging += begun.elapsed();
        if !more {
            break;
        }
    }
    assert_eq!(back, total, "everything comes back");
    let (reading, judging) = (each_of(reading, total), each_of(judging, total));
    println!("read               {reading:.0} ns an event, {:.2} million a second", 1e3 / reading);
    println!("judged             {judging:.0} ns an event, {:.2} million a second ({said} said)", 1e3 / judging);

    let (begun, before) = (Instant::now(), processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID));
    let replay = Replay::open(&[again], Speed::Max).expect("it is a trace");
    let mut pipeline = Pipeline::replay(replay, Wanted::Said(Window::ALL)).expect("it begins");
    while pipeline.said.blocking_recv().is_some() {}
    let summary = pipeline.sum_up().expect("it ends");
    pipeline.finish().expect("it ends");
    assert_eq!(summary.events, total as u64, "everything is replayed");
    let replayed = each_of(begun.elapsed(), total);
    let spent = processor_time(ClockId::CLOCK_PROCESS_CPUTIME_ID).saturating_sub(before);
    let of_a_core = each_of(spent, total);
    println!(
        "replayed           {:.2} million a second, {:.2} million in a second of one processor",
        1e3 / replayed,
        1e3 / of_a_core
    );
    let second = |each: f64| (1e9 / each).round();
    let resident = if memory { judged_for_long(events, healthy) } else { Vec::new() };
    println!(
        "{}",
        serde_json::json!({
            "events": total,
            "bytes_per_event": ratio(written.bytes, total),
            "recording_ns_per_event": each,
            "read_events_per_second": second(reading),
            "judged_events_per_second": second(judging),
            "replayed_events_per_second": second(replayed),
            "replayed_events_per_processor_second": second(of_a_core),
            "resident_mib": resident,
        })
    );
}

/// MiB in memory after each of [`MARKS`], in the way that the pipeline takes events in.
fn judged_for_long(events: Vec<Event>, healthy: u32) -> Vec<f64> {
    let mut rounds = Rounds::of(events, healthy);
    let (mut folded, mut total) = (Folded::default(), 0);
    let mut after = |mark: usize| {
        while total < mark {
            for event in rounds.next_second() {
                total += usize::from(event.body != Body::Tick);
                folded.apply(&event, &mut drop);
            }
        }
        let resident = resident();
        println!("after {mark:>12} events {resident:.1} MiB in memory");
        resident
    };
    MARKS.into_iter().map(&mut after).collect()
}

/// MiB that this process has in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it tells");
    f64::from(line.trim().trim_end_matches(" kB").parse::<u32>().expect("a number")) / 1024.0
}

fn golden() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let entries = std::fs::read_dir(folder).expect("the tests have traces");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a trace").path()).collect();
    paths.sort();
    paths.pop().expect("there is one")
}

fn options(path: PathBuf) -> RecordOptions {
    RecordOptions { path, ring: None, level: None, force: false }
}

fn read(paths: &[PathBuf]) -> (About, Vec<Event>) {
    let mut reader = Reader::open(paths).expect("it is a trace");
    let mut events = Vec::new();
    while reader.next_batch(&mut events).expect("it is whole").is_some() {}
    (reader.about().clone(), events)
}

/// Ticks say nothing.
fn told(events: &[Event]) -> usize {
    events.iter().filter(|event| event.body != Body::Tick).count()
}

/// The recording's events again and again, each time later and with other ports.
struct Rounds {
    events: Vec<Event>,
    span: Duration,
    /// A connection that went well, and how many such come before each event.
    well: Event,
    healthy: u32,
    round: u32,
    next: usize,
    /// Events told so far: no two connections have the same port for a while.
    count: u16,
}

impl Rounds {
    fn of(events: Vec<Event>, healthy: u32) -> Self {
        let first = events.iter().map(|event| event.time).min().unwrap_or_default();
        let last = events.iter().map(|event| event.time).max().unwrap_or_default();
        let well = |event: &&Event| match &event.body {
            Body::ConnectionEnded(ended) => ended.error == 0 && ended.answer_status == Some(200) && ended.unacked == 0,
            _ => false,
        };
        let well = events.iter().find(well).unwrap_or(&events[0]).clone();
        let span = last.since(first) + Duration::from_secs(1);
        Self { span, well, healthy, events, round: 0, next: 0, count: 0 }
    }

    /// As many as come in a second.
    fn next_second(&mut self) -> Vec<Event> {
        let mut second = Vec::with_capacity(RATE as usize);
        while second.len() < RATE as usize {
            let event = moved(&self.events[self.next], self.span * self.round, self.round);
            let later = event.time.since(self.well.time);
            for _ in 0..self.healthy {
                self.count = self.count.wrapping_add(1);
                second.push(moved(&self.well, later, self.count.into()));
            }
            second.push(event);
            self.next += 1;
            if self.next == self.events.len() {
                (self.next, self.round) = (0, self.round + 1);
            }
        }
        second
    }
}

fn moved(event: &Event, later: Duration, round: u32) -> Event {
    let mut event = event.clone();
    let shift = |time: &mut Time| {
        if *time != Time::default() {
            *time = *time + later;
        }
    };
    let port = u16::try_from(round * 31 % 20_000).unwrap_or(0);
    shift(&mut event.time);
    match &mut event.body {
        Body::ConnectionEnded(ended) => {
            shift(&mut ended.started);
            ended.established.iter_mut().for_each(shift);
            ended.last_read.iter_mut().for_each(shift);
            ended.flow.local.port = ended.flow.local.port.wrapping_add(port);
        }
        Body::Outcome(outcome) => {
            outcome.told.iter_mut().for_each(shift);
            outcome.told_before.iter_mut().for_each(shift);
        }
        Body::ResetSent(sent) => sent.flow.remote.port = sent.flow.remote.port.wrapping_add(port),
        Body::Unserved(unserved) => unserved.flow.remote.port = unserved.flow.remote.port.wrapping_add(port),
        Body::Hurt(hurt) => hurt.flow.remote.port = hurt.flow.remote.port.wrapping_add(port),
        _ => {}
    }
    event
}

fn processor_time(of: ClockId) -> Duration {
    clock_gettime(of).map(Duration::from).expect("the clock can be read")
}

/// Nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn each_of(all: Duration, count: usize) -> f64 {
    all.as_nanos() as f64 / count as f64
}

#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn ratio(bytes: u64, count: usize) -> f64 {
    bytes as f64 / count as f64
}
