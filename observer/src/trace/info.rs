//! What a recording holds, in numbers.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use serde_json::{Map, Value, json};

use super::{About, ReadError, Reader, Tail, words::Kind};
use crate::{
    event::{Body, Counters, Event},
    text,
    time::{Human, Time},
};

/// Causes told apart among the recorded verdicts; a file may claim any. Those of further ones are counted as `other`.
const MAX_CAUSES: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Info {
    /// What it says of itself.
    pub about: About,
    /// Its files in order, each with its bytes.
    pub segments: Vec<(PathBuf, u64)>,
    /// Times of the earliest and the latest event; `None` if there is none.
    pub span: Option<(Time, Time)>,
    /// Rows by kind.
    pub rows: BTreeMap<Kind, u64>,
    /// Rows of kinds that are not known here.
    pub unknown_rows: u64,
    /// Verdicts given at the time, by cause.
    pub verdicts: BTreeMap<String, u64>,
    /// The kernel's counters as last told, and what was lost by then.
    pub counters: Counters,
    /// How it ended.
    pub tail: Tail,
    /// What kept the rest from being read.
    pub damage: Option<ReadError>,
}

impl Info {
    /// Reads all files of a recording. Only what cannot be opened is an error; damage is told.
    pub fn of(files: &[PathBuf]) -> Result<Self, ReadError> {
        let mut reader = Reader::open(files)?;
        let bytes = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut info = Self {
            about: reader.about().clone(),
            segments: reader.segments().iter().map(|it| (it.path.clone(), bytes(&it.path))).collect(),
            span: None,
            rows: BTreeMap::new(),
            unknown_rows: 0,
            verdicts: BTreeMap::new(),
            counters: Counters::default(),
            tail: Tail::Unfinished,
            damage: None,
        };
        let mut batch = Vec::new();
        loop {
            let besides = match reader.next_batch(&mut batch) {
                Ok(Some(besides)) => besides,
                Ok(None) => break,
                Err(error) => {
                    info.damage = Some(error);
                    break;
                }
            };
            for event in batch.drain(..) {
                info.event(&event);
            }
            info.unknown_rows += besides.unknown_rows;
            for (kind, count) in besides.kinds {
                *info.rows.entry(kind).or_default() += count;
            }
            for verdict in besides.verdicts {
                let room = info.verdicts.len() < MAX_CAUSES || info.verdicts.contains_key(&verdict.cause);
                let cause = if room { verdict.cause } else { "other".to_owned() };
                *info.verdicts.entry(cause).or_default() += 1;
            }
        }
        info.tail = reader.tail();
        Ok(info)
    }

    fn event(&mut self, event: &Event) {
        let (first, last) = self.span.unwrap_or((event.time, event.time));
        self.span = Some((first.min(event.time), last.max(event.time)));
        if let Body::Counters(counters) = &event.body {
            self.counters = **counters;
        }
    }

    /// Events in it, ticks not counted.
    pub fn events(&self) -> u64 {
        let no_event = [Kind::Tick, Kind::Verdict, Kind::Warning, Kind::Checkpoint];
        self.rows.iter().filter(|(kind, _)| !no_event.contains(kind)).map(|(_, count)| count).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of all files per event; `None` without events.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn bytes_per_event(&self) -> Option<f64> {
        let events = self.events();
        (events > 0).then(|| (self.bytes() as f64 / events as f64 * 10.0).round() / 10.0)
    }

    fn tail_name(&self) -> &'static str {
        match (&self.damage, self.tail) {
            (Some(_), _) => "damaged",
            (None, Tail::Whole) => "whole",
            (None, Tail::Unfinished) => "unfinished",
        }
    }

