//! Nobody listened at a unix socket's path. See `unix_refused.md`.

use crate::{
    diagnose::{
        remedy,
        rule::{Case, Judgement, Rule},
        unix::{Failed, found},
    },
    model::attempt::ECONNREFUSED,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "unix-refused",
    page: include_str!("unix_refused.md"),
    judge,
    watch: None,
    remedy: remedy::unix_refused,
};

fn judge(case: &Case<'_>) -> Judgement {
    let Some(failed) = Failed::with(case, &[ECONNREFUSED]) else { return Judgement::No };
    let path = failed.path;
    // No file stands for an abstract name: there is nothing that could be left over.
    let what =
        if failed.is_abstract() { "no such name is bound" } else { "the file is there, and no process behind it" };
    let file = path.as_str();
    found(
        None,
        format!("nobody listens on {path}: {what} (errno {ECONNREFUSED})"),
        failed.evidence().with("listens_now", failed.listener.is_some()),
        vec![
            format!("start the application, or see why it ended: ss -xlp src {file}, journalctl -u SERVICE"),
            "restart without a gap: systemd socket activation keeps the socket open over restarts (gunicorn HUP does too)"
                .to_owned(),
        ],
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
    fn a_file_without_a_listener_is_certain() {
        let verdict = failed([], PATH, 111);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(502)));
        assert!(verdict.summary.contains("nobody listens on unix:/run/app.sock"), "{}", verdict.summary);
    }

    #[test]
    fn an_abstract_name_has_no_file() {
        assert!(failed([], "@app", 111).summary.contains("no such name"));
    }

    #[test]
    fn other_errors_are_not_this() {
        for error in [2, 11, 13] {
            assert_ne!(failed([], PATH, error).cause, RULE.code);
        }
    }
}
