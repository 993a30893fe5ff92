//! Processes as real servers showed them: gunicorn 20.1, uWSGI 2.0.21, Puma 5.6.5, PHP-FPM 8.2, uvicorn 0.17, Node.js 20.

use super::*;

/// A process tree with what its processes show.
#[derive(Default)]
struct Host {
    shown: HashMap<u32, Shown>,
    variables: HashMap<u32, Vec<String>>,
    files: Vec<&'static str>,
    pool: HashMap<u32, u32>,
    holders: Vec<Holder>,
}

impl Look for Host {
    fn shown(&self, pid: u32) -> Shown {
        self.shown.get(&pid).cloned().unwrap_or_default()
    }

    fn variables(&self, pid: u32, prefix: &str) -> Option<Vec<String>> {
        let all = self.variables.get(&pid).cloned().unwrap_or_default();
        Some(all.into_iter().filter(|variable| variable.starts_with(prefix)).collect())
    }

    fn has_file(&self, _: u32, name: &str) -> bool {
        self.files.contains(&name)
    }

    fn threads(&self, pid: u32, prefix: &str) -> u32 {
        assert_eq!(prefix, "puma srv tp ");
        self.pool.get(&pid).copied().unwrap_or(0)
    }
}

impl Host {
    /// One more process; its command line with `|` between the pieces.
    fn with(mut self, pid: u32, parent: u32, exe: &str, command: &str) -> Self {
        let args = Some(pieces(command.replace('|', "\0").as_bytes()));
        self.shown.insert(pid, Shown { args, exe: exe.to_owned() });
        self.holders.push(Holder { pid, parent });
        self
    }

    /// A first process with so many children like it.
    fn family(exe: &str, command: &str, children: u32) -> Self {
        let host = Self::default().with(10, 1, exe, command);
        (11..11 + children).fold(host, |host, pid| host.with(pid, 10, exe, command))
    }

    fn recognise(&self) -> Option<(Application, u32)> {
        recognise(&self.holders, self, &mut HashMap::new())
    }

    /// Workers, threads, and whether it is an event loop.
    fn told(&self) -> Option<(Software, Option<u32>, Option<u32>, bool)> {
        let Application { software, workers, threads, event_loop } = self.recognise()?.0;
        Some((software, workers, threads, event_loop))
    }
}

fn gunicorn(command: &str) -> (Option<u32>, bool) {
    let host = Host::family("python3.11", &format!("/usr/bin/python3|/usr/bin/gunicorn|{command}"), 2);
    let (software, workers, threads, event_loop) = host.told().unwrap();
    assert_eq!((software, workers), (Software::Gunicorn, Some(2)), "{command}");
    (threads, event_loop)
}

#[test]
fn gunicorns_threads_are_those_of_its_class() {
    for (command, threads, event_loop) in [
        ("-b|127.0.0.1:8001|-w|3|app:app", Some(1), false),
        ("-w|2|--threads|4|app:app", Some(4), false),
        ("--threads=4|-k|gthread|app:app", Some(4), false),
        ("-kgthread|app:app", Some(1), false),
        ("--threads|2|--threads|8|app:app", Some(8), false),
        ("--thr=5|app:app", Some(5), false),
        ("--worker-class|gevent|app:app", None, true),
        ("-k|uvicorn.workers.UvicornWorker|app:app", None, true),
        ("--worker-class=egg:gunicorn#tornado|--threads|4|app:app", None, true),
        ("-k|mine.Worker|app:app", None, false),
        ("-c|gunicorn.py|app:app", None, false),
        ("--config=gunicorn.py|--threads|4|app:app", None, false),
        ("-c|gunicorn.py|-k|gthread|--threads|4|app:app", Some(4), false),
        ("--chdir|/srv/app|app:app", None, false),
        ("--threads|many|app:app", None, false),
        ("--threads|0|app:app", None, false),
        ("--timeout|4|--worker-connections|7|app:app", Some(1), false),
    ] {
        assert_eq!(gunicorn(command), (threads, event_loop), "{command}");
    }
}

