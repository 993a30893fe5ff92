//! All causes, in the order of preference when two rules are equally sure.

use super::{causes, rule::Rule};

/// The causes that are rules. [`causes::unknown`] is what is left.
pub const CAUSES: &[Rule] = &[
    causes::accept_queue_overflow::RULE,
    causes::syn_queue_overflow::RULE,
    causes::connect_timeout::RULE,
    causes::packet_loss::RULE,
    causes::port_exhaustion::RULE,
    causes::upstream_refused::RULE,
    causes::upstream_unreachable::RULE,
    causes::keepalive_race::RULE,
    causes::upstream_reset::RULE,
    causes::upstream_closed_early::RULE,
    causes::unix_backlog_full::RULE,
    causes::unix_refused::RULE,
    causes::unix_missing::RULE,
    causes::unix_permission::RULE,
    causes::upstream_timeout::RULE,
    causes::bad_response::RULE,
    causes::proxy_limits::RULE,
    causes::no_live_upstreams::RULE,
    causes::keepalive_off::RULE,
    causes::unknown::RULE,
];

/// The cause with this code.
pub fn find(code: &str) -> Option<&'static Rule> {
    CAUSES.iter().find(|rule| rule.code == code)
}

/// What every page has.
#[cfg(test)]
pub(super) const HEADINGS: [&str; 4] = ["## What it is", "## Evidence", "## What to do", "## Confused with"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_one_code_and_a_page_that_says_what_to_do() {
        let mut codes: Vec<_> = CAUSES.iter().map(|rule| rule.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CAUSES.len());
        for rule in CAUSES {
            assert!(rule.page.starts_with(&format!("# {}\n", rule.code)), "{}", rule.code);
            for heading in HEADINGS {
                assert!(rule.page.contains(heading), "{}: {heading}", rule.code);
            }
        }
    }
}
