//! Options of what is done with recordings besides replaying them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::sink::Format;

/// What can be done with recordings.
#[derive(Debug, Subcommand)]
pub enum Trace {
    /// What a recording holds: when, where, what was watched, how many events of which kind, and what was lost.
    ///
    /// Exit status: 1 if part of it could not be read; what could is told.
    Info(Info),
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
