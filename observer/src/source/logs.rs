//! Proxies' own logs: found by what the processes hold open, followed, and told of as events. In a thread of its own, so that a file
//! that is slow to read keeps nobody waiting.

mod again;
mod written;

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use again::Again;
use written::{Found, Kind, Unfollowed, Written};

use super::{
    procs,
    teller::{Teller, Told},
};
use crate::{
    addr::NetNs,
    diagnose::logged::Words,
    event::{Body, Event, LogLine, LogSample, MAX_METHOD, MAX_TARGET, Process, Request},
    host,
    proxy::{
        access::{Formats, unescaped},
        cut, haproxy,
        nginx::errors::{self, Failure},
        tail::Tail,
    },
    time::Time,
};

/// How often it is looked what is new: sooner than a failed try is judged, so that its line is there by then.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked at least who writes into which file; what has changed is told as often.
const FIND_EVERY: Duration = Duration::from_secs(1);
/// But not for this many times the time that it took: a quarter of a per cent of a core, however many processes there are.
const FIND_PAUSE: u32 = 400;
/// Nor sooner than this after the last time, if a file was rotated or a line is by a process that is not known.
const FIND_AGAIN: Duration = Duration::from_millis(100);
/// Logs followed at once; of more than that those found first.
const MAX_LOGS: usize = 64;
/// A log that nobody writes to any more, for it was rotated, is followed for this long: somebody may have had it open a little longer.
const LEAVE_AFTER: Duration = Duration::from_secs(10);
/// A file that is not much older than the last look for files is new, and read from its beginning: logrotate makes it a little before
/// nginx is told to open it.
const NEW_WITHIN: Duration = Duration::from_secs(10);
/// Failures told in one look; the logs that are left wait for the next.
const MAX_TOLD: usize = 65_536;
/// Proxies whose logs can be read, as the kernel knows their processes.
const NAMES: [&str; 3] = ["nginx", "openresty", haproxy::NAME];

/// Which logs to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Those of the proxies that run, of these names.
    pub proxies: Vec<String>,
    /// These files of errors besides.
    pub files: Vec<PathBuf>,
    /// These with a line for each request besides.
    pub requests: Vec<PathBuf>,
    /// Only what concerns upstreams on these ports; empty for all.
    pub ports: Vec<u16>,
    /// Only what processes in this network namespace write.
    pub netns: Option<NetNs>,
}

impl Options {
    fn is_nothing(&self) -> bool {
        self.files.is_empty()
            && self.requests.is_empty()
            && !NAMES.iter().any(|name| self.proxies.iter().any(|proxy| proxy == name))
    }
}

/// Begins to look for logs, if any are wanted. What it tells first comes when those that there are have been found: what is written from
/// then on is told.
pub(super) fn start(options: Options) -> io::Result<Option<Teller>> {
    if options.is_nothing() {
        return Ok(None);
    }
    Teller::start("observer-logs", move |told| Follower::new(options).run(told)).map(Some)
}

/// A file, whatever its name: device and inode.
type FileId = (u64, u64);

struct Log {
    id: FileId,
    /// The name that its writers have for it.
    path: String,
    /// By which it was opened: another file there means that this one was rotated.
    way: PathBuf,
    kind: Kind,
    tail: Tail,
    /// Who writes to it.
    writers: Vec<Process>,
    /// The same by the numbers that they have for themselves, which are others in a container.
    numbers: HashMap<u32, Process>,
    /// When it was last read to its end.
    after: Time,
    /// When somebody was last seen to have it open.
    open: Time,
    /// Somebody was when it was last looked.
    is_open: bool,
    trouble: Option<String>,
    /// Lines since the last that was understood, of requests.
    strange: u64,
    told: LogSample,
}

struct Follower {
    options: Options,
    written: Written,
    /// In the order in which they were found: of those of one process, that is the order in which it wrote to them.
    logs: Vec<Log>,
    /// What cannot be followed, by path, as it was told, and whether it was met in this round.
    unfollowed: HashMap<String, (LogSample, bool)>,
    /// When it was last looked who writes where; `None` before the first time.
    found: Option<(Time, SystemTime)>,
    next: Time,
    /// When it is looked again for processes that are not known, if there are lines of such.
    meet: Time,
    words: Words,
    again: Again,
    buffer: Vec<u8>,
}

