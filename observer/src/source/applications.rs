//! Which application server holds a listener, and how many requests it serves at once: by what its processes show of themselves (command
//! lines, titles, executables, names of threads). What they do not show for sure is left open: settings may as well come from a file.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::Read as _,
};

use crate::event::{Application, Software};

/// Processes looked at per listener in search of a server's master: a server has one, and at most a supervisor or two hold its listener
/// beside it. Of more nothing is told.
const MAX_LOOKED: usize = 16;
/// Workers whose threads are counted per listener: they are alike.
const MAX_COUNTED: usize = 8;
/// Threads looked at per process.
const MAX_TASKS: usize = 1024;
/// Bytes read of a command line: more than a server's has. What is in a longer one is not known.
const MAX_COMMAND: u64 = 32 << 10;
/// Bytes read of an environment; likewise.
const MAX_ENVIRONMENT: u64 = 128 << 10;

/// A process that holds a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) parent: u32,
}

/// What a process shows of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Its command line, or the title that it has put there; `None` if that is longer than is read.
    args: Option<Vec<String>>,
    /// The last part of its executable's path.
    exe: String,
}

/// Where to look.
pub(super) trait Look {
    fn shown(&self, pid: u32) -> Shown;
    /// Variables, as `NAME=value`, that a process was started with and whose names begin so; `None` if they cannot be read.
    fn variables(&self, pid: u32, prefix: &str) -> Option<Vec<String>>;
    /// There is a file of this name where the process is.
    fn has_file(&self, pid: u32, name: &str) -> bool;
    /// Threads whose names begin so.
    fn threads(&self, pid: u32, prefix: &str) -> u32;
}

/// /proc.
pub(super) struct Proc;

impl Look for Proc {
    fn shown(&self, pid: u32) -> Shown {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let exe = exe.file_name().unwrap_or_default().to_string_lossy();
        let exe = exe.strip_suffix(" (deleted)").unwrap_or(&exe).to_owned();
        Shown { args: read(&format!("/proc/{pid}/cmdline"), MAX_COMMAND).map(|bytes| pieces(&bytes)), exe }
    }

    fn variables(&self, pid: u32, prefix: &str) -> Option<Vec<String>> {
        let all = pieces(&read(&format!("/proc/{pid}/environ"), MAX_ENVIRONMENT)?);
        Some(all.into_iter().filter(|variable| variable.starts_with(prefix)).collect())
    }

    fn has_file(&self, pid: u32, name: &str) -> bool {
        fs::exists(format!("/proc/{pid}/cwd/{name}")).unwrap_or(true)
    }

    fn threads(&self, pid: u32, prefix: &str) -> u32 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().take(MAX_TASKS);
        let named = |path: &std::path::Path| fs::read(path).is_ok_and(|comm| comm.starts_with(prefix.as_bytes()));
        let count = tasks.filter(|task| named(&task.path().join("comm"))).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// A whole file; `None` if it is longer than that.
fn read(path: &str, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// What NULs end, without what is empty: a title leaves the rest of its room so.
fn pieces(bytes: &[u8]) -> Vec<String> {
    let all = bytes.split(|byte| *byte == 0).filter(|piece| !piece.is_empty());
    all.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

/// Which processes of a server accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    /// Those that the first one has started.
    Children,
    /// The same, or the first one if it has started none.
    ChildrenOrItself,
    /// The first one, too.
    All,
    /// That does not show.
    Unknown,
}

/// A server as its first process shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    software: Software,
    accepts: Accepts,
    threads: Option<u32>,
    event_loop: bool,
}

impl Server {
    fn new(software: Software, accepts: Accepts) -> Self {
        Self { software, accepts, threads: None, event_loop: false }
    }

    fn looping(software: Software, accepts: Accepts) -> Self {
        Self { event_loop: true, ..Self::new(software, accepts) }
    }

