//! Whether a change helped: what failed before it, and what has failed since.
//!
//! ```text
//! since 03:13:00Z (45 s), before against after: it helped in part
//!   gone   29.6/s → 0      port-exhaustion at 192.0.2.10:9000
//!   same   12.3/s → 12.1/s accept-queue-overflow at 10.0.0.2:8000
//! ```

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::Context;
use crate::{
    model::UpstreamKey,
    sink::compare::{
        Change,
        live::{self, Since},
    },
    tui::{
        theme::STRONG,
        widget::{number, text},
    },
};

/// Causes and upstreams told of; the rest is counted.
const SHOWN: usize = 4;

/// The lines, none if nothing is compared.
pub(super) fn lines(context: &Context<'_>, width: usize) -> Vec<Line<'static>> {
    let Some(before) = &context.app.before else { return Vec::new() };
    let shown = context.shown;
    if shown.now < before.now {
        return vec![Line::styled(text::cut("the change is later than what is shown (b forgets it)", width), STRONG)];
    }
    let rows = live::since(before, shown);
    let lasted = number::span(shown.now.since(before.now));
    let title = format!(
        "since {} ({lasted}), before against after: {}",
        number::clock(shown.wall, before.now, shown.now),
        live::conclusion(&rows)
    );
    let mut lines = vec![Line::styled(text::cut(&title, width), STRONG)];
    lines.extend(rows.iter().take(SHOWN).map(|row| line(context, row, width)));
    if rows.len() > SHOWN {
        lines.push(Line::raw(text::cut(&format!("  and {} more", rows.len() - SHOWN), width)));
    }
    lines
}

fn line(context: &Context<'_>, row: &Since, width: usize) -> Line<'static> {
    let Since { cause, upstream, rates: [before, after], change } = row;
    let style = match change {
        Change::New | Change::More => context.theme().failing(),
        Change::Gone => context.theme().calm(),
        Change::Same | Change::Fewer | Change::Unclear => Style::new(),
    };
    let rate = |rate: &f64| if *rate > 0.0 { format!("{}/s", number::rate(*rate)) } else { "0".to_owned() };
    let at = if *upstream == UpstreamKey::NONE { String::new() } else { format!(" at {upstream}") };
    let what = format!("{:<7} {:>7} → {:<7} {cause}{at}", change.name(), rate(before), rate(after));
    Line::from(Span::styled(text::cut(&format!("  {what}"), width), style))
}
