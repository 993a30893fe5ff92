//! Lines for people.

use super::{Sink, Summary};
use crate::{
    diagnose::{Confidence, Harmless, Logged, Said, Verdict, Warning},
    hooks::Hooks,
    time::{Time, WallClock},
};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Turns times into times of day.
    pub wall: WallClock,
}

impl Sink for Text {
    fn ready(&self, time: Time, watching: &str, hooks: &Hooks) -> String {
        let mut lines = vec![format!("{} watching {watching}", self.clock(time))];
        let degraded = hooks.degradations();
        lines.extend(degraded.map(|(hook, why)| format!("         not seen in full: {}: {why}", hook.name())));
        lines.join("\n")
    }

    fn said(&self, said: &Said) -> String {
        match said {
            Said::Verdict(verdict) => self.verdict(verdict),
            Said::Warning(warning) => self.warning(warning),
        }
    }

    fn summary(&self, summary: &Summary) -> String {
        let total: u64 = summary.verdicts.values().sum();
        let counters = &summary.counters;
        let mut lines = vec![format!("{} {total} tries failed", self.clock(summary.time))];
        lines.extend(summary.verdicts.iter().map(|(cause, count)| format!("  {count:>8}  {cause}")));
        lines.push(format!(
            "  of {} connections of proxies; {} accept-queue overflows on this host, {} retransmits, {} resets received",
            counters.connections_started,
            counters.listen_overflow_syn + counters.listen_overflow_ack,
            counters.retransmits,
            counters.resets_received,
        ));
        if counters.answers > 0 {
            lines.push(format!(
                "  of {} answers seen, {} were a 502 or 504; {} errors more came from the application itself",
                counters.answers, counters.answers_failed, counters.application_errors
            ));
        }
        if counters.looked_away {
            lines.push(
                "  not always looked at closely (--close-look): overflows, answers and connect() errors are lower bounds"
                    .to_owned(),
            );
        }
        let Harmless { retried, clients_gone, answered_otherwise, abandoned, unanswered } = summary.harmless;
        let harmless = [
            (retried, "more failed and were tried again"),
            (clients_gone, "more ended because their client had left"),
            (answered_otherwise, "more failed and were answered with another status"),
            (abandoned, "more were given up within a second: by their clients, most likely"),
            (unanswered, "more failed without an answer being seen: tried again later, or the client had left"),
        ];
        lines.extend(
            harmless.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("  {count:>8}  {what}")),
        );
        lines.extend(summary.overflowed.iter().map(|each| {
            let owner = each.listener.process.as_ref();
            let owner = owner.map(|process| format!(" ({}[{}])", process.comm, process.pid)).unwrap_or_default();
            let (overflows, limit) = (each.listener.overflows, each.listener.limit);
            format!("  {overflows:>8}  overflows of the accept queue of {}{owner}, limit {limit}", each.at)
        }));
        lines.extend(summary.logs.iter().map(|log| match &log.trouble {
            Some(why) => format!("  not followed: the log {}: {why}", log.path),
            None => format!("  {:>8}  lines came into {}", log.lines, log.path),
        }));
        if summary.lines_unmatched > 0 {
            lines.push(format!("  {:>8}  lines there tell of a failure that was not seen", summary.lines_unmatched));
        }
        lines.push(match summary.lost() {
            None => "  nothing lost".to_owned(),
            Some(lost) => format!("  LOST: {lost}: the verdicts above are a lower bound; a larger --ring-size helps"),
        });
        lines.join("\n")
    }
}

impl Text {
    /// `14:03:59`, UTC.
    fn clock(self, time: Time) -> String {
        let full = self.wall.rfc3339(time);
        full.get(11..19).unwrap_or(&full).to_owned()
    }

    fn verdict(self, verdict: &Verdict) -> String {
        let status = verdict.status.map_or_else(|| "???".to_owned(), |status| status.to_string());
        let because = verdict.because.map(|because| format!(", because {because}")).unwrap_or_default();
        let sure = match verdict.confidence {
            Confidence::Certain => String::new(),
            other => format!(" ({})", other.name()),
        };
        let log = verdict.log.as_ref().map(logged).unwrap_or_default();
        format!("{} {status} {}{because}{sure}: {}{log}", self.clock(verdict.time), verdict.cause, verdict.summary)
    }

    fn warning(self, warning: &Warning) -> String {
        let fix = warning.advice.first().map(|advice| format!("\n         fix: {advice}")).unwrap_or_default();
        format!("{} warning {}: {}{fix}", self.clock(warning.time), warning.cause, warning.summary)
    }
}

/// The request, and what the proxy says if it says something else.
fn logged(log: &Logged) -> String {
    let otherwise = if log.agrees { String::new() } else { format!(", of which the proxy says {:?}", log.said) };
    format!("; {}{otherwise}", log.request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge,
        testing::{ended_with, refused_connection},
    };

    #[test]
    fn a_verdict_is_one_line() {
        let (model, attempt) = ended_with([], refused_connection());
        let line = Text { wall: WallClock::default() }.said(&Said::Verdict(Box::new(judge(&attempt, &model))));
        assert_eq!(line, "00:16:42 502 upstream-refused: nobody listens on 10.0.0.2:8000");
    }
}
