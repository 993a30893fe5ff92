//! Writes a recording while it happens. Batches are made where the events come by; a thread of its own puts them on the disk,
//! so that a slow one holds up nobody.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use arrow_schema::SchemaRef;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};

use super::{
    About,
    decode::MAX_CHECKPOINT,
    encode::{self, Row},
    format::{self, EncodeError, Encoder},
    said::Said,
};
use crate::{
    event::{Body, Event},
    time::Time,
};

/// A batch is written after this time at the latest: what a crash can cost.
pub const BATCH_EVERY: Duration = Duration::from_millis(900);
/// Rows after which a batch is written at once: three megabytes of columns, which stay in a processor's cache on their way.
pub(super) const BATCH_ROWS: usize = 8192;
/// Batches that may wait for the disk. Full, the recording ends, as one with a hole in it would lead to wrong verdicts.
const MAX_WAITING: usize = 64;
/// At the end the disk has this long to take what waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// The smallest segment: a ring of smaller ones would be all beginnings.
pub const MIN_SEGMENT: u64 = 64 << 10;
/// What to record into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    /// The file; for a ring, what the segments' names are made of.
    pub path: PathBuf,
    /// Bytes of a segment and how many there are; the oldest goes. `None` for one file without a limit.
    pub ring: Option<(u64, u32)>,
    /// zstd's level, 1 to 19; `None` to go by how much there is.
    pub level: Option<i32>,
    /// What is there already may be overwritten.
    pub force: bool,
}

impl RecordOptions {
    /// Whether nothing is in the way; to be asked before anything is changed for a recording that cannot begin.
    pub fn check(&self) -> Result<(), RecordError> {
        match in_the_way(self).into_iter().next() {
            Some(path) if !self.force => Err(RecordError::Exists(path)),
            _ => Ok(()),
        }
    }
}

/// How a recording can fail.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is there already.
    #[error("{} is there already; give another name, or --force to overwrite it", .0.display())]
    Exists(PathBuf),
    /// A file cannot be made.
    #[error("cannot record into {}: {error}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file cannot be written any further.
    #[error("recording into {} has ended: {error}; everything up to then is in it", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The disk does not keep up.
    #[error("recording has ended: the disk is too slow, {MAX_WAITING} batches wait for it")]
    Slow,
    /// The thread cannot be started, or has ended.
    #[error("recording has ended: {0}")]
    Thread(String),
    /// A batch cannot be made.
    #[error("recording has ended: {0}")]
    Encode(#[from] EncodeError),
}

/// What has been recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The file that is or was last written.
    pub path: PathBuf,
    /// Events in all files.
    pub events: u64,
    /// Bytes in all files, those that the ring has dropped among them.
    pub bytes: u64,
    /// Files begun.
    pub segments: u32,
}

/// A recording that goes on.
pub struct Recorder {
    options: RecordOptions,
    about: About,
    schema: SchemaRef,
    encoder: Encoder,
    rows: Vec<Row>,
    tick: Option<Event>,
    /// When the first of them came.
    begun: Option<Instant>,
    segment_bytes: u64,
    /// Of the segment's last batch; 0 if there is none yet.
    batch_bytes: u64,
    /// Time of the last row.
    last: Time,
    recorded: Recorded,
    jobs: Option<SyncSender<Job>>,
    /// How the writing ended.
    ended: Receiver<Result<(), RecordError>>,
}

enum Job {
    Write(Vec<u8>),
    /// The segment is whole; the next one begins in this file.
    Next(File, PathBuf),
}

impl Recorder {
    /// Makes the first file. `about.segment` is of no matter.
    pub fn start(options: RecordOptions, about: About) -> Result<Self, RecordError> {
        Self::begin(options, About { segment: 1, ..about })
    }

