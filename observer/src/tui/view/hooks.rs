//! What observer sees of this host, what that costs, and what it could not keep.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{ALL, Context, footer, rule};
use crate::{
    diagnose::incident::MAX_INCIDENTS,
    hooks::{Hook, HookStatus},
    model,
    snapshot::{Cost, ProgramCost, RECENT_VERDICTS},
    tui::{
        page::Page,
        theme::{FAINT, STRONG},
        widget::{number, text},
    },
};

/// Cells of what a line is about.
const LABEL: usize = 20;

/// What a light look leaves out.
const LIGHT: &str = "not looked at just now: what proxies read and answer, connect() calls that fail at once, and on some kernels \
                     packets at full queues; such failures are missed (--close-look always)";

/// Cells of a program's name.
const PROGRAM: usize = 26;

/// What is kept at most, and what goes first.
const BOUNDS: &[(&str, usize, &str)] = &[
    ("upstreams", model::MAX_UPSTREAMS, "the one idle longest goes first"),
    ("listeners", model::MAX_LISTENERS, "the one idle longest goes first"),
    ("unix listeners", model::MAX_UNIX_LISTENERS, "the one idle longest goes first"),
    ("namespaces", model::MAX_NAMESPACES, "the one idle longest goes first"),
    ("connections", model::MAX_FLOWS, "evidence of single ones; the oldest goes first"),
    ("incidents", MAX_INCIDENTS, "the one quiet longest goes first"),
    ("verdicts", RECENT_VERDICTS, "for looking back at; the oldest goes first"),
];

/// The whole screen.
pub(super) fn page(context: &Context<'_>, width: usize) -> Page {
    let shown = context.shown;
    let mut page = Page::default();
    let watching =
        format!("{}, {}; {} events", shown.watching, context.since(shown.since), number::count(shown.events));
    page.lines(fact("watching", &watching, Style::new(), width));
    page.lines(fact("recording", &footer::recording(&shown.recording), Style::new(), width));
    page.line(Line::default());
    page.lines(lost(context, width));
    page.line(Line::default());
    page.lines(hooks(context, width));
    page.line(Line::default());
    page.lines(cost(context, width));
    page.line(Line::default());
    page.line(rule("kept at most", width));
    page.lines(BOUNDS.iter().flat_map(|(name, most, rule)| {
        let most = number::count(u64::try_from(*most).unwrap_or(u64::MAX));
        fact(name, &format!("{most}; {rule}"), FAINT, width)
    }));
    page
}

fn fact(name: &str, text: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    let label = Span::styled(format!("  {}", text::pad(name, LABEL, false)), FAINT);
    text::labelled(label, text, style, width, ALL)
}

fn lost(context: &Context<'_>, width: usize) -> Vec<Line<'static>> {
    let shown = context.shown;
    let kinds = shown.counters.lost.by_kind();
    let mut lines = vec![rule("lost", width)];
    if kinds.iter().all(|(_, count)| *count == 0) && shown.evicted == 0 {
        lines.extend(fact("nothing", "all that was seen was taken in", context.theme().calm(), width));
        return lines;
    }
    if kinds.iter().any(|(_, count)| *count > 0) {
        let meaning = "records that the ring or a table had no room for: what is counted from events is a lower bound; \
                       a larger --ring-size helps";
        lines.extend(fact("LOST", meaning, context.theme().failing(), width));
    }
    for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        lines.extend(fact(kind, &number::count(count), STRONG, width));
    }
    if shown.evicted > 0 {
        let evicted = format!("{} entries forgotten: tables were full (see below)", number::count(shown.evicted));
        lines.extend(fact("evicted", &evicted, context.theme().warning(), width));
    }
    lines
}

fn hooks(context: &Context<'_>, width: usize) -> Vec<Line<'static>> {
    let hooks = &context.shown.hooks.0;
    let full = hooks.iter().filter(|(_, status)| matches!(status, HookStatus::Full(_))).count();
    let mut lines = vec![rule(&format!("hooks: {full} of {} see everything", hooks.len()), width)];
    if context.shown.counters.light_look {
        lines.extend(fact("light look", LIGHT, Style::new(), width));
    }
    // What is wrong comes first.
    let mut sorted: Vec<_> = hooks.iter().collect();
    sorted.sort_by_key(|(_, status)| match status {
        HookStatus::Missing(_) => 0,
        HookStatus::Partial(..) => 1,
        HookStatus::Full(_) => 2,
    });
    for (hook, status) in sorted {
        let hook: &Hook = hook;
        let (text, style) = match status {
            HookStatus::Full(carrier) => (carrier.to_string(), Style::new()),
            HookStatus::Partial(carrier, missing) => {
                (format!("only by {carrier}: {missing}"), context.theme().warning())
            }
            HookStatus::Missing(why) => {
                (format!("MISSING: {why}; not seen: {}", hook.loss()), context.theme().warning())
            }
        };
        lines.extend(fact(hook.name(), &text, style, width));
    }
    lines
}

fn cost(context: &Context<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![rule("what it costs", width)];
    let Some(cost) = &context.shown.cost else {
        let why = if context.shown.playback.is_some() {
            "a recording does not say"
        } else {
            "being measured while this screen is open"
        };
        lines.extend(fact("", why, FAINT, width));
        return lines;
    };
    let Cost { programs, own_cpu_share, memory_bytes, events_per_second } = &**cost;
    let own = format!(
        "{:.1} % of a core, {}; {} events/s",
        own_cpu_share * 100.0,
        number::bytes(*memory_bytes),
        number::rate(*events_per_second)
    );
    lines.extend(fact("observer", &own, Style::new(), width));
    let kernel: f64 = programs.iter().map(ProgramCost::share).sum();
    lines.extend(fact(
        "kernel programs",
        &format!("{:.2} % of a core, all of them", kernel * 100.0),
        Style::new(),
        width,
    ));
    let (ran, idle): (Vec<_>, Vec<_>) = programs.iter().partition(|program| program.runs_per_second > 0.0);
    lines.extend(ran.iter().map(|program| {
        let ProgramCost { name, runs_per_second, nanos_per_run } = program;
        let text = format!(
            "  {} {:>8} runs/s × {:>6} ns = {:.2} % of a core",
            text::pad(name, PROGRAM, false),
            number::rate(*runs_per_second),
            number::whole(*nanos_per_run),
            program.share() * 100.0
        );
        Line::styled(text::cut(&text, width), FAINT)
    }));
    if !idle.is_empty() {
        let names: Vec<_> = idle.iter().map(|program| &*program.name).collect();
        lines.extend(fact("did not run", &names.join(", "), FAINT, width));
    }
    lines
}

impl ProgramCost {
    /// Of one processor.
    fn share(&self) -> f64 {
        self.runs_per_second * self.nanos_per_run / 1e9
    }
}
