//! Options of what is done with recordings besides replaying them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{rework::merge, sink::Format, trace::export};

/// What can be done with recordings.
#[derive(Debug, Subcommand)]
pub enum Trace {
    /// What a recording holds: when, where, what was watched, how many events of which kind, and what was lost.
    ///
    /// Exit status: 1 if part of it could not be read; what could is told.
    Info(Info),
    /// The same recording without its addresses and names, to be shown to others: it comes to the same verdicts.
    ///
    /// Each address becomes another, the same throughout (loopback stays); likewise names of processes other than known
    /// proxies', paths of unix sockets, files and requests, and the host's name; of what a proxy's log says only nginx's own words stay. What replaces them is made with a random key that is forgotten.
    /// Times, ports, process ids and numbers stay: who has other records of the same traffic can still compare them.
    ///
    /// Exit status: 1 if part of the recording could not be read; what could is written.
    Anonymize(Anonymize),
    /// Two hosts' recordings of one incident as one: what the upstream's side saw settles what the proxy's cannot know.
    ///
    /// Which is which shows by itself. How far the clocks are apart follows from connections that both saw. In the new
    /// recording times are by the proxy's clock, 10000000 is added to the ids of the upstream's processes, and its network
    /// namespaces have other numbers; verdicts are made anew.
    ///
    /// Exit status: 1 if part of either could not be read; what could is joined.
    Merge(Merge),
}

/// Options of `trace info`.
#[derive(Debug, Args)]
pub struct Info {
    /// The files of one recording, in any order.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Lines for people, or one JSON object.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The recording from before the change.
    pub before: PathBuf,
    /// The one from after it, under the load that made things fail.
    pub after: PathBuf,
    /// Lines for people, or one JSON object.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The files of one recording, in any order.
    #[arg(required_unless_present = "schema", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Into what.
    #[arg(long, value_enum, required_unless_present = "schema")]
    pub format: Option<export::Format>,
    /// Where to; standard output if not given, which Parquet cannot be written to.
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Overwrite what is there.
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Print what the columns, kinds and flags mean, and nothing else.
    #[arg(long, conflicts_with_all = ["files", "format", "output", "force"])]
    pub schema: bool,
}

/// Options of `trace anonymize`.
#[derive(Debug, Args)]
pub struct Anonymize {
    /// The files of one recording, in any order.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The new recording.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Overwrite what is there.
    #[arg(long)]
    pub force: bool,
}

/// Options of `trace merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// The files of both recordings, in any order.
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The new recording.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// How far the wall clock of the upstream's host was ahead of the proxy's (3.7s is "3s 700ms"; -200ms; 0s if both are kept
    /// by NTP), instead of finding it out.
    #[arg(long, value_name = "DURATION", value_parser = merge::parse_ahead, allow_hyphen_values = true)]
    pub offset: Option<i128>,
    /// Overwrite what is there.
    #[arg(long)]
    pub force: bool,
}