    /// Of a first process that has started so many of the other holders.
    fn workers(self, children: u32) -> Option<u32> {
        let workers = match self.accepts {
            Accepts::Children => children,
            Accepts::ChildrenOrItself => children.max(1),
            Accepts::All => children + 1,
            Accepts::Unknown => 0,
        };
        Some(workers).filter(|workers| *workers > 0)
    }
}

/// The server that these processes are, and its first process; the holders come eldest first. `known`: what processes were found to be
/// before, in the same round.
pub(super) fn recognise(
    holders: &[Holder],
    look: &impl Look,
    known: &mut HashMap<u32, Option<Server>>,
) -> Option<(Application, u32)> {
    // A supervisor, or systemd, may hold the listener that it has passed on: who is no server is left out.
    let mut left: Vec<Holder> = holders.to_vec();
    let mut looked = HashMap::new();
    let roots = loop {
        let pids: HashSet<u32> = left.iter().map(|holder| holder.pid).collect();
        let first = left.iter().filter(|holder| !pids.contains(&holder.parent));
        let roots: Vec<u32> = first.map(|holder| holder.pid).collect();
        for pid in &roots {
            if looked.contains_key(pid) {
                continue;
            }
            if looked.len() >= MAX_LOOKED {
                return None;
            }
            looked.insert(*pid, *known.entry(*pid).or_insert_with(|| identify(*pid, look)));
        }
        let count = left.len();
        left.retain(|holder| looked.get(&holder.pid).is_none_or(Option::is_some));
        if left.len() == count {
            break roots;
        }
    };
    let servers: Vec<(u32, Server)> = roots.iter().filter_map(|pid| Some((*pid, (*looked.get(pid)?)?))).collect();
    let (first, server) = *servers.first()?;
    if servers.iter().any(|(_, other)| other.software != server.software) {
        return None;
    }
    let alike = servers.iter().all(|(_, other)| *other == server);
    let of = |root: u32| left.iter().filter(move |holder| holder.parent == root);
    // Whoever is further down was started by a worker, or is another master with its own.
    let flat = left.iter().all(|holder| roots.contains(&holder.pid) || roots.contains(&holder.parent));
    let children = |root: u32| u32::try_from(of(root).count()).unwrap_or(u32::MAX);
    let workers = servers.iter().map(|(pid, server)| server.workers(children(*pid))).sum::<Option<u32>>();
    let threads = if server.software == Software::Puma {
        let pids = roots.iter().copied().chain(roots.iter().flat_map(|root| of(*root)).map(|holder| holder.pid));
        pids.take(MAX_COUNTED).map(|pid| look.threads(pid, "puma srv tp ")).max().filter(|threads| *threads > 0)
    } else {
        server.threads.filter(|_| alike)
    };
    // A master of Puma that has not started its workers yet looks like a server without a master, but that has threads.
    let begins = server.software == Software::Puma && left.len() == roots.len() && threads.is_none();
    let workers = workers.filter(|_| flat && !begins);
    let event_loop = alike && server.event_loop;
    Some((Application { software: server.software, workers, threads, event_loop }, first))
}

/// What a process is, if it is the first of a server.
fn identify(pid: u32, look: &impl Look) -> Option<Server> {
    let Shown { args, exe } = look.shown(pid);
    let all = args.as_deref().unwrap_or_default();
    let title = all.first().map_or("", String::as_str);
    let begins = |names: &[&str]| names.iter().any(|name| exe.starts_with(name));
    Some(match exe.as_str() {
        "node" | "nodejs" => Server::looping(Software::Node, Accepts::Children),
        "java" => Server::new(Software::Java, Accepts::Unknown),
        "nginx" | "openresty" if title.starts_with("nginx: master process") => {
            Server::looping(Software::Nginx, Accepts::Children)
        }
        "nginx" | "openresty" => Server::looping(Software::Nginx, Accepts::ChildrenOrItself),
        // One request at a time each (fpm_main.c, `fcgi_accept_request`).
        _ if begins(&["php-fpm"]) => Server { threads: Some(1), ..Server::new(Software::PhpFpm, Accepts::Children) },
        _ if begins(&["uwsgi"]) => uwsgi(pid, args.as_deref(), look),
        // lib/puma/launcher.rb, `title`; its workers' are "puma: cluster worker".
        _ if exe.contains("ruby") && title.starts_with("puma ") && title.contains(" (") => {
            Server::new(Software::Puma, Accepts::ChildrenOrItself)
        }
        _ if begins(&["python", "pypy"]) => {
            // Titles by setproctitle (gunicorn/arbiter.py): the arguments have gone.
            if title.starts_with("gunicorn: master ") {
                return Some(Server::new(Software::Gunicorn, Accepts::Children));
            }
            let (name, rest) = script(args.as_deref()?)?;
            match name {
                "gunicorn" | "gunicorn3" => gunicorn(pid, rest, look),
                "uvicorn" => Server::looping(Software::Uvicorn, Accepts::ChildrenOrItself),
                "uwsgi" | "pyuwsgi" => uwsgi(pid, Some(rest), look),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// The name of the script or module that a Python runs, and its own arguments.
fn script(args: &[String]) -> Option<(&str, &[String])> {
    let mut at = 1;
    loop {
        let arg = args.get(at)?.as_str();
        match arg {
            "-m" => {
                let module = args.get(at + 1)?;
                return Some((module.split('.').next()?, args.get(at + 2..)?));
            }
            "-X" | "-W" => at += 2,
            "-c" | "-" => return None,
            _ if arg.starts_with('-') => at += 1,
            _ => return Some((arg.rsplit('/').next()?, args.get(at + 1..)?)),
        }
    }
}

/// Worker classes of gunicorn whose workers are event loops, or how their names show it.
const LOOPS: [&str; 5] = ["gevent", "eventlet", "tornado", "uvicorn", "aiohttp"];

/// gunicorn's own settings: the command line's go before those of the environment, and those before a file's (gunicorn/app/base.py,
/// `load_config`). A file is not read: what it may set is not known.
fn gunicorn(pid: u32, args: &[String], look: &impl Look) -> Server {
    let server = Server::new(Software::Gunicorn, Accepts::Children);
    let Some(variables) = look.variables(pid, "GUNICORN_CMD_ARGS=") else { return server };
    let environment = variables.first().and_then(|variable| variable.split_once('=')).map_or("", |(_, value)| value);
    // Quoted as for a shell.
    if environment.contains(['"', '\'', '\\']) {
        return server;
    }
    let before = environment.split_whitespace().map(str::to_owned);
    let args: Vec<String> = before.chain(args.iter().cloned()).collect();
    let (mut class, mut threads) = (None, None);
    // It is read where the program was started, and `--chdir` leads away from there.
    let mut file = look.has_file(pid, "gunicorn.conf.py");
    for (name, value) in options(&args) {
        match name {
            _ if is(name, "--threads", 4) => threads = Some(value),
            _ if name == "-k" || is(name, "--worker-class", 11) => class = Some(value),
            _ if name == "-c" || is(name, "--config", 4) || is(name, "--chdir", 5) || is(name, "--paste", 4) => {
                file = true;
            }
            _ => {}
        }
    }
    let class = class.or_else(|| (!file).then_some("sync"));
    let threads = match threads {
        Some(threads) => threads.parse().ok().filter(|threads| *threads > 0),
        None => (!file).then_some(1),
    };
    match class {
        // With more than one thread sync means gthread (gunicorn/config.py, `worker_class`).
        Some("sync" | "gthread") => Server { threads, ..server },
        Some(class) if LOOPS.iter().any(|each| class.to_lowercase().contains(each)) => {
            Server { event_loop: true, ..server }
        }
        _ => server,
    }
}

/// A long option may be cut as long as no other begins so (Python's argparse).
fn is(name: &str, whole: &str, shortest: usize) -> bool {
    name.len() >= shortest && whole.starts_with(name)
}

/// Options with what follows them, be it `--name=value`, `--name value` or `-nvalue`; whether an option takes a value is not known.
fn options(args: &[String]) -> impl Iterator<Item = (&str, &str)> {
    args.iter().enumerate().filter(|(_, arg)| arg.starts_with('-')).map(|(at, arg)| {
        let next = args.get(at + 1).map_or("", String::as_str);
        match arg.split_once('=') {
            Some((name, value)) => (name, value),
            None if !arg.starts_with("--") && arg.len() > 2 && arg.is_char_boundary(2) => arg.split_at(2),
            None => (arg.as_str(), next),
        }
    })
}

/// Options of uWSGI that bring others from elsewhere (core/uwsgi.c, `uwsgi_base_options`).
const BRING: [&str; 13] = [
    "--ini",
    "--xml",
    "-x",
    "--yaml",
    "--yml",
    "-y",
    "--json",
    "-j",
    "--config",
    "--inherit",
    "--paste",
    "--ini-paste",
    "--emperor",
];
/// How files of such options end.
const FILES: [&str; 5] = [".ini", ".xml", ".yaml", ".yml", ".json"];
/// Routers of its own, which hold the listener in the workers' stead.
const ROUTERS: [&str; 5] = ["--http", "--https", "--fastrouter", "--rawrouter", "--sslrouter"];
/// What makes its workers serve many requests without threads.
const GREEN: [&str; 7] = ["--gevent", "--async", "--asyncio", "--ugreen", "--coroae", "--fiber", "--loop"];

/// uWSGI's first process is a worker unless there is a master; both show in the command line, or in titles (`--auto-procname`).
fn uwsgi(pid: u32, args: Option<&[String]>, look: &impl Look) -> Server {
    let server = Server::new(Software::Uwsgi, Accepts::Unknown);
    let Some(args) = args else { return server };
    if args.first().is_some_and(|title| title.starts_with("uWSGI master")) {
        return Server { accepts: Accepts::Children, ..server };
    }
    // Any other title (`--procname`) has taken the place of the arguments.
    if !args.iter().any(|arg| arg.starts_with('-')) {
        return server;
    }
    // Every option can be a variable, too.
    if look.variables(pid, "UWSGI_").is_none_or(|variables| !variables.is_empty()) {
        return server;
    }
    let given = |names: &[&str]| options(args).any(|(name, _)| names.contains(&name));
    if given(&BRING) || args.iter().any(|arg| FILES.iter().any(|end| arg.ends_with(end))) {
        return server;
    }
    let threads = options(args).filter(|(name, _)| *name == "--threads").last();
    let event_loop = given(&GREEN);
    Server {
        accepts: match given(&["--master", "-M"]) {
            _ if given(&ROUTERS) => Accepts::Unknown,
            true => Accepts::Children,
            false => Accepts::All,
        },
        threads: match threads {
            _ if event_loop => None,
            Some((_, threads)) => threads.parse().ok().filter(|threads| *threads > 0),
            None => Some(1),
        },
        event_loop,
        ..server
    }
}

#[cfg(test)]
mod tests;
