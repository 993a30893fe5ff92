//! The one table of keys. Dispatch, the footer's hints and the help are all made from it.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::action::Action;
use crate::snapshot::{Snapshot, playback::Command};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Binding {
    /// The keys that do it.
    keys: &'static [(KeyCode, KeyModifiers)],
    /// How they are written.
    pub(crate) shown: &'static str,
    /// What they do.
    pub(crate) action: Action,
    /// A word for the footer, where there is room for a word.
    pub(crate) hint: Option<&'static str>,
    /// A sentence for the help; `None` where the line before tells of it.
    pub(crate) help: Option<&'static str>,
    /// Where it does that.
    on: On,
}

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

/// In which modes a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    All,
    Only(Mode),
}

/// How far an arrow goes.
const NEAR: Duration = Duration::from_secs(10);
/// How far a page goes.
const FAR: Duration = Duration::from_mins(1);

const NONE: KeyModifiers = KeyModifiers::NONE;

/// All bindings, in the order in which the footer and the help show them.
const BINDINGS: &[Binding] = &[
    Binding {
        keys: &[(KeyCode::Char('q'), NONE), (KeyCode::Char('c'), KeyModifiers::CONTROL)],
        shown: "q, Ctrl-C",
        action: Action::Quit,
        hint: Some("q quit"),
        help: Some("quit"),
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::Char('?'), NONE), (KeyCode::Char('h'), NONE), (KeyCode::F(1), NONE)],
        shown: "?, h",
        action: Action::Help,
        hint: Some("? help"),
        help: Some("show or hide this help"),
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::Char('p'), NONE), (KeyCode::Char(' '), NONE)],
        shown: "p, space",
        action: Action::Pause,
        hint: Some("p pause"),
        help: Some("freeze the screen; observer goes on watching"),
        on: On::Only(Mode::Live),
    },
    Binding {
        keys: &[(KeyCode::Char(' '), NONE), (KeyCode::Char('p'), NONE)],
        shown: "space, p",
        action: Action::Replay(Command::Pause),
        hint: Some("space pause"),
        help: Some("pause the replay, or go on"),
        on: On::Only(Mode::Replay),
    },
    Binding {
        keys: &[(KeyCode::Left, NONE)],
        shown: "←, →",
        action: Action::Replay(Command::Back(NEAR)),
        hint: Some("←→ 10 s"),
        help: Some("10 s back, 10 s on; PgUp, PgDn: a minute"),
        on: On::Only(Mode::Replay),
    },
    replay_only(&[(KeyCode::Right, NONE)], Command::On(NEAR)),
    replay_only(&[(KeyCode::PageUp, NONE)], Command::Back(FAR)),
    replay_only(&[(KeyCode::PageDown, NONE)], Command::On(FAR)),
    Binding {
        keys: &[(KeyCode::Char('n'), NONE)],
        shown: "n, N",
        action: Action::Replay(Command::NextIncident),
        hint: Some("n next incident"),
        help: Some("to the next incident, to the one before; 0, $: beginning, end"),
        on: On::Only(Mode::Replay),
    },
    replay_only(&[(KeyCode::Char('N'), NONE)], Command::PreviousIncident),
    replay_only(&[(KeyCode::Char('0'), NONE)], Command::Begin),
    replay_only(&[(KeyCode::Char('$'), NONE)], Command::End),
    Binding {
        keys: &[(KeyCode::Char('-'), NONE), (KeyCode::Char('['), NONE)],
        shown: "-, +, [, ]",
        action: Action::Replay(Command::Slower),
        hint: Some("-+ speed"),
        help: Some("half as fast, twice as fast"),
        on: On::Only(Mode::Replay),
    },
    replay_only(&[(KeyCode::Char('+'), NONE), (KeyCode::Char('='), NONE), (KeyCode::Char(']'), NONE)], Command::Faster),
    Binding {
        keys: &[(KeyCode::Char('.'), NONE)],
        shown: ".",
        action: Action::Replay(Command::Step),
        hint: None,
        help: Some("pause, a second later"),
        on: On::Only(Mode::Replay),
    },
    Binding {
        keys: &[(KeyCode::Enter, NONE)],
        shown: "Enter",
        action: Action::Open,
        hint: Some("Enter evidence"),
        help: Some("all about the selected upstream: why, what to do, evidence"),
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::Esc, NONE), (KeyCode::Backspace, NONE)],
        shown: "Esc",
        action: Action::Back,
        hint: None,
        help: Some("back"),
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::Up, NONE), (KeyCode::Char('k'), NONE)],
        shown: "↑, ↓, k, j",
        action: Action::Up,
        hint: Some("↑↓ select"),
        help: Some("select the upstream above, below"),
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::Down, NONE), (KeyCode::Char('j'), NONE)],
        shown: "↓, j",
        action: Action::Down,
        hint: None,
        help: None,
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::Home, NONE), (KeyCode::Char('g'), NONE)],
        shown: "Home, End",
        action: Action::First,
        hint: None,
        help: Some("select the first upstream, whichever that is; the last (g, G)"),
        on: On::All,
    },
    Binding {
        keys: &[(KeyCode::End, NONE), (KeyCode::Char('G'), NONE)],
        shown: "End, G",
        action: Action::Last,
        hint: None,
        help: None,
        on: On::All,
    },
];

