//! What a trace says of itself.

use serde::{Deserialize, Serialize};

use crate::{
    hooks::{HookStatus, Hooks},
    text,
    time::{Time, WallClock},
};

/// Bytes of any text in it that are shown.
const MAX_TEXT: usize = 1024;
/// Settings in it that are shown.
const MAX_SETTINGS: usize = 256;

/// A trace's self-description. The same in all segments of a recording, but for [`About::segment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
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
    /// Which segment of the recording this is, from 1. A recording that was begun in the midst of a watch has no first one: what
    /// came before was not recorded.
    pub segment: u32,
    /// How many upstreams' sides have been joined to it, each of another host.
    #[serde(default)]
    pub joined: u32,
}

impl About {
    /// What came out of a file: control characters escaped, texts and lists cut.
    #[must_use]
    pub(crate) fn made_harmless(mut self) -> Self {
        let clean = |text: &mut String| *text = text::escape(&text.as_bytes()[..text.floor_char_boundary(MAX_TEXT)]);
        for text in [&mut self.version, &mut self.host, &mut self.kernel, &mut self.machine, &mut self.watching] {
            clean(text);
        }
        self.hooks.0.truncate(crate::hooks::Hook::ALL.len());
        for (_, status) in &mut self.hooks.0 {
            match status {
                HookStatus::Full(_) => {}
                HookStatus::Partial(_, text) | HookStatus::Missing(text) => clean(text),
            }
        }
        self.settings.truncate(MAX_SETTINGS);
        for (name, value) in &mut self.settings {
            clean(name);
            clean(value);
        }
        self
    }
}