impl Follower {
    fn new(options: Options) -> Self {
        Self {
            options,
            written: Written::default(),
            logs: Vec::new(),
            unfollowed: HashMap::new(),
            found: None,
            next: Time::default(),
            meet: Time::default(),
            words: Words::default(),
            again: Again::default(),
            buffer: Vec::new(),
        }
    }

    /// Where the pipeline is behind it waits: what has not been read stays in the file.
    fn run(mut self, told: &Told) {
        let mut events = Vec::new();
        self.find(&mut events);
        if !told.tell(events) {
            return;
        }
        loop {
            let idle = self.next.since(host::now()).min(FIND_EVERY);
            let wait = if self.logs.is_empty() { idle.max(LOOK_EVERY) } else { LOOK_EVERY };
            let stop = told.is_over_within(wait);
            let mut events = Vec::new();
            self.look(&mut events);
            if stop {
                self.sample(&mut events);
            } else if host::now() >= self.next {
                self.find(&mut events);
            }
            if !events.is_empty() && !told.tell(events) || stop {
                return;
            }
        }
    }

    /// Reads what is new.
    fn look(&mut self, events: &mut Vec<Event>) {
        if self.found.is_some_and(|(found, _)| host::now().since(found) >= FIND_AGAIN)
            && self.logs.iter().any(was_rotated)
        {
            self.find(events);
        }
        self.read_errors(events);
        self.read_requests(events);
    }

    /// Reads what is new of requests, and tells of those that failed.
    fn read_requests(&mut self, events: &mut Vec<Event>) {
        for log in &mut self.logs {
            let Kind::Requests(formats) = &log.kind else { continue };
            let (begun, after, mut read) = (host::now(), log.after, Requests::default());
            let all = log.tail.read(&mut self.buffer, |line| read.take(line, formats));
            log.understood(&read);
            log.was_read(begun, all, events);
            let time = host::now();
            for (pid, line) in read.errors {
                let Some(process) = log.writer_of_request(pid, self.options.netns.is_none()) else { continue };
                events.push(Event { time, body: Body::LogLine(Arc::new(LogLine { process, after, ..line })) });
            }
        }
    }

    /// Reads what is new of errors, and tells of it.
    fn read_errors(&mut self, events: &mut Vec<Event>) {
        let mut read = Vec::new();
        let mut unknown = false;
        let mut count = 0;
        for (at, log) in self.logs.iter_mut().enumerate().filter(|(_, log)| log.is_of_errors()) {
            let (begun, mut failures) = (host::now(), Vec::new());
            let all = log.tail.read(&mut self.buffer, |line| failures.extend(errors::failure(line)));
            failures.retain(|failure| {
                concerns(&self.options.ports, failure) && self.words.tell_of_a_failure(&failure.said)
            });
            count += failures.len();
            let after = log.after;
            // A gap is told of ahead of the lines behind it: none of them is about a try whose line is in it.
            log.was_read(begun, all, events);
            unknown |= failures.iter().any(|failure| !log.numbers.contains_key(&failure.pid));
            if !failures.is_empty() {
                read.push((at, host::now(), after, failures));
            }
            if count >= MAX_TOLD {
                // The others have their turn next.
                break;
            }
        }
        // A process that was started since: in a container it has another number than here.
        if unknown && host::now() >= self.meet {
            self.meet();
            self.sample(events);
        }
        let several = self.logs.iter().filter(|log| log.is_of_errors()).count() > 1;
        for (at, time, after, failures) in read {
            let log = &self.logs[at];
            let again = &mut self.again;
            again.turn(time);
            let new = failures.into_iter().filter(|failure| !several || again.is_new(log.id, failure));
            events.extend(new.filter_map(|failure| {
                let process = log.writer(failure.pid, self.options.netns.is_none())?;
                Some(Event { time, body: Body::LogLine(Arc::new(line(failure, process, after))) })
            }));
        }
    }

