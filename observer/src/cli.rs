//! The command line: low-level arguments, checked into options. Parsing does nothing else.

mod replay;
mod tools;

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
pub use replay::{FromTrace, Replay};
pub use tools::{Anonymize, Compare, Export, Info, Merge, Trace};

use crate::{
    addr::NetNs,
    hooks::Forced,
    kernel::look::When,
    kernel::{
        Options,
        load::{DEFAULT_RING, DEFAULT_TRIES, MAX_PORTS, MAX_PROXIES},
    },
    proxy::{self, nginx::Version},
    sink::{Format, report},
    source::logs,
    trace::{RecordOptions, recorder::MIN_SEGMENT},
};

/// Why is the reverse proxy returning 502s right now?
///
/// Attaches eBPF programs to this kernel's TCP tracepoints, follows every try of a reverse proxy at an upstream, and
/// says for each that fails why it did. Changes nothing on the host, and leaves nothing behind.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// What to do; the live view if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What observer can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The live view (also without a command).
    Live(Live),
    /// Verdicts as lines, without a screen.
    Watch(Watch),
    /// Record what happens into a trace file, for replay, report and export; shows nothing.
    Record(Record),
    /// The live view on a recording: pause, step, seek, any speed, and a timeline of what failed when.
    Replay(Replay),
    /// The first draft of a postmortem, from a recording: what failed, why, what to do, and what was not seen.
    ///
    /// Exit status: 1 if part of the recording could not be read; what could is reported.
    Report(Report),
    /// A recording for other tools: every row in the order in which observer learned of it.
    ///
    /// Exit status: 1 if part of it could not be read; what could is exported.
    Export(Export),
    /// Look into recordings.
    #[command(subcommand)]
    Trace(Trace),
    /// What this kernel and host let observer see, and settings that are known traps.
    ///
    /// Exit status: 0 all can be seen, 1 some cannot, 2 observer cannot work here.
    Doctor(Doctor),
    /// What in a proxy's configuration is known to lead to 502s, with file and line, and what to write instead.
    ///
    /// Reads the configuration of each nginx that runs, in whatever container, by the version that runs. Changes nothing.
    ///
    /// Exit status: 0 nothing was found, 1 something was, 2 a configuration could not be read.
    Audit(Audit),
    /// What to change, and how to see that it helped, from what fails on this host now or failed in a recording.
    ///
    /// Changes nothing by itself. Exit status: 1 if part of a recording could not be read; what could is advised on.
    Advise(Advise),
    /// Whether a change helped: two recordings, what failed in each by cause and upstream, and what else is different.
    ///
    /// Exit status: 0 if nothing fails more than before, 1 if something does, 2 if a recording could not be read.
    Compare(Compare),
    /// The page of a cause; without one, the list of causes. Or what a line of nginx's error log or HAProxy's log can stand for.
    Explain {
        /// Code of a cause, as verdicts name it; or a line of the log, in quotes.
        cause: Option<String>,
    },
}

/// Options of `live`.
#[derive(Debug, Default, Args)]
pub struct Live {
    /// Which tries.
    #[command(flatten)]
    pub filters: Filters,
    /// Record into this file meanwhile.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// How.
    #[command(flatten)]
    pub recording: Recording,
}

/// Options of `record`.
#[derive(Debug, Args)]
pub struct Record {
    /// The file; with --max-size, segments of that name with a number. NAME.arrows.zst says best what it is.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How.
    #[command(flatten)]
    pub recording: Recording,
    /// Stop after this time (20s, 5m, 1h).
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Which tries.
    #[command(flatten)]
    pub filters: Filters,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The files of one recording, in any order.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A page, Markdown, or JSON for machines; by default what the name of OUT says, else a page.
    #[arg(long, value_enum)]
    pub format: Option<report::Format>,
    /// Where to; standard output if not given.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Lines for people, or one JSON object.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// What carries hooks.
    #[command(flatten)]
    pub carriers: Carriers,
}

