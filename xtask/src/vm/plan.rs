//! What a guest is to do, written into its initramfs.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::lab::Topology;

/// Where a guest has it.
pub(super) const PATH: &str = "/plan.json";

#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Plan {
    /// Names, or parts of names, of the only kernel tests that are wanted; all if empty.
    pub(super) tests: Vec<String>,
    /// Names of kernel tests that are left out.
    pub(super) skipped: Vec<String>,
    /// Scenarios of the lab, by name, each in one topology. None need be.
    pub(super) scenarios: Vec<(Topology, String)>,
}

impl Plan {
    /// The guest's own.
    pub(super) fn read() -> Result<Self> {
        let text = fs::read(PATH).with_context(|| format!("cannot read {PATH}"))?;
        serde_json::from_slice(&text).with_context(|| format!("in {PATH}"))
    }

    pub(super) fn write(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context("cannot write JSON")
    }
}
