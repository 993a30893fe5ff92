//! How fast events are recorded, read, judged and replayed.

use anyhow::Result;
use serde_json::Value;

use super::executables::Bench;
use super::say;

pub(super) fn measure() -> Result<Value> {
    let (text, measured) = Bench::Trace.run(&[])?;
    say(&format!("\nevents of a busy proxy with an incident, recorded and replayed\n{text}"))?;
    Ok(measured)
}
