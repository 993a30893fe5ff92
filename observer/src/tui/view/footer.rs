//! The last lines: what observer could not see, and the keys.

use std::cmp::Reverse;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::{
    event::Lost,
    hooks::{Hook, HookStatus, Hooks},
    snapshot::{Recording, Snapshot},
    text::escape,
    tui::{
        app::App,
        keys::{Mode, bindings},
        theme::{FAINT, Theme},
        widget::{number, text},
    },
};

/// From this height on there are a line of status and one of keys; from [`ONE_LINE`] on, whichever matters more.
const TWO_LINES: u16 = 12;
const ONE_LINE: u16 = 6;
/// From this height on each trouble has lines of its own, else they share one.
const LINE_EACH: u16 = 20;
/// From this height on these may be wrapped.
const WRAPPED: u16 = 30;
/// Degraded hooks named at most.
const HOOKS_NAMED: usize = 3;

/// As many lines as a terminal of that height can spare.
pub(super) fn lines(app: &App, shown: &Snapshot, width: usize, height: u16) -> Vec<Line<'static>> {
    let parts = parts(app.theme, shown);
    let troubled = parts.iter().any(|part| part.trouble);
    let mut status = if height >= LINE_EACH {
        let (own, shared): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.trouble);
        let most = if height >= WRAPPED { 2 } else { 1 };
        let own = own.into_iter().flat_map(|part| text::labelled(Span::raw(""), &part.text, part.style, width, most));
        let shared = (!shared.is_empty()).then(|| joined(shared, width));
        own.chain(shared).collect()
    } else {
        vec![joined(parts, width)]
    };
    match height {
        TWO_LINES.. => {
            status.push(hints(shown, width));
            status
        }
        ONE_LINE.. if troubled => status,
        ONE_LINE.. => vec![hints(shown, width)],
        _ => Vec::new(),
    }
}

/// A piece of the status.
struct Part {
    text: String,
    style: Style,
    /// Something is not as it should be.
    trouble: bool,
}

/// All that there is to say, trouble first.
fn parts(theme: Theme, shown: &Snapshot) -> Vec<Part> {
    let part = |text: String, style| Part { text, style, trouble: style != FAINT };
    let (lost, hooks) = (&shown.counters.lost, &shown.hooks);
    let full = hooks.0.iter().filter(|(_, status)| matches!(status, HookStatus::Full(_))).count();
    let mut parts = vec![
        part(lost_text(lost), if lost.total() > 0 { theme.failing() } else { FAINT }),
        part(format!("hooks {full}/{}", hooks.0.len()), FAINT),
    ];
    parts.extend(degradations(hooks).take(HOOKS_NAMED).map(|sentence| part(sentence, theme.warning())));
    if shown.evicted > 0 {
        parts.push(part(format!("tables full: {} entries forgotten", number::count(shown.evicted)), theme.warning()));
    }
    if let Some(trouble) = shown.playback.as_ref().and_then(|playback| playback.trouble.as_ref()) {
        parts.push(part(trouble.clone(), theme.warning()));
    }
    parts.extend(match &shown.recording {
        Recording::Off => None,
        Recording::On(recorded) | Recording::Done(recorded) => {
            let file = recorded.path.file_name().unwrap_or_default().to_string_lossy();
            Some(part(format!("● {} ({} events)", escape(file.as_bytes()), number::count(recorded.events)), FAINT))
        }
        Recording::Failed(why) => Some(part(escape(why.as_bytes()), theme.failing())),
    });
    parts.push(part(format!("{} events", number::count(shown.events)), FAINT));
    parts.sort_by_key(|part| !part.trouble);
    parts
}

fn joined(parts: Vec<Part>, width: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut left = width;
    for (index, part) in parts.into_iter().enumerate() {
        let text = text::cut(&format!("{}{}", if index == 0 { "" } else { " · " }, part.text), left);
        left -= text::width(&text);
        spans.push(Span::styled(text, part.style));
    }
    Line::from(spans)
}

/// Losses in words: what they mean, then which.
fn lost_text(lost: &Lost) -> String {
    let total = lost.total();
    if total == 0 {
        return "lost 0".to_owned();
    }
    let mut kinds: Vec<_> = lost.by_kind().into_iter().filter(|(_, count)| *count > 0).collect();
    kinds.sort_by_key(|(_, count)| Reverse(*count));
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {}", number::count(*count))).collect();
    format!("LOST {} records: counts are lower bounds ({})", number::count(total), kinds.join(", "))
}

/// What each degraded hook lacks, the loss first.
fn degradations(hooks: &Hooks) -> impl Iterator<Item = String> {
    hooks.0.iter().filter_map(|(hook, status): &(Hook, HookStatus)| match status {
        HookStatus::Full(_) => None,
        HookStatus::Partial(carrier, missing) => Some(format!("hook {} only by {carrier}: {missing}", hook.name())),
        HookStatus::Missing(why) => Some(format!("hook {} missing, lost: {} ({why})", hook.name(), hook.loss())),
    })
}

fn hints(shown: &Snapshot, width: usize) -> Line<'static> {
    let hints: Vec<_> = bindings(Mode::of(shown)).filter_map(|binding| binding.hint).collect();
    Line::styled(text::cut(&hints.join("  "), width), FAINT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{trace::Recorded, tui::fixture};

    #[test]
    fn a_recording_is_named_and_its_end_before_its_time_stands_out() {
        let said = |recording| {
            let shown = Snapshot { recording, ..Snapshot::clone(&fixture::quiet()) };
            parts(Theme::COLOURED, &shown).remove(0)
        };
        let recorded = Recorded { path: "/srv/a\u{1b}.arrows.zst".into(), events: 12, bytes: 900, segments: 1 };
        let shown = Snapshot { recording: Recording::On(recorded), ..Snapshot::clone(&fixture::quiet()) };
        assert!(parts(Theme::COLOURED, &shown).iter().any(|part| part.text == "● a\\u{1b}.arrows.zst (12 events)"));
        let failed = said(Recording::Failed("recording has ended: the disk is too slow".into()));
        assert!(failed.trouble && failed.text.contains("too slow"));
    }
}
