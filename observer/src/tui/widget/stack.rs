//! Things one below the other in a given height, each as large as there is room for.

use ratatui::text::Line;

/// One thing to show, in all the sizes that it can have, smallest first, each larger than the one before. An empty
/// smallest size means that it can be left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block(pub(crate) Vec<Vec<Line<'static>>>);

impl Block {
    fn height(&self, size: usize) -> usize {
        self.0.get(size).map_or(0, Vec::len)
    }
}

/// Lines, each with the place of the block that it belongs to.
pub(crate) type Stacked = Vec<(Option<usize>, Line<'static>)>;

/// The blocks' lines in at most `height` lines. Every block gets its smallest size first; then all grow a size at a
/// time, those at the top first. What does not fit even so is counted with the `hidden` ones, which were not even
/// tried, and named by `more`, unless there is no line left to say it in.
pub(crate) fn stack(
    mut blocks: Vec<Block>,
    hidden: usize,
    height: usize,
    more: impl FnOnce(usize) -> Line<'static>,
) -> Stacked {
    let smallest = |blocks: &[Block]| blocks.iter().map(|block| block.height(0)).sum::<usize>();
    let mut left_out = hidden;
    let room = |left_out| if left_out > 0 && height > 1 { height - 1 } else { height };
    while smallest(&blocks) > room(left_out) && blocks.pop().is_some() {
        left_out += 1;
    }
    let mut left = room(left_out).saturating_sub(smallest(&blocks));
    let mut sizes = vec![0; blocks.len()];
    let most = blocks.iter().map(|block| block.0.len()).max().unwrap_or(0);
    for size in 1..most {
        for (block, chosen) in blocks.iter().zip(&mut sizes) {
            let growth = block.height(size).saturating_sub(block.height(*chosen));
            if size < block.0.len() && growth <= left {
                left -= growth;
                *chosen = size;
            }
        }
    }
    let mut lines = Stacked::new();
    for (place, (block, size)) in blocks.into_iter().zip(sizes).enumerate() {
        let chosen = block.0.into_iter().nth(size).unwrap_or_default();
        lines.extend(chosen.into_iter().map(|line| (Some(place), line)));
    }
    // A blank line at the end parts nothing.
    while lines.last().is_some_and(|(_, line)| line.width() == 0) {
        lines.pop();
    }
    if left_out > 0 && height > 1 {
        lines.push((None, more(left_out)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, heights: &[usize]) -> Block {
        Block(heights.iter().map(|height| vec![Line::raw(format!("{name}{height}")); *height]).collect())
    }

    fn stacked(blocks: Vec<Block>, height: usize) -> Vec<String> {
        stack(blocks, 0, height, |n| Line::raw(format!("{n} more"))).iter().map(|(_, line)| line.to_string()).collect()
    }

    #[test]
    fn all_get_a_line_before_any_gets_two() {
        let blocks = vec![block("a", &[1, 2, 4]), block("b", &[1, 2]), block("c", &[0, 1])];
        assert_eq!(stacked(blocks.clone(), 2), ["a1", "b1"]);
        assert_eq!(stacked(blocks.clone(), 3), ["a2", "a2", "b1"]);
        assert_eq!(stacked(blocks.clone(), 5), ["a2", "a2", "b2", "b2", "c1"]);
        assert_eq!(stacked(blocks, 100).len(), 7);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let blocks = vec![block("a", &[1]), block("b", &[1]), block("c", &[1])];
        assert_eq!(stacked(blocks.clone(), 2), ["a1", "2 more"]);
        assert_eq!(stacked(blocks.clone(), 1), ["a1"], "the worst rather than how many");
        assert_eq!(stacked(blocks, 0), Vec::<String>::new());
        assert_eq!(stacked(vec![block("a", &[1])], 1), ["a1"]);
    }
}
