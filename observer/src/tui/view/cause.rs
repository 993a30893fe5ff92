//! What to do about something that failed, and why it did, with this host's numbers: the fix to copy, what happened, how to check
//! it by hand, what would make it worse, and the evidence.
//!
//! ```text
//! ── accept-queue-overflow at 10.0.0.2:8000, 1 of 2 ──────────────────
//! ● 502s: 12.3/s for 2 min: …
//! fix        1. add workers …
//! ▸ 1 more workers (py)                                        y copies
//!   │ workers = 13
//! why        …
//! check      $ ss -ltn 'sport = :8000'
//!              Recv-Q is above Send-Q
//! worse      …
//! in the proxy's configuration
//!   ! /etc/nginx/nginx.conf:12: keepalive-not-in-effect …
//! evidence   …
//! ```

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{ALL, Context, configured, evidence, incidents, rule};
use crate::{
    diagnose::{
        Incident, Logged, Verdict,
        remedy::{Check, Facts, Remedy, Snippet, remedy},
    },
    snapshot::UpstreamRow,
    tui::{
        action::{self, Action, Subject},
        page::{Page, Room},
        screen::Screen,
        theme::{FAINT, STRONG},
        widget::text,
    },
};

/// Cells of what a part is about.
const LABEL: usize = 9;

/// What is explained.
struct Case<'a> {
    verdict: &'a Verdict,
    incident: Option<&'a Incident>,
    row: Option<&'a UpstreamRow>,
}

/// What is selected on the screen that is shown, as something to explain; where nothing fails there, the worst.
pub(crate) fn subject_of(context: &Context<'_>) -> Option<Subject> {
    match context.app.screen {
        Screen::Events => {
            let entries = super::events::entries(context);
            let verdict = entries.get(super::events::selected(context, &entries))?.verdict()?;
            Some(Subject::Verdict(Box::new(verdict.clone())))
        }
        Screen::Cause => None,
        Screen::Now | Screen::Upstream | Screen::Hooks => {
            let key = context.selected().map(|row| row.key);
            let incidents = &context.shown.incidents;
            let here = incidents.iter().find(|incident| Some(incident.upstream) == key);
            here.or_else(|| incidents.first()).map(Subject::of)
        }
    }
}

/// How many snippets there are.
pub(crate) fn snippets(context: &Context<'_>) -> usize {
    case(context).map_or(0, |case| case.remedy().snippets.len())
}

/// The first line of a snippet, if that one is not in sight as a whole.
pub(crate) fn out_of_sight(context: &Context<'_>, index: usize, room: Room) -> Option<usize> {
    let lines = page(context, room.width).lines_of(&Action::Snippet(index, None))?;
    let first = context.app.scrolled();
    // The last line may be the one that says that there is more.
    (lines.start < first || lines.end >= first + room.height).then_some(lines.start)
}

/// Which of the incidents is explained.
pub(crate) fn incident_index(context: &Context<'_>) -> Option<usize> {
    let incident = case(context)?.incident?;
    context.shown.incidents.iter().position(|each| std::ptr::eq(each, incident))
}

/// The selected snippet; where there is none, the advice.
pub(super) fn copied(context: &Context<'_>) -> Option<action::Text> {
    let case = case(context)?;
    let Snippet { title, language, text } = match selected(context, &case.remedy().snippets) {
        Some(snippet) => snippet.clone(),
        None => Snippet { title: "advice".to_owned(), language: "text", text: case.verdict.advice.join("\n") },
    };
    Some(action::Text { what: format!("{title} ({language})"), text })
}

/// The whole screen.
pub(super) fn page(context: &Context<'_>, width: usize) -> Page {
    let mut page = Page::default();
    let Some(case) = case(context) else {
        let none = "nothing has failed: there is nothing to explain. `observer explain` tells of all causes.";
        page.lines(warnings(context, width));
        if page.lines.is_empty() {
            page.lines(text::labelled(Span::styled("○ ", context.theme().calm()), none, Style::new(), width, ALL));
        }
        return page;
    };
    let Case { verdict, incident, row: _ } = &case;
    let incidents = context.shown.incidents.len();
    let place = incident_index(context).map(|at| format!(", {} of {incidents}", at + 1)).unwrap_or_default();
    page.line(rule(&format!("{} at {}{place}", verdict.cause, verdict.upstream), width));
    match incident {
        Some(incident) => page.lines(incidents::marked(context, incident, width)),
        None => page.lines(failure(context, verdict, width)),
    }
    let Remedy { explanation, checks, snippets, worse } = case.remedy();
    // Whoever comes here in a hurry knows why, by the headline; and looks for this.
    let advice: Vec<_> = verdict.advice.iter().zip(1..).map(|(advice, number)| format!("{number}. {advice}")).collect();
    page.lines(part("fix", &advice, width));
    let chosen = selected(context, &snippets).map(std::ptr::from_ref);
    for (index, each) in snippets.iter().enumerate() {
        let from = page.lines.len();
        page.lines(snippet(index, each, chosen == Some(std::ptr::from_ref(each)), width));
        page.on_lines(from..page.lines.len(), Action::Snippet(index, None));
    }
    page.lines(part("why", &explanation, width));
    if let Some(incident) = incident {
        let indent = Span::raw(" ".repeat(LABEL));
        page.lines(text::labelled(indent, &incidents::extent_in_full(context, incident), FAINT, width, ALL));
    }
    page.lines(part("request", &verdict.log.as_ref().map(logged).unwrap_or_default(), width));
    page.lines(self::checks(&checks, width));
    page.lines(part("worse", &worse, width));
    page.lines(configured::lines(context, &verdict.upstream, width));
    page.line(Line::default());
    page.line(rule("evidence", width));
    page.lines(evidence::lines(&verdict.evidence, width));
    page
}

