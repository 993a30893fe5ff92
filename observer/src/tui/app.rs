//! The view's state: what the user has chosen, and nothing that a snapshot already says. Changed by actions alone; it knows
//! nothing of keys, of cells, or of what is drawn.

use std::sync::Arc;

use super::{
    action::{Action, Effect, Sort, Subject},
    entry::EntryId,
    screen::Screen,
    theme::Theme,
};
use crate::{
    model::UpstreamKey,
    snapshot::{Look, Snapshot},
};

/// Characters of a filter: more than fit on a line are no help.
const MAX_FILTER: usize = 200;
/// Screens that one can go back through; the oldest is forgotten.
const MAX_BACK: usize = 8;

/// What the user has chosen.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// How things look.
    pub(crate) theme: Theme,
    /// What is shown.
    pub(crate) screen: Screen,
    /// The help is open.
    pub(crate) help: bool,
    /// By key, so that the selection stays with its upstream when rows change places; `None` follows the first row.
    pub(crate) upstream: Option<UpstreamKey>,
    /// What the cause screen is about; `None` for the worst.
    pub(crate) subject: Option<Subject>,
    /// In which order upstreams are shown.
    pub(crate) sort: Sort,
    /// Which snippet is selected.
    pub(crate) snippet: usize,
    /// Which event is read, if they are not followed.
    pub(crate) reading: Option<Reading>,
    /// Times are told as they were, not how long ago.
    pub(crate) absolute: bool,
    /// What was done last, if that is worth a word.
    pub(crate) notice: Option<Notice>,
    /// What was shown when something was changed: what comes since is held against it.
    pub(crate) before: Option<Arc<Snapshot>>,
    upstreams: Typed,
    events: Typed,
    scrolled: [usize; Screen::ALL.len()],
    back: Vec<Screen>,
    /// What is shown while frozen.
    frozen: Option<Arc<Snapshot>>,
}

/// Reading among events: what came later does not move them.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The selected one.
    pub(crate) at: EntryId,
    /// Events as they were when reading began.
    pub(crate) held: Arc<Snapshot>,
}

/// A word to the user, until the next key.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    /// The word.
    pub(crate) text: String,
    /// It did not work.
    pub(crate) failed: bool,
}

/// A filter being typed or typed.
#[derive(Clone, Debug, Default)]
struct Typed {
    text: String,
    /// What it was before, while it is being typed.
    before: Option<String>,
}

impl App {
    /// Nothing chosen yet.
    pub(crate) fn new(theme: Theme) -> Self {
        Self {
            theme,
            screen: Screen::default(),
            help: false,
            upstream: None,
            subject: None,
            sort: Sort::default(),
            snippet: 0,
            reading: None,
            absolute: true,
            notice: None,
            before: None,
            upstreams: Typed::default(),
            events: Typed::default(),
            scrolled: Default::default(),
            back: Vec::new(),
            frozen: None,
        }
    }

    /// Does what was asked; `live` is the latest snapshot.
    pub(crate) fn apply(&mut self, action: Action, live: &Arc<Snapshot>) -> Effect {
        self.notice = None;
        match action {
            Action::Quit => return Effect::Quit,
            Action::Replay(command) => return Effect::Replay(command),
            Action::Copy(text) => return Effect::Copy(text),
            Action::Write(text) => return Effect::Write(text),
            Action::Record => return Effect::Record,
            Action::Help => self.help = !self.help,
            Action::Freeze => {
                self.frozen = if self.frozen.is_some() { None } else { Some(Arc::clone(live)) };
            }
            Action::Compare => {
                self.before = if self.before.is_some() { None } else { Some(Arc::clone(live)) };
                self.show(Screen::Now);
            }
            Action::Show(screen) => self.show(screen),
            Action::Back => return self.go_back(),
            Action::Select(upstream) => {
                self.upstream = upstream;
                self.scrolled[Screen::Upstream.index()] = 0;
            }
            Action::Explain(subject) => {
                self.subject = Some(subject);
                self.snippet = 0;
                self.scrolled[Screen::Cause.index()] = 0;
                self.show(Screen::Cause);
            }
            Action::Scroll(first) => self.scrolled[self.screen.index()] = first,
            Action::Sort(sort) => self.sort = sort,
            Action::Reverse => self.sort.reversed = !self.sort.reversed,
            Action::Snippet(index, first) => {
                self.snippet = index;
                if let Some(first) = first {
                    self.scrolled[Screen::Cause.index()] = first;
                }
            }
            Action::Read(at) => {
                let held = match self.reading.take() {
                    Some(reading) => reading.held,
                    None => Arc::clone(self.frozen.as_ref().unwrap_or(live)),
                };
                self.reading = Some(Reading { at, held });
            }
            Action::Follow => self.reading = None,
            Action::Times => self.absolute = !self.absolute,
            Action::Type | Action::Typed(_) | Action::Erase | Action::Clear | Action::Accept | Action::Cancel => {
                self.edit(&action);
            }
        }
        Effect::Redraw
    }

    /// Says what came of an effect.
    pub(crate) fn say(&mut self, text: String, failed: bool) {
        self.notice = Some(Notice { text, failed });
    }

    /// The snapshot to draw: the frozen one, or the latest.
    pub(crate) fn shown<'a>(&'a self, live: &'a Snapshot) -> &'a Snapshot {
        self.frozen.as_deref().unwrap_or(live)
    }

    /// Whether the screen is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The first line of the screen that is shown.
    pub(crate) fn scrolled(&self) -> usize {
        self.scrolled[self.screen.index()]
    }

