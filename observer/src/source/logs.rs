//! Proxies' own logs: found by what the processes hold open, followed, and told of as events. In a thread of its own, so that a file
//! that is slow to read keeps nobody waiting.

mod again;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use again::Again;

use super::procs;
use crate::{
    addr::NetNs,
    diagnose::logged::Words,
    event::{Body, Event, LogLine, LogSample, MAX_WRITERS, Process},
    host,
    proxy::{
        nginx::{
            config::{self, Directive},
            errors::{self, Failure},
            running,
        },
        tail::Tail,
    },
    text::escape,
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
/// Handfuls of events that may wait for the pipeline. Full, the thread waits: what it has not read stays in the file.
const MAX_WAITING: usize = 4;
/// Failures told in one look; the logs that are left wait for the next.
const MAX_TOLD: usize = 65_536;
/// What nginx calls its processes, as the kernel knows them.
const NAMES: [&str; 2] = ["nginx", "openresty"];
/// The descriptor of nginx's main log: its standard error is made the same file (`ngx_log_redirect_stderr`, src/core/ngx_cycle.c).
const STDERR: &str = "2";

/// Which logs to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Those of the proxies that run, of these names.
    pub proxies: Vec<String>,
    /// These files besides.
    pub files: Vec<PathBuf>,
    /// Only what concerns upstreams on these ports; empty for all.
    pub ports: Vec<u16>,
    /// Only what processes in this network namespace write.
    pub netns: Option<NetNs>,
}

impl Options {
    fn is_nothing(&self) -> bool {
        self.files.is_empty() && !NAMES.iter().any(|name| self.proxies.iter().any(|proxy| proxy == name))
    }
}

/// A running follower. Dropping it ends it.
pub(super) struct Logs {
    events: Receiver<Vec<Event>>,
    /// Dropped, the thread looks a last time and ends.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Begins to look for logs, if any are wanted.
    pub(super) fn start(options: Options) -> io::Result<Option<Self>> {
        if options.is_nothing() {
            return Ok(None);
        }
        let (tell, events) = sync_channel(MAX_WAITING);
        let (stop, stopped) = sync_channel(0);
        let thread = thread::Builder::new()
            .name("observer-logs".into())
            .spawn(move || Follower::new(options).run(&tell, &stopped))?;
        Ok(Some(Self { events, stop: Some(stop), thread: Some(thread) }))
    }

    /// Waits until those that there are have been found: what is written from now on is told.
    pub(super) fn ready(&self) -> Vec<Event> {
        self.events.recv().unwrap_or_default()
    }

    /// What has been told and not been taken.
    pub(super) fn take(&self) -> Option<Vec<Event>> {
        self.events.try_recv().ok()
    }

