//! The report as one JSON object, documented in observer/docs/report.md and stable.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Cause, Gauge, Listed, Report, Series, Slot, Warned,
    cause::{Advised, EvidenceLine},
};
use crate::{
    diagnose::Harmless,
    sink::json::totals,
    time::{Time, WallClock},
};

/// The object, on several lines.
pub fn render(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(&object(report)).unwrap_or_default();
    text.push('\n');
    text
}

fn object(report: &Report) -> Value {
    let Report {
        about,
        remarks,
        from,
        to,
        tries,
        events,
        failures,
        causes,
        warnings,
        upstreams,
        listeners,
        queues,
        namespaces,
        moments,
        series,
        harmless,
        counters,
        evicted,
    } = report;
    let time = |time: Time| about.wall.rfc3339(time);
    let lost: Map<_, _> =
        counters.lost.by_kind().into_iter().map(|(kind, count)| (kind.to_owned(), Value::from(count))).collect();
    let degraded: Map<_, _> =
        about.hooks.degradations().map(|(hook, why)| (hook.name().to_owned(), Value::from(why))).collect();
    let Harmless { retried, clients_gone, answered_otherwise, abandoned, unanswered } = harmless;
    json!({
        "type": "report",
        "version": env!("CARGO_PKG_VERSION"),
        "from": time(*from),
        "to": time(*to),
        "host": {
            "name": about.host,
            "kernel": about.kernel,
            "machine": about.machine,
            "watching": about.watching,
            "recorded_by": about.version,
            "segment": about.segment,
            "settings": about.settings.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<Map<_, _>>(),
        },
        "failures": {
            "count": failures.count,
            "tries": tries,
            "first": failures.span.map(|(first, _)| time(first)),
            "last": failures.span.map(|(_, last)| time(last)),
            "peak": failures.peak.map(|(begin, count)| json!({ "time": time(begin), "seconds": series.width, "count": count })),
            "stretches": failures.bouts.iter().map(|bout| json!({
                "first": time(bout.from), "last": time(bout.to), "count": bout.count,
            })).collect::<Vec<_>>(),
            "observed": by_status(&failures.observed),
            "expected": by_status(&failures.expected),
        },
        "causes": causes.iter().map(|cause| self::cause(about.wall, cause)).collect::<Vec<_>>(),
        "warnings": listed(warnings, |warned| {
            let Warned { cause, subject, span, said, summary, advice } = warned;
            json!({
                "cause": cause, "subject": subject, "first": time(span.0), "last": time(span.1), "said": said,
                "summary": summary, "advice": advice,
            })
        }),
        "upstreams": listed(upstreams, |upstream| json!({
            "upstream": upstream.name, "netns": upstream.netns, "proxy": upstream.proxy, "tries": upstream.tries,
            "failures": counts(&upstream.failures),
        })),
        "overflowed": listed(listeners, |listener| json!({
            "listener": listener.name, "netns": listener.netns, "owner": listener.owner,
            "overflows": listener.overflows, "queue_high_water": listener.high_water, "queue_limit": listener.limit,
        })),
        "queues": queues.iter().map(|queue| json!({
            "listener": queue.name, "queue_limit": queue.limit, "processes": queue.holders,
            "application": queue.application,
        })).collect::<Vec<_>>(),
        "namespaces": listed(namespaces, |namespace| json!({
            "netns": namespace.netns, "concerned": namespace.concerned, "somaxconn": namespace.somaxconn,
            "port_range": namespace.port_range, "tw_reuse": namespace.tw_reuse,
            "abort_on_overflow": namespace.abort_on_overflow, "listen_overflows": namespace.listen_overflows,
            "listen_drops": namespace.listen_drops,
        })),
        "course": listed(moments, |moment| json!({
            "time": time(moment.time), "kind": moment.kind.name(), "cause": moment.cause, "text": moment.text,
        })),
        "series": self::series(about.wall, series),
        "harmless": {
            "retried": retried,
            "clients_gone": clients_gone,
            "answered_otherwise": answered_otherwise,
            "abandoned": abandoned,
            "unanswered": unanswered,
        },
        "counters": totals(counters),
        "events": events,
        "lost": lost,
        "evicted": evicted,
        "hooks": about.hooks.to_json(),
        "degraded": degraded,
        "remarks": remarks,
    })
}

