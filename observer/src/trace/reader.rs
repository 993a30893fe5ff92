//! Reads a recording: one segment or several, in order.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;

use super::{
    About,
    decode::{self, Given, RowError},
    format::{ABOUT_KEY, VERSION, VERSION_KEY},
    frames::{Damage, Frames, Next, Place},
    table,
    words::Kind,
};
use crate::{event::Event, time::WallClock};

/// How a recording can fail to be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file, or it may not be read.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no trace.
    #[error("{} {damage}", path.display())]
    NoTrace {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// A newer observer wrote it.
    #[error("{} is of format {found}, this observer reads up to format {VERSION}: read it with a newer one", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It breaks off or is damaged; everything before that was read.
    #[error("{} is damaged after byte {offset}: {damage}; everything before that was read", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where the damage begins, to the block.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// A batch says what cannot be; everything before it was read.
    #[error("{} says what cannot be, in a batch after byte {offset}: {error}; everything before that was read", path.display())]
    Row {
        /// Which.
        path: PathBuf,
        /// Where the batch begins, to the block.
        offset: u64,
        /// What is wrong.
        error: RowError,
    },
    /// Files of different recordings.
    #[error("{} and {} are not of one recording: `observer trace merge` joins those of two hosts", first.display(), second.display())]
    Mixed {
        /// One of them.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// A segment is missing in the middle, or given twice.
    #[error("{} is segment {before} and {} is segment {after}: give those of one unbroken stretch", first.display(), second.display())]
    Gap {
        /// The earlier one.
        first: PathBuf,
        /// Its number.
        before: u32,
        /// The later one.
        second: PathBuf,
        /// Its number.
        after: u32,
    },
    /// No file at all.
    #[error("no trace file was given")]
    Nothing,
    /// It cannot be read ahead.
    #[error("cannot start the thread that reads: {0}")]
    Thread(std::io::Error),
}

/// How the last file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With the mark of a recording that ended in good order.
    Whole,
    /// Without it, at the end of a batch: it is still being written, or was killed, and at most the last second is missing.
    Unfinished,
}

/// A place between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    segment: usize,
    place: Place,
}

/// What a batch had besides events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Besides {
    /// observer's state before the first of the events: see [`crate::diagnose::Engine`].
    pub checkpoint: Option<Vec<u8>>,
    /// The verdicts given at the time.
    pub verdicts: Vec<Given>,
    /// Rows of kinds that this observer does not know.
    pub unknown_rows: u64,
    /// Rows by kind.
    pub kinds: Vec<(Kind, u64)>,
}

/// A batch whose columns have been read, and whose rows have not.
pub struct Packed {
    batch: RecordBatch,
    offset: u64,
    path: PathBuf,
    wall: WallClock,
}

impl Packed {
    /// Appends its events.
    pub fn unpack(self, into: &mut Vec<Event>) -> Result<Besides, ReadError> {
        let Self { batch, offset, path, wall } = self;
        let mut rows = decode::rows(&batch, wall).map_err(|error| ReadError::Row { path, offset, error })?;
        into.append(&mut rows.events);
        Ok(Besides {
            checkpoint: rows.checkpoint,
            verdicts: rows.verdicts,
            unknown_rows: rows.unknown,
            kinds: rows.kinds,
        })
    }
}

/// A recording being read.
pub struct Reader {
    segments: Vec<Segment>,
    current: usize,
    frames: Frames<BufReader<File>>,
    tail: Tail,
}

/// One file of it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub about: About,
}

