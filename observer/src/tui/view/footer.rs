//! The last lines: what observer could not see, and the keys; or the filter that is typed, or what was just done.

use std::cmp::Reverse;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::Context;
use crate::{
    event::{LogSample, Lost},
    hooks::{Hook, HookStatus, Hooks},
    snapshot::{Recording, Snapshot},
    text::escape,
    tui::{
        action::Action,
        filter,
        keys::{Mode, bindings},
        page::Page,
        screen::Screen,
        theme::{FAINT, STRONG, Theme},
        widget::{number, text},
    },
};

/// From this height on there are a line of status and one of keys; from [`ONE_LINE`] on, whichever matters more.
const TWO_LINES: usize = 12;
const ONE_LINE: usize = 6;
/// From this height on each trouble has lines of its own, else they share one.
const LINE_EACH: usize = 20;
/// From this height on these may be wrapped.
const WRAPPED: usize = 30;
/// Below this width hints stand closer, so that the one for the fix has room.
const NARROW: usize = 72;
/// Degraded hooks named at most.
const HOOKS_NAMED: usize = 3;

/// As many lines as a terminal of that height can spare.
pub(super) fn page(context: &Context<'_>, width: usize, height: usize) -> Page {
    let parts = parts(context.theme(), context.shown);
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
    let mut page = Page::default();
    let asked = context.app.is_typing() || context.app.notice.is_some();
    match height {
        TWO_LINES.. => {
            page.lines(status.drain(..));
            page.page(last(context, width));
        }
        ONE_LINE.. if troubled && !asked => page.lines(status),
        ONE_LINE.. => page.page(last(context, width)),
        _ if asked => page.page(last(context, width)),
        _ => {}
    }
    page
}

/// What is typed, what was just done, or the keys.
fn last(context: &Context<'_>, width: usize) -> Page {
    let app = context.app;
    let mut page = Page::default();
    if app.is_typing() {
        let fields: Vec<_> = filter::FIELDS.iter().map(|(field, _)| *field).collect();
        let typed = format!("/{}▏", app.filter());
        let help = format!("  Enter keeps it, Esc drops it; {}", fields.join(" "));
        // The end of what is typed is what one looks at.
        let spare = text::width(&typed).saturating_sub(width);
        let typed: String = typed.chars().skip(spare).collect();
        let help = text::cut(&help, width.saturating_sub(text::width(&typed)));
        page.line(Line::from(vec![Span::styled(typed, STRONG), Span::styled(help, FAINT)]));
    } else if let Some(notice) = &app.notice {
        let style = if notice.failed { context.theme().failing() } else { STRONG };
        page.line(Line::styled(text::cut(&notice.text, width), style));
    } else {
        page.page(keys(context, width));
    }
    page
}

/// The screens, of which a click shows one, and what the keys do.
fn keys(context: &Context<'_>, width: usize) -> Page {
    let app = context.app;
    let mut page = Page::default();
    let mut spans = Vec::new();
    let mut at = 0;
    for (number, screen) in (1..).zip(Screen::ALL) {
        let here = screen == app.screen;
        let (before, behind) = if here { ("[", "]") } else { (" ", " ") };
        let tab = format!("{before}{number} {}{behind}", screen.name());
        let cells = text::width(&tab);
        if at + cells > width {
            break;
        }
        page.on(0..1, at..at + cells, Action::Show(screen));
        at += cells;
        spans.push(Span::styled(tab, if here { STRONG } else { FAINT }));
    }
    // The last of them ends in a blank or a bracket: one blank more parts them from the hints.
    let mut gap = " ";
    for hint in bindings(Mode::of(context.shown), app.screen).filter_map(|binding| binding.hint) {
        let hint = format!("{gap}{hint}");
        gap = if width < NARROW { " " } else { "  " };
        if at + text::width(&hint) > width {
            break;
        }
        at += text::width(&hint);
        spans.push(Span::styled(hint, FAINT));
    }
    page.line(Line::from(spans));
    page
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
    if shown.counters.light_look {
        parts.push(part("light look: some failures are missed (5)".to_owned(), theme.warning()));
    }
    parts.extend(degradations(hooks).take(HOOKS_NAMED).map(|sentence| part(sentence, theme.warning())));
    parts.extend(logs(&shown.logs).map(|(text, trouble)| part(text, if trouble { theme.warning() } else { FAINT })));
    if shown.evicted > 0 {
        parts.push(part(format!("tables full: {} entries forgotten", number::count(shown.evicted)), theme.warning()));
    }
    if let Some(trouble) = shown.playback.as_ref().and_then(|playback| playback.trouble.as_ref()) {
        parts.push(part(trouble.clone(), theme.warning()));
    }
    parts.extend(match &shown.recording {
        Recording::Off => None,
        Recording::Failed(why) => Some(part(escape(why.as_bytes()), theme.failing())),
        on => Some(part(recording(on), FAINT)),
    });
    let events = if shown.events == 1 { "event" } else { "events" };
    parts.push(part(format!("{} {events}", number::count(shown.events)), FAINT));
    parts.sort_by_key(|part| !part.trouble);
    parts
}

