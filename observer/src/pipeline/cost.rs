//! What watching costs, for somebody who looks at it. Measured only meanwhile.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    host,
    kernel::statistics::RunTime,
    snapshot::{Cost, ProgramCost},
    source::Source,
};

/// Between two readings at least: the kernel's statistics of so many programs are not for nothing.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(super) struct Meter {
    on: bool,
    last: Option<Reading>,
    cost: Option<Arc<Cost>>,
}

struct Reading {
    at: Instant,
    programs: Vec<RunTime>,
    own: Duration,
    events: u64,
}

impl Meter {
    /// To be called often; reads what is due. `events` have been taken in so far.
    pub(super) fn turn(&mut self, on: bool, source: &mut impl Source, events: u64) {
        if self.on != on {
            *self = Self { on, ..Self::default() };
            source.measure(on);
        }
        if !on || self.last.as_ref().is_some_and(|last| last.at.elapsed() < EVERY) {
            return;
        }
        let Some(programs) = source.run_times() else { return };
        let reading = Reading { at: Instant::now(), programs, own: host::own_processor_time(), events };
        self.cost = self.last.as_ref().map(|last| Arc::new(reading.since(last)));
        self.last = Some(reading);
    }

    /// For a snapshot.
    pub(super) fn show(&self) -> Option<Arc<Cost>> {
        self.cost.clone()
    }
}

impl Reading {
    fn since(&self, last: &Self) -> Cost {
        let seconds = self.at.duration_since(last.at).as_secs_f64();
        let per_second = |count: u64| as_float(count) / seconds;
        let before: HashMap<_, _> = last.programs.iter().map(|program| (&program.name, program)).collect();
        let of = |program: &RunTime| {
            let before = before.get(&program.name)?;
            let (runs, nanos) = (program.runs.saturating_sub(before.runs), program.nanos.saturating_sub(before.nanos));
            let nanos_per_run = if runs == 0 { 0.0 } else { as_float(nanos) / as_float(runs) };
            Some(ProgramCost { name: program.name.clone(), runs_per_second: per_second(runs), nanos_per_run })
        };
        let mut programs: Vec<_> = self.programs.iter().filter_map(of).collect();
        let cost = |program: &ProgramCost| program.runs_per_second * program.nanos_per_run;
        programs.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then_with(|| a.name.cmp(&b.name)));
        Cost {
            programs,
            own_cpu_share: self.own.saturating_sub(last.own).as_secs_f64() / seconds,
            memory_bytes: host::own_memory(),
            events_per_second: per_second(self.events.saturating_sub(last.events)),
        }
    }
}

/// Exact up to 2^53, which none of these rises by in a few seconds.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_time(name: &str, runs: u64, nanos: u64) -> RunTime {
        RunTime { name: name.to_owned(), runs, nanos }
    }

    #[test]
    fn rates_are_of_what_rose_between_two_readings() {
        let begin = Instant::now();
        let reading = |seconds, programs, own_ms, events| Reading {
            at: begin + Duration::from_secs(seconds),
            programs,
            own: Duration::from_millis(own_ms),
            events,
        };
        let first = reading(0, vec![run_time("a", 10, 5_000), run_time("b", 7, 900)], 500, 100);
        let second = reading(2, vec![run_time("a", 10, 5_000), run_time("b", 2_007, 800_900)], 600, 5_100);
        let cost = second.since(&first);
        let of = |name: &str, runs_per_second, nanos_per_run| ProgramCost {
            name: name.to_owned(),
            runs_per_second,
            nanos_per_run,
        };
        assert_eq!(cost.programs, [of("b", 1_000.0, 400.0), of("a", 0.0, 0.0)]);
        assert!((cost.own_cpu_share - 0.05).abs() < 1e-9 && (cost.events_per_second - 2_500.0).abs() < 1e-9);
        assert!(cost.memory_bytes > 1 << 20, "{} of this very process", cost.memory_bytes);
    }
}
