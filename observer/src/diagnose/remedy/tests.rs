//! Every code has a remedy, none invents a number, and numbers that were measured are used.

use super::*;
use crate::{
    addr::UnixPath,
    diagnose::{Evidence, Verdict, because::BECAUSES, registry::CAUSES, verdict::Confidence},
    event::Software,
    model::UpstreamKey,
    testing::{NETNS, at, endpoint},
};

fn verdict(cause: &'static str, evidence: Evidence) -> Verdict {
    Verdict {
        time: at(0),
        cause,
        confidence: Confidence::Certain,
        status: Some(504),
        observed: true,
        client: None,
        proxy: Process { pid: 42, comm: "nginx".into() },
        upstream: UpstreamKey::tcp(NETNS, endpoint("10.0.0.2:8000")),
        log: None,
        because: None,
        also: Vec::new(),
        summary: "what happened".to_owned(),
        evidence,
        advice: Vec::new(),
    }
}

fn unix(cause: &'static str, path: &str) -> Verdict {
    Verdict { upstream: UpstreamKey::unix(UnixPath::new(path)), ..verdict(cause, Evidence::default()) }
}

/// What listens, by its name.
fn listens(comm: &str) -> Facts {
    Facts { process: Some(Process { pid: 9, comm: comm.into() }), ..Facts::default() }
}

