//! The one table of keys. Dispatch, the footer's hints and the help are all made from it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::action::Action;

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
    /// A sentence for the help.
    pub(crate) help: &'static str,
}

const NONE: KeyModifiers = KeyModifiers::NONE;

/// All bindings, in the order in which the footer and the help show them.
pub(crate) const BINDINGS: &[Binding] = &[
    Binding {
        keys: &[(KeyCode::Char('q'), NONE), (KeyCode::Char('c'), KeyModifiers::CONTROL)],
        shown: "q, Ctrl-C",
        action: Action::Quit,
        hint: Some("q quit"),
        help: "quit",
    },
    Binding {
        keys: &[(KeyCode::Char('?'), NONE), (KeyCode::Char('h'), NONE), (KeyCode::F(1), NONE)],
        shown: "?, h",
        action: Action::Help,
        hint: Some("? help"),
        help: "show or hide this help",
    },
    Binding {
        keys: &[(KeyCode::Char('p'), NONE), (KeyCode::Char(' '), NONE)],
        shown: "p, space",
        action: Action::Pause,
        hint: Some("p pause"),
        help: "freeze the screen; observer goes on watching",
    },
    Binding {
        keys: &[(KeyCode::Enter, NONE)],
        shown: "Enter",
        action: Action::Open,
        hint: Some("Enter evidence"),
        help: "all about the selected upstream: why, what to do, evidence",
    },
    Binding {
        keys: &[(KeyCode::Esc, NONE), (KeyCode::Backspace, NONE)],
        shown: "Esc",
        action: Action::Back,
        hint: None,
        help: "back",
    },
    Binding {
        keys: &[(KeyCode::Up, NONE), (KeyCode::Char('k'), NONE)],
        shown: "↑, k",
        action: Action::Up,
        hint: Some("↑↓ select"),
        help: "select the upstream above",
    },
    Binding {
        keys: &[(KeyCode::Down, NONE), (KeyCode::Char('j'), NONE)],
        shown: "↓, j",
        action: Action::Down,
        hint: None,
        help: "select the upstream below",
    },
    Binding {
        keys: &[(KeyCode::Home, NONE), (KeyCode::Char('g'), NONE)],
        shown: "Home, g",
        action: Action::First,
        hint: None,
        help: "select the first upstream, whichever that is",
    },
    Binding {
        keys: &[(KeyCode::End, NONE), (KeyCode::Char('G'), NONE)],
        shown: "End, G",
        action: Action::Last,
        hint: None,
        help: "select the last upstream",
    },
];

/// What a key asks for, if anything.
pub(crate) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    // Terminals disagree on whether a capital letter or a `?` comes with the shift that made it.
    let pressed = (key.code, key.modifiers.difference(KeyModifiers::SHIFT));
    BINDINGS.iter().find(|binding| binding.keys.contains(&pressed)).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things() {
        let mut keys: Vec<_> = BINDINGS.iter().flat_map(|binding| binding.keys).collect();
        let count = keys.len();
        keys.sort_by_key(|key| format!("{key:?}"));
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn modifiers_matter_but_shift() {
        let press = |code, modifiers| action(KeyEvent::new(code, modifiers));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('c'), NONE), None);
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(press(KeyCode::Char('?'), KeyModifiers::SHIFT), Some(Action::Help));
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Action::Last));
        assert_eq!(press(KeyCode::Char('g'), NONE), Some(Action::First));
    }

    #[test]
    fn a_key_let_go_is_not_pressed_again() {
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), NONE, KeyEventKind::Release);
        assert_eq!(action(released), None);
    }
}