    /// One object; documented in observer/docs/trace.md.
    pub fn to_json(&self) -> Value {
        let Self { about, segments, span, rows, unknown_rows, verdicts, counters, tail: _, damage } = self;
        let About { version, host, kernel, machine, wall, since, watching, hooks, settings, segment: _, joined: _ } =
            about;
        let time = |time| wall.rfc3339(time);
        let text = |text: &dyn fmt::Display| text::escape(text.to_string().as_bytes());
        let named = |(name, value): &(String, String)| (name.clone(), Value::from(value.as_str()));
        let degraded: Map<_, _> =
            hooks.degradations().map(|(hook, why)| (hook.name().to_owned(), Value::from(why))).collect();
        let rows = rows.iter().map(|(kind, count)| (kind.name().to_owned(), Value::from(*count)));
        let lost = counters.lost.by_kind().into_iter().filter(|(_, count)| *count > 0);
        json!({
            "host": host,
            "kernel": kernel,
            "machine": machine,
            "version": version,
            "watching": watching,
            "since": time(*since),
            "first": span.map(|(first, _)| time(first)),
            "last": span.map(|(_, last)| time(last)),
            "segments": segments.iter().map(|(path, bytes)| json!({ "path": text(&path.display()), "bytes": bytes }))
                .collect::<Vec<_>>(),
            "bytes": self.bytes(),
            "events": self.events(),
            "bytes_per_event": self.bytes_per_event(),
            "rows": rows.collect::<Map<_, _>>(),
            "unknown_rows": unknown_rows,
            "verdicts": verdicts,
            "lost": lost.map(|(kind, count)| (kind.to_owned(), Value::from(count))).collect::<Map<_, _>>(),
            "hooks": hooks.to_json(),
            "degraded": degraded,
            "settings": settings.iter().map(named).collect::<Map<_, _>>(),
            "tail": self.tail_name(),
            "damage": damage.as_ref().map(|damage| text(damage)),
        })
    }
}

/// For people.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, segments, span, rows, unknown_rows, verdicts, counters, tail: _, damage: _ } = self;
        let About { version, host, kernel, machine, wall, watching, hooks, .. } = about;
        for (number, (path, bytes)) in segments.iter().enumerate() {
            let head = if number == 0 { "recording" } else { "" };
            let path = text::escape(path.display().to_string().as_bytes());
            writeln!(f, "{head:<12}{path} ({bytes} bytes)")?;
        }
        match span {
            Some((first, last)) => {
                let (from, to) = (wall.rfc3339(*first), wall.rfc3339(*last));
                writeln!(f, "{:<12}{from} to {to} ({})", "time", Human(last.since(*first)))?;
            }
            None => writeln!(f, "{:<12}nothing was recorded", "time")?,
        }
        writeln!(f, "{:<12}{host} (Linux {kernel}, {machine}), by observer {version}", "host")?;
        writeln!(f, "{:<12}{watching}", "watching")?;
        let mut degraded = hooks.degradations().peekable();
        if degraded.peek().is_none() {
            writeln!(f, "{:<12}all see everything", "hooks")?;
        }
        for (hook, why) in degraded {
            writeln!(f, "{:<12}{}: {why}", "hooks", hook.name())?;
        }
        let each = self.bytes_per_event().map(|bytes| format!(" ({bytes:.1} bytes each)")).unwrap_or_default();
        writeln!(f, "{:<12}{}{each}", "events", self.events())?;
        for (kind, count) in rows {
            writeln!(f, "  {count:>10} {}", kind.name())?;
        }
        if *unknown_rows > 0 {
            writeln!(f, "  {unknown_rows:>10} of kinds that only a newer observer knows")?;
        }
        writeln!(f, "{:<12}{}", "verdicts", verdicts.values().sum::<u64>())?;
        for (cause, count) in verdicts {
            writeln!(f, "  {count:>10} {cause}")?;
        }
        writeln!(f, "{:<12}{}", "lost", counters.lost.total())?;
        for (kind, count) in counters.lost.by_kind().into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "  {count:>10} {kind}")?;
        }
        let tail = match self.tail_name() {
            "unfinished" => "unfinished: still being written, or killed; at most its last second is missing",
            other => other,
        };
        writeln!(f, "{:<12}{tail}", "tail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::{every_kind, record};

    #[test]
    fn what_is_in_it_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrows");
        record(&path, &every_kind());
        let info = Info::of(&[path]).unwrap();
        let ticks = every_kind().iter().filter(|event| event.body == Body::Tick).count();
        assert_eq!(info.events(), (every_kind().len() - ticks) as u64);
        assert_eq!((info.rows[&Kind::Outcome], info.rows[&Kind::Counters]), (4, 1));
        assert_eq!(info.counters.lost.total(), 8);
        let json = info.to_json();
        assert_eq!((&json["tail"], &json["host"], &json["damage"]), (&json!("whole"), &json!("edge-7"), &Value::Null));
        assert_eq!(json["lost"], json!({ "handshake": 5, "undecoded": 3 }));
        let text = info.to_string();
        for part in ["edge-7", "connects: no", "         4 outcome", "         5 handshake", "whole"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_damaged_one_is_told_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrows");
        record(&path, &every_kind());
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&path, bytes).unwrap();
        let info = Info::of(&[path]).unwrap();
        assert_eq!((info.events(), info.span, &info.to_json()["tail"]), (0, None, &json!("damaged")));
        assert!(info.damage.is_some_and(|damage| damage.to_string().contains("is damaged after byte")));
    }
}
