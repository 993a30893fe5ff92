//! Loads and attaches the programs, hook by hook. A hook that this kernel refuses is a degradation, not an error.

use std::{cell::Cell, io, os::fd::AsRawFd, thread};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use aya_log::EbpfLogger;
use nix::{
    sched::{CloneFlags, unshare},
    unistd::chroot,
};
use observer_common::{COMM_LEN, counter::Counter, layout, look::SETTLED};

use super::{
    attach::{Attaching, find_tracefs},
    btf::{self, BtfError, Layout},
    constants,
    decode::Decoder,
    look::{Close, Held, Since, When},
    losses::{self, Losses},
    statistics::Statistics,
};
use crate::{
    addr::NetNs,
    event::{Counters, Lost},
    hooks::{Carrier, Forced, Hook, HookStatus, Hooks, Ladder},
};

/// The compiled programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer"));

/// Names of proxies that fit in the kernel's table.
pub const MAX_PROXIES: usize = 64;
/// Ports that fit in the kernel's table.
pub const MAX_PORTS: usize = 1024;
/// Size of the ring unless asked otherwise, bytes: two seconds of 25,000 connections a second.
pub const DEFAULT_RING: u32 = 8 << 20;

/// Connections of proxies that are followed at once unless asked otherwise: twice what 64 Ki ports let one address open.
pub const DEFAULT_TRIES: u32 = 131_072;

/// What to attach for.
#[derive(Clone, Debug)]
pub struct Options {
    /// `comm` names of the processes that are proxies, at most [`MAX_PROXIES`].
    pub proxies: Vec<String>,
    /// Upstream ports that matter, all if empty, at most [`MAX_PORTS`].
    pub ports: Vec<u16>,
    /// Size of the ring in bytes, a power of two and a multiple of the page size.
    pub ring: u32,
    /// Connections of proxies that can be followed at once, rounded up to a power of two; where no place is found for one, which
    /// happens to one in 65,536 of a table half full, it is counted as `tries_untracked`.
    pub tries: u32,
    /// For these hooks only one carrier is tried; of two for one hook the last counts.
    pub forced: Vec<Forced>,
    /// The only network namespace that matters.
    pub netns: Option<NetNs>,
    /// Whether what proxies write to their clients may be looked at.
    pub answers: bool,
    /// When to look closely.
    pub look: When,
    /// Whether what the kernel skips programs for may be seen to by others; without it tests see what is made of skips.
    pub seconds: bool,
    /// Whether the programs' own messages are wanted (see [`Kernel::take_logger`]).
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proxies: crate::proxy::KNOWN.iter().map(|&name| name.to_owned()).collect(),
            ports: Vec::new(),
            ring: DEFAULT_RING,
            tries: DEFAULT_TRIES,
            forced: Vec::new(),
            netns: None,
            answers: true,
            look: When::default(),
            seconds: true,
            verbose: false,
        }
    }
}

/// What the programs are to do without, each with the reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Without {
    /// What proxies read and how their sockets end: the one is of no use without the other.
    pub(super) reads: Option<String>,
    /// What they write.
    pub(super) answers: Option<String>,
}

/// How attaching can fail altogether.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's types cannot be read.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// Not allowed.
    #[error(
        "observer may not load eBPF programs: {0}; run it as root (sudo observer …): it needs CAP_BPF, CAP_PERFMON and \
         CAP_NET_ADMIN for these, and CAP_SYS_ADMIN to look into network namespaces"
    )]
    NotPermitted(io::Error),
    /// The object or its maps could not be made.
    #[error("cannot load observer's eBPF programs: {0}")]
    Object(#[source] aya::EbpfError),
    /// Neither could its instructions be.
    #[error("observer's eBPF programs are not what they were built as: {0}")]
    Unreadable(String),
    /// A map could not be filled.
    #[error("cannot hand observer's settings to the kernel: {0}")]
    Map(#[from] MapError),
    /// State changes cannot be seen.
    #[error("this kernel lets observer see no TCP state changes, so nothing can be attributed: {0}")]
    Blind(String),
}

/// The attached programs. Dropping it detaches them all; so does the end of the process, however it comes.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) counters: PerCpuArray<MapData, u64>,
    ladders: Vec<Ladder>,
    pub(super) layout: Layout,
    pub(super) close: Close,
    /// Connections that did not fit when they were to be taken over.
    pub(super) unadopted: u64,
    /// Names and descriptors of the programs, for the kernel's own statistics.
    pub(super) programs: Vec<(String, i32)>,
    /// The second program of state changes, while it is attached.
    pub(super) again: Option<Held>,
    /// Runs of programs that were skipped for good, as last told.
    pub(super) skipped: Cell<u64>,
}

