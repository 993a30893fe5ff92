//! The one table of keys. Dispatch, the footer's hints and the help are all made from it.

use std::time::Duration;

use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::{
    action::{Action, Intent, Step},
    app::App,
    screen::Screen,
};
use crate::snapshot::{Snapshot, playback::Command};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Binding {
    /// The keys that do it.
    keys: &'static [Key],
    /// How they are written.
    pub(crate) shown: &'static str,
    /// What they do.
    intent: Intent,
    /// A word for the footer, where there is room for a word.
    pub(crate) hint: Option<&'static str>,
    /// A sentence for the help; `None` where the line before tells of it.
    pub(crate) help: Option<&'static str>,
    /// Where it does that.
    on: On,
}

type Key = (KeyCode, KeyModifiers);

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// This host.
    Live,
    /// A recording.
    Replay,
}

impl Mode {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        if snapshot.playback.is_some() { Self::Replay } else { Self::Live }
    }
}

/// In which mode, and on which screens, a binding holds.
#[derive(Clone, Copy, Debug)]
struct On {
    mode: Option<Mode>,
    screens: &'static [Screen],
}

const ANYWHERE: On = On { mode: None, screens: &Screen::ALL };
const LIVE: On = On { mode: Some(Mode::Live), ..ANYWHERE };
const REPLAY: On = On { mode: Some(Mode::Replay), ..ANYWHERE };
const FILTERED: On = On { mode: None, screens: &[Screen::Now, Screen::Events] };
const OPENS: On = On { mode: None, screens: &[Screen::Now, Screen::Upstream, Screen::Events] };
/// Where something else is shown than causes.
const EXPLAINS: On = On { mode: None, screens: &[Screen::Now, Screen::Upstream, Screen::Events, Screen::Hooks] };
const TABLE: On = On { mode: None, screens: &[Screen::Now] };
const PAGES: On = On { mode: None, screens: &[Screen::Upstream, Screen::Cause] };
const CAUSE: On = On { mode: None, screens: &[Screen::Cause] };

/// How far an arrow goes in a recording.
const NEAR: Duration = Duration::from_secs(10);
/// How far a page goes there.
const FAR: Duration = Duration::from_mins(1);

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;

const fn key(character: char) -> Key {
    (KeyCode::Char(character), NONE)
}

const fn ctrl(character: char) -> Key {
    (KeyCode::Char(character), CTRL)
}

const fn named(code: KeyCode) -> Key {
    (code, NONE)
}

/// A key that the footer and the help both tell of.
const fn told(
    keys: &'static [Key],
    shown: &'static str,
    intent: Intent,
    hint: &'static str,
    help: &'static str,
    on: On,
) -> Binding {
    Binding { keys, shown, intent, hint: Some(hint), help: Some(help), on }
}

/// A key that the help alone tells of.
const fn helped(keys: &'static [Key], shown: &'static str, intent: Intent, help: &'static str, on: On) -> Binding {
    Binding { keys, shown, intent, hint: None, help: Some(help), on }
}

/// One more key, of which a line before tells.
const fn more(keys: &'static [Key], intent: Intent, on: On) -> Binding {
    Binding { keys, shown: "", intent, hint: None, help: None, on }
}

const fn replay(command: Command) -> Intent {
    Intent::Do(Action::Replay(command))
}

const fn show(screen: Screen) -> Intent {
    Intent::Do(Action::Show(screen))
}

