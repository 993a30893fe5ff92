//! What proxies write to: found by what their processes hold open and by what they were told to read.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{FileId, NAMES, Options};
use crate::{
    event::{MAX_WRITERS, Process},
    proxy::{
        access::Formats,
        haproxy,
        nginx::{
            access::{self, AccessLog},
            config::{self, Directive},
            running,
        },
    },
    source::procs,
    text::escape,
};

/// The descriptor of nginx's main log: its standard error is made the same file (`ngx_log_redirect_stderr`, src/core/ngx_cycle.c).
const STDERR: &str = "2";
/// What `HAProxy` writes its log to where it is told to (`log stdout`, `log stderr`).
const STANDARD: [&str; 2] = ["1", STDERR];

/// What the lines of a log are about.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// What went wrong, as nginx writes it.
    Errors,
    /// Each a request, written in one of these formats.
    Requests(Formats),
}

/// A file that processes write to.
pub(super) struct Found {
    pub(super) path: String,
    /// By which to open it, whatever namespace the writers are in.
    pub(super) way: PathBuf,
    pub(super) kind: Kind,
    pub(super) writers: Vec<Process>,
}

/// What processes write to that cannot be followed.
pub(super) struct Unfollowed {
    pub(super) id: FileId,
    pub(super) path: String,
    pub(super) writers: Vec<Process>,
    pub(super) why: String,
}

/// Logs that were found.
#[derive(Default)]
pub(super) struct Logs {
    pub(super) found: HashMap<FileId, Found>,
    pub(super) unfollowed: Vec<Unfollowed>,
}

/// What is known of a proxy whose processes have not changed.
#[derive(Default)]
struct Known {
    /// Its processes when that was read.
    family: Vec<Process>,
    /// Of the files that its master has open, what is in them: nothing that is of use here, or why it is of none.
    files: HashMap<FileId, Option<Result<Kind, &'static str>>>,
    formats: Option<Formats>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Written {
    known: HashMap<u32, Known>,
}

impl Written {
    /// Looks who writes to what.
    pub(super) fn look(&mut self, options: &Options) -> Logs {
        let families = procs::families_of(&names(options), |process| is_wanted(options, process));
        self.known.retain(|pid, _| families.contains_key(pid));
        let mut logs = Logs::default();
        for (master, mut family) in families {
            family.truncate(MAX_WRITERS);
            let known = self.known.entry(master).or_default();
            if known.family != family && procs::were_replaced(master, &known.family, &family) {
                // It may have another configuration.
                *known = Known { family: family.clone(), ..Known::default() };
            }
            if family.iter().any(|process| &*process.comm == haproxy::NAME) {
                known.haproxy(master, &family, &mut logs);
            } else {
                known.nginx(master, &family, &mut logs);
            }
        }
        let formats = self.known.values().filter_map(|known| known.formats.clone());
        let formats = formats.reduce(Formats::or).unwrap_or_else(haproxy::httplog);
        asked_for(options, &access::combined().or(formats), &mut logs);
        logs
    }
}

impl Known {
    /// A master has its logs open.
    fn nginx(&mut self, master: u32, family: &[Process], logs: &mut Logs) {
        let mut configured = None;
        let mut seen = HashSet::new();
        for entry in fs::read_dir(format!("/proc/{master}/fd")).into_iter().flatten().flatten() {
            let way = entry.path();
            let (Ok(data), Ok(name)) = (fs::metadata(&way), fs::read_link(&way)) else { continue };
            let is_main = entry.file_name() == STDERR;
            let path = escape(name.as_os_str().as_encoded_bytes());
            let id = (data.dev(), data.ino());
            if !data.is_file() {
                if is_main {
                    let why = format!("it is no file: {path}");
                    logs.unfollowed.push(Unfollowed { id, path, writers: family.to_vec(), why });
                }
                continue;
            }
            let kind = self.files.entry(id).or_insert_with(|| {
                let configured = configured.get_or_insert_with(|| Configured::of(master));
                if is_main { Some(Ok(Kind::Errors)) } else { configured.kind_of(&name) }
            });
            if seen.insert(id)
                && let Some(kind) = kind.clone()
            {
                logs.add(id, path, way, kind, family);
            }
        }
        self.files.retain(|id, _| seen.contains(id));
    }