impl Kernel {
    /// Loads and attaches. The calling thread may get a mount namespace of its own (tracefs, where the host has not
    /// mounted it), so it should be a thread for this alone.
    pub fn attach(options: &Options) -> Result<Self, LoadError> {
        let mut without = Without::default();
        if !options.answers {
            without.answers = Some("left out (--no-answers)".to_owned());
        }
        let layout = btf::resolve(crate::host::jiffy())?;
        let btf = layout.to_attach_to()?;
        let attached = Self::attach_having(options, &without, layout.clone(), &btf)?;
        // The programs were told what they can rely on before it was tried.
        let hooks = attached.hooks();
        let why = |hook: Hook| match hooks.status(hook) {
            Some(HookStatus::Missing(why)) => Some(format!("{}: {why}", hook.name())),
            _ => None,
        };
        let found = Without {
            reads: without.reads.clone().or_else(|| why(Hook::Reads)).or_else(|| why(Hook::SocketEnds)),
            answers: without.answers.clone().or_else(|| why(Hook::Answers)),
        };
        if found == without {
            return Ok(attached);
        }
        drop(attached);
        Self::attach_having(options, &found, layout, &btf)
    }

    fn attach_having(options: &Options, without: &Without, layout: Layout, btf: &Btf) -> Result<Self, LoadError> {
        let tracefs = find_tracefs();
        let tries = options.tries.max(1).checked_next_power_of_two().unwrap_or(1 << 31);
        let settings = layout::Settings {
            connect_traced: u8::from(tracefs.is_ok()),
            filter_ports: u8::from(!options.ports.is_empty()),
            reads_traced: u8::from(without.reads.is_none()),
            destroys_traced: u8::from(without.reads.is_none()),
            answers_traced: u8::from(without.answers.is_none()),
            only_netns: options.netns.map_or(0, |netns| netns.0),
            tries_mask: tries - 1,
            names: options.proxies.iter().fold(0, |names, name| names | observer_common::names::bit(&comm(name))),
            ..layout.settings
        };
        let object =
            constants::place(OBJECT, &layout::constants(&layout.offsets, &settings)).map_err(LoadError::Unreadable)?;
        let level: u8 = if options.verbose { u8::MAX } else { 0 };
        let mut ebpf = loader()
            // Nothing in the programs is left to be found in the kernel's types.
            .btf(None)
            .override_global("AYA_LOG_LEVEL", &level, false)
            .map_max_entries("EVENTS", options.ring)
            .map_max_entries("TRIES", tries)
            .load(object.bytes())
            .map_err(object_error)?;
        fill(&mut ebpf, options)?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?;

        let mut since = Since::new(Array::try_from(take(&mut ebpf, ".bss.look")?)?);
        // What ends while the programs are being attached waits for its answer, as what ends later does.
        since.set(observer_common::look::PROXIES, crate::host::now().0)?;
        let mut attaching = Attaching {
            ebpf: &mut ebpf,
            btf,
            layout: &layout,
            tracefs,
            without,
            forced: &options.forced,
            seconds: options.seconds,
            ahead: std::collections::HashMap::new(),
            ladders: Vec::new(),
            held: Vec::new(),
        };
        attaching.load_ahead();
        for hook in Hook::ALL {
            if let (Hook::StateChanges, HookStatus::Missing(why)) = (hook, attaching.climb(hook)) {
                return Err(LoadError::Blind(why));
            }
        }
        let (ladders, held) = (attaching.ladders, attaching.held);
        let close = Close::new(since, held);

        let programs = ebpf
            .programs()
            .filter_map(|(name, program)| Some((name.to_owned(), program.fd().ok()?.as_fd_raw())))
            .collect();
        let mut kernel = Self {
            ebpf,
            counters,
            ladders,
            layout,
            close,
            unadopted: 0,
            programs,
            again: None,
            skipped: Cell::default(),
        };
        // Where it is refused what is skipped is told of as lost.
        let _ = kernel.see_to_skips();
        // Settled from the first: whoever waits for observer to be ready may count on the next answer.
        kernel.told(crate::host::now().0.saturating_sub(SETTLED)).map_err(LoadError::Blind)?;
        Ok(kernel)
    }

    /// How each hook stands.
    pub fn hooks(&self) -> Hooks {
        Hooks(self.ladders.iter().map(|ladder| (ladder.hook, ladder.status())).collect())
    }

    /// How the carriers of each hook fared, in the order of [`Hook::ALL`].
    pub fn ladders(&self) -> &[Ladder] {
        &self.ladders
    }

    /// What decodes this kernel's records.
    pub fn decoder(&self) -> Decoder {
        Decoder { reset_reasons: self.layout.reset_reasons.clone(), retracts: self.retracts() }
    }

    /// Whether overflows are counted by packets on their way to a listener, before it looks for their handshake.
    fn retracts(&self) -> bool {
        self.carrier(Hook::ListenOverflow) == Some(Carrier::CgroupSkb)
    }

    pub(super) fn carrier(&self, hook: Hook) -> Option<Carrier> {
        self.ladders.iter().find(|ladder| ladder.hook == hook)?.chosen()
    }

