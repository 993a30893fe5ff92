//! A level as a bar.

const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// `part` of `whole` as a bar in so many cells. Anything more than nothing shows, and only all of it is full.
pub(crate) fn gauge(part: u32, whole: u32, cells: usize) -> String {
    let steps = u64::try_from(cells).unwrap_or(0) * 8;
    let (part, whole) = (u64::from(part), u64::from(whole));
    let filled = match part {
        0 => 0,
        part if part >= whole => steps,
        part => (part * steps / whole).clamp(1.min(steps), steps.saturating_sub(1)),
    };
    let filled = usize::try_from(filled).unwrap_or(0);
    let bar = "█".repeat(filled / 8) + EIGHTHS[filled % 8];
    let used = filled.div_ceil(8);
    bar + &"░".repeat(cells - used)
}

/// The same with a mark where it was at its highest, unless it is there now.
pub(crate) fn marked(part: u32, whole: u32, highest: u32, cells: usize) -> String {
    let bar = gauge(part, whole, cells);
    let filled = |part| gauge(part, whole, cells).chars().filter(|cell| *cell != '░').count();
    let at = filled(highest).saturating_sub(1);
    if highest <= part || at < filled(part) {
        return bar;
    }
    bar.chars().enumerate().map(|(index, cell)| if index == at { '│' } else { cell }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_marked_where_it_was() {
        assert_eq!(marked(32, 128, 128, 4), "█░░│");
        assert_eq!(marked(32, 128, 64, 4), "█│░░");
        assert_eq!(marked(64, 128, 64, 4), "██░░");
        assert_eq!(marked(0, 128, 1, 4), "│░░░");
        assert_eq!(marked(0, 128, 0, 4), "░░░░");
        assert_eq!(marked(1, 128, 9, 0), "");
    }

    #[test]
    fn empty_and_full_are_exact() {
        assert_eq!(gauge(0, 128, 4), "░░░░");
        assert_eq!(gauge(1, 128, 4), "▏░░░");
        assert_eq!(gauge(64, 128, 4), "██░░");
        assert_eq!(gauge(127, 128, 4), "███▉");
        assert_eq!(gauge(129, 128, 4), "████");
        assert_eq!(gauge(1, 0, 4), "████");
        assert_eq!(gauge(0, 0, 4), "░░░░");
        assert_eq!(gauge(1, 2, 0), "");
    }
}