/// All bindings, in the order in which the footer and the help show them.
const BINDINGS: &[Binding] = &[
    told(
        &[key('?'), named(KeyCode::F(1))],
        "?, F1",
        Intent::Do(Action::Help),
        "? keys",
        "show or hide this help",
        ANYWHERE,
    ),
    told(
        &[key('c')],
        "c",
        Intent::Cause,
        "c fix",
        "why the selected fails, the fix to copy, how to check it by hand",
        EXPLAINS,
    ),
    told(
        &[named(KeyCode::Enter)],
        "Enter",
        Intent::Open,
        "Enter all",
        "all about the selected upstream; there, and on a verdict: the cause",
        OPENS,
    ),
    told(&[key('y')], "y", Intent::Copy, "y copy", "copy the selected snippet (OSC 52)", CAUSE),
    told(&[key('s')], "s", Intent::NextSnippet, "s next", "select the next snippet", CAUSE),
    told(&[key('q'), ctrl('c')], "q, Ctrl-C", Intent::Do(Action::Quit), "q quit", "quit", ANYWHERE),
    helped(&[key('1')], "1 … 5, Tab", show(Screen::Now), "now, upstream, cause, events, hooks; the next", ANYWHERE),
    more(&[key('2')], show(Screen::Upstream), ANYWHERE),
    more(&[key('3')], show(Screen::Cause), ANYWHERE),
    more(&[key('4')], show(Screen::Events), ANYWHERE),
    more(&[key('5')], show(Screen::Hooks), ANYWHERE),
    helped(&[named(KeyCode::Esc), named(KeyCode::Backspace)], "Esc", Intent::Do(Action::Back), "back", ANYWHERE),
    told(
        &[key('/')],
        "/",
        Intent::Do(Action::Type),
        "/ filter",
        "filter: words, cause: port: pid: addr: kind:",
        FILTERED,
    ),
    told(
        &[key('y')],
        "y",
        Intent::Copy,
        "y copy",
        "copy what fails and the fix, the selected event, or this screen (OSC 52)",
        EXPLAINS,
    ),
    told(
        &[key('<'), key('h')],
        "<, >, h, l",
        Intent::Before,
        "<> sort",
        "sort by the column before, behind; a click on its name",
        TABLE,
    ),
    more(&[key('>'), key('l')], Intent::Behind, TABLE),
    helped(&[key('i'), key('R')], "i, R", Intent::Do(Action::Reverse), "sort the other way", TABLE),
    told(
        &[key('<'), key('h')],
        "<, >, h, l",
        Intent::Before,
        "<> others",
        "the upstream or incident before, behind",
        PAGES,
    ),
    more(&[key('>'), key('l')], Intent::Behind, PAGES),
    told(&[key('w')], "w", Intent::Write, "w write", "write all that this screen has into a new file", ANYWHERE),
    told(&[key('r')], "r", Intent::Do(Action::Record), "r record", "start or end a recording", LIVE),
    told(
        &[key('b')],
        "b",
        Intent::Do(Action::Compare),
        "b before/after",
        "something was changed just now: does it help? again: enough",
        ANYWHERE,
    ),
    helped(&[key('t')], "t", Intent::Do(Action::Times), "times as they were, or how long ago", ANYWHERE),
    told(
        &[key(' '), key('p')],
        "space, p",
        Intent::Do(Action::Freeze),
        "space freeze",
        "freeze the screen; observer goes on watching",
        LIVE,
    ),
    told(
        &[key(' '), key('p')],
        "space, p",
        replay(Command::Pause),
        "space pause",
        "pause the replay, or go on",
        REPLAY,
    ),
    told(
        &[named(KeyCode::Left)],
        "←, →",
        replay(Command::Back(NEAR)),
        "←→ 10 s",
        "10 s back, 10 s on; PgUp, PgDn: a minute",
        REPLAY,
    ),
    more(&[named(KeyCode::Right)], replay(Command::On(NEAR)), REPLAY),
    more(&[named(KeyCode::PageUp)], replay(Command::Back(FAR)), REPLAY),
    more(&[named(KeyCode::PageDown)], replay(Command::On(FAR)), REPLAY),
    told(
        &[key('n')],
        "n, N",
        replay(Command::NextIncident),
        "n next incident",
        "to the next incident, to the one before; 0, $: beginning, end",
        REPLAY,
    ),
    more(&[key('N')], replay(Command::PreviousIncident), REPLAY),
    more(&[key('0')], replay(Command::Begin), REPLAY),
    more(&[key('$')], replay(Command::End), REPLAY),
    told(
        &[key('-'), key('[')],
        "-, +, [, ]",
        replay(Command::Slower),
        "-+ speed",
        "half as fast, twice as fast",
        REPLAY,
    ),
    more(&[key('+'), key('='), key(']')], replay(Command::Faster), REPLAY),
    helped(&[key('.')], ".", replay(Command::Step), "pause, a second later", REPLAY),
    helped(
        &[named(KeyCode::Up), key('k')],
        "↑, ↓, k, j",
        Intent::Move(Step::Up),
        "a row up, a row down; Ctrl-B, Ctrl-F: a page",
        ANYWHERE,
    ),
    more(&[named(KeyCode::Down), key('j')], Intent::Move(Step::Down), ANYWHERE),
    more(&[ctrl('b')], Intent::Move(Step::PageUp), ANYWHERE),
    more(&[ctrl('f')], Intent::Move(Step::PageDown), ANYWHERE),
    more(&[named(KeyCode::PageUp)], Intent::Move(Step::PageUp), LIVE),
    more(&[named(KeyCode::PageDown)], Intent::Move(Step::PageDown), LIVE),
    more(&[named(KeyCode::Left)], Intent::Before, LIVE),
    more(&[named(KeyCode::Right)], Intent::Behind, LIVE),
    helped(
        &[named(KeyCode::Home), key('g')],
        "g, G",
        Intent::Move(Step::First),
        "the first row (Home), the last (End); of events: follow them",
        ANYWHERE,
    ),
    more(&[named(KeyCode::End), key('G')], Intent::Move(Step::Last), ANYWHERE),
];

/// All bindings of a mode and a screen.
pub(crate) fn bindings(mode: Mode, screen: Screen) -> impl Iterator<Item = &'static Binding> {
    let holds = move |on: &On| on.mode.is_none_or(|only| only == mode) && on.screens.contains(&screen);
    BINDINGS.iter().filter(move |binding| holds(&binding.on))
}

