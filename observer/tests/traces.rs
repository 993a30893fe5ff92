//! Recordings of staged incidents, kept as they were written by format version 1: whatever changes, they are read as they
//! were, and lead to the same verdicts. Needs no privileges.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use observer::{
    diagnose::{Engine, Said},
    event::Event,
    rework,
    time::{Time, WallClock},
    trace::{About, Info, Reader, Tail, Writer},
};

/// Cause, confidence and what lies under it.
type Verdict = (String, String, Option<String>);

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces").join(name).with_extension("arrows.zst")
}

fn events(path: &Path) -> Vec<Event> {
    let mut reader = Reader::open(&[path.to_owned()]).unwrap();
    let mut events = Vec::new();
    while reader.next_batch(&mut events).unwrap().is_some() {}
    assert_eq!(reader.tail(), Tail::Whole);
    events
}

/// The verdicts that were given when it was recorded.
fn given(path: &Path) -> Vec<(Time, Verdict)> {
    let mut reader = Reader::open(&[path.to_owned()]).unwrap();
    let mut given = Vec::new();
    while let Some(besides) = reader.next_batch(&mut Vec::new()).unwrap() {
        given.extend(besides.verdicts.into_iter().map(|it| (it.time, (it.cause, it.confidence, it.because))));
    }
    given
}

/// Those that its events lead to today.
fn replayed(path: &Path) -> Vec<(Time, Verdict)> {
    let mut engine = Engine::default();
    let mut verdicts = Vec::new();
    let mut say = |said| {
        if let Said::Verdict(it) = said {
            let because = it.because.map(str::to_owned);
            verdicts.push((it.time, (it.cause.to_owned(), it.confidence.name().to_owned(), because)));
        }
    };
    for event in events(path) {
        engine.apply(&event, &mut say);
    }
    engine.finish(&mut say);
    verdicts
}

fn tally(verdicts: &[(Time, Verdict)]) -> BTreeMap<(&str, &str, Option<&str>), usize> {
    let mut tally = BTreeMap::new();
    for (_, (cause, confidence, because)) in verdicts {
        *tally.entry((cause.as_str(), confidence.as_str(), because.as_deref())).or_default() += 1;
    }
    tally
}

#[test]
fn a_recording_of_version_1_is_read_as_it_was_written() {
    let path = kept("v1-mixed");
    let info = Info::of(std::slice::from_ref(&path)).unwrap();
    let rows: Vec<_> = info.rows.iter().map(|(kind, count)| (kind.name(), *count)).collect();
    let expected = [
        ("connection_ended", 150),
        ("unserved", 30),
        ("listener_changed", 2),
        ("reset_sent", 44),
        ("outcome", 120),
        ("hurt", 30),
        ("signal", 5),
        ("handshake", 3),
        ("host_sample", 6),
        ("proxy_sample", 0),
        ("listener_sample", 10),
        ("namespace_sample", 5),
        ("counters", 6),
        ("tick", 6),
        ("verdict", 120),
        ("warning", 1),
    ];
    assert_eq!(rows, expected.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>());
    assert_eq!((info.unknown_rows, info.counters.lost.total(), info.damage.is_none()), (0, 0, true));
    assert_eq!(info.about.kernel, "6.18.44");

    let given = given(&path);
    let expected = BTreeMap::from([
        (("upstream-closed-early", "certain", None), 60),
        (("upstream-reset", "certain", None), 30),
        (("upstream-timeout", "certain", None), 30),
    ]);
    assert_eq!(tally(&given), expected);
    assert_eq!(given, replayed(&path), "a rule that says something else today is to be named here");
}

#[test]
fn a_recording_without_names_leads_to_the_same_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["v1-mixed", "v1-accept-overflow-proxy", "v1-accept-overflow-upstream"] {
        let path = folder.path().join(name);
        let left_out = rework::anonymize(Reader::open(&[kept(name)]).unwrap(), File::create(&path).unwrap()).unwrap();
        assert!(left_out.is_none());
        assert_eq!(events(&path).len(), events(&kept(name)).len());
        assert_eq!(replayed(&path), replayed(&kept(name)), "{name}");
        assert_eq!(given(&path), replayed(&path), "{name}");
    }
}

