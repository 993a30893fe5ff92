//! What a trace costs: bytes an event on the disk, processor time to record, and how fast it is read and replayed. Over a
//! recording that is given (`cargo bench -p observer --bench trace -- FILE`), or the one that the tests read.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use observer::{
    diagnose::Engine,
    event::{Body, Event},
    time::Time,
    trace::{About, Reader, RecordOptions, Recorder, recorder::BATCH_EVERY},
};

/// Events a second at which recording is measured.
const RATE: u32 = 50_000;
/// Events that are recorded and replayed: the recording's own again and again, each time with other ports and later.
const EVENTS: usize = 1_000_000;

fn main() {
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map_or_else(golden, PathBuf::from);
    let bytes = std::fs::metadata(&path).expect("the recording is there").len();
    let (about, events) = read(&[path]);
    let count = told(&events);
    println!("recording          {count} events, {bytes} bytes: {:.1} bytes an event", ratio(bytes, count));

    let folder = tempfile::tempdir().expect("a folder");
    let again = folder.path().join("again.arrows.zst");
    let many = repeated(&events);
    let total = told(&many);

    let before = processor_time();
    let mut recorder = Recorder::start(options(again.clone()), about).expect("recording begins");
    let mut now = Instant::now();
    for second in many.chunks(RATE as usize) {
        for event in second {
            recorder.event(event.clone()).expect("recording goes on");
        }
        recorder.turn(now, || None).expect("recording goes on");
        now += BATCH_EVERY;
        recorder.turn(now, || None).expect("recording goes on");
    }
    let written = recorder.finish().expect("recording ends");
    let each = each_of(processor_time().saturating_sub(before), total);
    println!(
        "recorded           {total} events at {RATE} a second: {each:.0} ns each, {:.1} % of a core; {:.1} bytes an event",
        each * f64::from(RATE) / 1e7,
        ratio(written.bytes, total)
    );

    let begun = Instant::now();
    let (_, back) = read(&[again]);
    let reading = each_of(begun.elapsed(), total);
    assert_eq!(told(&back), total, "everything comes back");
    let begun = Instant::now();
    let mut engine = Engine::default();
    let mut said = 0_u64;
    for event in &back {
        engine.apply(event, &mut |_| said += 1);
    }
    engine.finish(&mut |_| said += 1);
    let judging = each_of(begun.elapsed(), total);
    println!("read               {reading:.0} ns an event, {:.2} million a second", 1e3 / reading);
    println!("judged             {judging:.0} ns an event, {:.2} million a second ({said} said)", 1e3 / judging);
    println!(
        "replayed           {:.2} million a second on one core, {:.2} on two",
        1e3 / (reading + judging),
        1e3 / reading.max(judging)
    );
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

fn repeated(events: &[Event]) -> Vec<Event> {
    let first = events.iter().map(|event| event.time).min().unwrap_or_default();
    let last = events.iter().map(|event| event.time).max().unwrap_or_default();
    let span = last.since(first) + Duration::from_secs(1);
    let mut many = Vec::new();
    for round in 0.. {
        if many.len() >= EVENTS {
            break;
        }
        let later = span * round;
        many.extend(events.iter().map(|event| moved(event, later, round)));
    }
    many
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

/// Of all threads of this process.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).expect("the clock can be read")
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
