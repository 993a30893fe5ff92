//! The proxy was not allowed to connect to a unix socket. See `unix_permission.md`.

use crate::diagnose::{
    remedy,
    rule::{Case, Judgement, Rule},
    unix::{Failed, found},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "unix-permission",
    page: include_str!("unix_permission.md"),
    judge,
    watch: None,
    remedy: remedy::unix_permission,
};

const EPERM: u16 = 1;
const EACCES: u16 = 13;

fn judge(case: &Case<'_>) -> Judgement {
    let Some(failed) = Failed::with(case, &[EACCES, EPERM]) else { return Judgement::No };
    let path = failed.path;
    // No mode guards an abstract name, and modes never give EPERM.
    let by_rule = failed.is_abstract() || failed.error == EPERM;
    let what = if by_rule {
        "a security module or a cgroup's program forbids it"
    } else {
        "no write permission on the socket, no way through a directory above it, or a security module"
    };
    let file = path.as_str();
    let user = format!("ps -o user= -p {}", case.attempt.proxy.pid);
    let mode = format!(
        "give the proxy's user ({user}) write permission on the socket and passage to it: namei -l {file} shows each step \
         (gunicorn --umask 007 with a common group, php-fpm listen.group and listen.mode)"
    );
    let module =
        "if the modes are right, a security module refuses: ausearch -m avc, journalctl -k -g apparmor".to_owned();
    found(
        None,
        format!("{} may not connect to {path}: {what} (errno {})", case.attempt.proxy.comm, failed.error),
        failed.evidence(),
        if by_rule { vec![module] } else { vec![mode, module] },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{
        Confidence,
        unix::testing::{PATH, failed},
    };

    #[test]
    fn a_refusal_by_mode_is_certain() {
        let verdict = failed([], PATH, 13);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(502)));
        assert!(verdict.advice[0].contains("namei -l /run/app.sock"), "{:?}", verdict.advice);
    }

    #[test]
    fn what_modes_cannot_refuse_is_a_rules_doing() {
        for (path, error) in [(PATH, 1), ("@app", 13)] {
            let verdict = failed([], path, error);
            assert_eq!((verdict.cause, verdict.advice.len()), (RULE.code, 1));
        }
    }

    #[test]
    fn other_errors_are_not_this() {
        for error in [2, 11, 111] {
            assert_ne!(failed([], PATH, error).cause, RULE.code);
        }
    }
}
