//! A replay says what the live run said, at any speed, from wherever it is looked at.

use std::{cell::Cell, fs, path::Path, time::Duration};

use super::*;
use crate::{
    diagnose::{Engine, Said},
    testing::{INCIDENT_SECONDS, at, incident, recorded},
};

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(1) };
}

fn clock() -> Time {
    Time(CLOCK.get())
}

fn live(events: &[Event]) -> Vec<Said> {
    let mut engine = Engine::default();
    let mut said = Vec::new();
    for event in events {
        engine.apply(event, &mut |each| said.push(each));
    }
    engine.finish(&mut |each| said.push(each));
    said
}

/// All that a replay says when it is asked every so many nanoseconds.
fn replayed(replay: &mut Replay, every: u64) -> Vec<Said> {
    let mut folded = replay.folded();
    let mut said = Vec::new();
    let mut batch = Vec::new();
    loop {
        let polled = replay.poll(&mut batch);
        for event in batch.drain(..) {
            folded.apply(&event, &mut |each| said.push(each));
        }
        match polled {
            Polled::More => {}
            Polled::Idle => CLOCK.set(CLOCK.get() + every),
            Polled::Ended => break,
        }
    }
    folded.finish(&mut |each| said.push(each));
    said
}

fn replay(path: &Path, speed: Speed) -> Replay {
    Replay::of(Reader::open(&[path.to_owned()]).unwrap(), speed, clock)
}

#[test]
fn at_any_speed_it_says_what_the_live_run_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let expected = live(&incident());
    assert!(expected.len() > 60, "{}", expected.len());
    assert_eq!(replayed(&mut replay(&path, Speed::Max), 1), expected);
    for (speed, every) in [(0.5, 10_000_000), (1.0, 7_000_001), (64.0, 10_000_000), (1024.0, 3_000_000_000)] {
        assert_eq!(replayed(&mut replay(&path, Speed::Times(speed)), every), expected, "at {speed}");
    }
}

#[test]
fn it_takes_the_time_that_the_incident_took() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let begun = CLOCK.get();
    replayed(&mut replay(&path, Speed::Times(2.0)), 10_000_000);
    let took = (CLOCK.get() - begun) / 1_000_000_000;
    assert_eq!(took, INCIDENT_SECONDS / 2);
}

#[test]
fn before_a_time_that_is_asked_for_it_does_not_linger() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let mut replay = replay(&path, Speed::Times(1.0));
    replay.run_to(replay.time_of(Moment::After(Duration::from_mins(1))));
    let mut batch = Vec::new();
    while replay.poll(&mut batch) == Polled::More {}
    assert_eq!(batch.last().unwrap().time, at(60_000));
    assert_eq!(CLOCK.get(), 1, "no time has passed");
}

#[test]
fn what_breaks_off_is_told_and_what_comes_before_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let mut whole = replay(&path, Speed::Max);
    let expected = replayed(&mut whole, 1);
    assert_eq!(whole.trouble(), None);

    let bytes = fs::read(&path).unwrap();
    let mut most = 0;
    for tenths in 3..10 {
        fs::write(&path, &bytes[..bytes.len() * tenths / 10]).unwrap();
        let mut broken = replay(&path, Speed::Max);
        let said = replayed(&mut broken, 1);
        // What waited when the recording broke off is judged by what is known then.
        let sure = said.len().saturating_sub(2);
        assert!(said[..sure] == expected[..sure], "{tenths}/10");
        let trouble = broken.trouble().unwrap();
        assert!(trouble.contains("is damaged") || trouble.contains("was not ended"), "{trouble}");
        most = most.max(sure);
    }
    assert!(most > expected.len() / 2, "{most} of {}", expected.len());
}

#[test]
fn a_recording_without_events_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &[]);
    assert_eq!(replayed(&mut replay(&path, Speed::Times(1.0)), 1), []);
}