/// Options of `advise`.
#[derive(Debug, Args)]
pub struct Advise {
    /// The files of one recording, in any order, instead of this host.
    #[arg(value_name = "FILE", conflicts_with_all = LIVE_ONLY)]
    pub files: Vec<PathBuf>,
    /// How long to look at this host first.
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub watch: Duration,
    /// Which tries.
    #[command(flatten)]
    pub filters: Filters,
    /// Lines for people, or one JSON object.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// What only matters on a live host.
const LIVE_ONLY: [&str; 9] =
    ["ports", "comms", "netns", "no_answers", "no_logs", "error_logs", "access_logs", "close_look", "ring_size"];

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Read this configuration, and what it includes, instead.
    #[arg(long, value_name = "FILE")]
    pub nginx_conf: Option<PathBuf>,
    /// The version that reads it (1.28.0), if not the one that runs.
    #[arg(long, value_name = "VERSION")]
    pub nginx_version: Option<Version>,
    /// Hold it against this recording: whether connections are kept or not shows there.
    #[arg(long, value_name = "FILE")]
    pub seen: Option<PathBuf>,
    /// Lines for people, or one JSON object a configuration.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// What carries hooks.
#[derive(Clone, Debug, Default, Args)]
pub struct Carriers {
    /// Try only this carrier for a hook (`observer doctor` lists both); may be given several times, for a hook the last counts.
    #[arg(long = "force-carrier", value_name = "HOOK=CARRIER")]
    pub forced: Vec<Forced>,
}

/// How to record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Recording {
    /// Bytes of a segment (K, M, G), which a flood may pass by one batch: when it is full the next begins, and of more than
    /// --max-files the oldest goes.
    #[arg(long, value_name = "SIZE", value_parser = segment_size, requires = "max_files")]
    pub max_size: Option<u64>,
    /// Segments kept, 2 or more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=99_999), requires = "max_size")]
    pub max_files: Option<u32>,
    /// How hard to compress, from 1 (fast) to 19 (small); by default hard while little happens, and fast in a flood.
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub compress_level: Option<i32>,
    /// Overwrite what is there.
    #[arg(long)]
    pub force: bool,
}

impl Recording {
    /// Into that file.
    pub fn options(&self, path: &Path) -> RecordOptions {
        let ring = self.max_size.zip(self.max_files);
        RecordOptions { path: path.to_owned(), ring, level: self.compress_level, force: self.force }
    }

    /// Beside something else, if a file is given.
    pub fn beside(&self, path: Option<&Path>) -> Result<Option<RecordOptions>, String> {
        match path {
            Some(path) => Ok(Some(self.options(path))),
            None if *self == Self::default() => Ok(None),
            None => Err("--max-size, --max-files, --compress-level and --force are about --record FILE".to_owned()),
        }
    }
}

/// Options of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Lines for people, or a JSON object per line.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Stop after this time (20s, 5m, 1h).
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Record into this file meanwhile.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// How.
    #[command(flatten)]
    pub recording: Recording,
    /// Which tries.
    #[command(flatten)]
    pub filters: Filters,
    /// Print the kernel programs' own messages on standard error.
    #[arg(short, long)]
    pub verbose: bool,
    /// On a recording.
    #[command(flatten)]
    pub trace: FromTrace,
}

/// What to look at.
#[derive(Clone, Debug, Args)]
pub struct Filters {
    /// Only upstreams on this port; may be given several times.
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Processes of this name are the proxies, instead of those known; may be given several times.
    #[arg(long = "proxy", value_name = "COMM", value_parser = comm)]
    pub comms: Vec<String>,
    /// Only the sockets of one network namespace: /run/netns/NAME, /proc/PID/ns/net.
    #[arg(long, value_name = "PATH", value_parser = netns)]
    pub netns: Option<NetNs>,
    /// Do not look at what proxies write to their clients; statuses are then those to be expected.
    #[arg(long)]
    pub no_answers: bool,
    /// Follow no logs. Else those that nginx writes errors and requests to are found and followed, and those of HAProxy, so that verdicts
    /// name the request, and what only a log tells is known.
    #[arg(long)]
    pub no_logs: bool,
    /// Follow this log of nginx's errors besides; may be given several times.
    #[arg(long = "error-log", value_name = "FILE", conflicts_with = "no_logs")]
    pub error_logs: Vec<PathBuf>,
    /// Follow this log with a line for each request besides (nginx's combined format, or those of HAProxy); may be given several times.
    #[arg(long = "access-log", value_name = "FILE", conflicts_with = "no_logs")]
    pub access_logs: Vec<PathBuf>,
    /// When to look at each read, write and packet, which costs a busy proxy several per cent: at first, on trouble and at a glance
    /// now and then (auto), always, or never. Else proxies' own answers and connect() calls that fail at once are missed.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub close_look: When,
    /// Size of the ring between kernel and observer (a power of two, with K or M): raise it if records are lost.
    #[arg(long, value_name = "SIZE", value_parser = ring_size, default_value_t = RingSize(DEFAULT_RING))]
    pub ring_size: RingSize,
    /// What carries hooks.
    #[command(flatten)]
    pub carriers: Carriers,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            comms: Vec::new(),
            netns: None,
            no_answers: false,
            no_logs: false,
            error_logs: Vec::new(),
            access_logs: Vec::new(),
            close_look: When::default(),
            ring_size: RingSize(DEFAULT_RING),
            carriers: Carriers::default(),
        }
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(pub u32);

