//! Loads and attaches the programs, hook by hook. A hook that this kernel refuses is a degradation, not an error.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, ProgramError, TracePoint},
};
use aya_log::EbpfLogger;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use observer_common::{COMM_LEN, counter::Counter, layout};

use super::{
    btf::{self, BtfError, Layout},
    losses::{self, Losses},
    statistics::{self, Statistics},
};
use crate::{
    addr::NetNs,
    event::{Counters, Lost},
    hooks::{Carrier, Hook, HookStatus, Hooks},
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

/// Tracepoints that are loaded alike: the hook, the program, and the tracepoint of the same name.
const TRACEPOINTS: [(Hook, &str); 5] = [
    (Hook::StateChanges, "inet_sock_set_state"),
    (Hook::ResetsSent, "tcp_send_reset"),
    (Hook::ResetsReceived, "tcp_receive_reset"),
    (Hook::Retransmits, "tcp_retransmit_skb"),
    (Hook::SynAckRetransmits, "tcp_retransmit_synack"),
];

/// What to attach for.
#[derive(Clone, Debug)]
pub struct Options {
    /// `comm` names of the processes that are proxies, at most [`MAX_PROXIES`].
    pub proxies: Vec<String>,
    /// Upstream ports that matter, all if empty, at most [`MAX_PORTS`].
    pub ports: Vec<u16>,
    /// Size of the ring in bytes, a power of two and a multiple of the page size.
    pub ring: u32,
    /// Connections of proxies that can be followed at once; further ones are counted as `tries_untracked`.
    pub tries: u32,
    /// Carriers to be tried for [`Hook::ListenOverflow`], in order.
    pub overflow_carriers: Vec<Carrier>,
    /// The only network namespace that matters.
    pub netns: Option<NetNs>,
    /// Whether what proxies write to their clients may be looked at.
    pub answers: bool,
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
            overflow_carriers: vec![Carrier::CgroupSkb, Carrier::KfreeSkb],
            netns: None,
            answers: true,
            verbose: false,
        }
    }
}

/// What the programs are to do without, each with the reason.
#[derive(Debug, Default, PartialEq, Eq)]
struct Without {
    /// What proxies read and how their sockets end: the one is of no use without the other.
    reads: Option<String>,
    /// What they write.
    answers: Option<String>,
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
    /// A map could not be filled.
    #[error("cannot hand observer's settings to the kernel: {0}")]
    Map(#[from] MapError),
    /// State changes cannot be seen.
    #[error("this kernel lets observer see no TCP state changes, so nothing can be attributed: {0}")]
    Blind(String),
}

/// Wire structs as `.rodata`. `#[repr(transparent)]` over plain integers with explicit padding.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Rodata<T>(T);
// SAFETY: only used with `Offsets` and `Settings`, which are `repr(C)` integers without implicit padding.
unsafe impl<T: Copy + 'static> Pod for Rodata<T> {}

/// The attached programs. Dropping it detaches them all; so does the end of the process, however it comes.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) counters: PerCpuArray<MapData, u64>,
    hooks: Hooks,
    layout: Layout,
    /// Connections that did not fit when they were to be taken over.
    pub(super) unadopted: u64,
    /// Names and descriptors of the programs, for the kernel's own statistics.
    programs: Vec<(String, i32)>,
}

