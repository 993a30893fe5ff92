//! Reports of staged minutes, through the real engine.

use super::*;
use crate::{
    diagnose::{Engine, Said},
    event::{Body, ConnectFailed, Destination, Event, Process},
    hooks::{Carrier, HookStatus},
    testing::{
        at, event,
        stage::{API, GUNICORN, SECONDS, Stage, all_hooks, wall},
    },
};

fn about() -> About {
    About {
        version: "0.1.0".into(),
        host: "web-1".into(),
        kernel: "6.18.0".into(),
        machine: "x86_64".into(),
        wall: wall(),
        since: at(0),
        watching: "nginx, haproxy".into(),
        hooks: all_hooks(),
        settings: vec![("net.core.somaxconn".into(), "128".into())],
        segment: 1,
        joined: 0,
    }
}

fn report_on(about: &About, events: &[Event]) -> Report {
    let mut collector = Collector::new(about);
    for batch in events.chunks(100) {
        collector.fold(batch);
    }
    collector.finish()
}

/// A full accept queue from the second minute on, nobody listening on another port.
fn incident() -> Vec<Event> {
    let mut stage = Stage::default();
    stage.host(310, 129);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 5, false);
    stage.overflows(81, SECONDS);
    stage.refused(700);
    stage.counters.answers = 4_000;
    stage.counters.answers_failed = 600;
    stage.events()
}

fn quiet() -> Vec<Event> {
    let mut stage = Stage::default();
    stage.host(310, 2);
    stage.healthy(GUNICORN, 20, false);
    stage.events()
}

fn all_formats(report: &Report) -> [String; 3] {
    [Format::Html, Format::Md, Format::Json].map(|format| render(report, format))
}

#[test]
fn an_incident_is_told_in_the_first_lines() {
    let report = report_on(&about(), &incident());
    let codes: Vec<_> = report.causes.iter().map(|cause| cause.code).collect();
    assert_eq!(codes, ["accept-queue-overflow", "upstream-refused"]);
    assert_eq!(report.causes.iter().map(|cause| cause.count).sum::<u64>(), report.failures.count);
    assert_eq!(report.series.slots.iter().map(Slot::failed).sum::<u64>(), report.failures.count);
    assert_eq!(report.failures.bouts.len(), 1);

    let [html, markdown, _] = all_formats(&report);
    let top: String = markdown.lines().take(12).collect::<Vec<_>>().join("\n");
    assert!(top.starts_with("# 1,654 tries failed on web-1\n"), "{top}");
    assert!(top.contains("Between 03:11:00 and 03:13:00 UTC"), "{top}");
    assert!(top.contains("27 % of the 6,154 tries"), "{top}");
    assert!(top.contains("600 of the 4,000 answers seen to clients (15 %)"), "{top}");
    assert!(top.contains("**90 %: accept-queue-overflow"), "{top}");
    assert!(top.contains("\nFix: "), "{top}");
    let text = &html[html.find("<main>").unwrap()..];
    let before_charts = &text[..text.find("How it went").unwrap()];
    assert!(before_charts.contains("1,654 tries failed") && before_charts.contains("Fix: "));
}

#[test]
fn a_quiet_trace_says_so_and_what_was_watched() {
    let report = report_on(&about(), &quiet());
    let [html, markdown, json] = all_formats(&report);
    assert!(markdown.starts_with("# No try failed on web-1\n"), "{markdown}");
    assert!(markdown.contains("Watched nginx, haproxy for 3.0 min: 3,600 tries ended"), "{markdown}");
    assert!(!markdown.contains("Root causes"));
    assert!(html.contains("No try failed") && html.contains("no accept queue was found 2 % full"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["failures"]["count"], &json["failures"]["first"]), (&0.into(), &serde_json::Value::Null));
}

#[test]
fn a_later_segment_makes_a_report_of_its_own_time_only() {
    let events = incident();
    let whole = report_on(&about(), &events);
    let (before, after) = events.split_at(events.partition_point(|event| event.time < at(120_000)));
    let mut engine = Engine::default();
    let mut failed_before = 0;
    for event in before {
        engine.apply(event, &mut |said| failed_before += u64::from(matches!(said, Said::Verdict(_))));
    }
    let mut collector = Collector::new(&About { segment: 2, ..about() });
    collector.resume(engine);
    collector.fold(after);
    let rest = collector.finish();
    assert!(failed_before > 0 && rest.failures.count > 0);
    assert_eq!(failed_before + rest.failures.count, whole.failures.count);
    assert_eq!(rest.from, at(120_000));
    assert!(words::caveats(&rest)[0].contains("had begun to watch 2.0 min earlier"), "{:?}", words::caveats(&rest));
    let tries = |report: &Report| report.upstreams.items.iter().map(|upstream| upstream.tries).sum::<u64>();
    assert_eq!(tries(&rest), rest.tries);
}