impl std::fmt::Display for RingSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}K", self.0 / 1024)
    }
}

impl Filters {
    /// What to attach for, and the same in words.
    pub fn options(&self, verbose: bool) -> Result<(Options, String), String> {
        let proxies: Vec<String> = if self.comms.is_empty() {
            proxy::KNOWN.iter().map(|&name| name.to_owned()).collect()
        } else {
            self.comms.clone()
        };
        if proxies.len() > MAX_PROXIES {
            return Err(format!("at most {MAX_PROXIES} names can be given with --proxy, not {}", proxies.len()));
        }
        if self.ports.len() > MAX_PORTS {
            return Err(format!("at most {MAX_PORTS} ports can be given with --port, not {}", self.ports.len()));
        }
        let mut watching = proxies.join(", ");
        if !self.ports.is_empty() {
            let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
            watching = format!("{watching}; upstream port {}", ports.join(", "));
        }
        if let Some(netns) = self.netns {
            watching = format!("{watching}; network namespace {}", netns.0);
        }
        let options = Options {
            proxies,
            ports: self.ports.clone(),
            ring: self.ring_size.0,
            tries: DEFAULT_TRIES,
            netns: self.netns,
            answers: !self.no_answers,
            look: self.close_look,
            seconds: true,
            verbose,
            forced: self.carriers.forced.clone(),
        };
        Ok((options, watching))
    }

    /// Which logs to follow, with what is attached for.
    pub fn logs(&self, options: &Options) -> logs::Options {
        if self.no_logs {
            return logs::Options::default();
        }
        logs::Options {
            proxies: options.proxies.clone(),
            files: self.error_logs.clone(),
            requests: self.access_logs.clone(),
            ports: options.ports.clone(),
            netns: options.netns,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error} (try 20s, 5m or 1h)"))?;
    if duration.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(duration) }
}

/// The kernel cuts names at 15 bytes; a longer one is cut likewise, so that it matches.
fn comm(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("a process name as in /proc/PID/comm".to_owned());
    }
    Ok(text.to_owned())
}

/// A network namespace by the file that stands for it: its inode number is the namespace's (nsfs, fs/nsfs.c).
fn netns(text: &str) -> Result<NetNs, String> {
    let inode =
        std::fs::metadata(text).map_err(|error| format!("{error}; try /run/netns/NAME or /proc/PID/ns/net"))?.ino();
    u32::try_from(inode)
        .map(NetNs)
        .map_err(|_| "not a network namespace: try /run/netns/NAME or /proc/PID/ns/net".to_owned())
}

fn ring_size(text: &str) -> Result<RingSize, String> {
    let bytes = bytes(text).and_then(|bytes| u32::try_from(bytes).ok());
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (4 << 10..=1 << 30).contains(bytes))
        .map(RingSize)
        .ok_or_else(|| "a power of two from 4K to 1024M, such as 8M".to_owned())
}

fn segment_size(text: &str) -> Result<u64, String> {
    let help = || format!("at least {}K, such as 256M or 2G", MIN_SEGMENT >> 10);
    bytes(text).filter(|bytes| *bytes >= MIN_SEGMENT).ok_or_else(help)
}

/// A number of bytes, with K, M or G for powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse().ok().and_then(|number: u64| number.checked_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ring_sizes_are_checked() {
        assert_eq!(ring_size("8M"), Ok(RingSize(8 << 20)));
        assert_eq!(ring_size("64k"), Ok(RingSize(64 << 10)));
        assert_eq!(ring_size("4096"), Ok(RingSize(4096)));
        for bad in ["", "M", "3M", "1K", "2048M", "-1", "9999999999", "8é"] {
            assert!(ring_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_have_a_least_size() {
        assert_eq!((segment_size("64K"), segment_size("2G")), (Ok(64 << 10), Ok(2 << 30)));
        for bad in ["", "G", "1K", "-1", "99999999999999999999G"] {
            assert!(segment_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_replace_the_known_proxies() {
        let filters = Filters { comms: vec!["myproxy".into()], ports: vec![8000], ..Filters::default() };
        let (options, watching) = filters.options(false).unwrap();
        assert_eq!((options.proxies, watching.as_str()), (vec!["myproxy".to_owned()], "myproxy; upstream port 8000"));
    }

    #[test]
    fn too_many_is_an_error_that_says_so() {
        let filters = Filters { ports: (1..=2000).collect(), ..Filters::default() };
        assert!(filters.options(false).unwrap_err().contains("1024"));
    }
}