    /// Its lines go to a standard stream, or to the syslog daemon, which writes them where distributions have it.
    fn haproxy(&mut self, master: u32, family: &[Process], logs: &mut Logs) {
        let formats = self.formats.get_or_insert_with(|| haproxy::formats(master));
        let open = STANDARD.iter().map(|number| PathBuf::from(format!("/proc/{master}/fd/{number}")));
        for way in open.chain([PathBuf::from(haproxy::LOG)]) {
            let Some(data) = fs::metadata(&way).ok().filter(fs::Metadata::is_file) else { continue };
            let name = fs::read_link(&way).unwrap_or_else(|_| way.clone());
            let path = escape(name.as_os_str().as_encoded_bytes());
            logs.add((data.dev(), data.ino()), path, way, Ok(Kind::Requests(formats.clone())), family);
        }
    }
}

impl Logs {
    fn add(&mut self, id: FileId, path: String, way: PathBuf, kind: Result<Kind, &'static str>, family: &[Process]) {
        let kind = match kind {
            Ok(kind) => kind,
            Err(why) => {
                self.unfollowed.push(Unfollowed { id, path, writers: family.to_vec(), why: why.to_owned() });
                return;
            }
        };
        let new = || Found { path, way, kind: kind.clone(), writers: Vec::new() };
        let found = self.found.entry(id).or_insert_with(new);
        found
            .writers
            .extend(family.iter().filter(|process| !found.writers.contains(process)).cloned().collect::<Vec<_>>());
        if let (Kind::Requests(known), Kind::Requests(more)) = (&mut found.kind, kind) {
            // Those of others who write to it.
            *known = std::mem::take(known).or(more);
        }
    }
}

/// The files named on the command line, to which any proxy may write; those that are none are told of.
fn asked_for(options: &Options, formats: &Formats, logs: &mut Logs) {
    if options.files.is_empty() && options.requests.is_empty() {
        return;
    }
    let all = procs::processes_of(&names(options)).into_iter().filter(|process| is_wanted(options, process));
    let writers: Vec<_> = all.take(MAX_WRITERS).collect();
    let errors = options.files.iter().map(|path| (path, Kind::Errors));
    let requests = options.requests.iter().map(|path| (path, Kind::Requests(formats.clone())));
    for (number, (path, kind)) in (1..).zip(errors.chain(requests)) {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let why = match fs::metadata(path) {
            Ok(data) if data.is_file() => {
                logs.add((data.dev(), data.ino()), shown, path.clone(), Ok(kind), &writers);
                continue;
            }
            Ok(_) => "it is no file".to_owned(),
            Err(error) => format!("it cannot be found: {error}"),
        };
        logs.unfollowed.push(Unfollowed { id: (0, number), path: shown, writers: Vec::new(), why });
    }
}

/// Names of the proxies whose logs can be read, of those that are wanted.
pub(super) fn names(options: &Options) -> Vec<String> {
    let names = NAMES.iter().filter(|name| options.proxies.iter().any(|proxy| proxy == *name));
    names.map(|&name| name.to_owned()).collect()
}

fn is_wanted(options: &Options, process: &Process) -> bool {
    options.netns.is_none_or(|netns| procs::netns_of(process.pid) == Some(netns))
}

/// What a master's configuration names as logs; nothing if it cannot be read.
#[derive(Default)]
struct Configured {
    errors: Vec<PathBuf>,
    requests: Vec<AccessLog>,
}

impl Configured {
    fn of(master: u32) -> Self {
        let Some(master) = running::master(master) else { return Self::default() };
        let Ok(config) = config::read(&master.root, &master.file) else { return Self::default() };
        let mut errors = Vec::new();
        named(&config.directives, &mut errors);
        Self { errors, requests: access::logs(&config.directives) }
    }

    /// What is in a file that is open.
    fn kind_of(&self, open: &Path) -> Option<Result<Kind, &'static str>> {
        if self.errors.iter().any(|log| is_called(open, log)) {
            return Some(Ok(Kind::Errors));
        }
        let ours = self.requests.iter().filter(|log| is_called(open, &log.path));
        // Several servers may write to one, each in its own format.
        ours.map(|log| log.formats.clone().map(Kind::Requests)).reduce(|one, other| match (one, other) {
            (Ok(Kind::Requests(one)), Ok(Kind::Requests(other))) => Ok(Kind::Requests(one.or(other))),
            (Err(why), _) | (_, Err(why)) => Err(why),
            (one, _) => one,
        })
    }
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
    fn of_a_log_of_several_servers_all_formats_are_known_or_none_is_read() {
        let log = |formats| AccessLog { path: "/a".into(), formats };
        let kind =
            |requests: Vec<AccessLog>| Configured { errors: vec!["/e".into()], requests }.kind_of(Path::new("/a"));
        assert!(matches!(
            kind(vec![log(Ok(access::combined())), log(Ok(Formats::default()))]),
            Some(Ok(Kind::Requests(_)))
        ));
        assert!(matches!(kind(vec![log(Ok(access::combined())), log(Err("no"))]), Some(Err("no"))));
        assert!(kind(Vec::new()).is_none());
        let errors = Configured { errors: vec!["/a".into()], requests: vec![log(Err("no"))] };
        assert!(matches!(errors.kind_of(Path::new("/a")), Some(Ok(Kind::Errors))));
    }
}
