//! What a screen draws: lines, and what a click on them does. It knows of cells, and of no snapshot.

use std::ops::Range;

use ratatui::text::Line;

use super::action::Action;

/// The room that a screen has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Cells of a line.
    pub(crate) width: usize,
    /// Lines.
    pub(crate) height: usize,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// From the top.
    pub(crate) lines: Vec<Line<'static>>,
    targets: Vec<Target>,
}

#[derive(Clone, Debug)]
struct Target {
    lines: Range<usize>,
    cells: Range<usize>,
    action: Action,
}

impl Page {
    /// One more line.
    pub(crate) fn line(&mut self, line: impl Into<Line<'static>>) {
        self.lines.push(line.into());
    }

    /// More lines.
    pub(crate) fn lines(&mut self, lines: impl IntoIterator<Item = Line<'static>>) {
        self.lines.extend(lines);
    }

    /// Another page below.
    pub(crate) fn page(&mut self, page: Self) {
        let above = self.lines.len();
        self.lines.extend(page.lines);
        self.targets.extend(
            page.targets
                .into_iter()
                .map(|target| Target { lines: target.lines.start + above..target.lines.end + above, ..target }),
        );
    }

    /// A click there does that.
    pub(crate) fn on(&mut self, lines: Range<usize>, cells: Range<usize>, action: Action) {
        self.targets.push(Target { lines, cells, action });
    }

    /// A click anywhere in these lines does that.
    pub(crate) fn on_lines(&mut self, lines: Range<usize>, action: Action) {
        self.on(lines, 0..usize::MAX, action);
    }

    /// What a click there does; of targets above each other, the last.
    pub(crate) fn at(&self, line: usize, cell: usize) -> Option<&Action> {
        let hit = |target: &&Target| target.lines.contains(&line) && target.cells.contains(&cell);
        self.targets.iter().rfind(hit).map(|target| &target.action)
    }

    /// Where a click does exactly that.
    pub(crate) fn lines_of(&self, action: &Action) -> Option<Range<usize>> {
        self.targets.iter().find(|target| target.action == *action).map(|target| target.lines.clone())
    }

    /// Without what is above that line.
    pub(crate) fn below(mut self, first: usize) -> Self {
        let first = first.min(self.lines.len());
        self.lines.drain(..first);
        self.targets.retain(|target| target.lines.end > first);
        for target in &mut self.targets {
            target.lines = target.lines.start.saturating_sub(first)..target.lines.end - first;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_move_with_their_lines() {
        let mut below = Page::default();
        below.lines([Line::raw("a"), Line::raw("b")]);
        below.on_lines(1..2, Action::Help);
        let mut page = Page::default();
        page.line("head");
        page.on(0..1, 0..2, Action::Quit);
        page.page(below);
        assert_eq!(page.at(0, 1), Some(&Action::Quit));
        assert_eq!((page.at(0, 2), page.at(1, 0)), (None, None));
        assert_eq!(page.at(2, 999), Some(&Action::Help));
        let scrolled = page.below(2);
        assert_eq!(scrolled.lines.len(), 1);
        assert_eq!((scrolled.at(0, 0), scrolled.at(1, 0)), (Some(&Action::Help), None));
        assert!(scrolled.below(9).lines.is_empty());
    }
}