    /// The same in the midst of a watch, whose state at `now` is this. What came before is not recorded: it is as in a ring
    /// whose first segment has gone, and a replay gives the verdicts of the live run from there on.
    pub fn start_upon(
        options: RecordOptions,
        about: About,
        now: Time,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<Self, RecordError> {
        let mut recorder = Self::begin(options, About { segment: 2, ..about })?;
        recorder.last = now;
        recorder.follow(checkpoint)?;
        Ok(recorder)
    }

    fn begin(options: RecordOptions, about: About) -> Result<Self, RecordError> {
        let mut encoder = Encoder::new(options.level)?;
        clear_the_way(&options)?;
        let path = segment_path(&options, about.segment);
        let file = create(&path)?;
        let begin = encoder.begin(&about)?;
        let (jobs, todo) = sync_channel(MAX_WAITING);
        let (tell, ended) = sync_channel(1);
        let ring = options.ring.map(|(_, files)| files);
        let mut writer = Writer { file, path: path.clone(), whole: 0, kept: VecDeque::from([path.clone()]), ring };
        // At once, so that a file that cannot be written is known before anything is attached to it.
        writer.write(&begin)?;
        // Never joined: a disk that hangs must not hold up whoever drops this.
        thread::Builder::new()
            .name("observer-record".into())
            .spawn(move || {
                // Nobody may be waiting for it any more.
                let _ = tell.send(writer.run(&todo));
            })
            .map_err(|error| RecordError::Thread(error.to_string()))?;
        let bytes = begin.len() as u64;
        Ok(Self {
            options,
            about,
            schema: format::schema(),
            encoder,
            rows: Vec::new(),
            tick: None,
            begun: None,
            segment_bytes: bytes,
            batch_bytes: 0,
            last: Time::default(),
            recorded: Recorded { path, events: 0, bytes, segments: 1 },
            jobs: Some(jobs),
            ended,
        })
    }

    /// What has been recorded so far, some of which may not have reached the disk yet.
    pub fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// An event. Of the ticks in a batch only the last is kept, at its end: nothing but the time is in them.
    pub fn event(&mut self, event: Event) -> Result<(), RecordError> {
        if event.body == Body::Tick {
            self.tick = Some(event);
            return Ok(());
        }
        self.recorded.events += 1;
        self.row(Row::Event(event))
    }

    /// What observer said, for those who read the trace with other tools.
    pub fn said(&mut self, said: Said) -> Result<(), RecordError> {
        self.row(Row::Said(said))
    }

    fn row(&mut self, row: Row) -> Result<(), RecordError> {
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS { self.cut() } else { Ok(()) }
    }

    /// To be called often, between events: writes what is due. `checkpoint` tells the state after all events so far; it is
    /// asked for where a new segment begins.
    pub fn turn(&mut self, now: Instant, checkpoint: impl FnOnce() -> Option<Vec<u8>>) -> Result<(), RecordError> {
        let waiting = !self.rows.is_empty() || self.tick.is_some();
        let begun = waiting.then(|| *self.begun.get_or_insert(now));
        if begun.is_some_and(|begun| now.duration_since(begun) >= BATCH_EVERY) {
            self.cut()?;
        }
        if !self.is_full() {
            return Ok(());
        }
        // What has come since belongs to this segment: the checkpoint follows upon it.
        self.cut()?;
        self.next_segment(checkpoint())
    }

    /// Whether a batch like the last one would be too much for the segment.
    fn is_full(&self) -> bool {
        self.batch_bytes > 0
            && self.options.ring.is_some_and(|(limit, _)| self.segment_bytes + self.batch_bytes > limit)
    }

    /// Writes what is left and waits for the disk.
    pub fn finish(self) -> Result<Recorded, RecordError> {
        self.close()?.wait()
    }

    /// Hands over what is left.
    pub fn close(mut self) -> Result<Closing, RecordError> {
        self.cut()?;
        let end = self.encoder.end()?;
        self.hand_over(end)?;
        drop(self.jobs.take());
        Ok(Closing { recorded: self.recorded, ended: self.ended, until: Instant::now() + PATIENCE })
    }

    fn cut(&mut self) -> Result<(), RecordError> {
        self.begun = None;
        self.rows.extend(self.tick.take().map(Row::Event));
        let Some(last) = self.rows.last() else { return Ok(()) };
        self.last = last.time();
        let batch = encode::batch(&self.rows, self.about.wall, &self.schema).map_err(EncodeError::from)?;
        self.rows.clear();
        let bytes = self.encoder.batch(&batch)?;
        self.batch_bytes = bytes.len() as u64;
        self.hand_over(bytes)
    }

    fn next_segment(&mut self, checkpoint: Option<Vec<u8>>) -> Result<(), RecordError> {
        let end = self.encoder.end()?;
        self.hand_over(end)?;
        self.about.segment += 1;
        let path = segment_path(&self.options, self.about.segment);
        let file = create(&path)?;
        self.send(Job::Next(file, path.clone()))?;
        self.recorded.path = path;
        self.recorded.segments += 1;
        self.segment_bytes = 0;
        let begin = self.encoder.begin(&self.about)?;
        self.hand_over(begin)?;
        self.follow(checkpoint)
    }

    /// Begins a segment with the state that its events follow upon.
    fn follow(&mut self, checkpoint: Option<Vec<u8>>) -> Result<(), RecordError> {
        // Without one the segment can still be read, from its first event on.
        let state = checkpoint.map(|state| BASE64.encode(state)).filter(|text| text.len() <= MAX_CHECKPOINT);
        if let Some(state) = state {
            self.rows.push(Row::Checkpoint(self.last, state));
            self.cut()?;
        }
        self.batch_bytes = 0;
        Ok(())
    }

    fn hand_over(&mut self, bytes: Vec<u8>) -> Result<(), RecordError> {
        self.segment_bytes += bytes.len() as u64;
        self.recorded.bytes += bytes.len() as u64;
        self.send(Job::Write(bytes))
    }

    fn send(&mut self, job: Job) -> Result<(), RecordError> {
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        match jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(RecordError::Slow),
            // It tells why before it ends.
            Err(TrySendError::Disconnected(_)) => Err(match self.ended.recv_timeout(PATIENCE) {
                Ok(Err(error)) => error,
                _ => gone(),
            }),
        }
    }
}