fn listed<T>(listed: &Listed<T>, each: impl Fn(&T) -> Value) -> Value {
    json!({ "items": listed.items.iter().map(each).collect::<Vec<_>>(), "others": listed.others })
}

fn counts(counts: &[(&'static str, u64)]) -> Value {
    counts.iter().map(|(code, count)| ((*code).to_owned(), Value::from(*count))).collect::<Map<_, _>>().into()
}

fn by_status(counts: &BTreeMap<u16, u64>) -> Value {
    counts.iter().map(|(status, count)| (status.to_string(), Value::from(*count))).collect::<Map<_, _>>().into()
}

fn cause(wall: WallClock, cause: &Cause) -> Value {
    let Cause {
        code,
        count,
        span: (first, last),
        confidence,
        because,
        also,
        upstreams,
        summary,
        summary_time,
        evidence,
        advice,
        missing,
    } = cause;
    let sentences = |listed: &Listed<Advised>| {
        self::listed(listed, |Advised { text, count }| json!({ "text": text, "count": count }))
    };
    json!({
        "cause": code,
        "count": count,
        "first": wall.rfc3339(*first),
        "last": wall.rfc3339(*last),
        "confidence": confidence.iter().map(|(confidence, count)| (confidence.name().to_owned(), Value::from(*count))).collect::<Map<_, _>>(),
        "because": counts(because),
        "also": counts(also),
        "upstreams": listed(upstreams, |(name, count)| json!({ "upstream": name, "count": count })),
        "summary": summary,
        "summary_time": wall.rfc3339(*summary_time),
        "evidence": evidence.iter().map(|EvidenceLine { name, value, range }| {
            (name.clone(), json!({ "value": value, "range": range.map(|(least, most)| [least, most]) }))
        }).collect::<Map<_, _>>(),
        "advice": sentences(advice),
        "missing": sentences(missing),
    })
}

fn series(wall: WallClock, series: &Series) -> Value {
    let column = |of: fn(&Slot) -> u64| series.slots.iter().map(of).collect::<Vec<_>>();
    let gauges = |gauges: &[Gauge]| {
        let each = gauges.iter().map(|gauge| {
            json!({
                "name": gauge.name,
                "netns": gauge.netns,
                "values": gauge.levels.iter().map(|level| level.map(|level| level.value)).collect::<Vec<_>>(),
                "limits": gauge.levels.iter().map(|level| level.map(|level| level.limit)).collect::<Vec<_>>(),
            })
        });
        each.collect::<Vec<_>>()
    };
    let mut causes: Vec<_> = series.slots.iter().flat_map(|slot| slot.failures.keys().copied()).collect();
    causes.sort_unstable();
    causes.dedup();
    let failures: Map<_, _> = causes
        .into_iter()
        .map(|code| {
            let counts = series.slots.iter().map(|slot| slot.failures.get(code).copied().unwrap_or(0));
            (code.to_owned(), counts.collect::<Vec<_>>().into())
        })
        .collect();
    json!({
        "from": wall.rfc3339(series.from),
        "seconds": series.width,
        "failures": failures,
        "connections": column(|slot| slot.connections),
        "answers": column(|slot| slot.answers),
        "answers_failed": column(|slot| slot.answers_failed),
        "retransmits": column(|slot| slot.retransmits),
        "resets_received": column(|slot| slot.resets_received),
        "resets_sent": column(|slot| slot.resets_sent),
        "listen_overflow": column(|slot| slot.overflows),
        "accept_queues": gauges(&series.queues),
        "time_wait": gauges(&series.ports),
    })
}