#[test]
fn gunicorns_settings_from_elsewhere_count() {
    let plain = || Host::family("python3.11", "python|/venv/bin/gunicorn|app:app", 2);
    let told = |host: &Host| host.told().map(|(_, workers, threads, _)| (workers, threads));
    let file = Host { files: vec!["gunicorn.conf.py"], ..plain() };
    assert_eq!(told(&file), Some((Some(2), None)), "what the file says is not known");
    let with = |variable: &str| Host { variables: HashMap::from([(10, vec![variable.to_owned()])]), ..plain() };
    assert_eq!(told(&with("GUNICORN_CMD_ARGS=--threads 6 -w 9")), Some((Some(2), Some(6))));
    assert_eq!(told(&with("GUNICORN_CMD_ARGS=--name 'a --threads 6'")), Some((Some(2), None)));
    assert_eq!(told(&with("HOME=--threads 6")), Some((Some(2), Some(1))));
}

#[test]
fn gunicorn_is_known_whatever_started_it() {
    for command in [
        "/usr/bin/python3|-m|gunicorn|-w|2|app",
        "python|-u|-X|dev|/opt/venv/bin/gunicorn|app",
        "gunicorn: master [app]",
    ] {
        let (software, workers, ..) = Host::family("python3.12", command, 2).told().unwrap();
        assert_eq!((software, workers), (Software::Gunicorn, Some(2)), "{command}");
    }
    assert_eq!(
        Host::family("python3.11", "gunicorn: master [app]", 2).told().unwrap().2,
        None,
        "its arguments have gone"
    );
    for command in ["python3|app.py", "python3|-c|import gunicorn", "python3", "", "python3|app.py|gunicorn"] {
        assert_eq!(Host::family("python3.11", command, 2).told(), None, "{command}");
    }
    // Anybody may give himself that title.
    assert_eq!(Host::family("evil", "gunicorn: master [app]", 2).told(), None);
}

#[test]
fn others_are_told_by_title_and_executable() {
    let puma = "puma 5.6.5 (tcp://127.0.0.1:8008) [app]";
    let uwsgi = "uwsgi|--plugin|python3|--http-socket|127.0.0.1:8006|--processes|3|--module|app";
    let node = Software::Node;
    for (exe, command, children, expected) in [
        (
            "php-fpm8.2",
            "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)",
            3,
            (Software::PhpFpm, Some(3), Some(1), false),
        ),
        // pm = ondemand, and nobody came.
        ("php-fpm", "php-fpm: master process (fpm.conf)", 0, (Software::PhpFpm, None, Some(1), false)),
        ("uwsgi-core", uwsgi, 2, (Software::Uwsgi, Some(3), Some(1), false)),
        ("uwsgi-core", &format!("{uwsgi}|--master"), 3, (Software::Uwsgi, Some(3), Some(1), false)),
        ("uwsgi-core", &format!("{uwsgi}|-M|--threads=2"), 3, (Software::Uwsgi, Some(3), Some(2), false)),
        ("uwsgi-core", &format!("{uwsgi}|--master|--gevent|100"), 3, (Software::Uwsgi, Some(3), None, true)),
        ("uwsgi-core", "uwsgi|--http|:80|--master|--module|app", 3, (Software::Uwsgi, None, Some(1), false)),
        ("uwsgi-core", "/usr/bin/uwsgi|--ini|/etc/uwsgi/app.ini", 3, (Software::Uwsgi, None, None, false)),
        ("uwsgi-core", "uwsgi|app.ini", 3, (Software::Uwsgi, None, None, false)),
        // Titles: what they were started with does not show.
        ("uwsgi-core", "uWSGI worker 2", 0, (Software::Uwsgi, None, None, false)),
        ("uwsgi-core", "the shop", 3, (Software::Uwsgi, None, None, false)),
        ("uwsgi-core", "uWSGI master", 3, (Software::Uwsgi, Some(3), None, false)),
        (
            "python3.11",
            "python3|/usr/bin/uvicorn|--port|8004|--workers|2|aapp:app",
            2,
            (Software::Uvicorn, Some(2), None, true),
        ),
        ("python3.11", "python3|-m|uvicorn|aapp:app", 0, (Software::Uvicorn, Some(1), None, true)),
        ("node", "node|server.js", 0, (node, None, None, true)),
        ("node", "my-app", 0, (node, None, None, true)),
        ("java", "java|-jar|app.jar", 0, (Software::Java, None, None, false)),
        ("nginx", "nginx: master process /usr/sbin/nginx", 4, (Software::Nginx, Some(4), None, true)),
        ("nginx", "nginx|-g|daemon off; master_process off;", 0, (Software::Nginx, Some(1), None, true)),
        ("ruby3.1", puma, 2, (Software::Puma, Some(2), None, false)),
        ("ruby3.1", puma, 0, (Software::Puma, None, None, false)),
    ] {
        assert_eq!(Host::family(exe, command, children).told(), Some(expected), "{exe} {command}");
    }
    for (exe, command) in [("ruby3.1", "puma|config.ru"), ("bash", "bash|php-fpm"), ("sshd", "sshd"), ("", "")] {
        assert_eq!(Host::family(exe, command, 2).told(), None, "{command}");
    }
}