impl Kernel {
    /// Loads and attaches. The calling thread may get a mount namespace of its own (tracefs, where the host has not
    /// mounted it), so it should be a thread for this alone.
    pub fn attach(options: &Options) -> Result<Self, LoadError> {
        let mut without = Without::default();
        if !options.answers {
            without.answers = Some("left out (--no-answers)".to_owned());
        }
        let attached = Self::attach_having(options, &without)?;
        // The programs were told what they can rely on before it was tried.
        let why = |hook: Hook| match attached.hooks.status(hook) {
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
        Self::attach_having(options, &found)
    }

    fn attach_having(options: &Options, without: &Without) -> Result<Self, LoadError> {
        let layout = btf::resolve(crate::host::jiffy())?;
        let btf = Btf::from_sys_fs().map_err(|error| BtfError::Unreadable(error.to_string()))?;
        let tracefs = find_tracefs();
        let settings = layout::Settings {
            connect_traced: u8::from(tracefs.is_ok()),
            filter_ports: u8::from(!options.ports.is_empty()),
            reads_traced: u8::from(without.reads.is_none()),
            destroys_traced: u8::from(without.reads.is_none()),
            answers_traced: u8::from(without.answers.is_none()),
            only_netns: options.netns.map_or(0, |netns| netns.0),
            ..layout.settings
        };
        let (offsets, settings) = (Rodata(layout.offsets), Rodata(settings));
        let level: u8 = if options.verbose { u8::MAX } else { 0 };
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("OFFSETS", &offsets, true)
            .override_global("SETTINGS", &settings, true)
            .override_global("AYA_LOG_LEVEL", &level, false)
            .map_max_entries("EVENTS", options.ring)
            .map_max_entries("TRIES", options.tries)
            .load(OBJECT)
            .map_err(object_error)?;
        fill(&mut ebpf, options)?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?;

        let mut statuses = Vec::new();
        for (hook, name) in TRACEPOINTS {
            let status = match tracepoint(&mut ebpf, name, &btf) {
                Ok(()) => HookStatus::Full(Carrier::TpBtf),
                Err(error) => HookStatus::Missing(explain(&error)),
            };
            if let (Hook::StateChanges, HookStatus::Missing(why)) = (hook, &status) {
                return Err(LoadError::Blind(why.clone()));
            }
            statuses.push((hook, status));
        }
        let connects = tracefs.clone().and_then(|()| connects(&mut ebpf).map_err(|error| explain(&error)));
        statuses.push((
            Hook::Connects,
            match connects {
                Ok(()) => HookStatus::Full(Carrier::Tracepoint),
                Err(why) => HookStatus::Missing(why),
            },
        ));
        statuses.push((Hook::ListenOverflow, listen_overflow(&mut ebpf, &btf, options, settings.0)));
        statuses.push((
            Hook::Sockets,
            match super::walk::load(&mut ebpf, &btf) {
                Ok(()) => HookStatus::Full(Carrier::Iterator),
                Err(error) => HookStatus::Missing(explain(&error)),
            },
        ));
        for (hook, name) in [(Hook::Reads, "tcp_rcv_space_adjust"), (Hook::SocketEnds, "tcp_destroy_sock")] {
            let status = match &without.reads {
                Some(why) => HookStatus::Missing(why.clone()),
                None => match tracepoint(&mut ebpf, name, &btf) {
                    Ok(()) => HookStatus::Full(Carrier::TpBtf),
                    Err(error) => HookStatus::Missing(explain(&error)),
                },
            };
            statuses.push((hook, status));
        }
        let answers = match &without.answers {
            Some(why) => Err(why.clone()),
            None => tracefs.and_then(|()| answers(&mut ebpf).map_err(|error| explain(&error))),
        };
        statuses.push((
            Hook::Answers,
            match answers {
                Ok(()) => HookStatus::Full(Carrier::Tracepoint),
                Err(why) => HookStatus::Missing(why),
            },
        ));
        for (hook, name) in [(Hook::Signals, "signal_generate"), (Hook::SocketErrors, "inet_sk_error_report")] {
            let status = match tracepoint(&mut ebpf, name, &btf) {
                Ok(()) => HookStatus::Full(Carrier::TpBtf),
                Err(error) => HookStatus::Missing(explain(&error)),
            };
            statuses.push((hook, status));
        }
        statuses.push((
            Hook::UnixSockets,
            match super::walk_unix::load(&mut ebpf, &btf) {
                Ok(()) => HookStatus::Full(Carrier::Iterator),
                Err(error) => HookStatus::Missing(explain(&error)),
            },
        ));

        let programs = ebpf
            .programs()
            .filter_map(|(name, program)| Some((name.to_owned(), program.fd().ok()?.as_fd_raw())))
            .collect();
        Ok(Self { ebpf, counters, hooks: Hooks(statuses), layout, unadopted: 0, programs })
    }

    /// How each hook stands.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// `enum sk_rst_reason` of this kernel.
    pub fn reset_reasons(&self) -> std::collections::HashMap<u32, String> {
        self.layout.reset_reasons.clone()
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
        Ok(Counters {
            connections_started: named(Counter::ConnectionsStarted)?,
            connections_adopted: named(Counter::ConnectionsAdopted)?,
            connections_ended: named(Counter::ConnectionsEnded)?,
            connects_failed: named(Counter::ConnectsFailed)?,
            listen_overflow_syn: named(Counter::ListenOverflowsSyn)?,
            listen_overflow_ack: named(Counter::ListenOverflowsAck)?
                .saturating_sub(named(Counter::OverflowsRetracted)?),
            resets_sent: named(Counter::ResetsSent)?,
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
            sees_syn_drops: matches!(self.hooks.status(Hook::ListenOverflow), Some(HookStatus::Full(_))),
            lost: Lost {
                records,
                tries_untracked: named(Counter::TriesUntracked)?,
                connects_untracked: named(Counter::ConnectsUntracked)?,
                skipped: self.programs.iter().map(|(_, fd)| skipped(*fd)).sum(),
                undecoded: 0,
                unadopted: self.unadopted,
            },
        })
    }
}

/// How often the kernel skipped a program.
fn skipped(fd: i32) -> u64 {
    let [misses] = statistics::fields(fd, ["recursion_misses:"]);
    misses.unwrap_or(0)
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
        let mut comm = [0; COMM_LEN];
        // As the kernel does it: cut to 15 bytes, closed by a NUL (strscpy in __set_task_comm, fs/exec.c).
        for (to, from) in comm.iter_mut().take(COMM_LEN - 1).zip(name.bytes()) {
            *to = from;
        }
        proxies.insert(comm, crate::proxy::threading(name), 0)?;
    }
    let mut ports: HashMap<_, u16, u8> = HashMap::try_from(map(ebpf, "PORTS")?)?;
    for port in &options.ports {
        ports.insert(port, 1, 0)?;
    }
    Ok(())
}

