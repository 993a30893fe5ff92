//! One frame. Every function here is pure: what to draw follows from the state, a snapshot and the room there is.
//!
//! ```text
//!  FAILING 12.3/s  observer · nginx, haproxy…; ports 8000 · 12 min · 523 verdicts   header
//!
//! ● 502 12.3/s  accept queue of 10.0.0.2:8000 full (129/128): the ACK that ends …   incidents, the worst first,
//!   523 in 2 min, since 03:12:44Z · accept-queue-overflow                           then warnings,
//!   fix: add workers …                                                              then what is over
//!
//!   upstream              fail/s accept queue tries/s …                             upstreams
//! ► 10.0.0.2:8000           12.3 129/128 FULL    50.1 …
//!
//! ── 10.0.0.2:8000 ───────────────────────────────────────────────────────────────   the selected one, if there is room
//!   …
//! (the timeline, where a recording is replayed)
//! lost 0 · hooks 8/8 · 12,345 events                                                footer
//! q quit  ? help  p pause …
//! ```
//!
//! The smaller the terminal, the less of this; the headline of the worst incident goes last.

mod columns;
mod detail;
mod footer;
mod header;
mod help;
mod incidents;
mod timeline;
mod upstreams;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Text},
};

use super::{app::App, keys::Mode};
use crate::snapshot::Snapshot;

/// From this height on, blank lines part what belongs apart.
const ROOMY: u16 = 20;
/// Lines of the table that incidents must leave: its header and three upstreams.
const TABLE_MIN: usize = 4;
/// A pane for the selected upstream is worth having from this height on.
const PANE_MIN: u16 = 5;

/// Draws the frame. `live` is the latest snapshot; what is shown may be an older one.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &App, live: &Snapshot) {
    let shown = app.shown(live);
    let mut rest = frame.area();
    let width = usize::from(rest.width);
    let roomy = rest.height >= ROOMY;

    put(frame, take_top(&mut rest, 1), vec![header::line(app, shown, live.now, width)], "");
    let footer = footer::lines(app, shown, width, frame.area().height);
    put(frame, take_bottom(&mut rest, height_of(&footer)), footer, "");
    if let Some(playback) = &shown.playback {
        let strip = timeline::lines(app.theme, shown, playback, width, frame.area().height);
        put(frame, take_bottom(&mut rest, height_of(&strip)), strip, "");
    }
    if roomy {
        take_top(&mut rest, 1);
        take_bottom(&mut rest, 1);
    }
    if app.opened
        && let Some(row) = app.selected(shown)
    {
        put(frame, rest, detail::screen(app, shown, row, rest), "");
    } else {
        now(frame, rest, app, shown);
    }
    if app.help {
        help::draw(frame, Mode::of(shown));
    }
}

/// The first screen's body: incidents, upstreams, and the selected one.
fn now(frame: &mut Frame<'_>, mut rest: Rect, app: &App, shown: &Snapshot) {
    let (width, height) = (usize::from(rest.width), usize::from(rest.height));
    let gap = u16::from(rest.height >= ROOMY / 2);
    let table =
        if height > 2 * TABLE_MIN { TABLE_MIN.min(1 + shown.upstreams.len().max(1)) + usize::from(gap) } else { 0 };
    let incidents = incidents::lines(app.theme, shown, width, height - table);
    put(frame, take_top(&mut rest, height_of(&incidents)), incidents, "");

    take_top(&mut rest, gap);
    if rest.height < 2 {
        return;
    }
    let wanted = to_u16(shown.upstreams.len().max(1)).saturating_add(1);
    // A long table leaves a part to the pane.
    let share =
        if rest.height >= 3 * PANE_MIN { (rest.height / 2).max(rest.height.saturating_sub(20)) } else { rest.height };
    let table = take_top(&mut rest, wanted.min(share));
    put(frame, table, upstreams::lines(app, shown, width, usize::from(table.height)), "");

    take_top(&mut rest, gap);
    if rest.height >= PANE_MIN
        && let Some(row) = app.selected(shown)
    {
        put(frame, rest, detail::pane(app, shown, row, rest), ": Enter");
    }
}

/// Draws lines; where there are more than fit, the last says so, and where the rest is.
fn put(frame: &mut Frame<'_>, area: Rect, mut lines: Vec<Line<'static>>, rest: &str) {
    let height = usize::from(area.height);
    if lines.len() > height && height > 1 {
        let left_out = lines.len() - height + 1;
        lines.truncate(height - 1);
        lines.push(Line::raw(format!("  … {left_out} more lines{rest}")));
    }
    frame.render_widget(Text::from(lines), area);
}

fn take_top(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let top = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    top
}

fn take_bottom(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    rest.height -= height;
    Rect { y: rest.y + rest.height, height, ..*rest }
}

fn height_of(lines: &[Line<'_>]) -> u16 {
    to_u16(lines.len())
}

fn to_u16(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
