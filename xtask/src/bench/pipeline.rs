//! How fast events are recorded, read, judged and replayed, and what is in memory while fifty million are judged.

use anyhow::Result;
use serde_json::Value;

use super::executables::Bench;
use super::say;

pub(super) fn measure() -> Result<Value> {
    let (text, measured) = Bench::Trace.run(&["--memory"])?;
    say(&format!("\nevents of a busy proxy with an incident, recorded and replayed\n{text}"))?;
    Ok(measured)
}
