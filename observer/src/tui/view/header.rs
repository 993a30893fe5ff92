//! The first line: the answer in a word, what is watched, and since when.

use std::time::Duration;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{Context, incidents::Phase};
use crate::{
    snapshot::{Playback, Snapshot, playback::Standing},
    time::Time,
    tui::{
        theme::{STRONG, Theme, badge},
        widget::{number, text},
    },
};

/// Which of the [`parts`] says what is watched.
const WATCHING: usize = 1;
/// Without a failure for so long, it is said when the last was rather than how many there are in a second.
const QUIET_SINCE: Duration = Duration::from_secs(3);
/// Proxies named.
const PROXIES: usize = 3;

/// The line.
pub(super) fn line(context: &Context<'_>, width: usize) -> Line<'static> {
    let shown = context.shown;
    let mut spans = Vec::new();
    if let Some(playback) = &shown.playback {
        let standing = match playback.standing {
            Standing::Playing => playback.speed.to_string(),
            Standing::Paused => "PAUSED".to_owned(),
            Standing::Seeking => "SEEKING".to_owned(),
            Standing::Ended => "END".to_owned(),
        };
        spans.push(Span::styled(format!(" REPLAY {standing} "), badge(Style::new())));
        spans.push(Span::raw(" "));
    }
    let (word, style) = state(context.theme(), shown);
    spans.push(Span::styled(format!(" {word} "), style));
    if context.app.is_frozen() {
        let age = number::span(context.live.since(shown.now));
        spans.push(Span::raw(" "));
        spans.push(Span::styled(format!(" FROZEN {age} ago "), badge(Style::new())));
    }
    let mut left = width.saturating_sub(spans.iter().map(Span::width).sum());
    for (index, part) in parts(shown).into_iter().enumerate() {
        let part = format!("{}{part}", if index == 0 { " " } else { " · " });
        // What is watched may be long; a part of it is better than none.
        let part = if index == WATCHING { text::cut(&part, left) } else { part };
        if text::width(&part) > left {
            break;
        }
        left -= text::width(&part);
        spans.push(Span::styled(part, if index == 0 { STRONG } else { Style::new() }));
    }
    Line::from(spans)
}

/// The state of everything in a word or two.
fn state(theme: Theme, shown: &Snapshot) -> (String, Style) {
    let last = shown.incidents.iter().map(|incident| incident.latest.time).max();
    let phases = || shown.incidents.iter().map(|incident| (Phase::of(incident, shown.now), incident));
    if phases().any(|(phase, _)| phase == Phase::Failing) {
        // It may be over, and it may come in bursts.
        if let Some(last) = last.filter(|last| shown.now.since(*last) >= QUIET_SINCE) {
            return (format!("FAILED {} ago", number::span(shown.now.since(last))), badge(theme.failing()));
        }
        let rate: f64 = shown.incidents.iter().map(|incident| shown.rate(incident)).sum();
        let rate = if rate > 0.0 { format!(" {}/s", number::rate(rate)) } else { String::new() };
        return (format!("FAILING{rate}"), badge(theme.failing()));
    }
    let easing = phases().filter(|(phase, _)| *phase == Phase::Easing).map(|(_, incident)| incident.latest.time).max();
    let (word, style) = match (easing, shown.warnings.len()) {
        (Some(last), _) => (format!("failed {} ago", number::span(shown.now.since(last))), theme.warning()),
        // Quiet is not shouted.
        (None, 0) => return ("quiet".to_owned(), theme.calm()),
        (None, 1) => ("1 warning".to_owned(), theme.warning()),
        (None, count) => (format!("{count} warnings"), theme.warning()),
    };
    (word, badge(style))
}

/// What else there is to say, the most important first.
fn parts(shown: &Snapshot) -> Vec<String> {
    let verdicts: u64 = shown.totals.values().sum();
    let verdicts = if verdicts == 1 { "1 verdict".to_owned() } else { format!("{} verdicts", number::count(verdicts)) };
    let watching = proxies(shown).unwrap_or_else(|| shown.watching.clone());
    match &shown.playback {
        None => {
            let up = format!("up {}", number::span(shown.now.since(shown.since)));
            let now = format!("now {}", number::clock(shown.wall, shown.now, shown.now));
            vec!["observer".to_owned(), watching, up, verdicts, now]
        }
        Some(Playback { host, playhead, .. }) => {
            vec![host.clone(), watching, format!("recorded {}", moment(shown, *playhead)), verdicts]
        }
    }
}

/// Those that have been seen to use an upstream, by name.
fn proxies(shown: &Snapshot) -> Option<String> {
    let mut names: Vec<&str> =
        shown.upstreams.iter().filter(|row| row.proxy.pid > 0).map(|row| &*row.proxy.comm).collect();
    names.sort_unstable();
    names.dedup();
    let more = if names.len() > PROXIES { ", …" } else { "" };
    names.truncate(PROXIES);
    (!names.is_empty()).then(|| names.join(", ") + more)
}

/// Date and time, to the second: `2026-01-02 03:12:44Z`.
fn moment(shown: &Snapshot, time: Time) -> String {
    let full = shown.wall.rfc3339(time);
    format!("{}Z", full.get(..19).unwrap_or(&full).replace('T', " "))
}
