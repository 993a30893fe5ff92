//! What a wish means on the screen that is shown: which row is the one below, how far down there is to go, what lies under
//! the mouse. The state needs to know nothing of that.

use super::{
    action::{Action, Intent, Step, Subject, Text},
    app::App,
    page::Room,
    screen::Screen,
    view::{self, Context},
};
use crate::snapshot::Snapshot;

/// Rows that a turn of the wheel goes.
const WHEEL: usize = 3;

/// The action, if it means any. The whole terminal has that room.
pub(crate) fn action(intent: Intent, app: &App, live: &Snapshot, room: Room) -> Option<Action> {
    let context = Context::new(app, live);
    match intent {
        Intent::Do(action) => Some(action),
        Intent::Move(step) => Some(moved(step, &context, room)),
        Intent::Before => beside(&context, room, false),
        Intent::Behind => beside(&context, room, true),
        Intent::Open => opened(&context),
        Intent::Cause => Some(view::cause::subject_of(&context).map_or(Action::Show(Screen::Cause), Action::Explain)),
        Intent::NextSnippet => {
            let next = (app.snippet + 1).checked_rem(view::cause::snippets(&context))?;
            let height = view::body_height(&context, room);
            Some(Action::Snippet(next, view::cause::out_of_sight(&context, next, Room { height, ..room })))
        }
        Intent::Copy => view::copied(&context).map(Action::Copy),
        Intent::Write => Some(Action::Write(written(&context))),
        Intent::Click(x, y) => view::frame(&context, room).at(y.into(), x.into()).cloned(),
    }
}

fn moved(step: Step, context: &Context<'_>, room: Room) -> Action {
    let app = context.app;
    let page = view::body_height(context, room).max(1);
    match app.screen {
        Screen::Now => {
            let rows = view::table::rows(context);
            let at = view::table::selected(context, &rows);
            let to = stepped(step, at, rows.len(), page);
            // The first is followed, whichever that is.
            Action::Select(rows.get(to).filter(|_| to > 0 || step != Step::First).map(|row| row.key))
        }
        Screen::Events => {
            let entries = view::events::entries(context);
            let at = view::events::selected(context, &entries);
            let to = stepped(step, at, entries.len(), page);
            let beyond = matches!(step, Step::Last) || at == to && at + 1 >= entries.len() && is_down(step);
            match entries.get(to) {
                Some(entry) if !beyond => Action::Read(entry.id()),
                _ => Action::Follow,
            }
        }
        Screen::Upstream | Screen::Cause | Screen::Hooks => {
            let last = view::length(context, room).saturating_sub(page);
            Action::Scroll(stepped(step, app.scrolled().min(last), last + 1, page))
        }
    }
}

fn is_down(step: Step) -> bool {
    matches!(step, Step::Down | Step::WheelDown | Step::PageDown)
}

/// From there so far, within so many.
fn stepped(step: Step, at: usize, count: usize, page: usize) -> usize {
    let to = match step {
        Step::Up => at.saturating_sub(1),
        Step::Down => at.saturating_add(1),
        Step::WheelUp => at.saturating_sub(WHEEL),
        Step::WheelDown => at.saturating_add(WHEEL),
        Step::PageUp => at.saturating_sub(page),
        Step::PageDown => at.saturating_add(page),
        Step::First => 0,
        Step::Last => count,
    };
    to.min(count.saturating_sub(1))
}

fn beside(context: &Context<'_>, room: Room, behind: bool) -> Option<Action> {
    match context.app.screen {
        Screen::Now => Some(Action::Sort(view::table::beside(context, room.width, behind))),
        Screen::Upstream => {
            let rows = view::table::rows(context);
            let at = view::table::selected(context, &rows);
            let to = if behind { at + 1 } else { at.checked_sub(1)? };
            rows.get(to).map(|row| Action::Select(Some(row.key)))
        }
        Screen::Cause => {
            let incidents = &context.shown.incidents;
            let at = view::cause::incident_index(context);
            let to = match at {
                None => 0,
                Some(at) if behind => at + 1,
                Some(at) => at.checked_sub(1)?,
            };
            incidents.get(to).map(|incident| Action::Explain(Subject::of(incident)))
        }
        Screen::Events | Screen::Hooks => None,
    }
}

fn opened(context: &Context<'_>) -> Option<Action> {
    match context.app.screen {
        Screen::Now => context.selected().map(|_| Action::Show(Screen::Upstream)),
        Screen::Upstream | Screen::Events => view::cause::subject_of(context).map(Action::Explain),
        Screen::Cause | Screen::Hooks => None,
    }
}

/// All that the screen has, whatever of it fits.
fn written(context: &Context<'_>) -> Text {
    let shown = context.shown;
    let stamp: String =
        shown.wall.rfc3339(shown.now).chars().take(19).filter(|character| !matches!(character, '-' | ':')).collect();
    let what = format!("observer-{}-{stamp}Z", context.app.screen.name());
    Text { what, text: view::whole(context) }
}