/// How the proxies' logs are followed, and whether that is less than it could be.
fn logs(logs: &[LogSample]) -> impl Iterator<Item = (String, bool)> {
    let (unfollowed, followed): (Vec<_>, Vec<_>) = logs.iter().partition(|log| log.trouble.is_some());
    let count = (!followed.is_empty()).then(|| (format!("logs {}", followed.len()), false));
    let missed: u64 = followed.iter().map(|log| log.missed).fold(0, u64::saturating_add);
    let missed = (missed > 0).then(|| (format!("logs too fast: {} bytes passed over", number::count(missed)), true));
    let why = |log: &LogSample| Some((format!("log not followed: {}", log.trouble.as_ref()?), true));
    count.into_iter().chain(missed).chain(unfollowed.first().and_then(|log| why(log)))
}

/// How a recording stands, in words.
pub(super) fn recording(recording: &Recording) -> String {
    match recording {
        Recording::Off => "nothing is recorded".to_owned(),
        Recording::On(recorded) | Recording::Done(recorded) => {
            let file = recorded.path.file_name().unwrap_or_default().to_string_lossy();
            let verb = if matches!(recording, Recording::On(_)) { "● recording" } else { "recorded" };
            format!("{verb} {} ({} events)", escape(file.as_bytes()), number::count(recorded.events))
        }
        Recording::Failed(why) => escape(why.as_bytes()),
    }
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
pub(super) fn lost_text(lost: &Lost) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{trace::Recorded, tui::fixture};

    #[test]
    fn logs_are_counted_and_what_is_not_followed_stands_out() {
        let log = |missed, trouble: Option<&str>| LogSample {
            missed,
            trouble: trouble.map(str::to_owned),
            ..LogSample::default()
        };
        let said = |all: &[LogSample]| logs(all).collect::<Vec<_>>();
        assert_eq!(said(&[]), []);
        assert_eq!(said(&[log(0, None), log(0, None)]), [("logs 2".to_owned(), false)]);
        let all = said(&[log(1_000, None), log(0, Some("it is no file: pipe:[7]"))]);
        assert_eq!(all[1..].iter().map(|(_, trouble)| *trouble).collect::<Vec<_>>(), [true, true]);
        assert_eq!(all[2].0, "log not followed: it is no file: pipe:[7]");
    }

    #[test]
    fn a_recording_is_named_and_its_end_before_its_time_stands_out() {
        let said = |recording| {
            let shown = Snapshot { recording, ..Snapshot::clone(&fixture::quiet()) };
            parts(Theme::COLOURED, &shown).remove(0)
        };
        let recorded = Recorded { path: "/srv/a\u{1b}.arrows.zst".into(), events: 12, bytes: 900, segments: 1 };
        let shown = Snapshot { recording: Recording::On(recorded), ..Snapshot::clone(&fixture::quiet()) };
        let parts = parts(Theme::COLOURED, &shown);
        assert!(parts.iter().any(|part| part.text == "● recording a\\u{1b}.arrows.zst (12 events)"));
        let failed = said(Recording::Failed("recording has ended: the disk is too slow".into()));
        assert!(failed.trouble && failed.text.contains("too slow"));
    }
}
