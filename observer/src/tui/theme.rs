//! Styles by meaning. Only the 16 ANSI colours, which each terminal's owner has chosen to be readable on their
//! background; what a colour says is always said by a word or a marker as well.

use ratatui::style::{Color, Modifier, Style};

/// What stands out without being good or bad.
pub(crate) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// What may be overlooked. Not dark grey: some palettes paint that in the background's colour.
pub(crate) const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// A label that must be seen from across the room, in the style of what it says.
pub(crate) const fn badge(style: Style) -> Style {
    style.add_modifier(Modifier::REVERSED).add_modifier(Modifier::BOLD)
}

/// Colours of causes.
const CAUSES: [Color; 3] = [Color::Magenta, Color::Cyan, Color::Blue];

/// How things look: in colour, or by modifiers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    colour: bool,
}

impl Theme {
    /// With the 16 colours.
    pub(crate) const COLOURED: Self = Self { colour: true };
    /// Without (<https://no-color.org>).
    pub(crate) const PLAIN: Self = Self { colour: false };

    /// By `NO_COLOR`: set and not empty means plain.
    pub(crate) fn from_env() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if plain { Self::PLAIN } else { Self::COLOURED }
    }

    /// Fails now. Nothing else is red, but lost records, which make everything else doubtful.
    pub(crate) fn failing(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Will fail, or has just stopped failing.
    pub(crate) fn warning(self) -> Style {
        self.coloured(Color::Yellow)
    }

    /// All is well, said once.
    pub(crate) fn calm(self) -> Style {
        self.coloured(Color::Green)
    }

    /// Of a cause in a recording, by its rank; not red, as that is for what fails at the moment that is looked at. Beyond those
    /// with a colour all look alike.
    pub(crate) fn cause(self, rank: usize) -> Style {
        CAUSES.get(rank).map_or(STRONG, |colour| self.coloured(*colour).add_modifier(Modifier::BOLD))
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}