    /// Looks who writes where, begins to follow what is new, and tells what has changed.
    fn find(&mut self, events: &mut Vec<Event>) {
        let begun = host::now();
        let written::Logs { found, unfollowed } = self.written.look(&self.options);
        self.unfollowed.values_mut().for_each(|(_, met)| *met = false);
        let born_after = self.found.map(|(_, wall)| wall - NEW_WITHIN);
        let before = self.found.map_or(begun, |(time, _)| time);
        for (id, Found { path, way, kind, writers }) in found {
            if let Some(log) = self.logs.iter_mut().find(|log| log.id == id) {
                (log.path, log.way, log.kind, log.open) = (path, way, kind, begun);
                log.written_by(writers);
            } else if self.logs.len() >= MAX_LOGS {
                let why = format!("{MAX_LOGS} others are followed");
                self.cannot(Unfollowed { id, path, writers, why }, events);
            } else {
                match opened(&way, born_after) {
                    Ok(tail) => {
                        let mut log = Log::new((id, path, way), kind, tail, (before, begun));
                        log.written_by(writers);
                        self.logs.push(log);
                    }
                    Err(error) => {
                        let why = format!("it cannot be opened: {error}");
                        self.cannot(Unfollowed { id, path, writers, why }, events);
                    }
                }
            }
        }
        for each in unfollowed {
            self.cannot(each, events);
        }
        let (kept, left) =
            std::mem::take(&mut self.logs).into_iter().partition(|log| begun.since(log.open) <= LEAVE_AFTER);
        self.logs = kept;
        for log in left {
            events.push(sampled((LogSample { left: true, ..log.told }, host::now())));
        }
        for log in &mut self.logs {
            log.is_open = log.open == begun;
        }
        self.meet = begun + FIND_AGAIN;
        self.sample(events);
        let wall = UNIX_EPOCH + Duration::from_nanos(host::wall_clock().offset.saturating_add(begun.0));
        self.found = Some((begun, wall));
        self.next = begun + pause(begun, FIND_EVERY);
    }

    /// Tells how the logs stand, as far as that is news.
    fn sample(&mut self, events: &mut Vec<Event>) {
        let time = host::now();
        events.extend(self.logs.iter_mut().filter_map(|log| Some(sampled((log.sample()?, time)))));
    }

    /// Looks who writes to what is followed, nothing else: there are processes that are not known.
    fn meet(&mut self) {
        let begun = host::now();
        let written::Logs { found, .. } = self.written.look(&self.options);
        self.meet = begun + pause(begun, FIND_AGAIN);
        for log in &mut self.logs {
            if let Some(Found { writers, .. }) = found.iter().find(|(id, _)| **id == log.id).map(|(_, found)| found) {
                log.written_by(writers.clone());
            }
        }
    }

    fn cannot(&mut self, what: Unfollowed, events: &mut Vec<Event>) {
        let Unfollowed { id: (device, inode), path, writers, why } = what;
        let sample =
            LogSample { device, inode, path: path.clone(), writers, trouble: Some(why), ..LogSample::default() };
        let known = self.unfollowed.get(&path).map(|(told, _)| told);
        if known.is_none() && self.unfollowed.len() >= MAX_LOGS {
            return;
        }
        if known != Some(&sample) {
            events.push(sampled((sample.clone(), host::now())));
        }
        self.unfollowed.insert(path, (sample, true));
    }
}

impl Log {
    fn new((id, path, way): (FileId, String, PathBuf), kind: Kind, tail: Tail, (after, open): (Time, Time)) -> Self {
        let (writers, numbers) = (Vec::new(), HashMap::new());
        Self {
            id,
            path,
            way,
            kind,
            tail,
            writers,
            numbers,
            after,
            open,
            is_open: true,
            trouble: None,
            strange: 0,
            told: LogSample::default(),
        }
    }

    fn written_by(&mut self, writers: Vec<Process>) {
        if self.writers != writers {
            self.numbers = writers.iter().map(|process| (procs::own_number(process.pid), process.clone())).collect();
            self.writers = writers;
        }
    }

    fn is_of_errors(&self) -> bool {
        matches!(self.kind, Kind::Errors)
    }

    /// Whether its lines are written as they should be, as far as some were read.
    fn understood(&mut self, read: &Requests) {
        if read.understood > 0 {
            self.strange = 0;
        } else {
            self.strange = self.strange.saturating_add(read.strange);
        }
    }

    /// It was read, from `begun` on, whether to its end or not. A gap is news.
    fn was_read(&mut self, begun: Time, all: io::Result<bool>, events: &mut Vec<Event>) {
        match all {
            Ok(whole) => {
                self.trouble = (self.strange >= STRANGE).then(|| NOT_SO.to_owned());
                if whole {
                    self.after = begun;
                }
            }
            Err(error) => self.trouble = Some(format!("it cannot be read: {error}")),
        }
        if (self.tail.missed(), self.tail.emptied()) != (self.told.missed, self.told.emptied) {
            events.extend(self.sample().map(|sample| sampled((sample, host::now()))));
        }
    }

