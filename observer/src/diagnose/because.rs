//! What may lie under a cause (`because` in verdicts), each with its page. `keepalive-off` is a cause as well, and has its
//! page there.

use super::remedy;

/// Something that lies under causes.
#[derive(Clone, Copy, Debug)]
pub struct Because {
    /// Its public name.
    pub code: &'static str,
    /// The page printed by `observer explain`.
    pub page: &'static str,
    /// What to do about it, with the numbers of a case.
    pub remedy: remedy::Write,
}

/// All of them, by code.
pub const BECAUSES: &[Because] = &[
    Because {
        code: "abort-on-overflow",
        page: include_str!("because/abort_on_overflow.md"),
        remedy: remedy::abort_on_overflow,
    },
    Because { code: "accept-stall", page: include_str!("because/accept_stall.md"), remedy: remedy::accept_stall },
    Because {
        code: "backlog-clamped",
        page: include_str!("because/backlog_clamped.md"),
        remedy: remedy::backlog_clamped,
    },
    Because { code: "backlog-small", page: include_str!("because/backlog_small.md"), remedy: remedy::backlog_small },
    Because { code: "cpu-saturated", page: include_str!("because/cpu_saturated.md"), remedy: remedy::cpu_saturated },
    Because { code: "cpu-steal", page: include_str!("because/cpu_steal.md"), remedy: remedy::cpu_steal },
    Because {
        code: "idle-timeout-mismatch",
        page: include_str!("because/idle_timeout_mismatch.md"),
        remedy: remedy::idle_timeout_mismatch,
    },
    Because {
        code: "listener-restarted",
        page: include_str!("because/listener_restarted.md"),
        remedy: remedy::listener_restarted,
    },
    Because { code: "worker-killed", page: include_str!("because/worker_killed.md"), remedy: remedy::worker_killed },
    Because {
        code: "worker-pool-undersized",
        page: include_str!("because/worker_pool_undersized.md"),
        remedy: remedy::worker_pool_undersized,
    },
    Because { code: "worker-timeout", page: include_str!("because/worker_timeout.md"), remedy: remedy::worker_timeout },
];

/// The one with this code.
pub fn find(code: &str) -> Option<&'static Because> {
    BECAUSES.iter().find(|because| because.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::registry;

    #[test]
    fn codes_are_sorted_and_no_causes() {
        assert!(BECAUSES.is_sorted_by(|one, next| one.code < next.code));
        for because in BECAUSES {
            assert!(registry::find(because.code).is_none(), "{}", because.code);
        }
    }

    #[test]
    fn every_one_has_a_page_that_says_what_to_do() {
        for because in BECAUSES {
            assert!(because.page.starts_with(&format!("# {}\n", because.code)), "{}", because.code);
            for heading in registry::HEADINGS {
                assert!(because.page.contains(heading), "{}: {heading}", because.code);
            }
        }
    }
}
