//! Connects to unix sockets that failed at once: nobody there, no such path, no right.

use super::{Check, Context, Remedy, Snippet, proxies, shell, software};
use crate::event::Software;

/// Who listens at the path.
fn listeners(context: &Context<'_>, expect: &str) -> Check {
    let path = context.verdict.upstream.path;
    let command = match path.filter(|path| shell::is_plain(path.as_str())) {
        Some(path) => format!("ss -xlp src {}", path.as_str()),
        None => "ss -xlp".to_owned(),
    };
    Check { command: context.by_upstream(&command), expect: expect.to_owned() }
}

/// What the proxy sees at the path.
fn seen_by_proxy(context: &Context<'_>, command: &str, expect: &str) -> Option<Check> {
    let path = context.path()?;
    let pid = context.verdict.proxy.pid;
    let within = if pid == 0 { String::new() } else { format!("nsenter -t {pid} -m ") };
    Some(Check { command: format!("{within}{command} {path}"), expect: expect.to_owned() })
}

/// A place for the socket that both see.
fn common_place(context: &Context<'_>) -> Snippet {
    Snippet::new(
        "a place for the socket that both see",
        "ini",
        &[
            "# systemctl edit SERVICE (SERVICE: the application's unit): /run/app, made at its start; bind \
             /run/app/app.sock",
            "[Service]",
            "RuntimeDirectory=app",
            &format!(
                "# a socket in /tmp is not seen by services with PrivateTmp=yes; the proxy's path now: {}",
                context.server()
            ),
        ],
    )
}

pub(in crate::diagnose) fn unix_missing(context: &Context<'_>) -> Remedy {
    let elsewhere = context.flag("bound_elsewhere");
    let what = if elsewhere {
        "A socket of that very path listens on this host: the proxy sees another file system (a container, \
         PrivateTmp=yes)."
    } else {
        "The application has not started, has removed its socket on the way out, or binds another path."
    };
    Remedy::default()
        .say(format!(
            "connect() to {} failed at once: there is no such path in the proxy's view of the file system.",
            context.at()
        ))
        .say(what)
        .say(context.sure("connect() itself returned that errno", "other causes give the same"))
        .look(seen_by_proxy(context, "ls -l", "No such file or directory"))
        .look([listeners(
            context,
            if elsewhere { "the socket, bound there for others" } else { "no line: nobody has bound it" },
        )])
        .look(proxies::log(context, "failed (2: No such file or directory) while connecting to upstream", "SC"))
        .change([common_place(context)])
        .never("chmod 777 or a copy of the socket file: a socket is known by its inode, and nobody listens on a copy.")
}

pub(in crate::diagnose) fn unix_refused(context: &Context<'_>) -> Remedy {
    let named = context.verdict.upstream.path.is_some_and(|path| path.as_str().starts_with('@'));
    let what = if named {
        "No such abstract name is bound."
    } else {
        "The path is there and no process listens behind it: the application ended and left the file, or has not \
         called listen() yet."
    };
    let remedy = Remedy::default()
        .say(format!("connect() to {} was refused at once.", context.at()))
        .say(what)
        .say(context.sure("connect() itself returned that errno", "other causes give the same"))
        .look([listeners(context, "no line: nobody listens (or it came back since)")]);
    let remedy = if named {
        remedy
    } else {
        remedy.look(seen_by_proxy(context, "stat", "a socket, older than the failures; or no socket at all"))
    };
    remedy
        .check(format!("journalctl -u {} -n 50", context.unit()), "how the application ended, and when")
        .look(proxies::log(context, "failed (111: Connection refused) while connecting to upstream", "SC"))
        .change([software::brought_back(), software::gentle_restart(context)])
        .never("Removing the file while the application runs: it listens on, and nobody can reach it.")
}

pub(in crate::diagnose) fn unix_permission(context: &Context<'_>) -> Remedy {
    let named = context.verdict.upstream.path.is_some_and(|path| path.as_str().starts_with('@'));
    let by_rule = named || context.count("errno") == Some(1);
    let what = if by_rule {
        "No file's mode gives that: a security module (SELinux, AppArmor) or a control group's program forbids it."
    } else {
        "It takes write permission on the socket and search permission on every directory above it; a security module \
         can refuse as well."
    };
    let pid = context.verdict.proxy.pid;
    let remedy = Remedy::default()
        .say(format!("The proxy's user may not connect to {}.", context.at()))
        .say(what)
        .say(context.sure("connect() itself returned that errno", "other causes give the same"));
    let remedy = if pid == 0 {
        remedy
    } else {
        remedy.check(format!("ps -o user=,group= -p {pid}"), "as whom the proxy connects")
    };
    let remedy = if by_rule {
        remedy
    } else {
        remedy.look(seen_by_proxy(context, "namei -l", "a step without x for that user, or a socket without w"))
    };
    let remedy = remedy
        .check("ausearch -m avc -ts recent", "a denial, if it is SELinux")
        .check("journalctl -k -g apparmor -n 20", "a denial, if it is AppArmor")
        .look(proxies::log(context, "failed (13: Permission denied) while connecting to upstream", "SC"));
    if by_rule {
        return remedy
            .no_setting("the rule that forbids it must be changed, and only the module's log names it")
            .never("Turning the security module off for one rule that is missing.");
    }
    let modes = match context.software() {
        Some(Software::PhpFpm) => Snippet::new(
            "let the proxy's group write to the socket",
            "ini",
            &["; GROUP: the proxy's, as ps shows it", "listen.group = GROUP", "listen.mode = 0660"],
        ),
        Some(Software::Uwsgi) => Snippet::new(
            "let the proxy's group write to the socket",
            "ini",
            &[
                "[uwsgi]",
                "; USER: the application's, GROUP: the proxy's, as ps shows it",
                "chown-socket = USER:GROUP",
                "chmod-socket = 660",
            ],
        ),
        _ => Snippet::new(
            "let the proxy's group write to the socket",
            "sh",
            &[
                "# GROUP: the proxy's, as ps shows it; APP as it is started now",
                "gunicorn --umask 007 --group GROUP APP",
            ],
        ),
    };
    remedy.change([modes]).never("chmod 777: every process of the host can then talk to the application.")
}