impl Case<'_> {
    fn remedy(&self) -> Remedy {
        remedy(self.verdict, &self.row.map_or_else(Facts::default, UpstreamRow::facts))
    }
}

/// What the screen is about: the chosen incident with its latest numbers, or the chosen verdict, or the worst incident.
fn case<'a>(context: &Context<'a>) -> Option<Case<'a>> {
    let (app, shown) = (context.app, context.shown);
    let found = |incident: &'a Incident| (&incident.latest, Some(incident));
    let (verdict, incident) = match &app.subject {
        Some(Subject::Verdict(verdict)) => (&**verdict, None),
        Some(Subject::Incident { cause, upstream, first }) => {
            let same = |incident: &&Incident| incident.cause == *cause && incident.upstream == *upstream;
            let exactly = shown.incidents.iter().find(|incident| same(incident) && incident.first == *first);
            // One that has gone may have come back.
            found(exactly.or_else(|| shown.incidents.iter().find(same)).or_else(|| shown.incidents.first())?)
        }
        None => found(shown.incidents.first()?),
    };
    let row = shown.upstreams.iter().find(|row| row.key == verdict.upstream);
    Some(Case { verdict, incident, row })
}

fn selected<'a>(context: &Context<'_>, snippets: &'a [Snippet]) -> Option<&'a Snippet> {
    snippets.get(context.app.snippet).or_else(|| snippets.first())
}

/// What the proxy's own log says of the latest.
fn logged(log: &Logged) -> Vec<String> {
    let Logged { said, request, status: _, agrees } = log;
    let otherwise = if *agrees { "" } else { "; that does not fit what the kernel shows" };
    vec![request.to_string(), format!("the proxy's log says: {said}{otherwise}")]
}

/// A single failure.
fn failure(context: &Context<'_>, verdict: &Verdict, width: usize) -> Vec<Line<'static>> {
    let status = verdict.status.map_or_else(|| "a failure".to_owned(), |status| format!("a {status}"));
    let seen = verdict.status_from().map(|from| format!(", {}", from.words())).unwrap_or_default();
    let sentence = format!("{status}{seen}, {}: {}", context.exactly(verdict.time).trim(), verdict.summary);
    let mut lines = text::labelled(Span::raw("  "), &sentence, STRONG, width, ALL);
    let client = verdict.client.map(|client| format!(", for {client}")).unwrap_or_default();
    let by = format!(
        "{}[{}]{client} · {} ({})",
        verdict.proxy.comm,
        verdict.proxy.pid,
        verdict.cause,
        verdict.confidence.name()
    );
    lines.extend(text::labelled(Span::raw("  "), &by, Style::new(), width, ALL));
    lines
}

/// Sentences behind a word that says what they are about.
fn part(name: &str, sentences: &[String], width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (index, sentence) in sentences.iter().enumerate() {
        let label = Span::styled(text::pad(if index == 0 { name } else { "" }, LABEL, false), STRONG);
        lines.extend(text::labelled(label, sentence, Style::new(), width, ALL));
    }
    if !lines.is_empty() {
        lines.insert(0, Line::default());
    }
    lines
}

/// A snippet to copy, with its indentation.
fn snippet(index: usize, snippet: &Snippet, selected: bool, width: usize) -> Vec<Line<'static>> {
    let Snippet { title, language, text: body } = snippet;
    let mark = if selected { "▸" } else { " " };
    let style = if selected { STRONG } else { Style::new() };
    let copies = if selected { "  (y copies)" } else { "" };
    let title = format!("{mark} {}. {title} ({language}){copies}", index + 1);
    let mut lines = vec![Line::styled(text::cut(&title, width), style)];
    for line in body.lines() {
        let indent = line.len() - line.trim_start().len();
        let label = Span::styled(format!("  │ {}", " ".repeat(indent)), FAINT);
        let wrapped = text::labelled(label.clone(), line, Style::new(), width, ALL);
        lines.extend(if wrapped.is_empty() { vec![Line::from(label)] } else { wrapped });
    }
    lines
}

fn checks(checks: &[Check], width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (index, Check { command, expect }) in checks.iter().enumerate() {
        let name = text::pad(if index == 0 { "check" } else { "" }, LABEL, false);
        lines.extend(text::labelled(Span::styled(format!("{name}$ "), STRONG), command, STRONG, width, ALL));
        let indent = Span::raw(" ".repeat(LABEL + 2));
        lines.extend(text::labelled(indent, expect, Style::new(), width, ALL));
    }
    if !lines.is_empty() {
        lines.insert(0, Line::default());
    }
    lines
}

/// What will fail, where nothing does yet.
fn warnings(context: &Context<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (warning, since) in &context.shown.warnings {
        let style = context.theme().warning();
        let sentence = format!("warning {}: {}", context.since(*since), warning.summary);
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(text::labelled(Span::styled("! ", style), &sentence, style, width, ALL));
        lines.extend(part("fix", &warning.advice, width));
    }
    lines
}