/// The upstream's clock is set 3.7 seconds ahead, its host having booted a day before the proxy's.
fn with_another_clock(from: &Path, to: &Path) {
    const DAY: u64 = 86_400_000_000_000;
    const AHEAD: u64 = 3_700_000_000;
    let reader = Reader::open(&[from.to_owned()]).unwrap();
    let about = reader.about();
    let wall = WallClock { offset: about.wall.offset - DAY + AHEAD };
    let since = Time(about.since.0 + DAY);
    let mut writer = Writer::begin(&About { wall, since, ..about.clone() }, File::create(to).unwrap()).unwrap();
    for event in events(from) {
        // Of what the upstream's side tells here, nothing else bears a time.
        writer.event(Event { time: Time(event.time.0 + DAY), ..event }).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn both_sides_together_are_certain_whatever_their_clocks_say() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, upstream, both) =
        (kept("v1-accept-overflow-proxy"), folder.path().join("upstream"), folder.path().join("both"));
    with_another_clock(&kept("v1-accept-overflow-upstream"), &upstream);
    let merged = rework::merge(&[upstream, proxy.clone()], None, File::create(&both).unwrap()).unwrap();
    let offset = merged.offset.unwrap();
    assert_eq!((merged.proxy.as_str(), merged.upstream.as_str()), ("edge-7", "db-1"));
    assert_eq!((offset.connections, offset.seen), (45, 45));
    let off = merged.ahead.abs_diff(3_700_000_000);
    // On one machine the clocks are the same: all that is off is the estimate.
    assert!(off <= offset.uncertainty.as_nanos() && off < 100_000, "off by {off} ns of {offset:?}");

    let alone = replayed(&proxy);
    assert_eq!(tally(&alone), BTreeMap::from([(("unknown", "possible", None), 41)]));
    let together = replayed(&both);
    let of_the_queue = |(_, (cause, confidence, _)): &&(Time, Verdict)| {
        (cause.as_str(), confidence.as_str()) == ("accept-queue-overflow", "certain")
    };
    assert_eq!(together.iter().filter(of_the_queue).count(), 41, "{:?}", tally(&together));
    let times = |verdicts: &[(Time, Verdict)]| verdicts.iter().map(|(time, _)| *time).collect::<Vec<_>>();
    assert_eq!(times(&alone), times(&together));
    assert_eq!(given(&both), together);
}

fn observer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_observer")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn of_a_damaged_recording_what_can_be_read_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let mut bytes = fs::read(kept("v1-mixed")).unwrap();
    let late = bytes.len() * 3 / 4;
    bytes[late] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap();

    let whole = observer(&["export", "--format", "jsonl", kept("v1-mixed").to_str().unwrap()]);
    assert!(whole.status.success());
    let part = observer(&["export", "--format", "jsonl", path]);
    assert_eq!(part.status.code(), Some(1));
    assert!(!part.stdout.is_empty() && part.stdout.len() < whole.stdout.len());
    assert!(whole.stdout.starts_with(&part.stdout));
    let info = observer(&["trace", "info", path]);
    assert_eq!(info.status.code(), Some(1));
    for told in [part.stderr, info.stderr] {
        assert!(String::from_utf8(told).unwrap().contains("is damaged after byte"));
    }
}

#[test]
fn an_export_goes_where_it_can_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, out) = (kept("v1-mixed"), folder.path().join("out"));
    let (trace, out) = (trace.to_str().unwrap(), out.to_str().unwrap());
    let to_the_screen = observer(&["export", "--format", "parquet", trace]);
    assert_eq!((to_the_screen.status.code(), to_the_screen.stdout.len()), (Some(2), 0));
    for expected in [Some(0), Some(2)] {
        assert_eq!(observer(&["export", "--format", "parquet", trace, "-o", out]).status.code(), expected);
    }
    assert!(observer(&["export", "--format", "csv", trace, "-o", out, "--force"]).status.success());
    assert!(fs::read_to_string(out).unwrap().starts_with("time,kind,seq,"));
}
