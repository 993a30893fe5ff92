//! Where things are, and what stands between them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    /// Everything in one namespace, the upstream on 127.0.0.1.
    Local,
    /// Proxy and client in one namespace, the upstream in another.
    Remote,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Remote => "remote",
        })
    }
}

/// Settings of the namespaces, never of the host. In the local topology both sides share one namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sysctls {
    pub(crate) proxy: BTreeMap<String, String>,
    pub(crate) upstream: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::lab) enum Side {
    Proxy,
    Upstream,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Filter {
    pub(in crate::lab) side: Side,
    pub(in crate::lab) hook: Hook,
    /// A rule of nft's, where `{port}` is the upstream's.
    pub(in crate::lab) rule: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::lab) enum Hook {
    Input,
    Output,
}

impl Hook {
    /// nft's.
    pub(in crate::lab) fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}