    /// Ends: what is left.
    pub(super) fn last(&mut self) -> Vec<Event> {
        drop(self.stop.take());
        self.events.iter().flatten().collect()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.last();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A file, whatever its name: device and inode.
type FileId = (u64, u64);

struct Log {
    id: FileId,
    /// The name that its writers have for it.
    path: String,
    /// By which it was opened: another file there means that this one was rotated.
    way: PathBuf,
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
    told: LogSample,
}

/// A file that processes write to.
struct Found {
    path: String,
    /// By which to open it, whatever namespace the writers are in.
    way: PathBuf,
    writers: Vec<Process>,
}

/// What processes write to that cannot be followed.
struct Unfollowed {
    id: FileId,
    path: String,
    writers: Vec<Process>,
    why: String,
}

struct Follower {
    options: Options,
    names: Vec<String>,
    /// In the order in which they were found: of those of one process, that is the order in which it wrote to them.
    logs: Vec<Log>,
    /// What cannot be followed, by path, as it was told, and whether it was met in this round.
    unfollowed: HashMap<String, (LogSample, bool)>,
    /// Of each master the files that it has open and has been asked about, and whether they are logs of errors.
    known: HashMap<u32, HashMap<FileId, bool>>,
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
        let names = NAMES.iter().filter(|name| options.proxies.iter().any(|proxy| proxy == *name));
        Self {
            names: names.map(|&name| name.to_owned()).collect(),
            options,
            logs: Vec::new(),
            unfollowed: HashMap::new(),
            known: HashMap::new(),
            found: None,
            next: Time::default(),
            meet: Time::default(),
            words: Words::default(),
            again: Again::default(),
            buffer: Vec::new(),
        }
    }

    fn run(mut self, tell: &SyncSender<Vec<Event>>, stopped: &Receiver<()>) {
        let mut events = Vec::new();
        self.find(&mut events);
        if tell.send(events).is_err() {
            return;
        }
        loop {
            let idle = self.next.since(host::now()).min(FIND_EVERY);
            let wait = if self.logs.is_empty() { idle.max(LOOK_EVERY) } else { LOOK_EVERY };
            let stop = stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
            let mut events = Vec::new();
            self.look(&mut events);
            if stop {
                self.sample(&mut events);
            } else if host::now() >= self.next {
                self.find(&mut events);
            }
            if !events.is_empty() && tell.send(events).is_err() || stop {
                return;
            }
        }
    }

    /// Reads what is new.
    fn look(&mut self, events: &mut Vec<Event>) {
        let mut read = Vec::new();
        let mut unknown = false;
        let mut count = 0;
        if self.found.is_some_and(|(found, _)| host::now().since(found) >= FIND_AGAIN)
            && self.logs.iter().any(was_rotated)
        {
            self.find(events);
        }
        for (at, log) in self.logs.iter_mut().enumerate() {
            let (begun, mut failures) = (host::now(), Vec::new());
            let all = log.tail.read(&mut self.buffer, |line| failures.extend(errors::failure(line)));
            failures.retain(|failure| {
                concerns(&self.options.ports, failure) && self.words.tell_of_a_failure(&failure.said)
            });
            count += failures.len();
            if (log.tail.missed(), log.tail.emptied()) != (log.told.missed, log.told.emptied) {
                // Ahead of the lines behind the gap: none of them is about a try whose line is in it.
                events.extend(log.sample().map(|sample| sampled((sample, host::now()))));
            }
            unknown |= failures.iter().any(|failure| !log.numbers.contains_key(&failure.pid));
            if !failures.is_empty() {
                read.push((at, host::now(), log.after, failures));
            }
            match all {
                Ok(true) => (log.after, log.trouble) = (begun, None),
                Ok(false) => log.trouble = None,
                Err(error) => log.trouble = Some(format!("it cannot be read: {error}")),
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
        let several = self.logs.len() > 1;
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
        let (mut found, unfollowed) = self.written();
        self.unfollowed.values_mut().for_each(|(_, met)| *met = false);
        self.asked_for(&mut found, events);
        let born_after = self.found.map(|(_, wall)| wall - NEW_WITHIN);
        let before = self.found.map_or(begun, |(time, _)| time);
        for (id, Found { path, way, writers }) in found {
            if let Some(log) = self.logs.iter_mut().find(|log| log.id == id) {
                (log.path, log.way, log.open) = (path, way, begun);
                log.written_by(writers);
            } else if self.logs.len() >= MAX_LOGS {
                let why = format!("{MAX_LOGS} others are followed");
                self.cannot(Unfollowed { id, path, writers, why }, events);
            } else {
                match opened(&way, born_after) {
                    Ok(tail) => {
                        let mut log = Log::new(id, path, way, tail, before, begun);
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
        let (found, _) = self.written();
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

    /// The files that the proxies write errors to, and what they write to that is no file.
    fn written(&mut self) -> (HashMap<FileId, Found>, Vec<Unfollowed>) {
        let processes: HashMap<u32, Process> =
            procs::processes_of(&self.names).into_iter().map(|process| (process.pid, process)).collect();
        let mut families: HashMap<u32, Vec<Process>> = HashMap::new();
        for process in processes.values().filter(|process| self.is_wanted(process)) {
            families.entry(eldest(process.pid, &processes)).or_default().push(process.clone());
        }
        self.known.retain(|pid, _| families.contains_key(pid));
        let (mut found, mut unfollowed) = (HashMap::new(), Vec::new());
        for (master, mut family) in families {
            family.sort_by_key(|process| process.pid);
            family.truncate(MAX_WRITERS);
            for (way, path, id, is_file) in self.error_logs(master) {
                if !is_file {
                    let why = format!("it is no file: {path}");
                    unfollowed.push(Unfollowed { id, path, writers: family.clone(), why });
                    continue;
                }
                let new = || Found { path, way, writers: Vec::new() };
                found.entry(id).or_insert_with(new).writers.extend(family.iter().cloned());
            }
        }
        (found, unfollowed)
    }

    fn is_wanted(&self, process: &Process) -> bool {
        self.options.netns.is_none_or(|netns| procs::netns_of(process.pid) == Some(netns))
    }

    /// The files named on the command line, to which any proxy may write; those that are none are told of.
    fn asked_for(&mut self, found: &mut HashMap<FileId, Found>, events: &mut Vec<Event>) {
        for (number, path) in (1..).zip(self.options.files.clone()) {
            let shown = escape(path.as_os_str().as_encoded_bytes());
            let all = procs::processes_of(&self.names).into_iter().filter(|process| self.is_wanted(process));
            let writers: Vec<_> = all.take(MAX_WRITERS).collect();
            let why = match fs::metadata(&path) {
                Ok(data) if data.is_file() => {
                    let new = || Found { path: shown, way: path.clone(), writers };
                    found.entry((data.dev(), data.ino())).or_insert_with(new);
                    continue;
                }
                Ok(_) => "it is no file".to_owned(),
                Err(error) => format!("it cannot be found: {error}"),
            };
            self.cannot(Unfollowed { id: (0, number), path: shown, writers: Vec::new(), why }, events);
        }
    }

    /// What a master writes errors to: the way there, its name, which it is, and whether it is a file.
    fn error_logs(&mut self, master: u32) -> Vec<(PathBuf, String, FileId, bool)> {
        let folder = PathBuf::from(format!("/proc/{master}/fd"));
        let known = self.known.entry(master).or_default();
        let mut configured = None;
        let mut logs = Vec::new();
        let (mut open, mut seen) = (HashSet::new(), HashSet::new());
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let way = entry.path();
            let (Ok(data), Ok(name)) = (fs::metadata(&way), fs::read_link(&way)) else { continue };
            let is_main = entry.file_name() == STDERR;
            let path = escape(name.as_os_str().as_encoded_bytes());
            if !data.is_file() {
                if is_main {
                    logs.push((way, path, (data.dev(), data.ino()), false));
                }
                continue;
            }
            let id = (data.dev(), data.ino());
            seen.insert(id);
            let is_log = *known.entry(id).or_insert_with(|| {
                is_main
                    || configured.get_or_insert_with(|| configured_logs(master)).iter().any(|log| is_called(&name, log))
            });
            if is_log && open.insert(id) {
                logs.push((way, path, id, true));
            }
        }
        known.retain(|id, _| seen.contains(id));
        logs
    }
}

impl Log {
    fn new(id: FileId, path: String, way: PathBuf, tail: Tail, after: Time, open: Time) -> Self {
        let (writers, numbers) = (Vec::new(), HashMap::new());
        Self {
            id,
            path,
            way,
            tail,
            writers,
            numbers,
            after,
            open,
            is_open: true,
            trouble: None,
            told: LogSample::default(),
        }
    }

    fn written_by(&mut self, writers: Vec<Process>) {
        if self.writers != writers {
            self.numbers = writers.iter().map(|process| (procs::own_number(process.pid), process.clone())).collect();
            self.writers = writers;
        }
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
    LogLine { process, after, connection, said, at, path, request }
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

/// The process of these that is an ancestor of this one and has none among them itself.
fn eldest(mut pid: u32, processes: &HashMap<u32, Process>) -> u32 {
    // Parents started before their children, but numbers may be given again while this is read.
    for _ in 0..processes.len() {
        match procs::parent(pid).filter(|parent| processes.contains_key(parent)) {
            Some(parent) => pid = parent,
            None => break,
        }
    }
    pid
}

/// What a master's configuration names as logs of errors; nothing if it cannot be read.
fn configured_logs(master: u32) -> Vec<PathBuf> {
    let Some(master) = running::master(master) else { return Vec::new() };
    let Ok(config) = config::read(&master.root, &master.file) else { return Vec::new() };
    let mut logs = Vec::new();
    named(&config.directives, &mut logs);
    logs
}

fn named(directives: &[Directive], logs: &mut Vec<PathBuf>) {
    for directive in directives {
        if directive.name == "error_log" {
            logs.push(PathBuf::from(directive.arg()));
        }
        named(directive.inside(), logs);
    }
}

/// Whether an open file is the one that a configuration names, relative to nginx's prefix perhaps.
fn is_called(open: &Path, named: &Path) -> bool {
    !named.as_os_str().is_empty() && (open == named || named.is_relative() && open.ends_with(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_by_its_name_in_the_configuration() {
        assert!(is_called(Path::new("/var/log/nginx/a.log"), Path::new("/var/log/nginx/a.log")));
        assert!(is_called(Path::new("/usr/local/nginx/logs/error.log"), Path::new("logs/error.log")));
        assert!(!is_called(Path::new("/var/log/nginx/access.log"), Path::new("error.log")));
        assert!(!is_called(Path::new("/var/log/nginx/access.log"), Path::new("")));
    }

    #[test]
    fn only_what_is_wanted_is_followed() {
        let options = |proxies: &[&str]| Options {
            proxies: proxies.iter().map(|&name| name.to_owned()).collect(),
            ..Options::default()
        };
        assert!(options(&[]).is_nothing() && options(&["haproxy"]).is_nothing());
        assert!(!options(&["haproxy", "nginx"]).is_nothing());
        assert!(!Options { files: vec!["/x".into()], ..Options::default() }.is_nothing());
    }
}
