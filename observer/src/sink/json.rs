//! JSON lines: one object each, documented in observer/docs/json.md and stable.

use serde_json::{Map, Value, json};

use super::{Overflowed, Sink, Summary};
use crate::{
    diagnose::{Logged, Said, StatusFrom, Verdict, Warning},
    event::{Application, Counters, LogSample},
    hooks::Hooks,
    model::UpstreamKey,
    time::{Time, WallClock},
};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Json {
    /// Turns times into times of day.
    pub wall: WallClock,
}

impl Sink for Json {
    fn ready(&self, time: Time, watching: &str, hooks: &Hooks) -> String {
        let degraded: Map<_, _> =
            hooks.degradations().map(|(hook, why)| (hook.name().to_owned(), Value::from(why))).collect();
        json!({
            "type": "ready",
            "time": self.wall.rfc3339(time),
            "version": env!("CARGO_PKG_VERSION"),
            "watching": watching,
            "hooks": hooks.to_json(),
            "degraded": degraded,
        })
        .to_string()
    }

    fn said(&self, said: &Said) -> String {
        match said {
            Said::Verdict(verdict) => self.verdict(verdict),
            Said::Warning(warning) => self.warning(warning),
        }
        .to_string()
    }

    fn summary(&self, summary: &Summary) -> String {
        let Summary {
            time,
            verdicts,
            events,
            counters,
            harmless,
            overflowed,
            logs,
            lines_matched,
            lines_unmatched,
            evicted,
            hooks,
            trouble: _,
        } = summary;
        let mut lost: Map<_, _> =
            counters.lost.by_kind().into_iter().map(|(kind, count)| (kind.to_owned(), Value::from(count))).collect();
        lost.insert("evicted".to_owned(), Value::from(*evicted));
        json!({
            "type": "summary",
            "time": self.wall.rfc3339(*time),
            "verdicts": verdicts,
            "events": events,
            "lost": lost,
            "counters": totals(counters),
            "harmless": {
                "retried": harmless.retried,
                "clients_gone": harmless.clients_gone,
                "answered_otherwise": harmless.answered_otherwise,
                "abandoned": harmless.abandoned,
                "unanswered": harmless.unanswered,
            },
            "overflowed": overflowed.iter().map(listener).collect::<Vec<_>>(),
            "logs": {
                "followed": logs.iter().map(log).collect::<Vec<_>>(),
                "matched": lines_matched,
                "unmatched": lines_unmatched,
            },
            "hooks": hooks.to_json(),
        })
        .to_string()
    }
}

impl Json {
    fn verdict(self, verdict: &Verdict) -> Value {
        let Verdict {
            time,
            cause,
            confidence,
            status,
            observed: _,
            client,
            proxy,
            upstream,
            log,
            because,
            also,
            summary,
            evidence,
            advice,
        } = verdict;
        json!({
            "type": "verdict",
            "time": self.wall.rfc3339(*time),
            "cause": cause,
            "confidence": confidence.name(),
            "status": status,
            "status_source": verdict.status_from().map(StatusFrom::name),
            "proxy": { "comm": proxy.comm, "pid": proxy.pid },
            "upstream": (*upstream != UpstreamKey::NONE).then(|| upstream.to_string()),
            "netns": (*upstream != UpstreamKey::NONE).then_some(upstream.netns.0),
            "client": client.map(|client| client.to_string()),
            "log": log.as_ref().map(|Logged { said, request, status, agrees }| {
                json!({
                    "said": said,
                    "method": request.method,
                    "path": request.target,
                    "client": request.client.map(|client| client.to_string()),
                    "status": status,
                    "agrees": agrees,
                })
            }),
            "because": because,
            "also": also,
            "summary": summary,
            "evidence": evidence,
            "advice": advice,
        })
    }

    fn warning(self, warning: &Warning) -> Value {
        let Warning { time, cause, subject, netns, summary, evidence, advice } = warning;
        json!({
            "type": "warning",
            "time": self.wall.rfc3339(*time),
            "cause": cause,
            "subject": subject,
            "netns": netns.0,
            "summary": summary,
            "evidence": evidence,
            "advice": advice,
        })
    }
}

fn log(sample: &LogSample) -> Value {
    let LogSample { device: _, inode: _, path, writers: _, requests, lines, missed, emptied, left: _, trouble } =
        sample;
    json!({ "path": path, "requests": requests, "lines": lines, "missed_bytes": missed, "emptied": emptied, "trouble": trouble })
}

fn listener(overflowed: &Overflowed) -> Value {
    let Overflowed { at, netns, listener } = overflowed;
    json!({
        "listener": at.to_string(),
        "netns": netns.0,
        "comm": listener.process.as_ref().map(|process| &*process.comm),
        "pid": listener.process.as_ref().map(|process| process.pid),
        "application": listener.application.map(|Application { software, workers, threads, event_loop }| {
            json!({ "software": software.name(), "workers": workers, "threads": threads, "event_loop": event_loop })
        }),
        "overflows": listener.overflows,
        "queue_limit": listener.limit,
        "queue_high_water": listener.high_water,
    })
}

/// The kernel's counters by name.
pub(super) fn totals(counters: &Counters) -> Value {
    let Counters {
        connections_started,
        connections_adopted,
        connections_ended,
        connects_failed,
        listen_overflow_syn,
        listen_overflow_ack,
        resets_sent,
        resets_received,
        retransmits,
        synack_retransmits,
        time_waits_entered,
        unaccepted,
        listener_changes,
        answers,
        answers_failed,
        application_errors,
        syn_queue_drops,
        sees_syn_drops: _,
        light_look: _,
        looked_away,
        lost: _,
    } = counters;
    json!({
        "looked_away": looked_away,
        "connections_started": connections_started,
        "connections_adopted": connections_adopted,
        "connections_ended": connections_ended,
        "connects_failed": connects_failed,
        "listen_overflow": listen_overflow_syn + listen_overflow_ack,
        "listen_overflow_syn": listen_overflow_syn,
        "listen_overflow_ack": listen_overflow_ack,
        "resets_sent": resets_sent,
        "resets_received": resets_received,
        "retransmits": retransmits,
        "synack_retransmits": synack_retransmits,
        "time_waits_entered": time_waits_entered,
        "unaccepted": unaccepted,
        "listener_changes": listener_changes,
        "answers": answers,
        "answers_failed": answers_failed,
        "application_errors": application_errors,
        "syn_queue_drops": syn_queue_drops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge,
        testing::{ended_with, refused_connection},
    };

    #[test]
    fn a_verdict_has_the_documented_fields_in_order() {
        let (model, attempt) = ended_with([], refused_connection());
        let line = Json { wall: WallClock::default() }.said(&Said::Verdict(Box::new(judge(&attempt, &model))));
        let value: Map<String, Value> = serde_json::from_str(&line).unwrap();
        let fields: Vec<_> = value.keys().map(String::as_str).collect();
        let documented = [
            "type",
            "time",
            "cause",
            "confidence",
            "status",
            "status_source",
            "proxy",
            "upstream",
            "netns",
            "client",
            "log",
            "because",
            "also",
            "summary",
            "evidence",
            "advice",
        ];
        assert_eq!(fields, documented);
        assert_eq!(value["time"], "1970-01-01T00:16:42.000000Z");
        assert_eq!(value["upstream"], "10.0.0.2:8000");
        assert_eq!(value["proxy"], json!({ "comm": "nginx", "pid": 42 }));
        assert!(!line.contains('\n'));
    }
}
