//! Requests that were sent and not answered well.

use super::{Check, Context, Remedy, Snippet, proxies, queues, shell, software, under};
use crate::{event::Software, time::Human};

/// What hides a connection that ended with a request on it.
const REPEAT: &str = "Repeating requests that are not idempotent to hide it (nginx: non_idempotent; HAProxy: retry-on \
                      all-retryable-errors): they may have been carried out already.";

/// What the upstream's process does now, if it is on this host.
fn at_work(context: &Context<'_>) -> Vec<Check> {
    let Some(pid) = context.listener_pid() else { return Vec::new() };
    let tool = match context.software() {
        Some(Software::Java) => Some(format!("jstack {pid}")),
        Some(Software::Gunicorn | Software::Uvicorn | Software::Uwsgi) => Some(format!("py-spy dump --pid {pid}")),
        _ => None,
    };
    let states = Check {
        command: format!("ps -o pid,ppid,stat,wchan:24,etime,comm -p {pid} --ppid {pid}"),
        expect: "the process that has the listener and its children: D waits for a disk, R computes, S waits"
            .to_owned(),
    };
    let stack = tool.map(|command| Check {
        command,
        expect: "what it does; take the pid of a busy child from the list above".to_owned(),
    });
    [states].into_iter().chain(stack).collect()
}

pub(in crate::diagnose) fn upstream_timeout(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let never = context.flag("never_accepted");
    let time = context.time("waited_ms");
    let what = if never {
        let time = time.map(|time| format!(" {time}")).unwrap_or_default();
        format!(
            "The kernel of {at} had taken connection and request, but the application never accepted it: it \
             waited{time} in the accept queue."
        )
    } else {
        let time = time.map(|time| format!(" in {time}")).unwrap_or_default();
        format!("{at} acknowledged the whole request, and sent not one byte of an answer{time}.")
    };
    let status = context.verdict.status.map(|_| {
        format!("{}: the proxy's timer for reading ended first; the request may still be at work.", context.client())
    });
    let remedy = Remedy::default()
        .say(what)
        .maybe_say(status)
        .say(context.sure(
            "all of the request was acknowledged, nothing came back, and the proxy's answer was seen",
            "a client that leaves makes the proxy close just the same",
        ))
        .look(proxies::log(
            context,
            "upstream timed out (110: Connection timed out) while reading response header from upstream",
            "sH",
        ));
    let remedy = if never {
        remedy.look([queues::waiting(context)])
    } else {
        remedy.check(
            context.by_proxy(&format!("ss -tnoi {}", under::destination(context))),
            "established connections with bytes_acked and lastrcv: that grows: asked, and not answered",
        )
    };
    let remedy = remedy.look(at_work(context));
    let remedy = if never && context.verdict.because.is_none() {
        remedy.change([software::more_workers(context)])
    } else {
        remedy
    };
    let remedy = if never { remedy } else { remedy.change([proxies::read_timeout(context)]) };
    remedy
        .never(queues::LONGER_TIMEOUTS)
        .never("Repeating requests that are not idempotent: what is slow is then done twice.")
}

pub(in crate::diagnose) fn upstream_reset(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let reason =
        context.text("reset_reason").map(|reason| format!(" (the kernel's reason: {reason})")).unwrap_or_default();
    let unread = context.count("unread_bytes").filter(|unread| *unread > 0);
    let accepted = context.flag("accepted");
    let why = match (unread, context.text("reset_reason")) {
        (Some(unread), _) if accepted => format!(
            "{unread} bytes of the request lay unread when the application closed, and the kernel makes a RST of that."
        ),
        (_, Some("TCP_ABORT_ON_CLOSE")) if accepted => {
            "Part of the request lay unread when the application closed, and the kernel makes a RST of that.".to_owned()
        }
        _ if accepted => {
            "A process had the connection, and it did not end in an orderly way: closed hard (SO_LINGER 0), or given \
             up by the kernel."
                .to_owned()
        }
        _ if context.has("listener-restarted") => {
            "No process had accepted the connection: it went with the listener.".to_owned()
        }
        (_, None) => {
            "Why it was sent, the sending kernel knows: unread data, SO_LINGER 0, a listener closed, a firewall."
                .to_owned()
        }
        _ => "No process had the connection any more when it was sent.".to_owned(),
    };
    let sender = match (context.text("sender_comm"), context.count("sender_pid").filter(|pid| *pid != 0)) {
        (Some(comm), Some(pid)) => format!(" by {comm}[{pid}]"),
        _ => String::new(),
    };
    let status = context
        .verdict
        .status
        .map(|_| format!("{}: the connection was gone before a whole answer was there.", context.client()));
    let remedy = Remedy::default()
        .say(format!("{at} sent a RST{sender} with a request outstanding{reason}."))
        .say(why)
        .maybe_say(status)
        .say(context.sure("the RST was seen where it was sent", "the RST came, and its sender's side was not seen"))
        .look(proxies::log(
            context,
            "recv() failed (104: Connection reset by peer) while reading response header from upstream",
            "SH or SD",
        ))
        .check(
            context.by_upstream("nstat -az TcpOutRsts TcpExtTCPAbortOnClose TcpExtTCPAbortOnData"),
            format!(
                "{}TCPAbortOnClose rises with unread data, TCPAbortOnData with data after the close",
                context.there()
            ),
        )
        .check(
            format!("journalctl -u {} -n 50", context.unit()),
            format!("{}an exception, a limit or an end at these times", context.there()),
        );
    let remedy = if unread.is_some() && accepted {
        remedy.change(
            [Snippet::new(
                "if bodies are too big for the application: turn them away in the proxy",
                "nginx",
                &["# BYTES: the application's own limit; not known here", "client_max_body_size BYTES;"],
            )]
            .into_iter()
            .filter(|_| context.proxy() == proxies::Proxy::Nginx),
        )
    } else {
        remedy
    };
    let remedy = if context.verdict.because.is_none() && remedy.snippets.is_empty() {
        remedy.no_setting("the application ends the connection itself, and its log says why")
    } else {
        remedy
    };
    remedy.never(REPEAT).never("A larger backlog: a reset of an accepted connection is none of the queue's.")
}