#[test]
fn nothing_at_all_makes_a_report() {
    let report = report_on(&about(), &[]);
    assert_eq!((report.from, report.to, report.series.slots.len()), (at(0), at(0), 1));
    for text in all_formats(&report) {
        assert!(!text.is_empty());
    }
}

#[test]
fn what_was_not_seen_is_said_near_the_top() {
    let mut stage = Stage::default();
    stage.overflows(81, SECONDS);
    stage.counters.lost.records[3] = 1_200;
    let mut about = about();
    about.hooks.0[6].1 = HookStatus::Partial(Carrier::KfreeSkb, "overflows by a SYN are inferred".into());
    let report = report_on(&about, &stage.events());
    let [html, markdown, json] = all_formats(&report);
    for (text, end) in [(html, "How it went"), (markdown, "Course of events")] {
        let top = &text[..text.find(end).unwrap()].replace('\\', "");
        assert!(top.contains("1,200 records were lost (listen_overflow 1,200)"), "{top}");
        assert!(
            top.contains("listen_overflow was not seen in full: only by kfree_skb: overflows by a SYN are inferred")
        );
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["lost"]["listen_overflow"], 1_200);
    assert!(json["degraded"]["listen_overflow"].is_string());
}

#[test]
fn hostile_names_do_nothing() {
    const NAME: &str = "<script>|`*x\u{1b}[2J\u{202e}";
    let failed = ConnectFailed {
        proxy: Process { pid: 1, comm: NAME.into() },
        to: Destination::Unix(format!("/run/{NAME}")),
        error: 2,
        began: false,
        answers_visible: false,
    };
    let about =
        About { host: NAME.into(), watching: NAME.into(), settings: vec![(NAME.into(), NAME.into())], ..about() };
    let report = report_on(&about, &[event(10, Body::ConnectFailed(Box::new(failed))), event(500, Body::Tick)]);
    assert_eq!(report.failures.count, 1);
    let [html, markdown, json] = all_formats(&report);
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
    let row = markdown.lines().find(|line| line.starts_with("| unix:")).unwrap();
    assert!(row.contains(r"\<script\>\|\`\*x"), "{row}");
    assert_eq!(row.replace(r"\|", "").matches('|').count(), 6, "as many cells as the table has: {row}");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    for text in [html, markdown, json] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']));
    }
}

#[test]
fn every_colour_of_a_chart_is_one_that_the_page_sets() {
    let page = html::render(&report_on(&about(), &incident()));
    let (style, body) = page.split_once("</style>").unwrap();
    assert_eq!(body.matches("<svg").count(), 3, "failures, traffic, an accept queue");
    for attribute in ["fill=\"#", "stroke=\"#"] {
        for (at, _) in body.match_indices(attribute) {
            let colour = &body[at..at + attribute.len() + 7];
            assert!(style.contains(&format!("svg [{colour}]")), "{colour}");
        }
    }
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(!page.contains("https://") && !page.contains("<script"));
}

#[test]
fn json_has_the_documented_fields_in_order() {
    let text = json::render(&report_on(&about(), &incident()));
    let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let documented = include_str!("../../../docs/report.md");
    let table = documented.split("\n## ").find(|section| section.starts_with("The object")).unwrap();
    let names: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(value.keys().map(String::as_str).collect::<Vec<_>>(), names);
    for cause in value["causes"].as_array().unwrap() {
        for field in cause.as_object().unwrap().keys() {
            assert!(documented.contains(&format!("`{field}`")), "{field}");
        }
    }
    for field in value["series"].as_object().unwrap().keys() {
        assert!(documented.contains(&format!("`{field}`")), "{field}");
    }
    assert_eq!(value["failures"]["first"], "2026-01-02T03:11:00.000000Z");
}

#[test]
fn a_trace_of_days_makes_a_report_of_the_same_size() {
    let mut stage = Stage::default();
    stage.refused(700);
    let minutes = stage.events();
    let mut collector = Collector::new(&about());
    for hour in 0..48 {
        let later = |event: &Event| Event { time: event.time + std::time::Duration::from_hours(hour), ..event.clone() };
        collector.fold(&minutes.iter().map(later).collect::<Vec<_>>());
    }
    let report = collector.finish();
    assert_eq!((report.failures.count, report.series.width), (48 * 172, 900));
    assert!(report.failures.bouts.len() <= 16);
    assert!(html::render(&report).len() < 200_000);
}
