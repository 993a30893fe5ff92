//! The view's state: what the user has chosen, and nothing that a snapshot already says. Changed by actions alone.

use std::sync::Arc;

use super::{
    action::{Action, Effect},
    theme::Theme,
};
use crate::{
    model::UpstreamKey,
    snapshot::{Snapshot, UpstreamRow},
};

/// What the user has chosen.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// How things look.
    pub(crate) theme: Theme,
    /// The help is open.
    pub(crate) help: bool,
    /// The selected upstream has the screen for itself.
    pub(crate) opened: bool,
    /// By key, so that the selection stays with its upstream when rows change places; `None` follows the first row.
    selected: Option<UpstreamKey>,
    /// What is shown while paused.
    frozen: Option<Arc<Snapshot>>,
}

impl App {
    /// Nothing chosen yet.
    pub(crate) fn new(theme: Theme) -> Self {
        Self { theme, help: false, opened: false, selected: None, frozen: None }
    }

    /// Does what was asked; `live` is the latest snapshot.
    pub(crate) fn apply(&mut self, action: Action, live: &Arc<Snapshot>) -> Effect {
        match action {
            Action::Quit => return Effect::Quit,
            Action::Replay(command) => return Effect::Replay(command),
            Action::Help => self.help = !self.help,
            Action::Pause => {
                self.frozen = if self.frozen.is_some() { None } else { Some(Arc::clone(live)) };
            }
            Action::Open => self.opened = !self.opened,
            Action::Back if self.help => self.help = false,
            Action::Back if self.opened => self.opened = false,
            Action::Back => return Effect::Nothing,
            Action::First => self.selected = None,
            Action::Up => self.select(live, |index, _| index.saturating_sub(1)),
            Action::Down => self.select(live, |index, last| (index + 1).min(last)),
            Action::Last => self.select(live, |_, last| last),
        }
        Effect::Redraw
    }

    /// The snapshot to draw: the frozen one, or the latest.
    pub(crate) fn shown<'a>(&'a self, live: &'a Snapshot) -> &'a Snapshot {
        self.frozen.as_deref().unwrap_or(live)
    }

    /// Whether the screen is frozen.
    pub(crate) fn paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// The selected row's index in the snapshot that is shown; the first if the upstream is no longer there.
    pub(crate) fn selected_index(&self, shown: &Snapshot) -> usize {
        self.selected.and_then(|key| shown.upstreams.iter().position(|row| row.key == key)).unwrap_or(0)
    }

    /// The selected row, unless there is none at all.
    pub(crate) fn selected<'a>(&self, shown: &'a Snapshot) -> Option<&'a UpstreamRow> {
        shown.upstreams.get(self.selected_index(shown))
    }

    fn select(&mut self, live: &Snapshot, step: impl FnOnce(usize, usize) -> usize) {
        let shown = self.shown(live);
        let index = step(self.selected_index(shown), shown.upstreams.len().saturating_sub(1));
        self.selected = shown.upstreams.get(index).map(|row| row.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixture;

    #[test]
    fn the_selection_stays_with_its_upstream() {
        let live = fixture::three();
        let mut app = App::new(Theme::COLOURED);
        assert_eq!(app.selected_index(&live), 0);
        assert_eq!(app.apply(Action::Down, &live), Effect::Redraw);
        let chosen = app.selected(&live).unwrap().key;
        assert_eq!(chosen, live.upstreams[1].key);

        let mut moved = Snapshot::clone(&live);
        moved.upstreams.reverse();
        let moved = Arc::new(moved);
        assert_eq!(app.selected(&moved).unwrap().key, chosen);
        app.apply(Action::First, &moved);
        assert_eq!(app.selected_index(&moved), 0);
        app.apply(Action::Up, &moved);
        assert_eq!(app.selected_index(&moved), 0, "there is nothing above the first");
        app.apply(Action::Last, &moved);
        app.apply(Action::Down, &moved);
        assert_eq!(app.selected_index(&moved), moved.upstreams.len() - 1, "nor below the last");

        let gone = fixture::idle();
        assert!(app.selected(&gone).is_none());
        assert_eq!(app.apply(Action::Down, &gone), Effect::Redraw, "an empty table can be walked through");
    }

    #[test]
    fn a_pause_keeps_the_old_snapshot_and_resuming_shows_the_latest() {
        let (old, new) = (fixture::one(), fixture::quiet());
        let mut app = App::new(Theme::COLOURED);
        app.apply(Action::Pause, &old);
        assert!(app.paused() && std::ptr::eq(app.shown(&new), &raw const *old));
        app.apply(Action::Down, &new);
        assert_eq!(app.selected(&old).unwrap().key, old.upstreams[1].key, "one walks through what one sees");
        app.apply(Action::Pause, &new);
        assert!(!app.paused() && std::ptr::eq(app.shown(&new), &raw const *new));
    }

    #[test]
    fn escape_closes_what_was_opened_last() {
        let live = fixture::one();
        let mut app = App::new(Theme::COLOURED);
        app.apply(Action::Open, &live);
        app.apply(Action::Help, &live);
        assert_eq!(app.apply(Action::Back, &live), Effect::Redraw);
        assert!(!app.help && app.opened);
        assert_eq!(app.apply(Action::Back, &live), Effect::Redraw);
        assert!(!app.opened);
        assert_eq!(app.apply(Action::Back, &live), Effect::Nothing);
        assert_eq!(app.apply(Action::Quit, &live), Effect::Quit);
    }
}