pub(in crate::diagnose) fn upstream_closed_early(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let after = context.time("waited_ms").map(|waited| format!(" {waited} after the request")).unwrap_or_default();
    let before = context.count("requests_before").filter(|requests| *requests > 0);
    let used = match before {
        Some(requests) => format!("The connection had served {requests} requests before."),
        None => "It was the first request on that connection.".to_owned(),
    };
    let by = context.text("closed_by").map(|by| format!("; {by} closed it and lives on")).unwrap_or_default();
    let status = context.verdict.status.map(|_| format!("{}: a FIN where a header was due.", context.client()));
    let remedy = Remedy::default()
        .say(format!("{at} closed the connection{after} without a whole answer{by}."))
        .say(used)
        .maybe_say(status)
        .say(context.sure(
            "the FIN came with a request outstanding that had been taken",
            "the FIN came with a request outstanding",
        ))
        .look(proxies::log(
            context,
            "upstream prematurely closed connection while reading response header from upstream",
            "SH",
        ))
        .check(
            format!("journalctl -u {} -n 50", context.unit()),
            format!("{}an exception, a timeout of its own, or the end of a worker at these times", context.there()),
        )
        .check(
            "journalctl -k -g 'out of memory|oom-kill|segfault' -n 20",
            format!("{}no line, unless the kernel ended the process", context.there()),
        );
    let remedy = match (before, context.verdict.upstream.endpoint) {
        (None, Some(endpoint)) => remedy.check(
            format!(
                "timeout 5 {} </dev/null",
                context.by_proxy(&format!("openssl s_client -connect {}", shell::quote(&endpoint.to_string())))
            ),
            "a certificate, if TLS is what the port speaks and the proxy does not",
        ),
        _ => remedy,
    };
    let remedy = match (context.verdict.because, before, context.proxy()) {
        (Some(_), _, _) => remedy,
        (None, None, proxies::Proxy::Nginx) => remedy.change([Snippet::new(
            "only if every request fails and the port speaks TLS",
            "nginx",
            &[&format!("proxy_pass https://{};", context.server())],
        )]),
        (None, None, proxies::Proxy::Haproxy) => remedy.change([Snippet::new(
            "only if every request fails and the port speaks TLS",
            "haproxy",
            &[
                "backend app",
                &format!(
                    "    server app1 {} ssl verify required ca-file CA   # CA: file of whoever signed it",
                    context.server()
                ),
            ],
        )]),
        _ => remedy.no_setting("the application closes without an answer, and its log says why"),
    };
    remedy.never(REPEAT).never("A larger backlog: a full queue never looks like this.")
}