/// One more key of a replay, of which the line before tells.
const fn replay_only(keys: &'static [(KeyCode, KeyModifiers)], command: Command) -> Binding {
    Binding { keys, shown: "", action: Action::Replay(command), hint: None, help: None, on: On::Only(Mode::Replay) }
}

/// All bindings of a mode.
pub(crate) fn bindings(mode: Mode) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |binding| matches!(binding.on, On::All) || binding.on == On::Only(mode))
}

/// What a key asks for, if anything.
pub(crate) fn action(key: KeyEvent, mode: Mode) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    // Terminals disagree on whether a capital letter or a `?` comes with the shift that made it.
    let pressed = (key.code, key.modifiers.difference(KeyModifiers::SHIFT));
    bindings(mode).find(|binding| binding.keys.contains(&pressed)).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things() {
        for mode in [Mode::Live, Mode::Replay] {
            let mut keys: Vec<_> = bindings(mode).flat_map(|binding| binding.keys).collect();
            let count = keys.len();
            keys.sort_by_key(|key| format!("{key:?}"));
            keys.dedup();
            assert_eq!(keys.len(), count);
        }
    }

    #[test]
    fn modifiers_matter_but_shift() {
        let press = |code, modifiers| action(KeyEvent::new(code, modifiers), Mode::Live);
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('c'), NONE), None);
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(press(KeyCode::Char('?'), KeyModifiers::SHIFT), Some(Action::Help));
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Action::Last));
        assert_eq!(press(KeyCode::Char('g'), NONE), Some(Action::First));
    }

    #[test]
    fn a_recording_is_gone_through_by_keys_and_a_live_host_is_not() {
        let press = |code, mode| action(KeyEvent::new(code, NONE), mode);
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
            assert_eq!(press(code, Mode::Replay), Some(Action::Replay(command)));
            assert!(!matches!(press(code, Mode::Live), Some(Action::Replay(_))), "{code:?}");
        }
        let shifted = KeyEvent::new(KeyCode::Char('N'), KeyModifiers::SHIFT);
        assert_eq!(action(shifted, Mode::Replay), Some(Action::Replay(Command::PreviousIncident)));
        assert_eq!(press(KeyCode::Char(' '), Mode::Live), Some(Action::Pause));
        assert_eq!(press(KeyCode::Down, Mode::Replay), press(KeyCode::Down, Mode::Live));
    }

    #[test]
    fn a_key_let_go_is_not_pressed_again() {
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), NONE, KeyEventKind::Release);
        assert_eq!(action(released, Mode::Live), None);
    }
}