/// Every text of a remedy.
fn texts(remedy: &Remedy) -> String {
    let checks = remedy.checks.iter().flat_map(|check| [&check.command, &check.expect]);
    let snippets = remedy.snippets.iter().flat_map(|snippet| [&snippet.title, &snippet.text]);
    let all = remedy.explanation.iter().chain(checks).chain(snippets).chain(&remedy.worse);
    all.map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Verdicts without any evidence: of every cause, alone and with everything that may lie under one.
fn bare() -> Vec<Verdict> {
    let codes = || BECAUSES.iter().map(|because| because.code).chain(["keepalive-off"]);
    let mut bare = Vec::new();
    for rule in CAUSES {
        for because in std::iter::once(None).chain(codes().map(Some)) {
            for comm in ["nginx", "haproxy", "caddy", ""] {
                let proxy = Process { pid: 42, comm: comm.into() };
                let of = |verdict: Verdict| Verdict { because, proxy: proxy.clone(), ..verdict };
                bare.push(of(verdict(rule.code, Evidence::default())));
                bare.push(of(unix(rule.code, "/run/app.sock")));
                let nowhere = Verdict {
                    upstream: UpstreamKey::NONE,
                    status: None,
                    observed: false,
                    confidence: Confidence::Possible,
                    ..verdict(rule.code, Evidence::default())
                };
                bare.push(Verdict { proxy: Process::default(), ..of(nowhere) });
            }
        }
    }
    bare
}

#[test]
fn every_code_explains_checks_and_changes_or_says_why_not() {
    let causes = CAUSES.iter().map(|rule| (rule.code, rule.remedy));
    let codes = causes.chain(BECAUSES.iter().map(|because| (because.code, because.remedy)));
    for (code, write) in codes {
        let verdict = verdict("unknown", Evidence::default());
        let remedy = write(&Context::new(&verdict, &Facts::default()));
        assert!(!remedy.explanation.is_empty(), "{code}");
        assert!(!remedy.checks.is_empty(), "{code}");
        let says_why = remedy.explanation.iter().any(|sentence| sentence.starts_with(NO_SETTING));
        assert!(remedy.snippets.is_empty() == says_why, "{code}");
        assert!(!remedy.worse.is_empty(), "{code}");
    }
}

#[test]
fn a_cause_is_explained_in_a_few_sentences() {
    for verdict in bare() {
        let remedy = remedy(&verdict, &Facts::default());
        let count = remedy.explanation.len();
        assert!((2..=8).contains(&count), "{}: {:#?}", verdict.cause, remedy.explanation);
        for sentence in &remedy.explanation {
            assert!(sentence.ends_with('.') && !sentence.contains(".."), "{sentence}");
        }
    }
}

#[test]
fn nothing_is_made_up_where_nothing_is_known() {
    for verdict in bare() {
        let remedy = remedy(&verdict, &Facts::default());
        let text = texts(&remedy);
        for word in ["None", "NaN", "inf ", "Some(", "{}", "{:", "  ,", " ,", "[0]", "-t 0 "] {
            assert!(!text.contains(word), "{}: {word}: {text}", verdict.cause);
        }
        let explained = remedy.explanation.join(" ");
        for word in ["0 connections", " 0 bytes", "of 0", "limit of 0", "128", "129"] {
            assert!(!explained.contains(word), "{}: {word}: {explained}", verdict.cause);
        }
        for snippet in &remedy.snippets {
            assert!(!snippet.text.is_empty() && snippet.text.ends_with('\n') && !snippet.title.is_empty());
        }
    }
}

#[test]
fn every_snippet_without_a_measure_has_a_placeholder_for_it() {
    let verdict =
        Verdict { because: Some("worker-pool-undersized"), ..verdict("accept-queue-overflow", Evidence::default()) };
    let facts = listens("gunicorn");
    let text = texts(&remedy(&verdict, &facts));
    assert!(text.contains("--workers WORKERS") && text.contains("WORKERS: not measured here"), "{text}");
    assert!(text.contains("rate=RATEr/s"), "{text}");
}

#[test]
fn a_pool_that_is_too_small_gets_the_workers_it_needs_and_a_fifth() {
    let full = Evidence::default().with("queue_depth", 129_u32).with("queue_limit", 128_u32);
    let verdict = Verdict { because: Some("worker-pool-undersized"), ..verdict("accept-queue-overflow", full) };
    let facts = Facts {
        workers: Some(8),
        arrivals_per_second: Some(50.0),
        seconds_per_request: Some(3.0),
        listener: Some("10.0.0.2:8000".to_owned()),
        ..listens("gunicorn")
    };
    let cure = remedy(&verdict, &facts);
    let text = texts(&cure);
    assert!(text.contains("50.0 requests a second x 3.0 s each keep 150 workers busy; there are 8"), "{text}");
    assert!(text.contains("They can do 2.7 a second, 50.0 come in"), "{text}");
    assert!(text.contains("the last of 129 in the queue is served after 48 s"), "{text}");
    assert_eq!(cure.snippets[0].language, "sh");
    let first = &cure.snippets[0].text;
    assert!(first.contains("gunicorn --workers 180 APP"), "{first}");
    assert!(first.contains("--workers 8 --threads 23 APP"), "{first}");
    assert!(text.contains("nsenter -t 9 -n ss -ltnp 'sport = :8000'"), "{text}");
    assert!(text.contains("limit_req_zone $server_name zone=surplus:1m rate=160r/m;"), "{text}");

    let php = Facts { process: listens("php-fpm8.2").process, ..facts.clone() };
    let text = texts(&remedy(&verdict, &php));
    assert!(text.contains("pm.max_children = 180") && text.contains("fastcgi_connect_timeout 3s;"), "{text}");

    // What the verdict measured comes before what is known later.
    let measured =
        Evidence::default().with("workers", 8_u32).with("workers_needed", 160.0).with("accepted_per_second", 2.5);
    let measured = Verdict { evidence: measured, ..verdict.clone() };
    assert!(texts(&remedy(&measured, &facts)).contains("--workers 192 APP"));
}

#[test]
fn what_its_processes_show_goes_before_the_name_of_the_eldest() {
    let told = |software, threads| Facts {
        workers: Some(2),
        arrivals_per_second: Some(50.0),
        seconds_per_request: Some(3.0),
        application: Some(Application { software, workers: Some(2), threads: Some(threads), event_loop: false }),
        ..listens("python3")
    };
    let full = Evidence::default().with("queue_depth", 129_u32).with("queue_limit", 128_u32);
    let verdict = Verdict { because: Some("worker-pool-undersized"), ..verdict("accept-queue-overflow", full) };
    // 150 places are 38 workers of four, and a fifth more: 46.
    let text = texts(&remedy(&verdict, &told(Software::Gunicorn, 4)));
    assert!(text.contains("keep 38 workers of 4 threads busy; there are 2"), "{text}");
    assert!(text.contains("They can do 2.7 a second, 50.0 come in"), "{text}");
    assert!(text.contains("gunicorn --workers 46 --worker-class gthread --threads 4 APP"), "{text}");
    assert!(text.contains("gunicorn --worker-class gthread --workers 2 --threads 92 APP"), "{text}");
    let text = texts(&remedy(&verdict, &told(Software::Gunicorn, 1)));
    assert!(text.contains("gunicorn --workers 180 APP"), "{text}");
    let text = texts(&remedy(&verdict, &told(Software::Uwsgi, 4)));
    assert!(text.contains("processes = 46") && text.contains("threads = 4   ; as now"), "{text}");

    // What the verdict says goes before what is seen now.
    let measured = Evidence::default().with("software", "puma").with("threads", 5_u32).with("workers_needed", 30.0);
    let measured = Verdict { evidence: measured, ..verdict };
    let text = texts(&remedy(&measured, &told(Software::Gunicorn, 1)));
    assert!(text.contains("as many threads each as now: 5") && text.contains("workers 36"), "{text}");
}

#[test]
fn a_backlog_holds_twice_what_was_too_little_and_a_seconds_arrivals() {
    let evidence = Evidence::default().with("queue_depth", 129_u32).with("queue_limit", 128_u32);
    let verdict = Verdict { because: Some("backlog-small"), ..verdict("accept-queue-overflow", evidence) };
    let facts = Facts { somaxconn: Some(4096), ..listens("node") };
    let text = texts(&remedy(&verdict, &facts));
    assert!(text.contains("server.listen({ port: 8000, backlog: 256 });"), "{text}");
    assert!(!text.contains("sysctl -w net.core.somaxconn"), "it is high enough: {text}");
    let busy = Facts { arrivals_per_second: Some(5_000.0), ..facts };
    let text = texts(&remedy(&verdict, &busy));
    assert!(
        text.contains("backlog: 8192") && text.contains("nsenter -t 9 -n sysctl -w net.core.somaxconn=8192"),
        "{text}"
    );
}

#[test]
fn a_clamped_backlog_is_freed() {
    let evidence =
        Evidence::default().with("queue_depth", 65_u32).with("queue_limit", 64_u32).with("somaxconn", 64_u32);
    let verdict = Verdict { because: Some("backlog-clamped"), ..verdict("accept-queue-overflow", evidence) };
    let cure = remedy(&verdict, &Facts::default());
    assert!(cure.snippets[0].text.contains("it is 64 now"), "{:#?}", cure.snippets);
    assert!(cure.snippets[0].text.contains("net.core.somaxconn=4096"), "{:#?}", cure.snippets);
}

#[test]
fn ports_are_counted_and_connections_kept_by_their_rate() {
    let evidence = Evidence::default()
        .with("ports", 28_232_u32)
        .with("time_wait_to_upstream", 28_000_u32)
        .with("connections_per_second", 500.0);
    let verdict = Verdict { status: Some(502), because: Some("keepalive-off"), ..verdict("port-exhaustion", evidence) };
    let facts = Facts { seconds_per_request: Some(0.05), ..Facts::default() };
    let text = texts(&remedy(&verdict, &facts));
    assert!(text.contains("28232 ports bear 470 new connections a second"), "{text}");
    assert!(text.contains("keepalive 30;"), "500 a second x 50 ms, and a fifth: {text}");
    assert!(text.contains("nsenter -t 42 -n ss -Htan state time-wait 'dst 10.0.0.2:8000' | wc -l"), "{text}");

    let haproxy = Verdict { proxy: Process { pid: 42, comm: "haproxy".into() }, ..verdict };
    let cure = remedy(&haproxy, &facts);
    assert!(cure.snippets.iter().all(|snippet| snippet.language != "nginx"), "{:#?}", cure.snippets);
    assert!(texts(&cure).contains("pool-max-conn 30"));
}

#[test]
fn the_proxy_lets_go_at_half_of_the_time_that_was_measured() {
    let evidence = Evidence::default().with("idle_ms", 5_010.0).with("upstream_closes_after_ms", 5_000.0);
    let verdict = Verdict { because: Some("idle-timeout-mismatch"), ..verdict("keepalive-race", evidence) };
    let text = texts(&remedy(&verdict, &listens("node")));
    assert!(text.contains("keepalive_timeout 2s;") && text.contains("half of the 5.0 s"), "{text}");
    assert!(text.contains("server.keepAliveTimeout = 65_000;"), "{text}");
}

#[test]
fn paths_from_outside_are_quoted_or_left_out() {
    let hostile = unix("unix-missing", "/run/$(reboot) it's.sock");
    let remedy_of = remedy(&hostile, &Facts::default());
    let commands: Vec<_> = remedy_of.checks.iter().map(|check| check.command.as_str()).collect();
    assert!(commands.contains(&r"nsenter -t 42 -m ls -l '/run/$(reboot) it'\''s.sock'"), "{commands:#?}");
    let outside = |text: &str| text.contains("reboot");
    assert!(remedy_of.snippets.iter().all(|snippet| !outside(&snippet.text)), "{:#?}", remedy_of.snippets);
    for path in ["/run/a;id.sock", "@abstract name", "/run/\\u{a}.sock", "relative path.sock"] {
        for rule in CAUSES {
            let cure = remedy(&unix(rule.code, path), &Facts::default());
            let unquoted =
                |check: &Check| check.command.contains(path) && !check.command.contains(&format!("'{path}'"));
            assert!(!cure.checks.iter().any(unquoted), "{path}: {:#?}", cure.checks);
            assert!(!cure.snippets.iter().any(|snippet| snippet.text.contains(path)), "{path}: {:#?}", cure.snippets);
        }
    }
}

#[test]
fn what_lies_under_it_is_changed_first_and_nothing_is_said_twice() {
    let also = vec!["backlog-clamped", "abort-on-overflow"];
    let verdict = Verdict {
        because: Some("accept-stall"),
        also,
        status: Some(502),
        ..verdict("accept-queue-overflow", Evidence::default())
    };
    let cure = remedy(&verdict, &Facts::default());
    assert!(cure.snippets[0].text.contains("somaxconn"), "{:#?}", cure.snippets);
    for (n, check) in cure.checks.iter().enumerate() {
        assert!(cure.checks[..n].iter().all(|before| before.command != check.command), "{}", check.command);
    }
    for (n, sentence) in cure.worse.iter().enumerate() {
        assert!(!cure.worse[..n].contains(sentence), "{sentence}");
    }
}

#[test]
fn what_belongs_on_another_host_says_so() {
    let verdict = verdict("accept-queue-overflow", Evidence::default());
    let expects =
        |facts: &Facts| remedy(&verdict, facts).checks.iter().any(|it| it.expect.starts_with("On the upstream's host"));
    assert!(expects(&Facts::default()));
    assert!(!expects(&listens("gunicorn")), "its listener is known, so it is here");
}

#[test]
fn the_status_is_claimed_only_where_it_is_seen_or_nginx_s() {
    let unseen = Verdict { observed: false, ..verdict("upstream-timeout", Evidence::default()) };
    assert!(texts(&remedy(&unseen, &Facts::default())).contains("The client most likely got a 504"));
    let haproxy = Process { pid: 42, comm: "haproxy".into() };
    let text = texts(&remedy(&Verdict { proxy: haproxy, ..unseen }, &Facts::default()));
    assert!(text.contains("What the client got was not seen") && !text.contains("got a 504"), "{text}");
}

#[test]
fn a_pool_that_does_not_accept_gets_no_longer_timeout() {
    let evidence = Evidence::default().with("never_accepted", true).with("waited_ms", 60_000.0);
    let verdict = Verdict { because: Some("worker-pool-undersized"), ..verdict("upstream-timeout", evidence) };
    let text = texts(&remedy(&verdict, &listens("gunicorn")));
    assert!(text.contains("it waited 60 s in the accept queue"), "{text}");
    assert!(!text.contains("read_timeout"), "{text}");
}

#[test]
fn nothing_is_asked_of_a_process_whose_listener_has_closed() {
    let verdict = Verdict { because: Some("listener-restarted"), ..verdict("upstream-refused", Evidence::default()) };
    let cure = remedy(&verdict, &listens("gunicorn"));
    assert!(cure.checks.iter().all(|check| !check.command.contains(" 9")), "{:#?}", cure.checks);
    assert!(texts(&cure).contains("kill -HUP MASTER"));
}
