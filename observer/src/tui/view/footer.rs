//! The last lines: what observer could not see, and the keys.

use ratatui::text::{Line, Span};

use crate::{
    event::Lost,
    kernel::{Hook, HookStatus, Hooks},
    snapshot::Snapshot,
    tui::{
        app::App,
        keys,
        theme::Theme,
        widget::{number, text},
    },
};

/// Below this height the footer has one line at most, and below [`ONE_LINE`] only what matters.
const TWO_LINES: u16 = 12;
const ONE_LINE: u16 = 6;
/// From this height on each degraded hook has a line.
const LINE_PER_HOOK: u16 = 30;

/// As many lines as a terminal of that height can spare.
pub(super) fn lines(app: &App, shown: &Snapshot, width: usize, height: u16) -> Vec<Line<'static>> {
    let mut status = status(app.theme, shown, width);
    if height >= LINE_PER_HOOK {
        status.extend(degradations(&shown.hooks).map(|sentence| {
            Line::styled(text::cut(&format!("  {sentence}"), width), app.theme.warning())
        }));
    }
    let troubled = shown.counters.lost.total() > 0 || shown.hooks.degradations().next().is_some();
    match height {
        TWO_LINES.. => {
            status.push(hints(app.theme, width));
            status
        }
        ONE_LINE.. if troubled => status,
        ONE_LINE.. => vec![hints(app.theme, width)],
        _ => Vec::new(),
    }
}

fn status(theme: Theme, shown: &Snapshot, width: usize) -> Vec<Line<'static>> {
    let (lost, bad) = lost(&shown.counters.lost);
    let full = shown.hooks.0.iter().filter(|(_, status)| matches!(status, HookStatus::Full(_))).count();
    let degraded: Vec<_> = degradations(&shown.hooks).collect();
    let hooks = match degraded.as_slice() {
        [] => format!("hooks {full}/{}", shown.hooks.0.len()),
        some => format!("hooks {full}/{}: {}", shown.hooks.0.len(), some.join("; ")),
    };
    let mut parts = vec![(lost, if bad { theme.failing() } else { theme.faint() })];
    if shown.evicted > 0 {
        parts.push((format!("tables full, {} forgotten", number::count(shown.evicted)), theme.warning()));
    }
    parts.push((format!("{} events", number::count(shown.events)), theme.faint()));
    // Last, for it may be long.
    let position = if degraded.is_empty() { 1 } else { parts.len() };
    parts.insert(position, (hooks, if degraded.is_empty() { theme.faint() } else { theme.warning() }));

    let mut spans = Vec::new();
    let mut left = width;
    for (index, (part, style)) in parts.into_iter().enumerate() {
        let part = text::cut(&format!("{}{part}", if index == 0 { "" } else { " · " }), left);
        left -= text::width(&part);
        spans.push(Span::styled(part, style));
    }
    vec![Line::from(spans)]
}

/// Losses in words, and whether there are any.
fn lost(lost: &Lost) -> (String, bool) {
    let total = lost.total();
    if total == 0 {
        return ("lost 0".to_owned(), false);
    }
    let mut kinds: Vec<_> = lost.by_kind().into_iter().filter(|(_, count)| *count > 0).collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named: Vec<_> = kinds.iter().take(2).map(|(kind, count)| format!("{kind} {}", number::count(*count))).collect();
    let more = if kinds.len() > 2 { ", …" } else { "" };
    (format!("LOST {} ({}{more}): counts are lower bounds", number::count(total), named.join(", ")), true)
}

/// What each degraded hook lacks, the loss first.
fn degradations(hooks: &Hooks) -> impl Iterator<Item = String> {
    hooks.0.iter().filter_map(|(hook, status): &(Hook, HookStatus)| match status {
        HookStatus::Full(_) => None,
        HookStatus::Partial(carrier, missing) => Some(format!("{} only by {carrier}: {missing}", hook.name())),
        HookStatus::Missing(why) => Some(format!("no {}: {} ({why})", hook.name(), hook.loss())),
    })
}

fn hints(theme: Theme, width: usize) -> Line<'static> {
    let hints: Vec<_> = keys::BINDINGS.iter().filter_map(|binding| binding.hint).collect();
    Line::styled(text::cut(&hints.join("  "), width), theme.faint())
}