impl Reader {
    /// Opens the files of one recording, in whatever order they are given.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ReadError> {
        let mut opened = Vec::new();
        for path in paths {
            let (about, frames) = open(path)?;
            opened.push((Segment { path: path.clone(), about }, frames));
        }
        opened.sort_by_key(|(segment, _)| segment.about.segment);
        for pair in opened.windows(2) {
            let [(first, _), (second, _)] = pair else { continue };
            let (one, other) =
                (About { segment: 0, ..first.about.clone() }, About { segment: 0, ..second.about.clone() });
            let (first, second, before, after) =
                (first.path.clone(), second.path.clone(), first.about.segment, second.about.segment);
            if one != other {
                return Err(ReadError::Mixed { first, second });
            }
            if before.checked_add(1) != Some(after) {
                return Err(ReadError::Gap { first, before, second, after });
            }
        }
        let mut frames = None;
        let mut segments = Vec::new();
        for (segment, opened) in opened {
            frames.get_or_insert(opened);
            segments.push(segment);
        }
        let frames = frames.ok_or(ReadError::Nothing)?;
        Ok(Self { segments, current: 0, frames, tail: Tail::Unfinished })
    }

    /// What the recording says of itself.
    pub fn about(&self) -> &About {
        &self.segments[0].about
    }

    /// Its files, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How it ended; meaningful when everything has been read.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Appends the next batch's events; `None` at the end. After an error everything that can be read has been.
    pub fn next_batch(&mut self, into: &mut Vec<Event>) -> Result<Option<Besides>, ReadError> {
        self.next_packed()?.map(|packed| packed.unpack(into)).transpose()
    }

    /// The next batch, unpacked no further than need be: the rest can be done elsewhere.
    pub fn next_packed(&mut self) -> Result<Option<Packed>, ReadError> {
        let Some((batch, offset)) = self.next_raw()? else { return Ok(None) };
        let Segment { path, about } = &self.segments[self.current];
        Ok(Some(Packed { batch, offset, path: path.clone(), wall: about.wall }))
    }

    /// The next batch as a table, for other tools: the columns of [`super::columns::COLUMNS`], rows in the order in which
    /// observer learned of them, checkpoints left out; texts are as they are in the file. `None` at the end.
    pub fn next_table(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        let Some((batch, offset)) = self.next_raw()? else { return Ok(None) };
        let path = || self.segments[self.current].path.clone();
        table::of(&batch).map(Some).map_err(|error| ReadError::Row { path: path(), offset, error })
    }

    /// The next batch, and where it begins.
    fn next_raw(&mut self) -> Result<Option<(RecordBatch, u64)>, ReadError> {
        loop {
            let offset = self.frames.offset();
            match self.frames.next() {
                Ok(Next::Batch(batch)) => return Ok(Some((batch, offset))),
                Ok(end @ (Next::End | Next::Stopped)) => {
                    self.tail = if matches!(end, Next::End) { Tail::Whole } else { Tail::Unfinished };
                    if self.current + 1 == self.segments.len() {
                        return Ok(None);
                    }
                    self.enter(self.current + 1)?;
                }
                Err(damage) => {
                    let path = self.segments[self.current].path.clone();
                    return Err(ReadError::Damaged { path, offset, damage });
                }
            }
        }
    }

    /// Between which batches the reader is.
    pub fn position(&self) -> Position {
        Position { segment: self.current, place: self.frames.place() }
    }

    /// Goes back or on to a place that [`Reader::position`] told.
    pub fn seek(&mut self, to: Position) -> Result<(), ReadError> {
        self.enter(to.segment)?;
        // A segment's first batch is summed together with what comes before it, so that is read as usual.
        if to.place != self.frames.place() {
            self.frames.seek(to.place).map_err(|damage| ReadError::Damaged {
                path: self.segments[self.current].path.clone(),
                offset: to.place.frame,
                damage,
            })?;
        }
        Ok(())
    }

    fn enter(&mut self, segment: usize) -> Result<(), ReadError> {
        // The descriptor of the segment before is closed first: a ring may have many.
        let (_, frames) = open(&self.segments[segment].path)?;
        self.frames = frames;
        self.current = segment;
        Ok(())
    }
}

fn open(path: &Path) -> Result<(About, Frames<BufReader<File>>), ReadError> {
    let file = File::open(path).map_err(|error| ReadError::Open { path: path.to_owned(), error })?;
    let no_trace = |damage| ReadError::NoTrace { path: path.to_owned(), damage };
    let frames = Frames::open(BufReader::with_capacity(1 << 16, file)).map_err(no_trace)?;
    let metadata = frames.schema().metadata();
    let missing = |what: &str| no_trace(Damage::Broken(format!("is no trace of observer: {what}")));
    let version = metadata.get(VERSION_KEY).and_then(|version| version.parse::<u32>().ok());
    match version {
        None | Some(0) => return Err(missing("it does not say of what format it is")),
        Some(found) if found > VERSION => return Err(ReadError::Newer { path: path.to_owned(), found }),
        Some(_) => {}
    }
    let about = metadata.get(ABOUT_KEY).ok_or_else(|| missing("it does not describe itself"))?;
    let about: About =
        serde_json::from_str(about).map_err(|error| missing(&format!("its description cannot be read: {error}")))?;
    Ok((about.made_harmless(), frames))
}
