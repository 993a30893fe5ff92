//! What a trace says of itself.

use serde::{Deserialize, Serialize};

use crate::{
    hooks::Hooks,
    time::{Time, WallClock},
};

/// A trace's self-description. The same in all segments of a recording, but for [`About::segment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the format.
    pub format: u32,
    /// Version of the observer that wrote it.
    pub version: String,
    /// Name of the host; untrusted, control characters escaped.
    pub host: String,
    /// Release of its kernel (`uname -r`).
    pub kernel: String,
    /// Its kind of processor (`uname -m`).
    pub machine: String,
    /// Turns the kernel's times into times of day.
    pub wall: WallClock,
    /// When observer began to watch.
    pub since: Time,
    /// What was watched, in words: names of proxies, ports, namespace.
    pub watching: String,
    /// How each hook stood.
    pub hooks: Hooks,
    /// Settings of the host at the start, by sysctl.
    pub settings: Vec<(String, String)>,
    /// Which segment of the recording this is, from 1.
    pub segment: u32,
}