/// A recording that is over but for the disk.
pub struct Closing {
    recorded: Recorded,
    ended: Receiver<Result<(), RecordError>>,
    /// When it is given up.
    until: Instant,
}

impl Closing {
    /// Waits for the disk.
    pub fn wait(self) -> Result<Recorded, RecordError> {
        let patience = self.until.saturating_duration_since(Instant::now());
        self.came(self.ended.recv_timeout(patience))
    }

    /// What came of it, if that is known by now.
    pub fn poll(&self) -> Option<Result<Recorded, RecordError>> {
        let ended = self.ended.recv_timeout(Duration::ZERO);
        let waits = matches!(ended, Err(RecvTimeoutError::Timeout)) && Instant::now() < self.until;
        (!waits).then(|| self.came(ended))
    }

    fn came(&self, ended: Result<Result<(), RecordError>, RecvTimeoutError>) -> Result<Recorded, RecordError> {
        match ended {
            Ok(ended) => ended.map(|()| self.recorded.clone()),
            Err(RecvTimeoutError::Timeout) => Err(RecordError::Slow),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }
}

fn gone() -> RecordError {
    RecordError::Thread("the thread that writes has gone".into())
}

/// The side of the disk.
struct Writer {
    file: File,
    path: PathBuf,
    /// Bytes of whole messages in the file.
    whole: u64,
    /// Segments that are there, the oldest first.
    kept: VecDeque<PathBuf>,
    /// How many may be.
    ring: Option<u32>,
}

impl Writer {
    fn run(&mut self, todo: &Receiver<Job>) -> Result<(), RecordError> {
        while let Ok(job) = todo.recv() {
            match job {
                Job::Write(bytes) => self.write(&bytes)?,
                Job::Next(file, path) => {
                    self.file = file;
                    self.path.clone_from(&path);
                    self.whole = 0;
                    self.kept.push_back(path);
                    while self.ring.is_some_and(|files| self.kept.len() > files as usize) {
                        if let Some(oldest) = self.kept.pop_front() {
                            // Somebody may have moved it to safety.
                            let _ = fs::remove_file(oldest);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// All of a message, or nothing of it.
    fn write(&mut self, message: &[u8]) -> Result<(), RecordError> {
        match self.file.write_all(message) {
            Ok(()) => {
                self.whole += message.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Only what is no file cannot be cut.
                let _ = self.file.set_len(self.whole);
                Err(RecordError::Write { path: self.path.clone(), error })
            }
        }
    }
}

/// For the owner alone: a trace shows who talked to whom.
fn create(path: &Path) -> Result<File, RecordError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => RecordError::Exists(path.to_owned()),
        _ => RecordError::Create { path: path.to_owned(), error },
    })
}

/// `trace.arrows.zst`, or `trace-00001.arrows.zst` in a ring.
fn segment_path(options: &RecordOptions, segment: u32) -> PathBuf {
    if options.ring.is_none() {
        return options.path.clone();
    }
    let (stem, extensions) = halves(&options.path);
    options.path.with_file_name(format!("{stem}-{segment:05}{extensions}"))
}

/// A file's name up to its first dot, and from there.
fn halves(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A hidden file's first dot is its name's.
    let dot = name.char_indices().skip(1).find(|(_, c)| *c == '.').map_or(name.len(), |(dot, _)| dot);
    (name[..dot].to_owned(), name[dot..].to_owned())
}

/// Removes what may be overwritten.
fn clear_the_way(options: &RecordOptions) -> Result<(), RecordError> {
    options.check()?;
    for path in in_the_way(options) {
        fs::remove_file(&path).map_err(|error| RecordError::Create { path: path.clone(), error })?;
    }
    Ok(())
}

/// What would be overwritten: the file, or any segment of a ring of that name.
fn in_the_way(options: &RecordOptions) -> Vec<PathBuf> {
    if options.ring.is_none() {
        return if options.path.symlink_metadata().is_ok() { vec![options.path.clone()] } else { Vec::new() };
    }
    let parent = options.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = fs::read_dir(parent.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let (stem, extensions) = halves(&options.path);
    let of_the_ring = |path: &PathBuf| {
        let (name, others) = halves(path);
        let number = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-'));
        others == extensions
            && number.is_some_and(|number| number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(of_the_ring).collect();
    found.sort();
    found
}
