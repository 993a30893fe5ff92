//! What to change in the proxy, and where its log says what happened: nginx and HAProxy by their own directives, others in
//! words.

use std::time::Duration;

use super::{Check, Context, Snippet};
use crate::{event::Software, time::Human};

/// A proxy whose configuration is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    /// nginx, or what is built of it.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Another, told in words.
    Other,
}

/// `worker_rlimit_nofile` to begin with, unless twice the present limit is more.
const OPEN_FILES: u32 = 65_536;
/// Fewer requests a second than this are limited by the minute.
const COARSE: f64 = 10.0;
/// nginx's `keepalive_timeout` for upstreams unless told otherwise, and what an application is to outlast it by.
pub(super) const OUTLAST_SECONDS: u32 = 65;

impl Proxy {
    pub(super) fn of(comm: &str) -> Self {
        match comm {
            "nginx" | "openresty" => Self::Nginx,
            "haproxy" => Self::Haproxy,
            _ => Self::Other,
        }
    }
}

/// Where the proxy itself says it, unless that is known: nginx by the words of its error log, HAProxy by the state at the end of its line.
pub(super) fn log(context: &Context<'_>, nginx: &str, haproxy: &str) -> Option<Check> {
    if context.verdict.log.is_some() {
        return None;
    }
    match context.proxy() {
        Proxy::Nginx => Some(Check {
            command: "grep -h upstream /var/log/nginx/error.log | tail".to_owned(),
            expect: format!("\"{nginx}\" at the times of these failures (error_log says where else it may be)"),
        }),
        Proxy::Haproxy if !haproxy.is_empty() => Some(Check {
            command: "journalctl -u haproxy -n 100".to_owned(),
            expect: format!("lines of option httplog that end with the state {haproxy}"),
        }),
        _ => None,
    }
}

