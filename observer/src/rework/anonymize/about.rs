//! What a recording says of itself, without names.

use super::Key;
use crate::{hooks::HookStatus, trace::About};

/// Words in which [`About::watching`] is written, besides names and numbers.
const WORDS: [&str; 4] = ["upstream", "port", "network", "namespace"];
/// What stands between the names of two hosts whose recordings were joined.
const AND: &str = " + ";

impl Key {
    pub(super) fn about(&self, about: &About) -> About {
        let mut about = about.clone();
        let hosts: Vec<_> = about.host.split(AND).map(|host| (host.to_owned(), self.host(host))).collect();
        let known_as = |text: &str| hosts.iter().find(|(host, _)| host == text).map(|(_, other)| other.clone());
        about.watching = words(&about.watching, |word| {
            let known = WORDS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit());
            if known { word.to_owned() } else { known_as(word).unwrap_or_else(|| self.comm(word)) }
        });
        // Sentences of observer's own, which may name a host.
        let sentence =
            |text: &mut String| *text = words(text, |word| known_as(word).unwrap_or_else(|| word.to_owned()));
        for (_, status) in &mut about.hooks.0 {
            match status {
                HookStatus::Full(_) => {}
                HookStatus::Partial(_, text) | HookStatus::Missing(text) => sentence(text),
            }
        }
        about.settings.iter_mut().for_each(|(name, _)| sentence(name));
        about.host = hosts.iter().map(|(_, other)| other.as_str()).collect::<Vec<_>>().join(AND);
        // Behind the number is what whoever built it called it.
        let number = |release: &str| {
            let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
            release[..end].to_owned()
        };
        about.kernel = about.kernel.split(AND).map(number).collect::<Vec<_>>().join(AND);
        about
    }
}

/// The text with every word changed; what stands between them stays.
fn words(text: &str, change: impl Fn(&str) -> String) -> String {
    let between = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '(' | ')');
    let parts = text.split_inclusive(between);
    let changed = parts.map(|part| {
        let word = part.trim_end_matches(between);
        let changed = if word.is_empty() { String::new() } else { change(word) };
        changed + &part[word.len()..]
    });
    changed.collect()
}
