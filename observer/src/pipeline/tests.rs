//! Windows of what is said, and recordings begun and ended on the way.

use std::{collections::VecDeque, path::Path};

use super::*;
use crate::{
    testing::{at, incident, recorded},
    time::Speed,
};

/// What is said of a window of the incident, and what it comes to.
fn replayed(window: Window) -> (Vec<Said>, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let replay = Replay::open(&[recorded(folder.path(), &incident())], Speed::Max).unwrap();
    let mut pipeline = Pipeline::replay(replay, Wanted::Said(window)).unwrap();
    let mut said = Vec::new();
    while let Some(more) = pipeline.said.blocking_recv() {
        said.extend(more);
    }
    let summary = pipeline.sum_up().unwrap();
    pipeline.finish().unwrap();
    (said, summary)
}

#[test]
fn a_window_shows_a_part_of_the_whole_and_changes_nothing() {
    let (whole, _) = replayed(Window::ALL);
    for (from, to) in [(0, 10_000), (20_300, 20_300), (30_000, 61_000), (85_000, 999_000), (200_000, 300_000)] {
        let window = Window { from: at(from), to: at(to) };
        let (said, summary) = replayed(window);
        let expected: Vec<_> = whole.iter().filter(|said| window.contains(said.time())).cloned().collect();
        assert_eq!(said, expected);
        let verdicts = said.iter().filter(|said| matches!(said, Said::Verdict(_))).count();
        assert_eq!(summary.verdicts.values().sum::<u64>(), verdicts as u64);
    }
}

/// Yields a batch each time, and asks at the desk before some of them.
struct Script {
    batches: VecDeque<Vec<Event>>,
    desk: Desk,
    record_before: Vec<usize>,
    given: usize,
}

impl Source for Script {
    fn poll(&mut self, batch: &mut Vec<Event>) -> Polled {
        if self.record_before.contains(&self.given) {
            self.desk.record();
        }
        self.given += 1;
        match self.batches.pop_front() {
            Some(mut events) => {
                batch.append(&mut events);
                Polled::More
            }
            None => Polled::Ended,
        }
    }

    fn last(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// What the incident's events lead to, of which some asks at the desk start and end a recording, and how that stands at last.
fn scripted(folder: &Path, record_before: Vec<usize>) -> (Vec<Said>, Recording) {
    let batches: VecDeque<_> = incident().chunks(7).map(<[Event]>::to_vec).collect();
    let desk = Desk::default();
    let script = Script { batches, desk: desk.clone(), record_before, given: 0 };
    let About { since, wall, watching, hooks, .. } = crate::testing::about();
    let frame = Frame { since, wall, watching, hooks };
    let records = Records { recorder: None, folder: Some(folder.to_owned()) };
    let wanted = Wanted::Said(Window::ALL);
    let mut pipeline = Pipeline::start(script, Folded::default(), frame, wanted, records, desk).unwrap();
    let mut said = Vec::new();
    while let Some(more) = pipeline.said.blocking_recv() {
        said.extend(more);
    }
    pipeline.sum_up().unwrap();
    let recording = pipeline.recording.borrow().clone();
    pipeline.finish().unwrap();
    (said, recording)
}

#[test]
fn a_recording_begun_in_mid_stream_tells_what_the_live_run_told_from_there_on() {
    let folder = tempfile::tempdir().unwrap();
    let (live, recording) = scripted(folder.path(), vec![6]);
    let Recording::Done(recorded) = recording else { panic!("{recording:?}") };
    let name = recorded.path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("observer-20") && name.ends_with("Z.arrows.zst"), "{name}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&recorded.path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let replay = Replay::open(&[recorded.path], Speed::Max).unwrap();
    let mut pipeline = Pipeline::replay(replay, Wanted::Said(Window::ALL)).unwrap();
    let mut again = Vec::new();
    while let Some(more) = pipeline.said.blocking_recv() {
        again.extend(more);
    }
    let summary = pipeline.sum_up().unwrap();
    assert_eq!(summary.trouble, None);
    // Some is said of what came before the recording, and waited.
    assert!(again.len() > 20 && again.len() < live.len(), "{} of {}", again.len(), live.len());
    assert_eq!(again, live[live.len() - again.len()..]);
}

#[test]
fn recordings_end_and_begin_at_will() {
    let folder = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let (live, recording) = scripted(folder.path(), vec![2, 4]);
    assert!(matches!(recording, Recording::Done(_)), "{recording:?}");
    assert_eq!((scripted(folder.path(), Vec::new()).0, files()), (live.clone(), 1), "it changes nothing");
    scripted(folder.path(), vec![2]);
    assert_eq!(files(), 2, "none is overwritten");

    let (said, recording) = scripted(&folder.path().join("missing"), vec![3]);
    let Recording::Failed(why) = recording else { panic!("{recording:?}") };
    assert!(why.starts_with("cannot record into "), "{why}");
    assert_eq!(said, live, "nothing else ends for that");
}

#[test]
fn a_window_is_read_no_further_than_what_may_still_be_said_of_it() {
    let (_, whole) = replayed(Window::ALL);
    let (_, summary) = replayed(Window { from: at(0), to: at(1_000) });
    assert!(summary.events < whole.events, "{} of {}", summary.events, whole.events);
}
