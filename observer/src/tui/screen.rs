//! The screens, as a table.

/// What can have the terminal for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Screen {
    /// What fails, and all upstreams.
    #[default]
    Now,
    /// All about one upstream.
    Upstream,
    /// Why something failed, and what to do.
    Cause,
    /// What happened, one by one.
    Events,
    /// What is watched, what that costs, and what was lost.
    Hooks,
}

impl Screen {
    /// All of them, in the order of their numbers, which begin at 1.
    pub(crate) const ALL: [Self; 5] = [Self::Now, Self::Upstream, Self::Cause, Self::Events, Self::Hooks];

    /// How it is called, in the footer and in the names of files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Upstream => "upstream",
            Self::Cause => "cause",
            Self::Events => "events",
            Self::Hooks => "hooks",
        }
    }

    /// Its place in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        Self::ALL.iter().position(|each| *each == self).unwrap_or(0)
    }

    /// The one so many places further, round and round.
    pub(crate) fn further(self, by: usize) -> Self {
        Self::ALL[(self.index() + by) % Self::ALL.len()]
    }
}
