//! A series as a row of bars.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Stands for none at all, so that one is told from none.
const NONE: char = '·';

/// The series in at most so many cells, the newest at the right, scaled to its own highest bar. Where there are fewer
/// cells than values, a bar is the highest of several.
pub(crate) fn spark(values: &[u32], cells: usize) -> String {
    to_scale(values, 0, cells)
}

/// The same, to the scale of a bar that is at least so high.
pub(crate) fn to_scale(values: &[u32], highest: u32, cells: usize) -> String {
    if cells == 0 || values.is_empty() {
        return String::new();
    }
    let per_bar = values.len().div_ceil(cells);
    // Grouped from the newest, so that it is the oldest group that may be short.
    let groups = values.rchunks(per_bar).map(|chunk| chunk.iter().copied().max().unwrap_or(0).into());
    let mut groups: Vec<u64> = groups.collect();
    groups.reverse();
    let highest = groups.iter().copied().max().unwrap_or(0).max(highest.into());
    groups.into_iter().map(|value| bar(value, highest)).collect()
}

/// A bar for each, scaled to the highest of them.
pub(crate) fn bars(values: &[u64]) -> impl Iterator<Item = char> {
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    values.iter().map(move |value| bar(*value, highest))
}

fn bar(value: u64, highest: u64) -> char {
    if value == 0 {
        return NONE;
    }
    let step = value.saturating_mul(8).div_ceil(highest).saturating_sub(1);
    BARS[usize::try_from(step).unwrap_or(0).min(BARS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_one_and_the_highest_are_told_apart() {
        assert_eq!(spark(&[0, 1, 50, 100], 9), "·▁▄█");
        assert_eq!(spark(&[0, 0], 9), "··");
        assert_eq!(spark(&[u32::MAX, 1], 9), "█▁");
    }

    #[test]
    fn the_newest_is_at_the_right_and_peaks_survive() {
        assert_eq!(spark(&[9, 0, 0, 0, 9], 3), "█·█");
        assert_eq!(spark(&[1; 59], 10).chars().count(), 10);
        assert_eq!(spark(&[1; 59], 0), "");
        assert_eq!(to_scale(&[1, 0, 2], 8, 3), "▁·▂");
    }
}
