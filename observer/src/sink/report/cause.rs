//! Verdicts of one cause, taken together.

use std::collections::BTreeMap;

use super::{Listed, words::harmless};
use crate::{
    diagnose::{Confidence, Value, Verdict},
    time::Time,
};

/// Pieces of advice, and kinds of missing evidence, told apart for a cause.
const MAX_ADVICE: usize = 16;
/// Upstreams named with a cause.
const MAX_UPSTREAMS: usize = 8;
/// Verdicts kept of each cause, evenly spread, to choose the one from that speaks for all.
const MAX_SAMPLES: usize = 64;

/// A cause's section.
#[derive(Clone, Debug)]
pub struct Cause {
    /// Its code.
    pub code: &'static str,
    /// How many failures.
    pub count: u64,
    /// The first and the last.
    pub span: (Time, Time),
    /// How many verdicts were possible, likely, certain.
    pub confidence: [(Confidence, u64); 3],
    /// What lies under it, by code, the most frequent first.
    pub because: Vec<(&'static str, u64)>,
    /// What else does, likewise.
    pub also: Vec<(&'static str, u64)>,
    /// Upstreams concerned, the most failures first.
    pub upstreams: Listed<(String, u64)>,
    /// The sentence of the verdict that speaks for all: of those most frequent in kind and surest, the middle one.
    pub summary: String,
    /// When that try failed.
    pub summary_time: Time,
    /// What that verdict rests on.
    pub evidence: Vec<EvidenceLine>,
    /// What to do: what the verdict says that speaks for all, then what others say, the most frequent first.
    pub advice: Listed<Advised>,
    /// What would have told, for `unknown`; the most frequent first.
    pub missing: Listed<Advised>,
}

/// A piece of evidence.
#[derive(Clone, Debug)]
pub struct EvidenceLine {
    /// Its name; ends in its unit where it has one.
    pub name: String,
    /// As the verdict has it that speaks for all.
    pub value: Value,
    /// The least and the most over all verdicts of the cause, where they differ.
    pub range: Option<(f64, f64)>,
}

/// A sentence that verdicts repeat.
#[derive(Clone, Debug)]
pub struct Advised {
    /// In the words, and with the numbers, of the verdict that speaks for all, or as said last.
    pub text: String,
    /// How many verdicts say it; the numbers in it may differ.
    pub count: u64,
}

/// Builds a [`Cause`].
#[derive(Debug)]
pub(super) struct Tally {
    code: &'static str,
    count: u64,
    span: (Time, Time),
    confidence: [u64; 3],
    because: BTreeMap<&'static str, u64>,
    also: BTreeMap<&'static str, u64>,
    ranges: BTreeMap<String, (f64, f64)>,
    advice: Sentences,
    missing: Sentences,
    samples: Vec<Verdict>,
    /// Every so many verdicts one is kept.
    stride: u64,
}

const CONFIDENCES: [Confidence; 3] = [Confidence::Possible, Confidence::Likely, Confidence::Certain];

impl Tally {
    /// Of no verdict yet; `verdict` will be the first.
    pub(super) fn new(verdict: &Verdict) -> Self {
        Self {
            code: verdict.cause,
            count: 0,
            span: (verdict.time, verdict.time),
            confidence: [0; 3],
            because: BTreeMap::new(),
            also: BTreeMap::new(),
            ranges: BTreeMap::new(),
            advice: Sentences::default(),
            missing: Sentences::default(),
            samples: Vec::new(),
            stride: 1,
        }
    }

    pub(super) fn add(&mut self, verdict: &Verdict) {
        self.span = (self.span.0.min(verdict.time), self.span.1.max(verdict.time));
        for (slot, confidence) in self.confidence.iter_mut().zip(CONFIDENCES) {
            *slot += u64::from(confidence == verdict.confidence);
        }
        if let Some(because) = verdict.because {
            *self.because.entry(because).or_default() += 1;
        }
        for also in &verdict.also {
            *self.also.entry(also).or_default() += 1;
        }
        for (name, value) in verdict.evidence.iter() {
            if let Some(number) = measure(name, value) {
                match self.ranges.get_mut(name) {
                    Some((least, most)) => (*least, *most) = (least.min(number), most.max(number)),
                    None => {
                        self.ranges.insert(name.to_owned(), (number, number));
                    }
                }
            }
        }
        for advice in &verdict.advice {
            self.advice.add(advice);
        }
        if let Some(Value::Text(missing)) = verdict.evidence.get("missing") {
            self.missing.add(missing);
        }
        if self.count.is_multiple_of(self.stride) {
            self.samples.push(verdict.clone());
            if self.samples.len() >= MAX_SAMPLES {
                // Every second one stays, the first among them, so that they remain evenly spread.
                let mut stays = false;
                self.samples.retain(|_| {
                    stays = !stays;
                    stays
                });
                self.stride *= 2;
            }
        }
        self.count += 1;
    }

    /// `upstreams` are those that it concerned, in any order, and failures at others.
    pub(super) fn finish(self, mut upstreams: Vec<(String, u64)>) -> Cause {
        let because = most_frequent(&self.because);
        let evidence = |verdict: &Verdict| {
            let lines = verdict.evidence.iter().map(|(name, value)| EvidenceLine {
                name: harmless(name),
                value: match value {
                    Value::Text(text) => Value::Text(harmless(text)),
                    other => other.clone(),
                },
                range: self.ranges.get(name).copied().filter(|(least, most)| least < most),
            });
            lines.collect()
        };
        upstreams.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let telling = self.telling(because.first().map(|(code, _)| *code));
        Cause {
            code: self.code,
            count: self.count,
            span: self.span,
            confidence: std::array::from_fn(|index| (CONFIDENCES[index], self.confidence[index])),
            also: most_frequent(&self.also),
            because,
            upstreams: Listed::first(upstreams, MAX_UPSTREAMS),
            summary: telling.map(|verdict| harmless(&verdict.summary)).unwrap_or_default(),
            summary_time: telling.map_or(self.span.0, |verdict| verdict.time),
            evidence: telling.map(evidence).unwrap_or_default(),
            advice: self.advice.listed(telling.map_or(&[], |verdict| &verdict.advice)),
            missing: self.missing.listed(&[]),
        }
    }

    /// The verdict that speaks for all.
    fn telling(&self, because: Option<&'static str>) -> Option<&Verdict> {
        let surest = self.samples.iter().map(|verdict| verdict.confidence).max()?;
        let fits =
            |verdict: &&Verdict| verdict.confidence == surest && (because.is_none() || verdict.because == because);
        let mut kinds: BTreeMap<String, Vec<&Verdict>> = BTreeMap::new();
        for verdict in self.samples.iter().filter(fits) {
            kinds.entry(without_numbers(&verdict.summary)).or_default().push(verdict);
        }
        let typical = kinds.into_values().max_by_key(Vec::len);
        let middle = typical.and_then(|typical| typical.get(typical.len() / 2).copied());
        middle.or_else(|| self.samples.get(self.samples.len() / 2))
    }
}

/// What can be compared from verdict to verdict.
fn measure(name: &str, value: &Value) -> Option<f64> {
    if is_name(name) {
        return None;
    }
    match value {
        Value::Count(count) => Some(super::words::float(*count)),
        Value::Number(number) => Some(*number),
        Value::Flag(_) | Value::Text(_) => None,
    }
}

/// Numbers that name something, of which none is more than another.
pub(super) fn is_name(evidence: &str) -> bool {
    ["pid", "errno", "port", "netns", "signal", "status", "err"].iter().any(|suffix| evidence.ends_with(suffix))
}

fn most_frequent(counts: &BTreeMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
    let mut all: Vec<_> = counts.iter().map(|(code, count)| (*code, *count)).collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all
}

/// Sentences by what they say, numbers apart.
#[derive(Debug, Default)]
struct Sentences {
    entries: Vec<(String, Advised)>,
    others: u64,
}

impl Sentences {
    fn add(&mut self, text: &str) {
        let pattern = without_numbers(text);
        if let Some((_, entry)) = self.entries.iter_mut().find(|(key, _)| *key == pattern) {
            entry.count += 1;
            if entry.text != text {
                text.clone_into(&mut entry.text);
            }
        } else if self.entries.len() < MAX_ADVICE {
            self.entries.push((pattern, Advised { text: text.to_owned(), count: 1 }));
        } else {
            self.others += 1;
        }
    }

    /// The `leading` ones in their order and with their numbers, then the others, the most frequent first.
    fn listed(&self, leading: &[String]) -> Listed<Advised> {
        let leading: Vec<_> = leading.iter().map(|text| (without_numbers(text), text)).collect();
        let mut ranked: Vec<_> = self
            .entries
            .iter()
            .map(|(pattern, advised)| {
                let rank = leading.iter().position(|(each, _)| each == pattern);
                let text = rank.map_or(&advised.text, |rank| leading[rank].1);
                (rank.unwrap_or(leading.len()), Advised { text: harmless(text), count: advised.count })
            })
            .collect();
        ranked.sort_by_key(|(rank, advised)| (*rank, std::cmp::Reverse(advised.count)));
        Listed { items: ranked.into_iter().map(|(_, advised)| advised).collect(), others: self.others }
    }
}

/// The same with one `#` for each number.
fn without_numbers(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if pattern.ends_with('#') => {}
            '0'..='9' => pattern.push('#'),
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge,
        testing::{at, ended_with, refused_connection},
    };

    fn verdict(ms: u64) -> Verdict {
        let (model, attempt) = ended_with([], refused_connection());
        Verdict { time: at(ms), ..judge(&attempt, &model) }
    }

    fn tally(verdicts: impl IntoIterator<Item = Verdict>) -> Cause {
        let mut tally = Tally::new(&verdict(0));
        for each in verdicts {
            tally.add(&each);
        }
        tally.finish(Vec::new())
    }

    #[test]
    fn the_verdict_that_speaks_for_all_is_of_the_most_frequent_kind_and_from_the_middle() {
        let cause = tally((0..1000).map(|n| {
            let because = (n % 10 == 0).then_some("backlog-small").or(Some("worker-pool-undersized"));
            Verdict { because, summary: format!("number {n}"), ..verdict(n) }
        }));
        assert_eq!(cause.count, 1000);
        assert_eq!(cause.because, [("worker-pool-undersized", 900), ("backlog-small", 100)]);
        let number: u64 = cause.summary.trim_start_matches("number ").parse().unwrap();
        assert!((400..600).contains(&number), "{number}");

        let told =
            |n: u64| Verdict { summary: if n.is_multiple_of(3) { "rare" } else { "common" }.to_owned(), ..verdict(n) };
        assert_eq!(tally((0..30).map(told)).summary, "common");
    }

    #[test]
    fn advice_that_differs_in_numbers_is_said_once() {
        let advised = |n| {
            let advice = vec!["see the log".to_owned(), format!("run {n} workers, not {}", n / 2)];
            Verdict { advice, ..verdict(n) }
        };
        let cause = tally([advised(8), advised(16), Verdict { advice: vec!["see the log".to_owned()], ..verdict(3) }]);
        let texts: Vec<_> = cause.advice.items.iter().map(|each| (each.text.as_str(), each.count)).collect();
        assert_eq!(texts, [("see the log", 3), ("run 16 workers, not 8", 2)]);
        let rare = Verdict { advice: vec!["call home".to_owned()], confidence: Confidence::Certain, ..verdict(4) };
        let possible = |n| Verdict { confidence: Confidence::Possible, ..advised(n) };
        let cause = tally([possible(8), possible(9), rare]);
        assert_eq!(cause.advice.items[0].text, "call home", "what the surest says goes first");
    }

    #[test]
    fn advice_is_bounded_and_what_is_left_out_is_counted() {
        let names = ('a'..='z').map(|c| Verdict { advice: vec![format!("look at {c}")], ..verdict(1) });
        let cause = tally(names);
        assert_eq!((cause.advice.items.len(), cause.advice.others), (MAX_ADVICE, 26 - MAX_ADVICE as u64));
    }
}
