//! The close look: what runs for every read, write and packet of a host, attached only while there is reason to.

use std::any::Any;

use aya::maps::{Array, MapData, MapError};
use observer_common::look;

use super::{Kernel, attach};
use crate::{
    hooks::{Carrier, Hook},
    host,
};

/// When to look closely. Without it proxies' own answers, connect() calls that fail at once and on some kernels overflows are not
/// seen: a host whose only trouble these are looks quiet, which views and summaries therefore say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// At first, while something goes wrong, and at a glance in between.
    #[default]
    Auto,
    /// All the time.
    Always,
    /// Never: nothing but what costs next to nothing.
    Never,
}

/// A link that detaches its program when it is dropped.
pub(super) struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Any + Send>);

impl Held {
    pub(super) fn new(link: impl Any + Send) -> Self {
        Self(Box::new(link))
    }
}

/// What the programs are told of the look, by the slots that `observer_common::look` names.
pub(super) struct Since {
    told: [u64; look::SLOTS],
    map: Array<MapData, [u64; look::SLOTS]>,
}

impl Since {
    pub(super) fn new(map: Array<MapData, [u64; look::SLOTS]>) -> Self {
        Self { told: [0; look::SLOTS], map }
    }

    pub(super) fn set(&mut self, slot: usize, since: u64) -> Result<(), MapError> {
        self.told[slot] = since;
        self.map.set(0, self.told, 0)
    }
}

/// The programs of the close look.
pub(super) struct Close {
    /// What tells the programs since when they are all attached.
    since: Since,
    held: Vec<Held>,
    /// There has been a time without a close look.
    interrupted: bool,
}

impl Close {
    pub(super) fn new(since: Since, held: Vec<Held>) -> Self {
        Self { since, held, interrupted: false }
    }

    pub(super) fn tell(&mut self, slot: usize, since: u64) -> Result<(), MapError> {
        self.since.set(slot, since)
    }
}

/// Whether a hook, so carried, runs for every read, write or packet.
pub(super) fn is_close(hook: Hook, carrier: Carrier) -> bool {
    match hook {
        Hook::Reads | Hook::SocketEnds | Hook::Connects | Hook::Answers => true,
        Hook::ListenOverflow => carrier == Carrier::CgroupSkb,
        _ => false,
    }
}

impl Kernel {
    /// Whether there is a close look now.
    pub fn looks_closely(&self) -> bool {
        !self.close.held.is_empty()
    }

    /// Whether there could be one, and is not.
    pub(super) fn looks_lightly(&self) -> bool {
        self.has_close() && !self.looks_closely()
    }

    /// Begins a close look or ends it; says whether that was a change. An error in words leaves it without one.
    pub fn look(&mut self, closely: bool) -> Result<bool, String> {
        if closely == self.looks_closely() || !self.has_close() {
            return Ok(false);
        }
        if !closely {
            self.told(0)?;
            self.close.interrupted = true;
            // The ends of sockets are attached first and detached last: sockets that the network has closed are forgotten
            // when they go.
            while self.close.held.pop().is_some() {}
            let _ = self.see_to_skips_where_needed();
            return Ok(true);
        }
        // Where it is refused what is skipped is told of as lost.
        let _ = self.see_to_skips();
        let mut held = Vec::new();
        for (hook, carrier) in self.close_hooks() {
            held.append(&mut attach::attach_loaded(&mut self.ebpf, hook, carrier)?);
        }
        self.close.held = held;
        self.told(host::now().0)?;
        Ok(true)
    }

    /// Whether there has been a time without a close look.
    pub(super) fn looked_away(&self) -> bool {
        self.close.interrupted
    }

    /// Whether overflows that are carried so have all been seen since the programs were attached.
    pub(super) fn saw_all_by(&self, carrier: Carrier) -> bool {
        !self.close.interrupted || !is_close(Hook::ListenOverflow, carrier)
    }

    /// Tells the programs since when what they note can be relied on; 0 for not at all.
    pub(super) fn told(&mut self, since: u64) -> Result<(), String> {
        let queues = match self.carrier(Hook::ListenOverflow) {
            Some(carrier) if is_close(Hook::ListenOverflow, carrier) => since,
            Some(_) => 1,
            None => 0,
        };
        let told = self.close.tell(look::PROXIES, since).and_then(|()| self.close.tell(look::QUEUES, queues));
        told.map_err(|error| format!("cannot tell the programs: {error}"))
    }

    fn has_close(&self) -> bool {
        self.close_hooks().next().is_some()
    }

    fn close_hooks(&self) -> impl Iterator<Item = (Hook, Carrier)> + use<> {
        let chosen = |hook| Some((hook, self.carrier(hook)?));
        let all: Vec<_> =
            ORDER.into_iter().filter_map(chosen).filter(|(hook, carrier)| is_close(*hook, *carrier)).collect();
        all.into_iter()
    }
}

/// In which order they are attached.
const ORDER: [Hook; 5] = [Hook::SocketEnds, Hook::Reads, Hook::Answers, Hook::Connects, Hook::ListenOverflow];