    /// Who wrote of a request: by number, or else one of those who write there.
    fn writer_of_request(&self, number: Option<u32>, any: bool) -> Option<Process> {
        number.and_then(|number| self.writer(number, any)).or_else(|| self.writers.first().cloned())
    }

    /// Who writes under this number. One that is not known any more, or not yet, goes by that number if `any` may be meant.
    fn writer(&self, number: u32, any: bool) -> Option<Process> {
        let known = self.numbers.get(&number).cloned();
        known.or_else(|| any.then(|| Process { pid: number, comm: NAMES[0].into() }))
    }

    /// How it stands, if that is news.
    fn sample(&mut self) -> Option<LogSample> {
        let sample = LogSample {
            device: self.id.0,
            inode: self.id.1,
            path: self.path.clone(),
            writers: self.writers.clone(),
            requests: !self.is_of_errors(),
            lines: self.tail.lines(),
            missed: self.tail.missed(),
            emptied: self.tail.emptied(),
            left: false,
            trouble: self.trouble.clone(),
        };
        (sample != self.told).then(|| {
            self.told = sample.clone();
            sample
        })
    }
}

/// How long not to look again after having looked since then.
fn pause(begun: Time, least: Duration) -> Duration {
    least.max(host::now().since(begun) * FIND_PAUSE)
}

/// Whether the way to a log that is still written to leads to another file by now, or to none.
fn was_rotated(log: &Log) -> bool {
    let now = fs::metadata(&log.way).ok().map(|data| (data.dev(), data.ino()));
    log.is_open && now != Some(log.id)
}

fn sampled((sample, time): (LogSample, Time)) -> Event {
    Event { time, body: Body::LogSample(Box::new(sample)) }
}

fn line(failure: Failure, process: Process, after: Time) -> LogLine {
    let Failure { pid: _, connection, said, at, path, request } = failure;
    LogLine { process, after, connection, said, at, path, request, port: None, status: None }
}

/// What is new in a log of requests.
#[derive(Default)]
struct Requests {
    /// Those that failed, each with the number of the process that wrote it.
    errors: Vec<(Option<u32>, LogLine)>,
    /// Lines that are written as they should be.
    understood: u64,
    /// Those that are not.
    strange: u64,
}

/// What is wrong with a log of which no line is understood.
const NOT_SO: &str = "its lines are not written in the format that the configuration defines";
/// From this status on a request failed.
const FAILED: u16 = 500;
/// A log is not what its configuration says if of so many lines none is.
const STRANGE: u64 = 10;

impl Requests {
    fn take(&mut self, line: &[u8], formats: &Formats) {
        let text = str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed);
        let Some(answered) = formats.read(&text) else {
            self.strange += 1;
            return;
        };
        self.understood += 1;
        if answered.status < FAILED {
            return;
        }
        let request = Request {
            method: cut(answered.method, MAX_METHOD),
            target: cut(&unescaped(answered.target), MAX_TARGET),
            client: answered.client,
        };
        let line = LogLine {
            connection: answered.connection,
            said: haproxy::said(&answered),
            request,
            port: answered.port,
            status: Some(answered.status),
            ..LogLine::default()
        };
        self.errors.push((answered.pid, line));
    }
}

fn concerns(ports: &[u16], failure: &Failure) -> bool {
    ports.is_empty() || failure.at.is_some_and(|at| ports.contains(&at.port))
}

fn opened(way: &Path, born_after: Option<SystemTime>) -> io::Result<Tail> {
    let file = File::open(way)?;
    let born = file.metadata()?.created();
    match (born, born_after) {
        (Ok(born), Some(after)) if born >= after => Ok(Tail::from_start(file)),
        _ => Tail::from_end(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_followed() {
        let options = |proxies: &[&str]| Options {
            proxies: proxies.iter().map(|&name| name.to_owned()).collect(),
            ..Options::default()
        };
        assert!(options(&[]).is_nothing() && options(&["envoy"]).is_nothing());
        assert!(!options(&["envoy", "nginx"]).is_nothing());
        assert!(!Options { files: vec!["/x".into()], ..Options::default() }.is_nothing());
    }
}
