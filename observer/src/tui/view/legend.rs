//! Causes as a letter and a colour: the letter is enough where there are no colours.

use ratatui::style::Style;

use super::Context;
use crate::{diagnose::registry, snapshot::Snapshot};

/// The letter of what has none: the unknown cause.
const UNKNOWN: char = '?';

/// A cause's letter; always the same one.
pub(super) fn letter(cause: &str) -> char {
    if cause == "unknown" {
        return UNKNOWN;
    }
    let place = registry::CAUSES.iter().position(|rule| rule.code == cause);
    ('a'..='z').nth(place.unwrap_or(usize::MAX)).unwrap_or(UNKNOWN)
}

/// A cause's colour, by its place among those seen so far.
pub(super) fn style(context: &Context<'_>, cause: &str) -> Style {
    context.theme().cause(context.causes.iter().position(|each| *each == cause).unwrap_or(usize::MAX))
}

/// Causes seen in all, in a stable order.
pub(super) fn seen(shown: &Snapshot) -> Vec<&'static str> {
    match &shown.playback {
        None => shown.totals.keys().copied().collect(),
        Some(playback) => {
            let mut seen: Vec<_> = playback.timeline.totals().into_iter().map(|(cause, _)| cause).collect();
            seen.sort_unstable();
            seen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_causes_share_a_letter() {
        let mut letters: Vec<_> = registry::CAUSES.iter().map(|rule| letter(rule.code)).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), registry::CAUSES.len());
    }
}