#[test]
fn pumas_threads_are_those_that_it_has_begun() {
    let puma = Host::family("ruby3.1", "puma 5.6.5 (tcp://127.0.0.1:8008) [app]", 2);
    let busy = Host { pool: HashMap::from([(11, 2), (12, 5)]), ..puma };
    assert_eq!(busy.told(), Some((Software::Puma, Some(2), Some(5), false)));
    let single = Host::family("ruby3.1", "puma 6.4.2 (unix:///run/puma.sock) [app]", 0);
    let single = Host { pool: HashMap::from([(10, 5)]), ..single };
    assert_eq!(single.told(), Some((Software::Puma, Some(1), Some(5), false)));
}

#[test]
fn whoever_passed_the_listener_on_is_no_part_of_it() {
    let command = "python3|/usr/bin/gunicorn|app:app";
    let host = Host::default().with(1, 0, "systemd", "/sbin/init").with(10, 1, "python3.11", command);
    let host = host.with(11, 10, "python3.11", command).with(12, 10, "python3.11", command);
    let (application, first) = host.recognise().unwrap();
    assert_eq!((application.workers, application.threads, first), (Some(2), Some(1), 10));
}

#[test]
fn where_the_processes_do_not_fit_no_number_is_told() {
    let command = "python3|/usr/bin/gunicorn|--threads|2|app:app";
    let python = |host: Host, pid, parent| host.with(pid, parent, "python3.11", command);
    let workers = |host: &Host| host.told().map(|(_, workers, threads, _)| (workers, threads));
    // Two masters during an upgrade, the second started by the first; a worker that has children of its own.
    let upgrade = [(11, 10), (12, 10), (20, 10), (21, 20)];
    let upgrade =
        upgrade.iter().fold(python(Host::default(), 10, 1), |host, (pid, parent)| python(host, *pid, *parent));
    assert_eq!(workers(&upgrade), Some((None, Some(2))));
    // Workers whose master has died.
    let orphans = python(python(Host::default(), 11, 1), 12, 1);
    assert_eq!(workers(&orphans), Some((None, Some(2))));
    // Two servers on one address.
    let twice = [(11, 10), (20, 1), (21, 20), (22, 20)];
    let twice = twice.iter().fold(python(Host::default(), 10, 1), |host, (pid, parent)| python(host, *pid, *parent));
    assert_eq!(workers(&twice), Some((Some(3), Some(2))));
    let others = Host::default().with(10, 1, "python3.11", command).with(20, 1, "node", "node|a.js");
    assert_eq!(others.told(), None);
    // As many processes as anybody likes.
    let crowd = (10..10 + 100).fold(Host::default(), |host, pid| host.with(pid, 1, "node", "node|a.js"));
    assert_eq!(crowd.told(), None);
    assert_eq!(Host::default().told(), None);
}

#[test]
fn a_command_line_that_is_too_long_is_none() {
    let mut host = Host::family("uwsgi", "uwsgi|--master", 2);
    host.shown.insert(10, Shown { args: None, exe: "uwsgi".into() });
    assert_eq!(host.told(), Some((Software::Uwsgi, None, None, false)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cmdline");
    fs::write(&file, [b'a'; 9]).unwrap();
    assert_eq!(read(file.to_str().unwrap(), 8), None);
    assert_eq!(read(file.to_str().unwrap(), 9).map(|bytes| bytes.len()), Some(9));
}

#[test]
fn this_process_shows_itself() {
    let shown = Proc.shown(std::process::id());
    assert!(shown.exe.starts_with("observer"), "{shown:?}");
    assert!(shown.args.is_some_and(|args| !args.is_empty()));
    assert!(Proc.variables(std::process::id(), "PATH=").is_some_and(|variables| variables.len() == 1));
}
