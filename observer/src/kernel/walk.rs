//! `iter/tcp` from userspace: one walk over the sockets of the calling thread's network namespace.

use std::io::Read as _;

use aya::{
    maps::{HashMap, MapError, PerCpuArray, PerCpuHashMap},
    programs::{Iter, ProgramError, links::LinkError},
};
use observer_common::{
    Task,
    answer::Process,
    connection::MAX_ADOPTED,
    listener::{Arrivals, Door, Sample},
    look::ADOPTING,
    time_wait::Destination,
};
use zerocopy::FromBytes as _;

use super::{
    attach::program,
    load::{Kernel, map},
};
use crate::addr::{Endpoint, NetNs};

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "walk";
/// What it walks over, as the kernel calls it.
pub(super) const KIND: &str = "tcp";

/// How a walk can fail.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The iterator could not be opened.
    #[error("cannot open the socket iterator: {0}")]
    Open(#[from] ProgramError),
    /// Likewise.
    #[error("cannot open the socket iterator: {0}")]
    Link(#[from] LinkError),
    /// Its output could not be read.
    #[error("cannot read the socket iterator: {0}")]
    Read(#[from] std::io::Error),
    /// The counts could not be read.
    #[error("cannot read the TIME_WAIT counts: {0}")]
    Counts(#[from] MapError),
}

/// What a walk saw.
#[derive(Debug, Default)]
pub struct Walked {
    /// The listeners.
    pub listeners: Vec<Sample>,
    /// TIME_WAIT sockets by destination, unordered.
    pub time_waits: Vec<(Endpoint, u32)>,
    /// Open connections that a process has accepted, by port.
    pub accepted: std::collections::HashMap<u16, u32>,
}

/// A socket that a proxy has open, by its inode number.
pub type Open = (u64, Task);

/// Wire structs as a map's key and value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Wire<T>(pub(super) T);
// SAFETY: only used with `Task`, `Process`, `Door`, `Arrivals`, `Peer` and `Destination`, which are `repr(C)` integers and bytes without implicit padding.
unsafe impl<T: Copy + 'static> aya::Pod for Wire<T> {}

impl Kernel {
    /// Has the walks from now on take over the connections among these sockets that their processes began: they are followed
    /// from then on. At most [`MAX_ADOPTED`] sockets, the others are counted as not adopted.
    pub fn adopt(&mut self, open: &[Open]) -> Result<(), WalkError> {
        let room = usize::try_from(MAX_ADOPTED).unwrap_or(usize::MAX).min(open.len());
        self.unadopted += (open.len() - room) as u64;
        let mut wanted: HashMap<_, u64, Wire<Task>> = HashMap::try_from(map(&mut self.ebpf, "ADOPT")?)?;
        for (inode, task) in &open[..room] {
            wanted.insert(inode, Wire(*task), 0)?;
        }
        Ok(self.close.tell(ADOPTING, 1)?)
    }

    /// Every namespace has been walked: no more is taken over.
    pub fn adopted(&mut self, open: &[Open]) -> Result<(), WalkError> {
        self.close.tell(ADOPTING, 0)?;
        let mut wanted: HashMap<_, u64, Wire<Task>> = HashMap::try_from(map(&mut self.ebpf, "ADOPT")?)?;
        for (inode, _) in open {
            // Processes may share a socket, and not all may have fitted.
            let _ = wanted.remove(inode);
        }
        Ok(())
    }

    /// Tells the programs that these processes are proxies: their answers count from now on.
    pub fn recognise(&mut self, proxies: &[(u32, u8)]) -> Result<(), MapError> {
        let mut processes: HashMap<_, u32, Wire<Process>> = HashMap::try_from(map(&mut self.ebpf, "PROCESSES")?)?;
        for (pid, threading) in proxies {
            processes.insert(pid, Wire(Process::new(*threading)), 0)?;
        }
        Ok(())
    }

    /// Whether this proxy's process has connected to a unix socket under a close look.
    pub fn has_unix_upstreams(&self, pid: u32) -> bool {
        let processes = self.ebpf.map("PROCESSES").and_then(|map| HashMap::<_, u32, Wire<Process>>::try_from(map).ok());
        processes.and_then(|processes| processes.get(&pid, 0).ok()).is_some_and(|process| process.0.unix != 0)
    }

    /// Connections that have come to a listener's accept queue since attaching; `None` if none has.
    pub fn arrivals(&self, netns: NetNs, port: u16) -> Option<u64> {
        let door = Door { netns: netns.0, port, pad: 0 };
        let slots: PerCpuArray<_, Wire<Arrivals>> = PerCpuArray::try_from(self.ebpf.map("DOORS")?).ok()?;
        let slot = slots.get(&door.slot(), 0).ok()?;
        let of_door = slot.iter().filter(|arrivals| arrivals.0.door == door && arrivals.0.count > 0);
        let others: PerCpuHashMap<_, Wire<Door>, u64> = PerCpuHashMap::try_from(self.ebpf.map("ARRIVALS")?).ok()?;
        let elsewhere = others.get(&Wire(door), 0).map_or(0, |counts| counts.iter().sum());
        Some(of_door.map(|arrivals| arrivals.0.count).sum::<u64>() + elsewhere).filter(|count| *count > 0)
    }

    /// Walks the sockets of the network namespace that the calling thread is in.
    pub fn walk(&mut self) -> Result<Walked, WalkError> {
        let iterator: &mut Iter = program(&mut self.ebpf, PROGRAM)?;
        let link = iterator.attach()?;
        let mut bytes = Vec::new();
        iterator.take_link(link)?.into_file()?.read_to_end(&mut bytes)?;
        let listeners =
            bytes.chunks_exact(size_of::<Sample>()).filter_map(|chunk| Sample::read_from_bytes(chunk).ok()).collect();

        let time_waits = self.drain::<Destination>("TIME_WAITS")?;
        let time_waits = time_waits.into_iter().map(|(to, count)| (Endpoint::from_wire(to.addr, to.port), count));
        let accepted = self.drain::<Door>("ACCEPTED")?.into_iter().map(|(door, count)| (door.port, count));
        Ok(Walked { listeners, time_waits: time_waits.collect(), accepted: accepted.collect() })
    }

    /// Empties a map of counts.
    fn drain<K: Copy + 'static>(&mut self, name: &str) -> Result<Vec<(K, u32)>, MapError> {
        let mut counts: HashMap<_, Wire<K>, u32> = HashMap::try_from(map(&mut self.ebpf, name)?)?;
        let entries: Vec<_> = counts.iter().collect::<Result<_, _>>()?;
        for (key, _) in &entries {
            counts.remove(key)?;
        }
        Ok(entries.into_iter().map(|(key, count)| (key.0, count)).collect())
    }
}