    /// Whether a filter is being typed.
    pub(crate) fn is_typing(&self) -> bool {
        self.typed().is_some_and(|typed| typed.before.is_some())
    }

    /// The filter of the screen that is shown, if that has one, as typed so far.
    pub(crate) fn filter(&self) -> &str {
        self.typed().map_or("", |typed| &typed.text)
    }

    /// The filter of the table of upstreams, whatever is shown.
    pub(crate) fn filter_of_upstreams(&self) -> &str {
        &self.upstreams.text
    }

    /// That of the events.
    pub(crate) fn filter_of_events(&self) -> &str {
        &self.events.text
    }

    /// What has to be gathered for what is shown.
    pub(crate) fn look(&self) -> Look {
        Look { tail: self.screen == Screen::Events, cost: self.screen == Screen::Hooks }
    }

    fn typed(&self) -> Option<&Typed> {
        match self.screen {
            Screen::Now => Some(&self.upstreams),
            Screen::Events => Some(&self.events),
            Screen::Upstream | Screen::Cause | Screen::Hooks => None,
        }
    }

    fn edit(&mut self, action: &Action) {
        let typed = match self.screen {
            Screen::Now => &mut self.upstreams,
            Screen::Events => &mut self.events,
            Screen::Upstream | Screen::Cause | Screen::Hooks => return,
        };
        match action {
            Action::Type => {
                self.help = false;
                typed.before = Some(typed.text.clone());
            }
            Action::Typed(character) if typed.text.chars().count() < MAX_FILTER && !character.is_control() => {
                typed.text.push(*character);
            }
            Action::Erase => drop(typed.text.pop()),
            Action::Clear => typed.text.clear(),
            Action::Accept => typed.before = None,
            Action::Cancel => typed.text = typed.before.take().unwrap_or_default(),
            _ => {}
        }
    }

    fn show(&mut self, screen: Screen) {
        self.help = false;
        if screen == self.screen {
            return;
        }
        self.edit(&Action::Accept);
        if self.back.len() >= MAX_BACK {
            self.back.remove(0);
        }
        self.back.push(self.screen);
        self.screen = screen;
    }

    /// The last thing that was opened is closed: the help, a filter, reading, a screen.
    fn go_back(&mut self) -> Effect {
        if self.help {
            self.help = false;
        } else if !self.filter().is_empty() {
            self.edit(&Action::Clear);
        } else if self.screen == Screen::Events && self.reading.is_some() {
            self.reading = None;
        } else if let Some(screen) = self.back.pop() {
            self.screen = screen;
        } else if self.screen == Screen::Now {
            return Effect::Nothing;
        } else {
            self.screen = Screen::Now;
        }
        Effect::Redraw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixture;

    fn app() -> App {
        App::new(Theme::COLOURED)
    }

    #[test]
    fn a_frozen_screen_keeps_the_old_snapshot_and_then_shows_the_latest() {
        let (old, new) = (fixture::one(), fixture::quiet());
        let mut app = app();
        app.apply(Action::Freeze, &old);
        assert!(app.is_frozen() && std::ptr::eq(app.shown(&new), &raw const *old));
        app.apply(Action::Freeze, &new);
        assert!(!app.is_frozen() && std::ptr::eq(app.shown(&new), &raw const *new));
    }

    #[test]
    fn escape_closes_what_was_opened_last() {
        let live = fixture::one();
        let mut app = app();
        for screen in [Screen::Upstream, Screen::Upstream, Screen::Cause] {
            app.apply(Action::Show(screen), &live);
        }
        app.apply(Action::Help, &live);
        assert_eq!(app.apply(Action::Back, &live), Effect::Redraw);
        assert!(!app.help && app.screen == Screen::Cause);
        app.apply(Action::Back, &live);
        assert_eq!(app.screen, Screen::Upstream);
        app.apply(Action::Back, &live);
        assert_eq!(app.screen, Screen::Now);
        assert_eq!(app.apply(Action::Back, &live), Effect::Nothing);
        assert_eq!(app.apply(Action::Quit, &live), Effect::Quit);
    }

    #[test]
    fn what_is_kept_of_the_way_back_is_bounded() {
        let live = fixture::idle();
        let mut app = app();
        for turn in 0..100 {
            app.apply(Action::Show(Screen::ALL[turn % 5]), &live);
        }
        assert_eq!(app.back.len(), MAX_BACK);
    }

    #[test]
    fn a_filter_is_typed_and_can_be_given_up() {
        let live = fixture::one();
        let mut app = app();
        app.apply(Action::Type, &live);
        for character in "ngix".chars() {
            app.apply(Action::Typed(character), &live);
        }
        app.apply(Action::Erase, &live);
        assert!(app.is_typing() && app.filter() == "ngi");
        app.apply(Action::Accept, &live);
        assert!(!app.is_typing() && app.filter() == "ngi");
        app.apply(Action::Type, &live);
        app.apply(Action::Clear, &live);
        app.apply(Action::Typed('\u{1b}'), &live);
        assert_eq!(app.filter(), "");
        app.apply(Action::Cancel, &live);
        assert_eq!(app.filter(), "ngi");
        app.apply(Action::Show(Screen::Events), &live);
        assert_eq!(app.filter(), "", "each screen has its own");
        app.apply(Action::Show(Screen::Cause), &live);
        app.apply(Action::Type, &live);
        assert!(!app.is_typing(), "and some have none");
    }
}