/// A program by name. The object is ours, so a missing one is a mistake in the build, told as a load error.
pub(super) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T, ProgramError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| ProgramError::IOError(io::Error::other(format!("no program {name}"))))?
        .try_into()
}

fn tracepoint(ebpf: &mut Ebpf, name: &str, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    program.load(name, btf)?;
    program.attach()?;
    Ok(())
}

fn connects(ebpf: &mut Ebpf) -> Result<(), ProgramError> {
    // The way out first: a call that was entered unseen is ignored, one left unseen would stay in the table.
    for name in ["sys_exit_connect", "sys_enter_connect"] {
        let program: &mut TracePoint = program(ebpf, name)?;
        program.load()?;
        program.attach("syscalls", name)?;
    }
    Ok(())
}

fn answers(ebpf: &mut Ebpf) -> Result<(), ProgramError> {
    const CALLS: [&str; 6] = [
        "sys_enter_epoll_wait",
        "sys_enter_epoll_pwait",
        "sys_enter_write",
        "sys_enter_sendto",
        "sys_enter_writev",
        "sys_enter_sendmsg",
    ];
    for name in CALLS {
        let program: &mut TracePoint = program(ebpf, name)?;
        program.load()?;
        program.attach("syscalls", name)?;
    }
    Ok(())
}

/// Attaches the first carrier that this kernel allows. Only one is ever attached, so that each overflow counts once.
fn listen_overflow(ebpf: &mut Ebpf, btf: &Btf, options: &Options, settings: layout::Settings) -> HookStatus {
    let mut refusals = Vec::new();
    for carrier in &options.overflow_carriers {
        match carrier {
            Carrier::CgroupSkb => match cgroup_skb(ebpf) {
                Ok(()) => return HookStatus::Full(Carrier::CgroupSkb),
                Err(why) => refusals.push(format!("cgroup_skb: {why}")),
            },
            Carrier::KfreeSkb if settings.drop_listen_overflow == 0 || settings.kfree_has_socket == 0 => {
                refusals.push("kfree_skb: this kernel gives no TCP_LISTEN_OVERFLOW reason (6.15 and later do)".into());
            }
            Carrier::KfreeSkb => match tracepoint(ebpf, "kfree_skb", btf) {
                Ok(()) => {
                    let missing = "SYNs dropped at a full queue, and handshakes by SYN cookie, are not seen";
                    return HookStatus::Partial(Carrier::KfreeSkb, missing.into());
                }
                Err(error) => refusals.push(format!("kfree_skb: {}", explain(&error))),
            },
            other => refusals.push(format!("{other} cannot carry this hook")),
        }
    }
    HookStatus::Missing(refusals.join("; "))
}

fn cgroup_skb(ebpf: &mut Ebpf) -> Result<(), String> {
    let root = cgroup2_root().ok_or("no cgroup-2 mount in /proc/mounts; mount one (mount -t cgroup2 none /mnt)")?;
    let root = File::open(&root).map_err(|error| format!("cannot open {}: {error}", root.display()))?;
    let attach = || -> Result<(), ProgramError> {
        let program: &mut CgroupSkb = program(ebpf, "listen_overflow")?;
        program.load()?;
        // `Single`: over a link the kernel refuses other modes with EINVAL, and links share a cgroup anyway.
        program.attach(root, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single)?;
        Ok(())
    };
    attach().map_err(|error| explain(&error))
}

/// Where the cgroup-2 tree is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host.
fn cgroup2_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut line| {
        let (_, path, kind) = (line.next()?, line.next()?, line.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Makes sure that this thread sees a tracefs. Where the host has mounted none, one is mounted in a mount namespace
/// of this thread's own: the host stays as it is.
fn find_tracefs() -> Result<(), String> {
    const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    if PLACES.iter().any(|place| Path::new(place).join("events").exists()) {
        return Ok(());
    }
    let mount_own = || -> nix::Result<()> {
        const NONE: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        mount(Some("tracefs"), PLACES[0], Some("tracefs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, NONE)
    };
    mount_own().map_err(|error| format!("no tracefs is mounted, and observer cannot mount one for itself: {error}"))
}

/// An error with its causes, on one line; of a verifier's log only the last lines matter.
pub(super) fn explain(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skip = lines.len().saturating_sub(4);
    lines.iter().skip(skip).map(|line| line.trim()).collect::<Vec<_>>().join(" | ")
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
