//! What to change in the application, by what its processes show it to be; where they say nothing, in words.

use super::{Context, Snippet};
use crate::event::Software;

/// More workers.
pub(super) fn more_workers(context: &Context<'_>) -> Snippet {
    let title = "more workers";
    let why = match (context.needed(), context.arrivals(), context.seconds_each(), context.workers_to_have()) {
        (Some(needed), Some(rate), Some(seconds), Some(have)) => {
            format!(
                "{needed} are needed at {rate:.1} requests a second and {seconds:.1} s each; {have} leaves a fifth to \
                 spare"
            )
        }
        (Some(needed), _, _, Some(have)) => format!("{needed} are needed; {have} leaves a fifth to spare"),
        _ => "WORKERS: not measured here; requests a second x seconds each, and a fifth more".to_owned(),
    };
    let count = context.workers_to_have().map_or_else(|| "WORKERS".to_owned(), |count| count.to_string());
    let times = context.workers().zip(context.workers_to_have()).map(|(now, have)| have.div_ceil(now));
    // Where each worker has several threads, the advice leaves it as many.
    let threads_now = context.threads().filter(|threads| *threads > 1);
    let more = times.map_or_else(|| "TIMES".to_owned(), |times| times.to_string());
    match context.software() {
        Some(Software::Gunicorn) => {
            let lines = more_of_gunicorn(context, &count, times, threads_now);
            let lines: Vec<_> = std::iter::once(format!("# {why}")).chain(lines).collect();
            Snippet::new(title, "sh", &lines.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Some(Software::Uvicorn) => {
            Snippet::new(title, "sh", &[&format!("# {why}"), &format!("uvicorn --workers {count} APP")])
        }
        Some(Software::Uwsgi) => Snippet::new(
            title,
            "ini",
            &[
                "[uwsgi]",
                &format!("; {why}"),
                &format!("processes = {count}"),
                &match threads_now {
                    Some(threads) => format!("threads = {threads}   ; as now"),
                    None => "; or, where requests wait rather than compute, also: threads = N".to_owned(),
                },
            ],
        ),
        Some(Software::PhpFpm) => Snippet::new(
            title,
            "ini",
            &[
                &format!("; {why}"),
                "; mind the memory: each child takes as much as it does now (ps -o rss= -C php-fpm)",
                &format!("pm.max_children = {count}"),
            ],
        ),
        Some(Software::Node) => Snippet::new(
            title,
            "js",
            &[
                &format!("// {why}"),
                "const cluster = require('node:cluster');",
                &format!("if (cluster.isPrimary) for (let i = 0; i < {count}; i++) cluster.fork();"),
                "else require('./server.js');",
            ],
        ),
        Some(Software::Puma) => Snippet::new(
            title,
            "ruby",
            &[
                &format!("# {why}"),
                &match threads_now {
                    Some(threads) => format!("# with as many threads each as now: {threads}"),
                    None => "# with as many threads each as now".to_owned(),
                },
                &format!("workers {count}"),
            ],
        ),
        Some(Software::Java) => Snippet::new(
            title,
            "properties",
            &[
                "# Spring Boot; in Tomcat's server.xml: <Connector … maxThreads=\"THREADS\">",
                &format!("# THREADS: {more} times what it is now (200 by default); the database's pool must bear it"),
                "server.tomcat.threads.max=THREADS",
            ],
        ),
        Some(Software::Nginx) => Snippet::new(
            title,
            "nginx",
            &["worker_processes auto;   # one for each processor; what takes so long is behind it"],
        ),
        None => Snippet::new(
            title,
            "text",
            &[
                &format!("# {why}"),
                &format!("# gunicorn   --workers {count}"),
                &format!("# uWSGI      processes = {count}"),
                &format!("# php-fpm    pm.max_children = {count}"),
                &format!("# puma       workers {count}"),
            ],
        ),
    }
}

/// gunicorn's workers or threads: so many workers, or so many times the threads.
fn more_of_gunicorn(context: &Context<'_>, count: &str, times: Option<u32>, threads_now: Option<u32>) -> Vec<String> {
    if context.facts.application.is_some_and(|application| application.event_loop) {
        return vec![format!("gunicorn --workers {count} APP")];
    }
    let (waits, kept) = match threads_now {
        Some(threads) => (
            format!("more threads in each worker than the {threads} of now."),
            format!(" --worker-class gthread --threads {threads}"),
        ),
        None => ("threads, if a worker has one now.".to_owned(), String::new()),
    };
    let threads = times.map(|times| times.saturating_mul(threads_now.unwrap_or(1)));
    let threads = match context.workers().zip(threads) {
        Some((now, threads)) => format!("gunicorn --worker-class gthread --workers {now} --threads {threads} APP"),
        None => "gunicorn --worker-class gthread --workers PROCESSES --threads THREADS APP".to_owned(),
    };
    vec![
        format!("# Requests that wait (for a database, another service): {waits}"),
        threads,
        "# Requests that compute: processes, as far as processors and memory bear.".to_owned(),
        format!("gunicorn --workers {count}{kept} APP"),
    ]
}

/// A longer accept queue, and the sysctl that lets it be.
pub(super) fn longer_queue(context: &Context<'_>) -> Vec<Snippet> {
    let title = "a longer accept queue, against bursts";
    let (_, limit) = context.queue();
    let backlog = context.backlog();
    let why = match (limit, context.arrivals()) {
        (Some(limit), Some(rate)) => format!("at least twice the {limit} of now and one second's {rate:.0} arrivals"),
        (Some(limit), None) => format!("at least twice the {limit} of now"),
        _ => "BACKLOG: the limit of now is not known here; ss -ltn shows it as Send-Q".to_owned(),
    };
    let count = backlog.map_or_else(|| "BACKLOG".to_owned(), |count| count.to_string());
    let port = context.port().map_or_else(|| "PORT".to_owned(), |port| port.to_string());
    let own = match context.software() {
        Some(Software::Gunicorn) => {
            Snippet::new(title, "sh", &[&format!("# {why}"), &format!("gunicorn --backlog {count} APP")])
        }
        Some(Software::Uvicorn) => {
            Snippet::new(title, "sh", &[&format!("# {why}"), &format!("uvicorn --backlog {count} APP")])
        }
        Some(Software::Uwsgi) => Snippet::new(
            title,
            "ini",
            &[
                "[uwsgi]",
                &format!("; {why}; 100 by default"),
                "; more than net.core.somaxconn, and it does not start",
                &format!("listen = {count}"),
            ],
        ),
        Some(Software::PhpFpm) => {
            Snippet::new(title, "ini", &[&format!("; {why}; 511 by default"), &format!("listen.backlog = {count}")])
        }
        Some(Software::Node) => Snippet::new(
            title,
            "js",
            &[&format!("// {why}; 511 by default"), &format!("server.listen({{ port: {port}, backlog: {count} }});")],
        ),
        Some(Software::Puma) => Snippet::new(
            title,
            "ruby",
            &[
                &format!("# {why}; 1024 by default"),
                &format!("bind 'tcp://0.0.0.0:{port}?backlog={count}'   # with the address of now"),
            ],
        ),
        Some(Software::Java) => Snippet::new(
            title,
            "properties",
            &[
                &format!("# {why}; 100 by default"),
                &format!("# Spring Boot; in Tomcat's server.xml: <Connector … acceptCount=\"{count}\">"),
                &format!("server.tomcat.accept-count={count}"),
            ],
        ),
        Some(Software::Nginx) => Snippet::new(
            title,
            "nginx",
            &[
                &format!("# {why}; 511 by default"),
                &format!("listen {port} backlog={count};   # with the address of now"),
            ],
        ),
        None => Snippet::new(
            title,
            "text",
            &[
                &format!("# the application's backlog, {count}: {why}"),
                &format!("# gunicorn --backlog {count}, uWSGI listen = {count}, php-fpm listen.backlog = {count}"),
                "# Go and others take net.core.somaxconn, as it is when they begin to listen",
            ],
        ),
    };
    let bounded = backlog.zip(context.somaxconn()).is_none_or(|(backlog, most)| backlog > most);
    let mut snippets = vec![own];
    if bounded {
        snippets.push(somaxconn(context));
    }
    snippets
}

/// `net.core.somaxconn`: the kernel's default unless the backlog is to be longer.
pub(super) fn somaxconn(context: &Context<'_>) -> Snippet {
    let most = context.backlog().unwrap_or_default().max(crate::diagnose::queue::DEFAULT_SOMAXCONN);
    let (_, limit) = context.queue();
    let now = context.somaxconn().or(limit.filter(|_| context.has("backlog-clamped")));
    let now =
        now.map_or_else(|| "# net.core.somaxconn bounds every backlog".to_owned(), |now| format!("# it is {now} now"));
    let command = context.by_upstream(&format!("sysctl -w net.core.somaxconn={most}"));
    Snippet::new(
        "raise net.core.somaxconn",
        "sh",
        &[
            &now,
            "# where the upstream runs: every network namespace has its own",
            &command,
            &format!("# to keep it: echo 'net.core.somaxconn = {most}' > /etc/sysctl.d/60-backlog.conf"),
            "# for a container: docker run --sysctl, Kubernetes securityContext.sysctls",
            "# then restart the application: a listener takes its limit when it begins to listen",
        ],
    )
}

/// Keeps idle connections longer than the proxy does.
pub(super) fn keep_longer(context: &Context<'_>, seconds: u32) -> Snippet {
    let title = "have the application keep idle connections, and longer than the proxy";
    let why = format!("longer than the 60 s for which nginx keeps them by default: {seconds}");
    match context.software() {
        Some(Software::Gunicorn) => Snippet::new(
            title,
            "sh",
            &[
                &format!("# {why}; 2 by default"),
                "# sync workers keep none at all: gthread or an asynchronous class",
                &format!("gunicorn --worker-class gthread --keep-alive {seconds} APP"),
            ],
        ),
        Some(Software::Uvicorn) => Snippet::new(
            title,
            "sh",
            &[&format!("# {why}; 5 by default"), &format!("uvicorn --timeout-keep-alive {seconds} APP")],
        ),
        Some(Software::Node) => Snippet::new(
            title,
            "js",
            &[
                &format!("// {why}; 5 by default"),
                &format!("server.keepAliveTimeout = {seconds}_000;"),
                &format!("server.headersTimeout = {}_000;   // above it", seconds + 1),
            ],
        ),
        Some(Software::Puma) => {
            Snippet::new(title, "ruby", &[&format!("# {why}"), &format!("persistent_timeout {seconds}")])
        }
        Some(Software::Java) => Snippet::new(
            title,
            "properties",
            &[
                &format!("# {why}"),
                &format!("# Spring Boot; in Tomcat's server.xml: <Connector … keepAliveTimeout=\"{seconds}000\">"),
                &format!("server.tomcat.keep-alive-timeout={seconds}s"),
            ],
        ),
        Some(Software::Nginx) => {
            Snippet::new(title, "nginx", &[&format!("# {why}"), &format!("keepalive_timeout {seconds}s;")])
        }
        Some(Software::Uwsgi | Software::PhpFpm) | None => Snippet::new(
            title,
            "text",
            &[&format!(
                "# its timeout for idle connections, {why} (gunicorn --keep-alive, uvicorn --timeout-keep-alive)"
            )],
        ),
    }
}

/// A longer patience of the master with a worker.
pub(super) fn worker_patience(context: &Context<'_>, waited: Option<f64>) -> Snippet {
    let title = "only if such requests are meant to take that long: more patience";
    let why = match waited {
        Some(seconds) => format!("SECONDS: above the slowest good request; this one was ended after {seconds:.1} s"),
        None => "SECONDS: above the slowest good request; not measured here".to_owned(),
    };
    match context.software() {
        Some(Software::Gunicorn) => Snippet::new(
            title,
            "sh",
            &[
                &format!("# {why}; 30 by default"),
                "gunicorn --timeout SECONDS APP",
                "# or, where a slow request is no silence of its worker:",
                "gunicorn --worker-class gthread APP",
            ],
        ),
        Some(Software::Uwsgi) => Snippet::new(title, "ini", &["[uwsgi]", &format!("; {why}"), "harakiri = SECONDS"]),
        Some(Software::PhpFpm) => Snippet::new(
            title,
            "ini",
            &[
                &format!("; {why}"),
                "request_terminate_timeout = SECONDS",
                "; a stack trace of what is slow, after 5 s",
                "request_slowlog_timeout = 5s",
                "slowlog = /var/log/php-fpm-slow.log",
            ],
        ),
        Some(Software::Puma) => {
            Snippet::new(title, "ruby", &[&format!("# {why}; 60 by default"), "worker_timeout SECONDS"])
        }
        _ => Snippet::new(
            title,
            "text",
            &[
                &format!("# {why}"),
                "# gunicorn --timeout, uWSGI harakiri, php-fpm request_terminate_timeout, puma worker_timeout",
            ],
        ),
    }
}

/// A restart that does not close the listener.
pub(super) fn gentle_restart(context: &Context<'_>) -> Snippet {
    let title = "restart without closing the listener";
    let socket = match (context.port(), context.verdict.upstream.path) {
        (Some(port), _) => format!("ListenStream={port}"),
        (None, Some(path)) if super::shell::is_plain(path.as_str()) => format!("ListenStream={}", path.as_str()),
        _ => "ListenStream=ADDRESS".to_owned(),
    };
    let lines: &[&str] = match context.software() {
        Some(Software::Gunicorn) => {
            &["kill -HUP MASTER   # MASTER: gunicorn's first process; new workers, the same listener"]
        }
        Some(Software::Uwsgi) => {
            &["kill -HUP MASTER   # MASTER: uWSGI's first process; new workers, the same listener"]
        }
        Some(Software::PhpFpm) => {
            &["kill -USR2 MASTER   # MASTER: php-fpm's first process; with process_control_timeout set, requests end \
               first"]
        }
        Some(Software::Puma) => {
            &["kill -USR1 MASTER   # MASTER: puma's first process; workers one after the other (without preload_app!)"]
        }
        Some(Software::Nginx) => &["nginx -s reload"],
        _ => {
            return Snippet::new(
                "keep the listener open over restarts, by systemd",
                "ini",
                &[
                    "# SERVICE.socket, beside SERVICE.service; the application must take the socket handed to it \
                     (LISTEN_FDS)",
                    "[Socket]",
                    &socket,
                    "[Install]",
                    "WantedBy=sockets.target",
                ],
            );
        }
    };
    Snippet::new(title, "sh", lines)
}

/// Brought back when it ends.
pub(super) fn brought_back() -> Snippet {
    Snippet::new(
        "have it brought back when it ends",
        "ini",
        &[
            "# systemctl edit SERVICE (SERVICE: the application's unit)",
            "[Service]",
            "Restart=on-failure",
            "RestartSec=1s",
        ],
    )
}