/// What a key asks for, if anything.
pub(crate) fn intent(key: KeyEvent, app: &App, mode: Mode) -> Option<Intent> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    // Terminals disagree on whether a capital letter or a `?` comes with the shift that made it.
    let pressed = (key.code, key.modifiers.difference(KeyModifiers::SHIFT));
    if app.is_typing()
        && let Some(action) = typed(pressed)
    {
        return Some(Intent::Do(action));
    }
    match pressed {
        // They depend on where one is.
        (KeyCode::Tab, NONE) => Some(show(app.screen.further(1))),
        (KeyCode::BackTab, NONE) => Some(show(app.screen.further(Screen::ALL.len() - 1))),
        _ => bindings(mode, app.screen)
            .find(|binding| binding.keys.contains(&pressed))
            .map(|binding| binding.intent.clone()),
    }
}

/// What a key does to a filter that is being typed; what means nothing there means what it always does.
fn typed(pressed: Key) -> Option<Action> {
    match pressed {
        (KeyCode::Char(character), NONE) => Some(Action::Typed(character)),
        (KeyCode::Backspace, NONE) | (KeyCode::Char('h'), CTRL) => Some(Action::Erase),
        (KeyCode::Char('u' | 'w'), CTRL) => Some(Action::Clear),
        (KeyCode::Enter, NONE) => Some(Action::Accept),
        (KeyCode::Esc, NONE) => Some(Action::Cancel),
        _ => None,
    }
}

/// What the mouse asks for, if anything.
pub(crate) fn pointed(mouse: MouseEvent) -> Option<Intent> {
    match mouse.kind {
        MouseEventKind::Down(MouseButton::Left) => Some(Intent::Click(mouse.column, mouse.row)),
        MouseEventKind::ScrollUp => Some(Intent::Move(Step::WheelUp)),
        MouseEventKind::ScrollDown => Some(Intent::Move(Step::WheelDown)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::Theme;

    const MODES: [Mode; 2] = [Mode::Live, Mode::Replay];

    fn press(code: KeyCode, modifiers: KeyModifiers, mode: Mode) -> Option<Intent> {
        intent(KeyEvent::new(code, modifiers), &App::new(Theme::PLAIN), mode)
    }

    #[test]
    fn no_key_means_two_things() {
        for (mode, screen) in MODES.into_iter().flat_map(|mode| Screen::ALL.map(|screen| (mode, screen))) {
            let mut keys: Vec<_> = bindings(mode, screen).flat_map(|binding| binding.keys).collect();
            let count = keys.len();
            keys.sort_by_key(|key| format!("{key:?}"));
            keys.dedup();
            assert_eq!(keys.len(), count, "{mode:?} {screen:?}");
        }
    }

    #[test]
    fn modifiers_matter_but_shift() {
        let press = |code, modifiers| press(code, modifiers, Mode::Live);
        assert_eq!(press(KeyCode::Char('c'), CTRL), Some(Intent::Do(Action::Quit)));
        assert_eq!(press(KeyCode::Char('c'), NONE), Some(Intent::Cause));
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(press(KeyCode::Char('?'), KeyModifiers::SHIFT), Some(Intent::Do(Action::Help)));
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Intent::Move(Step::Last)));
        assert_eq!(press(KeyCode::Char('g'), NONE), Some(Intent::Move(Step::First)));
        assert_eq!(press(KeyCode::BackTab, KeyModifiers::SHIFT), Some(show(Screen::Hooks)));
    }

    #[test]
    fn a_recording_is_gone_through_by_keys_and_a_live_host_is_not() {
        for (code, command) in [
            (KeyCode::Char(' '), Command::Pause),
            (KeyCode::Char('.'), Command::Step),
            (KeyCode::Left, Command::Back(NEAR)),
            (KeyCode::Right, Command::On(NEAR)),
            (KeyCode::PageDown, Command::On(FAR)),
            (KeyCode::Char('n'), Command::NextIncident),
            (KeyCode::Char('0'), Command::Begin),
            (KeyCode::Char('$'), Command::End),
            (KeyCode::Char('['), Command::Slower),
            (KeyCode::Char('+'), Command::Faster),
        ] {
            assert_eq!(press(code, NONE, Mode::Replay), Some(replay(command)));
            let live = press(code, NONE, Mode::Live);
            assert!(!matches!(live, Some(Intent::Do(Action::Replay(_)))), "{code:?}");
        }
        assert_eq!(
            press(KeyCode::Char('N'), KeyModifiers::SHIFT, Mode::Replay),
            Some(replay(Command::PreviousIncident))
        );
        assert_eq!(press(KeyCode::Char(' '), NONE, Mode::Live), Some(Intent::Do(Action::Freeze)));
        assert_eq!(press(KeyCode::Char('r'), NONE, Mode::Replay), None, "a recording is not recorded");
        assert_eq!(press(KeyCode::Down, NONE, Mode::Replay), press(KeyCode::Down, NONE, Mode::Live));
    }

    #[test]
    fn a_key_let_go_is_not_pressed_again() {
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), NONE, KeyEventKind::Release);
        assert_eq!(intent(released, &App::new(Theme::PLAIN), Mode::Live), None);
    }
}
