//! The strip below everything else where a recording is replayed: what failed when, by cause, and where one is.
//!
//! ```text
//! 03:10:00Z ·······▁▂▅█████▇▅▂································ 03:25:30Z   failures; what is still to come is faint
//!                  aaaaafffff                                             the cause of most of them, by letter
//!                       ▲ 03:12:44Z, 164 s of 15 min                      where one is
//! a accept-queue-overflow 1,203   f upstream-refused 120                  the causes
//! ```

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{Context, legend};
use crate::{
    snapshot::{
        Playback,
        timeline::{Part, Timeline},
    },
    time::Time,
    tui::{
        theme::{FAINT, STRONG},
        widget::{number, spark, text},
    },
};

/// From this height of the terminal on all of it is shown, from [`BRIEF`] on the failures and where one is, from [`LEAST`]
/// on the failures.
const WHOLE: usize = 20;
const BRIEF: usize = 14;
const LEAST: usize = 8;
/// With fewer cells than this for the failures, their ends are not named.
const NARROW: usize = 24;

/// As many lines as a terminal of that height can spare; none where nothing is replayed.
pub(super) fn lines(context: &Context<'_>, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(playback) = &context.shown.playback else { return Vec::new() };
    let strip = Strip::new(context, playback, width);
    match height {
        WHOLE.. => vec![strip.failures(), strip.causes(), strip.cursor(), strip.legend(width)],
        BRIEF.. => vec![strip.failures(), strip.cursor()],
        LEAST.. => vec![strip.failures()],
        _ => Vec::new(),
    }
}

struct Strip<'a> {
    context: &'a Context<'a>,
    playhead: Time,
    timeline: &'a Timeline,
    /// Causes, that of most failures first.
    totals: Vec<(&'static str, u64)>,
    /// What stands before the failures.
    begin: String,
    /// What stands behind them.
    end: String,
    parts: Vec<Part>,
    /// In which part one is.
    cursor: usize,
}

impl<'a> Strip<'a> {
    fn new(context: &'a Context<'a>, playback: &'a Playback, width: usize) -> Self {
        let shown = context.shown;
        let Playback { playhead, timeline, .. } = playback;
        let clock = |time| number::clock(shown.wall, time, timeline.end());
        let more = if timeline.is_whole() { "" } else { "…" };
        let (mut begin, mut end) =
            (format!("{} ", clock(timeline.begin())), format!(" {}{more}", clock(timeline.end())));
        if width < text::width(&begin) + text::width(&end) + NARROW {
            (begin, end) = (String::new(), String::new());
        }
        let cells = width.saturating_sub(text::width(&begin) + text::width(&end));
        let parts = timeline.parts(cells);
        let cursor = timeline.part_at(*playhead, cells);
        Self { context, playhead: *playhead, timeline, totals: timeline.totals(), begin, end, parts, cursor }
    }

    fn failures(&self) -> Line<'static> {
        let failures: Vec<_> = self.parts.iter().map(|part| part.failures).collect();
        let bars = spark::bars(&failures);
        let mut spans = vec![Span::styled(self.begin.clone(), FAINT)];
        spans.extend(bars.zip(&self.parts).enumerate().map(|(index, (bar, part))| {
            let style = part.cause.map_or(FAINT, |cause| self.style(cause));
            let style = if index > self.cursor { style.patch(FAINT) } else { style };
            let style = if index == self.cursor { style.reversed() } else { style };
            Span::styled(bar.to_string(), style)
        }));
        spans.push(Span::styled(self.end.clone(), FAINT));
        Line::from(spans)
    }

    fn causes(&self) -> Line<'static> {
        let mut spans = vec![Span::raw(" ".repeat(text::width(&self.begin)))];
        spans.extend(self.parts.iter().map(|part| match part.cause {
            Some(cause) => Span::styled(legend::letter(cause).to_string(), self.style(cause)),
            None => Span::raw(" "),
        }));
        Line::from(spans)
    }

    fn cursor(&self) -> Line<'static> {
        let Self { timeline, playhead, .. } = self;
        let clock = number::clock(self.context.shown.wall, *playhead, timeline.end());
        let into = number::span(playhead.since(timeline.begin()));
        let label = format!("{clock}, {into} of {}", number::span(timeline.end().since(timeline.begin())));
        let at = text::width(&self.begin) + self.cursor;
        // To the left where there is no room to the right.
        let line =
            if at + 2 + text::width(&label) <= text::width(&self.begin) + self.parts.len() + text::width(&self.end) {
                format!("{}▲ {label}", " ".repeat(at))
            } else {
                format!("{}▲", text::pad(&format!("{label} "), at, true))
            };
        Line::styled(line, STRONG)
    }

    fn legend(&self, width: usize) -> Line<'static> {
        let mut left = width;
        let mut spans = Vec::new();
        if !self.timeline.is_whole() {
            spans.push(Span::raw("reading ahead…  "));
        }
        if self.totals.is_empty() && self.timeline.is_whole() {
            spans.push(Span::styled("no failures", FAINT));
        }
        left = left.saturating_sub(spans.iter().map(Span::width).sum());
        for (cause, count) in &self.totals {
            let entry = format!("{} {cause} {}  ", legend::letter(cause), number::count(*count));
            if text::width(entry.trim_end()) > left {
                spans.push(Span::raw(text::cut("…", left)));
                break;
            }
            left = left.saturating_sub(text::width(&entry));
            spans.push(Span::styled(entry, self.style(cause)));
        }
        Line::from(spans)
    }

    fn style(&self, cause: &str) -> Style {
        legend::style(self.context, cause)
    }
}