pub(in crate::diagnose) fn keepalive_race(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let idle = context.time("idle_ms").map(|idle| format!(" that had been idle for {idle}")).unwrap_or_default();
    let closes = under::closes_after(context);
    let timer = closes.map(|after| format!("The upstream was seen to close idle connections after {}.", Human(after)));
    let status = context.verdict.status.map(|_| {
        format!(
            "{}: the request was never read, but the proxy repeats by itself only what is idempotent.",
            context.client()
        )
    });
    Remedy::default()
        .say(format!(
            "The proxy sent a request on a kept connection to {at}{idle}, when the upstream was closing it, or had."
        ))
        .maybe_say(timer)
        .maybe_say(status)
        .say(context.sure(
            "the close did not acknowledge the request, or was there before it",
            "a RST came at once on a connection that had lain idle; its sender's side was not seen",
        ))
        .look(proxies::log(context, "upstream prematurely closed connection\" or \"recv() failed (104", "SH or SD"))
        .check(
            context.by_proxy(&format!("ss -tno {}", under::destination(context))),
            "idle connections in CLOSE-WAIT now and then: the upstream has closed those, the proxy not yet",
        )
        .change([proxies::let_go_first(context, closes), software::keep_longer(context, proxies::OUTLAST_SECONDS)])
        .never(REPEAT)
        .never("A longer timeout for idle connections in the proxy.")
        .never("Turning keepalive off: the race is gone, and a handshake and a port for each request are the price.")
}

pub(in crate::diagnose) fn bad_response(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let received = context.count("bytes_received");
    let bytes = received.map_or_else(|| "something".to_owned(), |bytes| format!("{bytes} bytes"));
    let http = context.count("upstream_status");
    // The bytes that fill nginx's buffer where that is a page, its default.
    let said = context.verdict.log.as_ref().filter(|log| log.agrees).map(|log| log.said.as_str());
    let big = match said {
        Some(said) => said.contains("too big header"),
        None => http.is_some() && received.is_some_and(|bytes| bytes >= 4096),
    };
    let what = match http {
        _ if said.is_some() => format!("The proxy says what it disliked: {}.", said.unwrap_or_default()),
        Some(status) if big => {
            format!("It began an HTTP {status} whose header is too big for the proxy's buffer, most likely.")
        }
        Some(status) => {
            format!("It began an HTTP {status} with a header that the proxy does not allow, most likely.")
        }
        None => "It was no HTTP answer that the proxy could read: another protocol, most likely.".to_owned(),
    };
    let status = context.verdict.status.map(|_| {
        format!("{}: the proxy closed at once after reading it, without an error of the connection.", context.client())
    });
    let target = context.target();
    let asked = target.unwrap_or("/");
    let fetch = match context.verdict.upstream.endpoint {
        Some(endpoint) => {
            context.by_proxy(&format!("curl -sv --raw --max-time 10 'http://{endpoint}{asked}' -o /dev/null"))
        }
        None => format!(
            "curl -sv --raw --max-time 10 --unix-socket {} http://app{asked} -o /dev/null",
            context.path().unwrap_or_else(|| "SOCKET".to_owned())
        ),
    };
    let expect =
        if target.is_some() { "the header as it is" } else { "the header as it is; put the path that fails for /" };
    let remedy = Remedy::default()
        .say(format!("{at} sent {bytes} in answer, and the proxy gave that up."))
        .say(what)
        .maybe_say(status)
        .say(context.sure(
            "the proxy's log has it",
            if said.is_some() { "it is the proxy's own word" } else { "what the proxy disliked only its log tells" },
        ))
        .look(proxies::log(
            context,
            if big {
                "upstream sent too big header"
            } else {
                "upstream sent invalid header\" or \"upstream sent no valid HTTP/1.0 header"
            },
            "PH",
        ))
        .check(fetch, expect);
    let remedy = match (http, big) {
        (_, true) => remedy.change([proxies::buffers(context)]),
        (Some(_), false) => remedy.no_setting("the application's header must be mended; the proxy's log names it"),
        (None, _) => remedy.change([protocols(context)]),
    };
    remedy
        .never("Very large buffers everywhere: each connection has its own, and what fills the header goes on growing.")
}

/// How a proxy is told which protocol to speak.
fn protocols(context: &Context<'_>) -> Snippet {
    let title = "have both speak the same protocol";
    let server = context.server();
    match context.proxy() {
        proxies::Proxy::Nginx => Snippet::new(
            title,
            "nginx",
            &[
                "# the one of these that the application speaks on that port",
                &format!("proxy_pass http://{server};"),
                &format!("proxy_pass https://{server};"),
                &format!("grpc_pass grpc://{server};"),
                &format!("fastcgi_pass {server};"),
                &format!("uwsgi_pass {server};"),
            ],
        ),
        proxies::Proxy::Haproxy => Snippet::new(
            title,
            "haproxy",
            &[
                "# the one of these that the application speaks on that port; CA: file of whoever signed its \
                 certificate",
                &format!("    server app1 {server}"),
                &format!("    server app1 {server} ssl verify required ca-file CA"),
                &format!("    server app1 {server} proto h2"),
            ],
        ),
        proxies::Proxy::Other => {
            Snippet::new(title, "text", &[&format!("# plain HTTP, TLS, HTTP/2 or FastCGI towards {server}")])
        }
    }
}
