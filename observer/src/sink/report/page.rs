//! What the pages of `observer explain` say that a report repeats.

use crate::diagnose;

/// The first paragraph of a cause's page, on one line; Markdown. Empty for a code without a page.
pub(super) fn excerpt(code: &str) -> String {
    let page = diagnose::page(code).unwrap_or_default();
    let (_, rest) = page.split_once("## What it is\n\n").unwrap_or_default();
    let paragraph = rest.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The commands by which a page has its reader check by hand.
pub(super) fn checks(code: &str) -> Vec<String> {
    let page = diagnose::page(code).unwrap_or_default();
    let bullets = page.split("\n* ").skip(1);
    let checks = bullets.filter(|bullet| bullet.starts_with("Check by hand:") || bullet.starts_with("Check:"));
    // What follows the bullet's own paragraph is another section's.
    let own = checks.filter_map(|bullet| bullet.split("\n\n").next());
    own.flat_map(|bullet| bullet.split('`').skip(1).step_by(2))
        .map(|command| command.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{because::BECAUSES, registry::CAUSES};

    #[test]
    fn every_page_begins_with_a_paragraph() {
        for code in CAUSES.iter().map(|rule| rule.code).chain(BECAUSES.iter().map(|because| because.code)) {
            assert!(excerpt(code).ends_with('.'), "{code}: {}", excerpt(code));
        }
        assert_eq!(excerpt("nonsense"), "");
    }

    #[test]
    fn commands_are_taken_from_the_bullet_that_says_so() {
        assert_eq!(checks("accept-queue-overflow"), ["ss -ltn", "nstat -az TcpExtListenOverflows"]);
        assert_eq!(checks("backlog-clamped"), ["ss -ltn"]);
        assert_eq!(checks("unknown"), Vec::<String>::new());
    }
}
