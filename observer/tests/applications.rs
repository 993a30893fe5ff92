//! Real application servers, and what observer makes of their processes. Needs root, gunicorn, Puma and uWSGI.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "what the kernel tests share; these need some of it")]
mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use observer::{
    addr::{Endpoint, NetNs},
    event::{Application, ApplicationSample, Body, Place, Software},
};

use common::{Watcher, eventually, here, in_netns, netns, start};

const PYTHON: &str = "def app(environ, start):\n    start('200 OK', [('Content-Length', '0')])\n    return [b'']\n";
const RUBY: &str = "run ->(env) { [200, {}, []] }\n";

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap())
}

/// A server, ended with the test.
struct Server(Child);

impl Server {
    fn start(folder: &Path, command: &str) -> Self {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        let quiet = || Stdio::null();
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).stdin(quiet()).stdout(quiet()).stderr(quiet());
        Self(start(&mut command))
    }

    fn send(&self, signal: Signal) {
        kill(pid(self.0.id()), signal).unwrap();
    }

    fn children(&self) -> Vec<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }

    /// Waits until it has so many, each with so many threads of this name.
    fn until(&self, children: usize, threads: usize, name: &str) {
        let count = |pid: &u32| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let comms = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
            comms.filter(|comm| comm.starts_with(name)).count()
        };
        eventually("its workers", || {
            let all = self.children();
            (all.len() == children && all.iter().all(|pid| count(pid) == threads)).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children = self.children();
        self.send(Signal::SIGINT);
        let _ = self.0.wait();
        // Workers of a uWSGI without a master outlive the first.
        for child in children {
            let _ = kill(pid(child), Signal::SIGKILL);
        }
    }
}

/// What was told of a port, the latest last.
fn told(watcher: &Watcher, port: u16) -> Vec<&ApplicationSample> {
    let at = Place::At(Endpoint { ip: [127, 0, 0, 1].into(), port });
    let samples = watcher.events.iter().filter_map(|event| match &event.body {
        Body::ApplicationSample(sample) if sample.place == at => Some(&**sample),
        _ => None,
    });
    samples.collect()
}

#[test]
fn servers_are_known_with_their_workers_and_threads() {
    in_netns("obs-apps", || {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), PYTHON).unwrap();
        fs::write(folder.path().join("config.ru"), RUBY).unwrap();
        let start = |command: &str| Server::start(folder.path(), command);
        let sync = start("gunicorn -b 127.0.0.1:7901 -w 3 app:app");
        let gthread = start("gunicorn -b 127.0.0.1:7902 -w 2 --threads=4 app:app");
        let puma = start("puma -b tcp://127.0.0.1:7903 -w 2 -t 3:3 config.ru");
        let uwsgi =
            start("uwsgi_python3 --http-socket 127.0.0.1:7904 --processes 3 --threads 2 --master --module app:app");
        let alone = start("uwsgi_python3 --http-socket 127.0.0.1:7905 --processes 2 --module app:app");
        sync.until(3, 1, "");
        gthread.until(2, 1, "");
        puma.until(2, 3, "puma srv tp ");
        uwsgi.until(3, 2, "");
        alone.until(1, 1, "");
        let mut watcher = Watcher::start(here("obs-apps"));
        for (server, port, software, workers, threads) in [
            (&sync, 7901, Software::Gunicorn, 3, 1),
            (&gthread, 7902, Software::Gunicorn, 2, 4),
            (&puma, 7903, Software::Puma, 2, 3),
            (&uwsgi, 7904, Software::Uwsgi, 3, 2),
            (&alone, 7905, Software::Uwsgi, 2, 1),
        ] {
            watcher.until("it to be told", |watcher| told(watcher, port).last().map(|_| ()));
            let told = told(&watcher, port);
            let (workers, threads) = (Some(workers), Some(threads));
            let expected = Application { software, workers, threads, event_loop: false };
            assert_eq!((told[0].application, told[0].netns), (Some(expected), NetNs(netns())), "{port}");
            assert_eq!(told[0].process.pid, server.0.id(), "{port}");
        }
        // One more worker is told when its holders are next looked up; of who stays the same nothing is.
        sync.send(Signal::SIGTTIN);
        let four = |sample: &ApplicationSample| sample.application.is_some_and(|it| it.workers == Some(4));
        watcher
            .until("the fourth worker", |watcher| told(watcher, 7901).last().is_some_and(|it| four(it)).then_some(()));
        assert_eq!((told(&watcher, 7901).len(), told(&watcher, 7902).len()), (2, 1));
        let at = Endpoint { ip: [127, 0, 0, 1].into(), port: 7902 };
        let listener = watcher.engine.model().listener_at(NetNs(netns()), at).unwrap();
        assert_eq!((listener.workers(), listener.at_once()), (Some(2), Some(8)));
    });
}
