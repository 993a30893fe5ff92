//! What the proxy's configuration has in it about an upstream that is better changed, and whether what is measured shows that it is so.
//!
//! ```text
//! in the proxy's configuration
//!   ! /etc/nginx/conf.d/app.conf:12: keepalive-not-in-effect
//!     confirmed: 412 of 412 connections carried a single request
//!     write      proxy_http_version 1.1; proxy_set_header Connection "";
//!   ○ /etc/nginx/conf.d/app.conf:8: connect-timeout-long (not settled)
//! ```

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::Context;
use crate::{
    diagnose::Standing,
    model::UpstreamKey,
    snapshot::ConfiguredRow,
    tui::{theme::FAINT, widget::text},
};

/// Findings told; the rest is counted.
const SHOWN: usize = 5;
/// Of those that are confirmed, so many with all about them.
const IN_FULL: usize = 2;
/// Lines of a sentence.
const LINES: usize = 3;

/// The lines, none if there is nothing to say.
pub(super) fn lines(context: &Context<'_>, key: &UpstreamKey, width: usize) -> Vec<Line<'static>> {
    let about: Vec<_> = context.shown.configured.iter().filter(|row| row.upstreams.contains(key)).collect();
    if about.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::default(), Line::styled(text::cut("in the proxy's configuration", width), FAINT)];
    for (index, row) in about.iter().take(SHOWN).enumerate() {
        lines.extend(finding(context, row, index < IN_FULL, width));
    }
    if about.len() > SHOWN {
        let more = format!("  and {} more: `observer audit` tells of all", about.len() - SHOWN);
        lines.push(Line::styled(text::cut(&more, width), FAINT));
    }
    lines
}

fn finding(context: &Context<'_>, row: &ConfiguredRow, in_full: bool, width: usize) -> Vec<Line<'static>> {
    let ConfiguredRow { master: _, finding, held, upstreams: _ } = row;
    let confirmed = held.standing == Standing::Confirmed;
    let (mark, style) = if confirmed { ("!", context.theme().warning()) } else { ("○", Style::new()) };
    let title = format!("{}: {}", row.place(), finding.code);
    let mark = Span::styled(format!("  {mark} "), style);
    if !(confirmed && in_full) {
        return text::labelled(mark, &format!("{title} ({})", held.standing.name()), Style::new(), width, 1);
    }
    let mut lines = text::labelled(mark, &title, style, width, LINES);
    let indented = |sentence: &str| text::labelled(Span::raw("    "), sentence, Style::new(), width, LINES);
    lines.extend(indented(&held.to_string()));
    let label = Span::styled("    write ", FAINT);
    lines.extend(text::labelled(label, &finding.fix.join(" "), Style::new(), width, LINES));
    lines
}