    /// What the programs cost; to be read while they are attached.
    pub fn statistics(&self) -> Statistics {
        Statistics::of(self.programs.clone())
    }

    /// The ring, once.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?)?)
    }

    /// The programs' own messages, if they have any to give.
    pub fn take_logger(&mut self) -> Option<EbpfLogger<&'static dyn log::Log>> {
        EbpfLogger::init(&mut self.ebpf).ok()
    }

    /// What the ring had no room for, for whoever reads it.
    pub fn losses(&self) -> Result<Losses, LoadError> {
        Ok(Losses::of(&self.counters)?)
    }

    /// The counters' totals over all CPUs.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        let read = |slot: u32| -> Result<u64, LoadError> { Ok(self.counters.get(&slot, 0)?.iter().sum()) };
        let named = |counter: Counter| read(counter as u32);
        let records = losses::records(&self.counters)?;
        let retracted = if self.retracts() { named(Counter::OverflowsRetracted)? } else { 0 };
        Ok(Counters {
            connections_started: named(Counter::ConnectionsStarted)?,
            connections_adopted: named(Counter::ConnectionsAdopted)?,
            connections_ended: named(Counter::ConnectionsEnded)?,
            connects_failed: named(Counter::ConnectsFailed)?,
            listen_overflow_syn: named(Counter::ListenOverflowsSyn)?,
            listen_overflow_ack: named(Counter::ListenOverflowsAck)?.saturating_sub(retracted),
            resets_sent: named(Counter::ResetsSent)? + named(Counter::ResetsWithoutSocket)?,
            resets_received: named(Counter::ResetsReceived)?,
            retransmits: named(Counter::Retransmits)?,
            synack_retransmits: named(Counter::SynAckRetransmits)?,
            time_waits_entered: named(Counter::TimeWaitsEntered)?,
            unaccepted: named(Counter::Unaccepted)?,
            listener_changes: named(Counter::ListenerChanges)?,
            answers: named(Counter::Answers)?,
            answers_failed: named(Counter::AnswersFailed)?,
            application_errors: named(Counter::ApplicationErrors)?,
            syn_queue_drops: named(Counter::SynQueueDrops)?,
            light_look: self.looks_lightly(),
            looked_away: self.looked_away(),
            sees_syn_drops: self
                .carrier(Hook::ListenOverflow)
                .is_some_and(|carrier| Hook::ListenOverflow.unseen_by(carrier).is_none() && self.saw_all_by(carrier)),
            lost: Lost {
                records,
                tries_untracked: named(Counter::TriesUntracked)?,
                connects_untracked: named(Counter::ConnectsUntracked)?,
                skipped: self.skipped_for_good(|| named(Counter::SkipsMadeUp))?,
                undecoded: 0,
                unadopted: self.unadopted,
            },
        })
    }
}

/// aya's loader, which reads the kernel's types when it is made, whether they are wanted or not: 40 ms of a processor, and 30 MiB. Made
/// by a thread to which there is no such file it finds none; where that is not allowed it reads them.
fn loader() -> EbpfLoader<'static> {
    let blind = || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        chroot("/proc/self/fdinfo")
    };
    let make = move || {
        let _ = blind();
        EbpfLoader::new()
    };
    let thread = thread::Builder::new().name("observer-blind".into()).spawn(make);
    thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(EbpfLoader::new)
}

fn object_error(error: aya::EbpfError) -> LoadError {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return LoadError::NotPermitted(io::Error::from(io.kind()));
        }
        source = current.source();
    }
    LoadError::Object(error)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, LoadError> {
    Ok(ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?)
}

/// A map that stays where it is: programs still to be loaded need its descriptor open.
pub(super) fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, MapError> {
    ebpf.map_mut(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

fn fill(ebpf: &mut Ebpf, options: &Options) -> Result<(), LoadError> {
    let mut proxies: HashMap<_, [u8; COMM_LEN], u8> = HashMap::try_from(map(ebpf, "PROXIES")?)?;
    for name in &options.proxies {
        proxies.insert(comm(name), crate::proxy::threading(name), 0)?;
    }
    let mut ports: HashMap<_, u16, u8> = HashMap::try_from(map(ebpf, "PORTS")?)?;
    for port in &options.ports {
        ports.insert(port, 1, 0)?;
    }
    Ok(())
}

/// A name as the kernel keeps it: cut to 15 bytes, closed by a NUL (strscpy in `__set_task_comm`, fs/exec.c).
fn comm(name: &str) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    for (to, from) in comm.iter_mut().take(COMM_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    comm
}

/// A program's descriptor as a number, for /proc.
trait AsFdRaw {
    fn as_fd_raw(&self) -> i32;
}

impl AsFdRaw for aya::programs::ProgramFd {
    fn as_fd_raw(&self) -> i32 {
        use std::os::fd::AsFd as _;
        self.as_fd().as_raw_fd()
    }
}