/// Of the directives by which nginx talks to this application: `proxy`, `fastcgi` or `uwsgi`.
fn module(context: &Context<'_>) -> &'static str {
    match context.software() {
        Some(Software::PhpFpm) => "fastcgi",
        Some(Software::Uwsgi) => "uwsgi",
        _ => "proxy",
    }
}

fn in_words(context: &Context<'_>, title: &str, what: &str) -> Snippet {
    let comm = &context.verdict.proxy.comm;
    let line = format!("# {}: {what}", if comm.is_empty() { "the proxy" } else { &**comm });
    Snippet::new(title, "text", &[&line])
}

/// Keeps connections to the upstream.
pub(super) fn keepalive(context: &Context<'_>) -> Snippet {
    let title = "keep connections to the upstream";
    let rate = context.connections_per_second().zip(context.seconds_each());
    let (count, why) = match (context.connections_to_keep(), rate) {
        (Some(count), Some((rate, seconds))) => (
            count.to_string(),
            format!(
                "{rate:.1} connections a second x {} each, and a fifth more; per worker process",
                Human(Duration::from_secs_f64(seconds.min(1e6)))
            ),
        ),
        _ => ("IDLE".to_owned(), "IDLE: not measured here; requests a second x seconds each".to_owned()),
    };
    let server = context.server();
    match (context.proxy(), module(context)) {
        (Proxy::Nginx, "uwsgi") => Snippet::new(
            title,
            "nginx",
            &[
                "# uwsgi_pass opens a connection for each request: its protocol knows no kept ones.",
                "# Where the application can speak HTTP (proxy_pass), nginx keeps connections to it:",
                "proxy_http_version 1.1;",
                "proxy_set_header Connection \"\";",
            ],
        ),
        (Proxy::Nginx, module) => {
            let location: &[&str] = if module == "fastcgi" {
                &["    fastcgi_pass app;", "    fastcgi_keep_conn on;"]
            } else {
                &[
                    "    proxy_pass http://app;",
                    "    proxy_http_version 1.1;          # these two: without them keepalive does nothing up to \
                     1.29.6",
                    "    proxy_set_header Connection \"\";",
                ]
            };
            let server = format!("    server {server};");
            let keep = format!("    keepalive {count};   # {why}");
            let mut lines = vec!["upstream app {", &server, &keep, "}", "location / {"];
            lines.extend(location);
            lines.push("}");
            Snippet::new(title, "nginx", &lines)
        }
        (Proxy::Haproxy, _) => Snippet::new(
            title,
            "haproxy",
            &[
                "backend app",
                "    option http-keep-alive      # and neither httpclose nor http-server-close, here or in defaults",
                "    http-reuse safe",
                &format!("    server app1 {server} pool-max-conn {}", if count == "IDLE" { "-1" } else { &count }),
                &format!("    # {}", if count == "IDLE" { "-1, the default, keeps any number" } else { &why }),
            ],
        ),
        (Proxy::Other, _) => in_words(context, title, "keep connections to the upstream open between requests"),
    }
}

/// Gives up early on a server that does not take connections, and tries another.
pub(super) fn fail_over(context: &Context<'_>) -> Snippet {
    let title = "meanwhile: give up early, and try a second server";
    let server = context.server();
    match context.proxy() {
        Proxy::Nginx => {
            let module = module(context);
            Snippet::new(
                title,
                "nginx",
                &[
                    "upstream app {",
                    &format!("    server {server};"),
                    "    server SECOND:PORT backup;   # SECOND: another instance of the application",
                    "}",
                    "location / {",
                    &format!("    {module}_connect_timeout 3s;"),
                    &format!("    {module}_next_upstream error timeout;"),
                    &format!("    {module}_next_upstream_tries 2;"),
                    &format!("    {module}_next_upstream_timeout 5s;"),
                    "}",
                ],
            )
        }
        Proxy::Haproxy => Snippet::new(
            title,
            "haproxy",
            &[
                "backend app",
                "    timeout connect 3s",
                "    retries 2",
                "    option redispatch",
                &format!("    server app1 {server} check"),
                "    server app2 SECOND:PORT check backup   # SECOND: another instance of the application",
            ],
        ),
        Proxy::Other => in_words(context, title, "wait 3 s for a connection, then try a second server, twice in all"),
    }
}

/// Turns away what the workers cannot do, before it queues.
pub(super) fn surplus(context: &Context<'_>) -> Snippet {
    let title = "turn away early what cannot be done";
    let can_do = context.can_do();
    // nginx takes whole numbers: by the minute where those of a second would be coarse.
    let rate = can_do.map(|rate| match rate {
        rate if rate < COARSE => format!("{:.0}r/m", (rate * 60.0).floor().max(1.0)),
        rate => format!("{:.0}r/s", rate.floor()),
    });
    let burst = can_do.map(|rate| format!("{:.0}", rate.ceil().max(1.0)));
    let workers = context.workers();
    match context.proxy() {
        Proxy::Nginx => {
            let why = match (can_do, workers) {
                (Some(does), Some(workers)) => {
                    format!("# {workers} workers do {does:.1} requests a second now; what comes above that gets a 429")
                }
                (Some(does), None) => {
                    format!("# {does:.1} requests a second are done now; what comes above that gets a 429")
                }
                (None, _) => "# RATE, BURST: requests a second that the workers can do; not measured here".to_owned(),
            };
            let rate = rate.unwrap_or_else(|| "RATEr/s".to_owned());
            let burst = burst.unwrap_or_else(|| "BURST".to_owned());
            Snippet::new(
                title,
                "nginx",
                &[
                    &why,
                    &format!("limit_req_zone $server_name zone=surplus:1m rate={rate};"),
                    "limit_req_status 429;",
                    "location / {",
                    &format!("    limit_req zone=surplus burst={burst} nodelay;"),
                    "}",
                ],
            )
        }
        Proxy::Haproxy => {
            let (count, why) = workers.map_or_else(
                || {
                    (
                        "WORKERS".to_owned(),
                        "WORKERS: how many requests the application can have at work at once; not measured here"
                            .to_owned(),
                    )
                },
                |workers| {
                    (
                        workers.to_string(),
                        "as many as there are workers: the rest waits in HAProxy, and gets a 503 after 5 s".to_owned(),
                    )
                },
            );
            Snippet::new(
                title,
                "haproxy",
                &[
                    "backend app",
                    "    timeout queue 5s",
                    &format!("    # {why}"),
                    &format!("    server app1 {} maxconn {count}", context.server()),
                ],
            )
        }
        Proxy::Other => {
            in_words(context, title, "limit the rate of requests to what the workers can do, and answer 429 above it")
        }
    }
}

/// Lets go of idle connections before the upstream does.
pub(super) fn let_go_first(context: &Context<'_>, closes_after: Option<Duration>) -> Snippet {
    let title = "let go of idle connections before the upstream does";
    let half = closes_after.map(|after| (after.as_secs() / 2).max(1));
    let why = match closes_after {
        Some(after) => format!("half of the {} after which the upstream closes", Human(after)),
        None => {
            "IDLE: below the upstream's own idle timeout, half of it is a good measure; not measured here".to_owned()
        }
    };
    let time = half.map_or_else(|| "IDLE".to_owned(), |seconds| format!("{seconds}s"));
    let server = context.server();
    match context.proxy() {
        Proxy::Nginx => Snippet::new(
            title,
            "nginx",
            &[
                "upstream app {",
                &format!("    server {server};"),
                "    keepalive IDLE_CONNECTIONS;      # as it is now",
                &format!("    keepalive_timeout {time};           # {why}"),
                "}",
            ],
        ),
        Proxy::Haproxy => Snippet::new(
            title,
            "haproxy",
            &[
                "backend app",
                "    http-reuse safe                  # the first request of a client goes on no idle connection",
                &format!("    server app1 {server} pool-purge-delay {time}   # {why}"),
                "    # half of the idle connections are closed every such time, so some stay longer",
            ],
        ),
        Proxy::Other => in_words(context, title, &format!("keep idle connections to the upstream for {time} ({why})")),
    }
}

/// Waits long only where that is meant.
pub(super) fn read_timeout(context: &Context<'_>) -> Snippet {
    let title = "wait long only on the paths that are meant to be slow";
    match context.proxy() {
        Proxy::Nginx => {
            let module = module(context);
            let pass = if module == "proxy" {
                "    proxy_pass http://app;".to_owned()
            } else {
                format!("    {module}_pass app;")
            };
            Snippet::new(
                title,
                "nginx",
                &[
                    "# SLOW, SECONDS: the path, and a little more than its slowest good request takes; not measured \
                     here",
                    "location /SLOW/ {",
                    &pass,
                    &format!("    {module}_read_timeout SECONDS;"),
                    "}",
                ],
            )
        }
        Proxy::Haproxy => Snippet::new(
            title,
            "haproxy",
            &[
                "# SLOW, SECONDS: the path, and a little more than its slowest good request takes; not measured here",
                "frontend web",
                "    use_backend slow if { path_beg /SLOW/ }",
                "backend slow",
                "    timeout server SECONDS",
                &format!("    server app1 {}", context.server()),
            ],
        ),
        Proxy::Other => in_words(context, title, "a longer timeout for answers on those paths alone"),
    }
}

/// Does not mark a server down for one hiccup.
pub(super) fn patience(context: &Context<'_>) -> Snippet {
    let title = "do not take all servers out for one hiccup";
    match context.proxy() {
        Proxy::Nginx => Snippet::new(
            title,
            "nginx",
            &[
                "upstream app {",
                "    server FIRST:PORT  max_fails=3 fail_timeout=5s;   # FIRST, SECOND: the servers as they are now",
                "    server SECOND:PORT max_fails=3 fail_timeout=5s;   # max_fails=0 never marks one down",
                "}",
            ],
        ),
        Proxy::Haproxy => Snippet::new(
            title,
            "haproxy",
            &[
                "backend app",
                "    # three checks in a row must fail, two must succeed",
                "    server app1 FIRST:PORT check inter 2s fall 3 rise 2",
            ],
        ),
        Proxy::Other => in_words(context, title, "let several failures in a row mark a server down, not one"),
    }
}

/// More open files and connections for the proxy.
pub(super) fn limits(context: &Context<'_>) -> Vec<Snippet> {
    let limit = context.count("open_files_limit");
    let files = limit.map_or(OPEN_FILES, |limit| limit.saturating_mul(2).next_power_of_two().max(OPEN_FILES));
    let why = match limit {
        Some(limit) => {
            format!("# at least twice the {limit} of now; connections: half of it, as each request takes two files")
        }
        None => "# where to begin; connections: half of it, as each request takes two files".to_owned(),
    };
    let half = files / 2;
    let own = match context.proxy() {
        Proxy::Nginx => Snippet::new(
            "more open files for nginx",
            "nginx",
            &[
                &why,
                &format!("worker_rlimit_nofile {files};"),
                "events {",
                &format!("    worker_connections {half};"),
                "}",
            ],
        ),
        Proxy::Haproxy => {
            let connections =
                format!("    maxconn {}   # a little less than half, for its own needs", half - half / 10);
            Snippet::new("more connections for HAProxy", "haproxy", &[&why, "global", &connections])
        }
        Proxy::Other => in_words(context, "more open files", &format!("raise its limit of open files to {files}")),
    };
    let unit = Snippet::new(
        "the same for its service",
        "ini",
        &[
            "# systemctl edit SERVICE, then restart it (SERVICE: the proxy's unit)",
            "[Service]",
            &format!("LimitNOFILE={files}"),
        ],
    );
    vec![own, unit]
}

/// Room for bigger headers.
pub(super) fn buffers(context: &Context<'_>) -> Snippet {
    let title = "room for a bigger header";
    // What was received is where the proxy gave up, so the header is bigger than that.
    let received = context.count("bytes_received").unwrap_or_default();
    let size = received.saturating_mul(2).next_power_of_two().clamp(16_384, 65_536);
    let why = format!("# at least {received} bytes came before it gave up; the header itself may be bigger");
    match context.proxy() {
        Proxy::Nginx => {
            let module = module(context);
            let k = size / 1024;
            Snippet::new(
                title,
                "nginx",
                &[&why, &format!("{module}_buffer_size {k}k;"), &format!("{module}_buffers 8 {k}k;")],
            )
        }
        Proxy::Haproxy => {
            let size =
                format!("    tune.bufsize {}   # 16384 by default; memory of every connection", size.max(32_768));
            Snippet::new(title, "haproxy", &[&why, "global", &size])
        }
        Proxy::Other => in_words(context, title, &format!("let the header of an answer have {size} bytes")),
    }
}

/// Notices that an idle connection has been forgotten on the way.
pub(super) fn probe_idle(context: &Context<'_>) -> Snippet {
    let title = "notice idle connections that something in between forgot";
    match context.proxy() {
        Proxy::Nginx => {
            let line = format!("{}_socket_keepalive on;", module(context));
            Snippet::new(
                title,
                "sh",
                &[
                    "# in nginx's location:",
                    &format!("#   {line}"),
                    "# and, where the proxy runs, the first probe before what is in between forgets (by default after \
                     7200 s):",
                    "sysctl -w net.ipv4.tcp_keepalive_time=SECONDS   # SECONDS: below its idle timeout; not measured \
                     here",
                ],
            )
        }
        Proxy::Haproxy => Snippet::new(title, "haproxy", &["backend app", "    option srvtcpka"]),
        Proxy::Other => in_words(context, title, "TCP keepalive on the connections to the upstream"),
    }
}

/// More ports by more destinations.
pub(super) fn more_destinations(context: &Context<'_>) -> Snippet {
    let title = "spread over more destinations: each has all ports to itself";
    let server = context.server();
    let why = "SECOND:PORT: the same application on another address or port";
    match context.proxy() {
        Proxy::Nginx => Snippet::new(
            title,
            "nginx",
            &["upstream app {", &format!("    server {server};"), &format!("    server SECOND:PORT;   # {why}"), "}"],
        ),
        Proxy::Haproxy => Snippet::new(
            title,
            "haproxy",
            &["backend app", &format!("    server app1 {server}"), &format!("    server app2 SECOND:PORT   # {why}")],
        ),
        Proxy::Other => in_words(context, title, "a second server on another address or port"),
    }
}
