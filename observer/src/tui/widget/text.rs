//! Text cut and wrapped to a number of cells. Width is counted per grapheme as the terminal shows it, and control
//! characters are left out, so that no text from elsewhere can break a layout.

use ratatui::{
    buffer::CellWidth as _,
    style::Style,
    text::{Line, Span},
};

/// What stands for text that was cut off.
const CUT: &str = "…";

/// The cells that text takes up.
pub(crate) fn width(text: &str) -> usize {
    if is_plain(text) { text.len() } else { graphemes(text, |_| true) }
}

/// Text in at most that many cells, ending in `…` if it was cut.
pub(crate) fn cut(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return head(text, cells);
    }
    match cells {
        0 => String::new(),
        cells => head(text, cells - 1) + CUT,
    }
}

/// Plain text in at most that many cells, cut in its middle; what is not plain is cut at its end.
pub(crate) fn cut_middle(text: &str, cells: usize) -> String {
    if text.len() <= cells || cells < 3 || !is_plain(text) {
        return cut(text, cells);
    }
    let end = cells / 2;
    head(text, cells - 1 - end) + CUT + &text[text.len() - end..]
}

/// Text in exactly that many cells.
pub(crate) fn pad(text: &str, cells: usize, right: bool) -> String {
    let text = cut(text, cells);
    let blank = " ".repeat(cells.saturating_sub(width(&text)));
    if right { blank + &text } else { text + &blank }
}

/// Text in lines of at most that many cells, broken at spaces, and at most that many lines, the last ending in `…` if
/// that is not all. Words longer than a line are broken where they must.
pub(crate) fn wrap(text: &str, cells: usize, max_lines: usize) -> Vec<String> {
    if cells == 0 || max_lines == 0 {
        return Vec::new();
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        if let Some(last) = lines.last_mut()
            && width(last) + 1 + width(word) <= cells
        {
            last.push(' ');
            last.push_str(word);
            continue;
        }
        let mut rest = word.to_owned();
        while width(&rest) > cells {
            let piece = head(&rest, cells);
            if piece.is_empty() {
                CUT.clone_into(&mut rest);
                break;
            }
            rest = rest.split_off(rest.find(&piece).map_or(rest.len(), |start| start + piece.len()));
            lines.push(piece);
        }
        lines.push(head(&rest, cells));
        if lines.len() > max_lines {
            break;
        }
    }
    if lines.len() > max_lines {
        let next = lines.swap_remove(max_lines);
        lines.truncate(max_lines);
        if let Some(last) = lines.last_mut() {
            *last = cut(&format!("{last} {next}"), cells);
        }
    }
    lines
}

/// A paragraph: the first line behind a label, the others indented below its text.
pub(crate) fn labelled(
    label: Span<'static>,
    text: &str,
    style: Style,
    cells: usize,
    max_lines: usize,
) -> Vec<Line<'static>> {
    let indent = width(&label.content);
    let mut label = Some(label);
    let lines = wrap(text, cells.saturating_sub(indent), max_lines).into_iter().map(|line| {
        let before = label.take().unwrap_or_else(|| Span::raw(" ".repeat(indent)));
        Line::from(vec![before, Span::styled(line, style)])
    });
    lines.collect()
}

/// The longest beginning in that many cells.
fn head(text: &str, cells: usize) -> String {
    if is_plain(text) {
        return text.get(..cells).unwrap_or(text).to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    graphemes(text, |symbol| {
        used += usize::from(symbol.cell_width());
        let fits = used <= cells;
        if fits {
            out.push_str(symbol);
        }
        fits
    });
    out
}

/// A byte is a cell: so it is for nearly all that is ever drawn.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Walks over the graphemes that a terminal would show while `each` says so, and gives back the cells of those.
fn graphemes(text: &str, mut each: impl FnMut(&str) -> bool) -> usize {
    let span = Span::raw(text);
    let shown = span.styled_graphemes(Style::new()).take_while(|grapheme| each(grapheme.symbol));
    shown.map(|grapheme| usize::from(grapheme.symbol.cell_width())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_counts_cells_and_not_characters() {
        assert_eq!(cut("queue", 5), "queue");
        assert_eq!(cut("queues", 5), "queu…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…", "a wide character is never halved");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("a\u{1b}[2Jb\n", 9), "a[2Jb");
        assert_eq!(width("e\u{301}"), 1);
    }

    #[test]
    fn the_middle_is_what_can_be_missed() {
        assert_eq!(cut_middle("[2001:db8::1]:8000", 11), "[2001…:8000");
        assert_eq!(cut_middle("[2001:db8::1]:8000", 18), "[2001:db8::1]:8000");
        assert_eq!(cut_middle("日本語日本語", 5), "日本…");
        assert_eq!(["", "…", "a…", "a…d"].map(str::to_owned), [0, 1, 2, 3].map(|cells| cut_middle("abcd", cells)));
    }

    #[test]
    fn pad_fills_exactly() {
        assert_eq!(pad("7", 3, true), "  7");
        assert_eq!(pad("日本語", 6, false), "日本語");
        assert_eq!(pad("日本語", 5, false), "日本…");
        assert_eq!(pad("日本語", 4, false), "日… ");
    }

    #[test]
    fn wrap_breaks_at_spaces_and_says_when_there_is_more() {
        assert_eq!(wrap("add workers to the pool", 11, 9), ["add workers", "to the pool"]);
        assert_eq!(wrap("add workers to the pool", 11, 1), ["add worker…"]);
        assert_eq!(wrap("a verylongword b", 4, 9), ["a", "very", "long", "word", "b"]);
        assert_eq!(wrap("a verylongword b", 4, 2), ["a", "ver…"]);
        assert_eq!(wrap("日本", 1, 9), ["…"], "nothing fits, and that is said");
        assert_eq!(wrap("", 4, 2), Vec::<String>::new());
        assert_eq!(wrap("word", 0, 2), Vec::<String>::new());
    }
}
