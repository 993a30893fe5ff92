//! Why tries fail. Rules turn what the model knows of a failed try into a verdict, and what it knows of the host into
//! warnings. Sees no kernel, file, screen or clock.

mod answers;
pub mod because;
pub mod causes;
pub mod checkpoint;
mod code;
pub mod configured;
pub mod death;
pub mod engine;
pub mod evidence;
pub mod incident;
mod kept;
pub mod lines;
pub mod logged;
pub mod open;
pub mod queue;
pub mod registry;
pub mod remedy;
pub mod rule;
mod trouble;
mod unix;
pub mod verdict;

pub use checkpoint::RestoreError;
pub use configured::{Held, Standing};
pub use engine::Engine;
pub use evidence::{Evidence, Value};
pub use incident::{Incident, Incidents};
pub use lines::Lines;
pub use open::{Harmless, MAX_DELAY};
pub use rule::{Finding, Judgement, Rule};
pub use verdict::{Confidence, Logged, Said, StatusFrom, Verdict, Warning};

/// The page of a cause, or of what may lie under one.
pub fn page(code: &str) -> Option<&'static str> {
    let cause = registry::find(code).map(|rule| rule.page);
    cause.or_else(|| because::find(code).map(|because| because.page))
}
