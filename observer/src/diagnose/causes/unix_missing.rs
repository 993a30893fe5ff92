//! There was no such path. See `unix_missing.md`.

use crate::diagnose::{
    remedy,
    rule::{Case, Judgement, Rule},
    unix::{Failed, found},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "unix-missing",
    page: include_str!("unix_missing.md"),
    judge,
    watch: None,
    remedy: remedy::unix_missing,
};

const ENOENT: u16 = 2;
/// Part of the path is no directory.
const ENOTDIR: u16 = 20;

fn judge(case: &Case<'_>) -> Judgement {
    let Some(failed) = Failed::with(case, &[ENOENT, ENOTDIR]) else { return Judgement::No };
    let path = failed.path;
    // It is bound there, and the proxy does not see it: a mount namespace of its own (systemd's PrivateTmp=, a container).
    let elsewhere = failed.listener.is_some();
    let what = if elsewhere { ": a socket is bound there, but not in the proxy's view of the file system" } else { "" };
    let file = path.as_str();
    let mut advice = vec![
        format!(
            "start the application, or have proxy and application agree on the path: ls -l {file}; ss -xlp src {file}"
        ),
        format!(
            "look from where the proxy stands: nsenter -t {} -m ls -l {file} (PrivateTmp= and containers have a /tmp and a \
             /run of their own)",
            case.attempt.proxy.pid
        ),
    ];
    if elsewhere {
        advice.swap(0, 1);
    }
    found(
        None,
        format!("{path} does not exist for the proxy{what} (errno {})", failed.error),
        failed.evidence().with("bound_elsewhere", elsewhere),
        advice,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{
        Confidence,
        unix::testing::{PATH, failed, listening},
    };

    #[test]
    fn a_path_that_is_not_there_is_certain() {
        for error in [2, 20] {
            let verdict = failed([], PATH, error);
            assert_eq!(
                (verdict.cause, verdict.confidence, verdict.status),
                (RULE.code, Confidence::Certain, Some(502))
            );
        }
    }

    #[test]
    fn a_path_that_only_the_proxy_does_not_see_is_told() {
        let verdict = failed([listening(1_500, 0, 128)], PATH, 2);
        assert!(verdict.summary.contains("not in the proxy's view"), "{}", verdict.summary);
        assert!(verdict.advice[0].contains("nsenter -t 42"), "{:?}", verdict.advice);
    }

    #[test]
    fn other_errors_are_not_this() {
        for error in [11, 13, 111] {
            assert_ne!(failed([], PATH, error).cause, RULE.code);
        }
    }
}
