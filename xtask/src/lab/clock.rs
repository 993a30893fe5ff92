//! Time of day, which is what proxies write into their logs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Microseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the proxy's log is in time of day, and so is what is compared with it")]
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since the epoch, of what observer prints.
pub(super) fn parse(rfc3339: &str) -> Result<u64> {
    let time = humantime::parse_rfc3339(rfc3339).with_context(|| format!("not a time: {rfc3339}"))?;
    let time = time.duration_since(UNIX_EPOCH).context("a time before 1970")?;
    u64::try_from(time.as_micros()).context("a time too far off")
}

/// To the second, UTC.
pub(super) fn format(microseconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(microseconds)).to_string()
}
