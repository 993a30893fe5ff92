//! A replay says what the live run said, at any speed, from wherever it is looked at.

use std::{cell::Cell, fs, path::Path, time::Duration};

use super::*;
use crate::{
    diagnose::Said,
    testing::{INCIDENT_SECONDS, about, at, incident, recorded},
    trace::{RecordOptions, Recorder, recorder::BATCH_EVERY},
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
    Replay::of(Reader::open(&[path.to_owned()]).unwrap(), speed, clock).unwrap()
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

/// Somebody who looks on.
struct Viewer {
    replay: Replay,
    control: SyncSender<Command>,
    folded: Folded,
}

impl Viewer {
    fn of(path: &Path, limit: Time) -> Self {
        let mut replay = replay(path, Speed::Times(1.0));
        let control = replay.controlled(Reader::open(&[path.to_owned()]).unwrap(), limit).unwrap();
        let folded = replay.folded();
        let mut viewer = Self { replay, control, folded };
        viewer.ask(Command::Pause);
        while !viewer.playback().timeline.is_whole() {
            std::thread::yield_now();
        }
        viewer
    }

    /// Until there is nothing more to do but wait.
    fn ask(&mut self, command: Command) {
        self.control.send(command).unwrap();
        let mut batch = Vec::new();
        loop {
            if let Some(folded) = self.replay.jump() {
                self.folded = folded;
            }
            let polled = self.replay.poll(&mut batch);
            for event in batch.drain(..) {
                self.folded.apply(&event, &mut |_| {});
            }
            if polled != Polled::More {
                return;
            }
        }
    }

    fn playback(&self) -> Playback {
        self.replay.playback().unwrap()
    }

    /// Seconds after the beginning.
    fn at(&self) -> u64 {
        self.playback().playhead.since(at(0)).as_secs()
    }
}

/// What can be seen of a state.
fn seen(folded: &Folded) -> (u64, Time, Vec<crate::diagnose::Verdict>) {
    let model = folded.engine.model();
    (model.events(), model.now(), folded.recent.iter().cloned().collect())
}

#[test]
fn wherever_one_goes_the_state_is_that_of_the_way_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let mut viewer = Viewer::of(&path, Time(u64::MAX));
    let seconds = Duration::from_secs;
    let journey = [
        Command::On(seconds(33)),
        Command::Back(seconds(10)),
        Command::Step,
        Command::On(seconds(60)),
        Command::Back(seconds(1)),
        Command::Begin,
        Command::NextIncident,
        Command::NextIncident,
        Command::PreviousIncident,
        Command::End,
        Command::Back(seconds(45)),
        Command::On(seconds(500)),
        Command::Back(seconds(500)),
    ];
    for command in journey {
        viewer.ask(command);
        let playhead = viewer.playback().playhead;
        let mut straight = Folded::default();
        for event in incident().iter().take_while(|event| event.time <= playhead) {
            straight.apply(event, &mut |_| {});
        }
        assert_eq!(seen(&viewer.folded), seen(&straight), "after {command:?}");
    }
    assert_eq!(CLOCK.get(), 1, "no time has passed");
}

#[test]
fn commands_lead_where_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let mut viewer = Viewer::of(&path, at(80_000));
    assert_eq!((viewer.at(), viewer.playback().standing), (0, Standing::Paused));
    viewer.ask(Command::On(Duration::from_secs(20)));
    viewer.ask(Command::Step);
    assert_eq!((viewer.at(), viewer.playback().standing), (21, Standing::Paused));
    viewer.ask(Command::Pause);
    assert_eq!(viewer.playback().standing, Standing::Playing);
    viewer.ask(Command::Faster);
    viewer.ask(Command::Faster);
    viewer.ask(Command::Slower);
    assert_eq!(viewer.playback().speed, Speed::Times(2.0));
    viewer.ask(Command::End);
    assert_eq!((viewer.at(), viewer.playback().standing), (80, Standing::Ended), "no further than asked for");
    viewer.ask(Command::Begin);
    assert_eq!((viewer.at(), viewer.playback().standing), (0, Standing::Playing));
    viewer.ask(Command::NextIncident);
    let first = viewer.playback().playhead;
    assert!(viewer.folded.recent.len() == 1 && first > at(300), "the first failure is just known");
    viewer.ask(Command::PreviousIncident);
    assert_eq!(viewer.playback().playhead, first, "there is none before");
}

#[test]
fn the_survey_finds_what_a_run_would_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path(), &incident());
    let viewer = Viewer::of(&path, Time(u64::MAX));
    let timeline = viewer.playback().timeline;
    let mut expected = std::collections::BTreeMap::new();
    for said in live(&incident()) {
        if let Said::Verdict(verdict) = said {
            *expected.entry(verdict.cause).or_insert(0) += 1;
        }
    }
    assert_eq!(timeline.totals().into_iter().collect::<std::collections::BTreeMap<_, _>>(), expected);
    assert_eq!((timeline.begin(), timeline.end()), (at(0), incident().iter().map(|event| event.time).max().unwrap()));
}

/// The incident in segments, each as long as some batches.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let options = RecordOptions { path: folder.join("r.arrows"), ring: Some((1, 999)), level: None, force: false };
    let mut recorder = Recorder::start(options, about()).unwrap();
    let mut engine = Engine::default();
    let mut now = std::time::Instant::now();
    for (index, event) in incident().into_iter().enumerate() {
        engine.apply(&event, &mut |_| {});
        recorder.event(event).unwrap();
        if index % 20 == 0 {
            recorder.turn(now, || engine.checkpoint().ok()).unwrap();
            now += BATCH_EVERY;
        }
    }
    recorder.finish().unwrap();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn without_its_first_segments_the_rest_says_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let files = segments(folder.path());
    let expected = live(&incident());
    assert!(files.len() > 5, "{}", files.len());
    let mut before = usize::MAX;
    for first in 0..files.len() {
        let mut rest = Replay::of(Reader::open(&files[first..]).unwrap(), Speed::Max, clock).unwrap();
        let said = replayed(&mut rest, 1);
        assert_eq!(rest.trouble(), None);
        assert!(expected.ends_with(&said) && said.len() < before, "from segment {first}");
        before = said.len();
    }
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
