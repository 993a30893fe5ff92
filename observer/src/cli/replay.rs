//! Options of what is done with a recording.

use std::path::PathBuf;

use clap::Args;

use crate::time::{Moment, Speed};

/// What is of no use with a recording: it was decided when that was made.
const LIVE_ONLY: [&str; 17] = [
    "duration",
    "verbose",
    "ports",
    "comms",
    "netns",
    "no_answers",
    "no_logs",
    "error_logs",
    "access_logs",
    "close_look",
    "ring_size",
    "forced",
    "record",
    "max_size",
    "max_files",
    "compress_level",
    "force",
];

/// A recording instead of this host.
#[derive(Debug, Args)]
pub struct FromTrace {
    /// Instead of this host, the recording in these files: what `watch` would have said while it was made.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = LIVE_ONLY)]
    pub from_trace: Vec<PathBuf>,
    /// Of a recording, only what bears this time or a later one: 90s or 5m after its beginning, 14:03:07 or
    /// 2026-01-02T14:03:07Z (UTC). All before it is taken in as well, so that the verdicts are the same.
    #[arg(long, value_name = "TIME", requires = "from_trace")]
    pub from: Option<Moment>,
    /// Of a recording, only what bears this time or an earlier one.
    #[arg(long, value_name = "TIME", requires = "from_trace")]
    pub to: Option<Moment>,
    /// How many times as fast as it was made a recording is gone through, or max.
    #[arg(long, value_name = "N", default_value = "max", requires = "from_trace")]
    pub speed: Speed,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The recording: its file, or those of its segments.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How many times as fast as it was made, or max.
    #[arg(long, value_name = "N", default_value = "1")]
    pub speed: Speed,
    /// Begin there: 90s or 5m after the beginning, 14:03:07 or 2026-01-02T14:03:07Z (UTC).
    #[arg(long, value_name = "TIME")]
    pub from: Option<Moment>,
    /// Go no further.
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn a_recording_takes_no_options_of_a_live_run() {
        let whole = parse("observer watch --from-trace a b --from 90s --to 14:03:07 --speed 4 --format json");
        assert!(whole.is_ok(), "{whole:?}");
        for option in ["--port 80", "--record b", "--duration 5s", "--ring-size 8M", "--no-answers", "--no-logs"] {
            let error = parse(&format!("observer watch --from-trace a {option}")).unwrap_err();
            assert!(error.contains("'--from-trace <FILE>...' cannot be used with"), "{error}");
        }
        let error = parse("observer watch --from 90s").unwrap_err();
        assert!(error.contains("--from-trace"), "{error}");
    }
}
