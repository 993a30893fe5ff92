//! The configurations that nginx runs with, read against what is known to lead to 502s, and told of as events: at the start, and when
//! what was found has changed. In a thread of its own, for a large one takes a while to be read.

use std::{collections::HashMap, io, time::Duration};

use super::{
    procs,
    teller::{Teller, Told},
};
use crate::{
    addr::NetNs,
    event::{Body, Configuration, Event, Process},
    host,
    proxy::nginx::{NAMES, Version, config, findings, running, site::Site},
    text::escape,
};

/// How often it is looked which masters and workers there are. Whoever loads a configuration anew starts new workers: as long as one of
/// them goes on, so does what is in effect, whatever stands in the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// But not for this many times the time that it took, a per cent of a core: there may be many processes, and configurations are large.
const PAUSE: u32 = 100;
/// No pause is longer, so that what has changed is told within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Masters looked at; of more than that those with the lowest numbers.
const MAX_MASTERS: usize = 64;

/// Begins to look, if any of these proxies is one whose configuration can be read.
pub(super) fn start(proxies: &[String], netns: Option<NetNs>) -> io::Result<Option<Teller>> {
    let names: Vec<_> = NAMES.iter().filter(|name| proxies.iter().any(|proxy| proxy == *name)).copied().collect();
    if names.is_empty() {
        return Ok(None);
    }
    let names = names.into_iter().map(str::to_owned).collect();
    Teller::start("observer-config", move |told| Looker { names, netns, known: HashMap::new() }.run(told)).map(Some)
}

struct Looker {
    names: Vec<String>,
    /// Only those in this network namespace.
    netns: Option<NetNs>,
    /// The masters, each with what was told of it.
    known: HashMap<u32, Known>,
}

struct Known {
    /// Its processes when its configuration was last read.
    read: Vec<Process>,
    /// The same when it was last looked at.
    seen: Vec<Process>,
    told: Configuration,
}

impl Looker {
    fn run(mut self, told: &Told) {
        loop {
            let begun = host::now();
            let events = self.look();
            if !events.is_empty() && !told.tell(events) {
                return;
            }
            let pause = (host::now().since(begun) * PAUSE).clamp(LOOK_EVERY, LONGEST_PAUSE);
            if told.is_over_within(pause) {
                return;
            }
        }
    }

    fn look(&mut self) -> Vec<Event> {
        let wanted = |process: &Process| self.netns.is_none_or(|netns| procs::netns_of(process.pid) == Some(netns));
        let mut families: Vec<_> = procs::families_of(&self.names, wanted).into_iter().collect();
        families.sort_by_key(|(master, _)| *master);
        families.truncate(MAX_MASTERS);
        let mut all = Vec::new();
        self.known.retain(|pid, Known { told, .. }| {
            let is_there = families.iter().any(|(master, _)| master == pid);
            if !is_there {
                let Configuration { master, netns, file, .. } = std::mem::take(told);
                all.push(Configuration { master, netns, file, gone: true, ..Configuration::default() });
            }
            is_there
        });
        for (pid, family) in families {
            let before = self.known.remove(&pid);
            let known = match before {
                Some(known) if known.seen == family => known,
                Some(Known { read, seen: _, told }) if !procs::were_replaced(pid, &read, &family) => {
                    let workers = family.iter().filter(|process| process.pid != pid).cloned().collect();
                    let now = Configuration { workers, ..told.clone() }.bounded();
                    if now != told {
                        all.push(now.clone());
                    }
                    Known { read, seen: family, told: now }
                }
                before => {
                    let Some(now) = configuration(pid, &family) else { continue };
                    if before.is_none_or(|known| known.told != now) {
                        all.push(now.clone());
                    }
                    Known { read: family.clone(), seen: family, told: now }
                }
            };
            self.known.insert(pid, known);
        }
        let event = |told| Event { time: host::now(), body: Body::Configuration(Box::new(told)) };
        all.into_iter().map(event).collect()
    }
}

/// That of a master with its family; `None` of a process that is no master, or not yet.
fn configuration(pid: u32, family: &[Process]) -> Option<Configuration> {
    let master = running::master(pid)?;
    let (own, workers) = family.iter().cloned().partition::<Vec<_>, _>(|process| process.pid == pid);
    let told = Configuration {
        master: own.into_iter().next()?,
        netns: procs::netns_of(pid).unwrap_or_default(),
        workers,
        file: escape(master.file.as_os_str().as_encoded_bytes()),
        ..Configuration::default()
    };
    let told = match config::read(&master.root, &master.file) {
        Ok(config) => {
            let site = Site::of(&config, master.version.unwrap_or(Version::ASSUMED), master.open_files);
            let findings = findings::findings(&site).iter().map(findings::Finding::told).collect();
            Configuration { findings, ..told }
        }
        Err(error) => Configuration { trouble: Some(escape(error.to_string().as_bytes())), ..told },
    };
    Some(told.bounded())
}
