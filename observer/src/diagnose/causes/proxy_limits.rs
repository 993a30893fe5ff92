//! The proxy ran out of something of its own. See `proxy_limits.md`.

use std::time::Duration;

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::{Confidence, Warning},
    },
    event::ProxySample,
    model::{Ending, Model},
    time::Time,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "proxy-limits",
    page: include_str!("proxy_limits.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::proxy_limits,
};

/// Share of its open files at which a proxy is close to its limit.
const NEARLY: f64 = 0.9;
/// Share at which it has none to spare: what it opens besides comes and goes between two looks.
const NONE_LEFT: f64 = 0.98;
/// A sample older than this is of a process that has gone.
const FRESH: Duration = Duration::from_secs(5);

/// An error without a try, from a proxy that had no descriptor left to try with.
fn judge(case: &Case<'_>) -> Judgement {
    if case.attempt.ending != Ending::NoTry {
        return Judgement::No;
    }
    let (pid, now) = (case.attempt.proxy.pid, case.attempt.time);
    let sample = samples(case.model, now).find(|sample| sample.process.pid == pid);
    if let Some(said) = case.logged(RULE.code) {
        return Judgement::Found(by_log(case, said, sample));
    }
    let sample = sample.filter(|sample| share(sample) >= NONE_LEFT);
    let Some(sample) = sample else { return Judgement::No };
    Judgement::Found(Finding {
        confidence: Confidence::Likely,
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!("{} answered without trying any upstream: {}", name(sample), used(sample)),
        evidence: evidence(sample),
        advice: advice(),
    })
}

/// The proxy wrote which limit it was.
fn by_log(case: &Case<'_>, said: &str, sample: Option<&ProxySample>) -> Finding {
    let connections = said.contains("worker_connections");
    let proxy = &case.attempt.proxy;
    Finding {
        confidence: case.sure_by_log(),
        status: Some(500),
        because: None,
        also: Vec::new(),
        summary: format!("{}[{}] answered without trying any upstream: {said}", proxy.comm, proxy.pid),
        evidence: sample.map(evidence).unwrap_or_default(),
        advice: if connections { too_few_connections() } else { advice() },
    }
}

fn too_few_connections() -> Vec<String> {
    vec![
        "raise `worker_connections` in nginx's `events` block, and `worker_rlimit_nofile` to no less: each request takes two"
            .to_owned(),
        "see whether connections pile up because an upstream is slow: then that is to be mended".to_owned(),
    ]
}

/// Proxies that are about to run out of open files.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let close = samples(model, now).filter(|sample| share(sample) >= NEARLY);
    let warning = |sample: &ProxySample| Warning {
        time: now,
        cause: RULE.code,
        subject: name(sample),
        netns: crate::addr::NetNs::default(),
        summary: format!("{}: {}", name(sample), used(sample)),
        evidence: evidence(sample),
        advice: advice(),
    };
    close.map(warning).collect()
}

fn samples(model: &Model, now: Time) -> impl Iterator<Item = &ProxySample> {
    model.proxies().filter(move |(when, _)| now.since(*when) <= FRESH).map(|(_, sample)| sample)
}

fn share(sample: &ProxySample) -> f64 {
    let number = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    number(sample.open_files) / number(sample.open_files_limit.max(1))
}

fn name(sample: &ProxySample) -> String {
    format!("{}[{}]", sample.process.comm, sample.process.pid)
}

fn used(sample: &ProxySample) -> String {
    format!("{} of {} open files in use", sample.open_files, sample.open_files_limit)
}

fn evidence(sample: &ProxySample) -> Evidence {
    Evidence::default().with("open_files", sample.open_files).with("open_files_limit", sample.open_files_limit)
}

fn advice() -> Vec<String> {
    vec![
        "raise the proxy's limit of open files (nginx `worker_rlimit_nofile`, systemd `LimitNOFILE=`): each request takes two"
            .to_owned(),
        "see whether connections pile up because an upstream is slow: then that is to be mended".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, Process},
        testing::{answered_without_try, at, event},
    };

    fn with(open_files: u64) -> Model {
        let process = Process { pid: 42, comm: "nginx".into() };
        let mut model = Model::default();
        let sample = ProxySample { process, open_files, open_files_limit: 100 };
        model.apply(&event(1_000, Body::ProxySample(Box::new(sample))));
        model
    }

    #[test]
    fn it_warns_before_the_last_descriptor_is_taken() {
        assert_eq!(watch(&with(89), at(2_000)), vec![]);
        let warnings = watch(&with(90), at(2_000));
        assert_eq!(warnings[0].summary, "nginx[42]: 90 of 100 open files in use");
        assert_eq!(watch(&with(90), at(60_000)), vec![], "it has gone");
    }

    #[test]
    fn an_error_without_a_try_is_likely_this_when_none_is_left() {
        let attempt = answered_without_try(2_000);
        assert_eq!(judge_attempt(&attempt, &with(99)).cause, RULE.code);
        assert_eq!(judge_attempt(&attempt, &with(50)).cause, "unknown");
    }
}
