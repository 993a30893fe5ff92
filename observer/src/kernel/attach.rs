//! What carries each hook: which programs, where they are attached, and in words why not.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, ProgramError, RawTracePoint,
        TracePoint,
    },
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{
    again::{self, AGAIN},
    btf::Layout,
    load::Without,
    look::{self, Held},
    walk, walk_unix,
};
use crate::hooks::{Carrier, Forced, Hook, HookStatus, Ladder};

/// Functions in which the kernel finds an accept queue full, or not: for a SYN, and for the end of a handshake.
const OVERFLOW: [&str; 3] = ["tcp_conn_request", "tcp_v4_syn_recv_sock", "tcp_v6_syn_recv_sock"];
/// Functions that answer a segment with a RST.
const SEND_RESET: [&str; 2] = ["tcp_v4_send_reset", "tcp_v6_send_reset"];
/// connect(). The way out first: a call that was entered unseen is ignored, one left unseen would stay in the table.
const CONNECT: [&str; 2] = ["sys_exit_connect", "sys_enter_connect"];
/// What writes, and what waits for events.
const ANSWER: [&str; 6] = [
    "sys_enter_epoll_wait",
    "sys_enter_epoll_pwait",
    "sys_enter_write",
    "sys_enter_sendto",
    "sys_enter_writev",
    "sys_enter_sendmsg",
];
/// The program that sees each packet on its way to a socket.
const OVERFLOW_BY_PACKET: &str = "listen_overflow";
/// The program that sees each packet that is dropped.
const OVERFLOW_BY_DROP: &str = "kfree_skb";
/// What names of programs on raw tracepoints have before the tracepoint's.
pub(super) const RAW: &str = "raw_";
/// Programs that are loaded at the same time, at most. The kernel verifies them side by side, but what verifies is not there for the
/// host's own work.
const MAX_LOADERS: usize = 4;
/// Where the kernel says that it can make kprobes by perf_event_open (since 4.17).
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";
/// The kernel's own code for "not supported" (include/linux/errno.h), which no C library knows.
const ENOTSUPP: i32 = 524;

/// The hooks, one after the other.
pub(super) struct Attaching<'a> {
    pub(super) ebpf: &'a mut Ebpf,
    pub(super) btf: &'a Btf,
    pub(super) layout: &'a Layout,
    /// Whether there is a tracefs.
    pub(super) tracefs: Result<(), String>,
    pub(super) without: &'a Without,
    pub(super) forced: &'a [Forced],
    /// Whether there may be second programs.
    pub(super) seconds: bool,
    /// Programs that have been loaded already, or refused.
    pub(super) ahead: HashMap<String, Result<(), ProgramError>>,
    /// Those that have had their turn.
    pub(super) ladders: Vec<Ladder>,
    /// What is attached for a close look only.
    pub(super) held: Vec<Held>,
}

impl Attaching<'_> {
    /// Loads the programs that will be wanted first, several at a time: to have them verified is most of what attaching takes.
    pub(super) fn load_ahead(&mut self) {
        let wanted = Hook::ALL.into_iter().flat_map(|hook| self.wanted_first(hook));
        let second = |hook: Hook| self.second(hook, *self.tried(hook).first()?);
        let names: Vec<String> = wanted.chain(Hook::ALL.into_iter().filter_map(second)).collect();
        let mut programs: HashMap<_, _> = self.ebpf.programs_mut().collect();
        let queue: Vec<_> =
            names.into_iter().filter_map(|name| Some((programs.remove(name.as_str())?, name))).collect();
        let loaders = thread::available_parallelism().map_or(1, usize::from).min(MAX_LOADERS);
        let (queue, done, btf) = (Mutex::new(queue.into_iter()), Mutex::new(HashMap::new()), self.btf);
        let work = || {
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some((program, name)) = next() {
                let loaded = load(program, &name, btf);
                done.lock().unwrap_or_else(PoisonError::into_inner).insert(name, loaded);
            }
        };
        thread::scope(|scope| {
            for _ in 1..loaders {
                // Without another thread this one loads them all.
                let _ = thread::Builder::new().name("observer-loader".into()).spawn_scoped(scope, work);
            }
            work();
        });
        self.ahead = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// The programs of the carrier of a hook that is tried first.
    fn wanted_first(&self, hook: Hook) -> Vec<String> {
        self.tried(hook).into_iter().find_map(|carrier| self.programs(hook, carrier).ok()).unwrap_or_default()
    }

    /// The carriers of a hook in the order in which they are tried.
    fn tried(&self, hook: Hook) -> Vec<Carrier> {
        self.forced(hook).map_or(hook.carriers().to_vec(), |forced| vec![forced])
    }

    /// The second program of a hook, if it is to have one.
    fn second(&self, hook: Hook, carrier: Carrier) -> Option<String> {
        let wanted = self.seconds && again::is_wanted(hook, self.layout);
        wanted.then(|| again::name(hook, carrier))?.ok()
    }

    fn forced(&self, hook: Hook) -> Option<Carrier> {
        self.forced.iter().rfind(|forced| forced.hook == hook).map(|forced| forced.carrier)
    }

    /// Attaches the first carrier of a hook that this kernel allows. Only one is ever attached, so that everything counts once.
    pub(super) fn climb(&mut self, hook: Hook) -> HookStatus {
        let ladder = Ladder::climb(hook, self.forced(hook), |carrier| self.attach(hook, carrier));
        let status = ladder.status();
        self.ladders.push(ladder);
        status
    }

    /// The programs that carry a hook, or why they cannot, as far as that can be told without a try.
    fn programs(&self, hook: Hook, carrier: Carrier) -> Result<Vec<String>, String> {
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match (hook, carrier) {
            (Hook::Reads | Hook::SocketEnds, _) if let Some(why) = &self.without.reads => Err(why.clone()),
            (Hook::Answers, _) if let Some(why) = &self.without.answers => Err(why.clone()),
            (Hook::ResetsWithoutSocket, _) => self.resets_without_socket(carrier),
            (Hook::UpstreamAnswers, _) => self.upstream_answers(carrier),
            (_, Carrier::TpBtf | Carrier::RawTp) => {
                let name = tracepoint(hook)?;
                self.layout.has_tracepoint(name)?;
                Ok(vec![if carrier == Carrier::RawTp { format!("{RAW}{name}") } else { name.to_owned() }])
            }
            (Hook::ListenOverflow, Carrier::Fentry | Carrier::Kprobe) => self.functions(carrier, &OVERFLOW),
            (Hook::ListenOverflow, Carrier::CgroupSkb) => Ok(named(&[OVERFLOW_BY_PACKET])),
            (Hook::ListenOverflow, Carrier::KfreeSkb) => {
                let settings = self.layout.settings;
                if settings.drop_listen_overflow == 0 || settings.kfree_has_socket == 0 {
                    return Err("this kernel gives no TCP_LISTEN_OVERFLOW reason (6.15 and later do)".to_owned());
                }
                self.layout.has_tracepoint(OVERFLOW_BY_DROP)?;
                Ok(named(&[OVERFLOW_BY_DROP]))
            }
            (Hook::Connects | Hook::Answers, Carrier::Tracepoint) => {
                self.tracefs.clone()?;
                Ok(named(if hook == Hook::Connects { &CONNECT } else { &ANSWER }))
            }
            (Hook::Sockets, Carrier::Iterator) => Ok(named(&[walk::PROGRAM])),
            (Hook::UnixSockets, Carrier::Iterator) => Ok(named(&[walk_unix::PROGRAM])),
            _ => Err(no_program(hook)),
        }
    }

    /// Loads and attaches what carries a hook, or nothing.
    fn attach(&mut self, hook: Hook, carrier: Carrier) -> Result<(), String> {
        let names = self.programs(hook, carrier)?;
        if matches!(carrier, Carrier::Fentry | Carrier::Kprobe) {
            return self.enter(&names);
        }
        for name in &names {
            self.load(name).map_err(|error| explain(&error))?;
        }
        let second = self.second(hook, carrier);
        // Where it is refused there is none.
        let loaded = second.as_ref().is_some_and(|name| self.load(name).is_ok());
        if look::is_close(hook, carrier) {
            self.held.append(&mut attach_loaded(self.ebpf, hook, carrier)?);
            return Ok(());
        }
        names.iter().try_for_each(|name| attach(self.ebpf, name)).map_err(|error| explain(&error))?;
        // That of state changes comes and goes.
        if loaded && hook != Hook::StateChanges {
            let _ = second.map(|name| attach(self.ebpf, &name));
        }
        Ok(())
    }

    fn load(&mut self, name: &str) -> Result<(), ProgramError> {
        match self.ahead.remove(name) {
            Some(loaded) => loaded,
            None => load(any_program(self.ebpf, name)?, name, self.btf),
        }
    }

    fn chosen(&self, hook: Hook) -> Option<Carrier> {
        self.ladders.iter().find(|ladder| ladder.hook == hook)?.chosen()
    }

    /// The programs on the entry of all these functions.
    fn functions(&self, carrier: Carrier, names: &[&str]) -> Result<Vec<String>, String> {
        if carrier == Carrier::Kprobe && !Path::new(KPROBES).exists() {
            return Err("this kernel has no kprobes".to_owned());
        }
        for name in names {
            self.layout.has_function(name)?;
        }
        Ok(names.iter().map(|name| format!("{carrier}_{name}")).collect())
    }

    /// Attaches programs to the entry of all their functions, or of none: what one of them would miss could not be told.
    fn enter(&mut self, names: &[String]) -> Result<(), String> {
        for name in names {
            let Err(error) = self.load(name).and_then(|()| attach(self.ebpf, name)) else { continue };
            for name in names {
                leave(self.ebpf, name);
            }
            return Err(format!("{}: {}", function(name), explain(&error)));
        }
        Ok(())
    }

    /// Where `tcp_send_reset` passes a reason it tells of every RST (both came with 6.10), else of those of full sockets only
    /// (`tcp_v4_send_reset`, net/ipv4/tcp_ipv4.c).
    fn resets_without_socket(&self, carrier: Carrier) -> Result<Vec<String>, String> {
        let told_of_all = self.layout.settings.reset_has_reason == 1;
        match carrier {
            Carrier::TpBtf | Carrier::RawTp if !told_of_all => {
                Err("on this kernel tcp_send_reset tells of open sockets only (from 6.10 on of all)".to_owned())
            }
            Carrier::TpBtf | Carrier::RawTp if self.chosen(Hook::ResetsSent) != Some(carrier) => {
                Err(format!("{} is not carried by it", Hook::ResetsSent.name()))
            }
            Carrier::TpBtf | Carrier::RawTp => Ok(Vec::new()),
            _ if told_of_all => Err("tcp_send_reset tells of them: they would count twice".to_owned()),
            Carrier::Fentry | Carrier::Kprobe => self.functions(carrier, &SEND_RESET),
            _ => Err(no_program(Hook::ResetsWithoutSocket)),
        }
    }

    /// They are seen by the program that sees reads, through the registers of the system call.
    fn upstream_answers(&self, carrier: Carrier) -> Result<Vec<String>, String> {
        if self.layout.settings.registers_readable == 0 {
            let why = "a program cannot see where a read puts its bytes: the kernel must have bpf_task_pt_regs (5.15), and \
                       the processor be an x86-64";
            return Err(why.to_owned());
        }
        if self.chosen(Hook::Reads) != Some(carrier) {
            return Err(format!("{} is not carried by it", Hook::Reads.name()));
        }
        Ok(Vec::new())
    }
}

/// The tracepoint of a program of such a name.
pub(super) fn traced(name: &str) -> &str {
    let name = name.strip_prefix(RAW).unwrap_or(name);
    name.strip_prefix(AGAIN).unwrap_or(name)
}

/// The tracepoint of a hook, whose program has the same name.
pub(super) fn tracepoint(hook: Hook) -> Result<&'static str, String> {
    match hook {
        Hook::StateChanges => Ok("inet_sock_set_state"),
        Hook::ResetsSent => Ok("tcp_send_reset"),
        Hook::ResetsReceived => Ok("tcp_receive_reset"),
        Hook::Retransmits => Ok("tcp_retransmit_skb"),
        Hook::SynAckRetransmits => Ok("tcp_retransmit_synack"),
        Hook::Reads => Ok("tcp_rcv_space_adjust"),
        Hook::SocketEnds => Ok("tcp_destroy_sock"),
        Hook::Signals => Ok("signal_generate"),
        Hook::SocketErrors => Ok("inet_sk_error_report"),
        _ => Err(no_program(hook)),
    }
}

fn no_program(hook: Hook) -> String {
    format!("there is no such program for {}", hook.name())
}

/// A program by name. The object is ours, so a missing one is a mistake in the build, told as a load error.
pub(super) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T, ProgramError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    any_program(ebpf, name)?.try_into()
}

fn any_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, ProgramError> {
    ebpf.program_mut(name).ok_or_else(|| ProgramError::IOError(io::Error::other(format!("no program {name}"))))
}

/// The function at whose entry a program of such a name is.
fn function(name: &str) -> &str {
    let stripped = |carrier: Carrier| name.strip_prefix(carrier.name())?.strip_prefix('_');
    stripped(Carrier::Fentry).or_else(|| stripped(Carrier::Kprobe)).unwrap_or(name)
}

fn load(program: &mut Program, name: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::BtfTracePoint(program) => program.load(traced(name), btf),
        Program::RawTracePoint(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        Program::FEntry(program) => program.load(function(name), btf),
        Program::KProbe(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::Iter(program) => program.load(if name == walk::PROGRAM { walk::KIND } else { walk_unix::KIND }, btf),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Attaches a program that stays attached. Iterators are opened for each walk.
fn attach(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    match any_program(ebpf, name)? {
        Program::BtfTracePoint(program) => program.attach().map(drop),
        Program::RawTracePoint(program) => program.attach(traced(name)).map(drop),
        Program::FEntry(program) => program.attach().map(drop),
        Program::KProbe(program) => program.attach(function(name), 0).map(drop),
        Program::Iter(_) => Ok(()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Detaches and unloads a program on the entry of a function, as far as it was.
fn leave(ebpf: &mut Ebpf, name: &str) {
    let _ = match any_program(ebpf, name) {
        Ok(Program::FEntry(program)) => program.unload(),
        Ok(Program::KProbe(program)) => program.unload(),
        _ => Ok(()),
    };
}

/// Attaches the programs of the close look that are this hook's, all loaded, for as long as what it gives is kept.
pub(super) fn attach_loaded(ebpf: &mut Ebpf, hook: Hook, carrier: Carrier) -> Result<Vec<Held>, String> {
    let attached = match (hook, carrier) {
        (Hook::Connects, Carrier::Tracepoint) => attach_syscalls(ebpf, &CONNECT),
        (Hook::Answers, Carrier::Tracepoint) => attach_syscalls(ebpf, &ANSWER),
        (Hook::ListenOverflow, Carrier::CgroupSkb) => {
            let root =
                cgroup2_root().ok_or("no cgroup-2 mount in /proc/mounts; mount one (mount -t cgroup2 none /mnt)")?;
            let root = File::open(&root).map_err(|error| format!("cannot open {}: {error}", root.display()))?;
            program(ebpf, OVERFLOW_BY_PACKET).and_then(|program: &mut CgroupSkb| {
                // `Single`: over a link the kernel refuses other modes with EINVAL, and links share a cgroup anyway.
                let link = program.attach(root, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single)?;
                Ok(vec![Held::new(program.take_link(link)?)])
            })
        }
        (_, Carrier::TpBtf) => program(ebpf, tracepoint(hook)?).and_then(|program: &mut BtfTracePoint| {
            let link = program.attach()?;
            Ok(vec![Held::new(program.take_link(link)?)])
        }),
        (_, Carrier::RawTp) => {
            let name = tracepoint(hook)?;
            program(ebpf, &format!("{RAW}{name}")).and_then(|program: &mut RawTracePoint| {
                let link = program.attach(name)?;
                Ok(vec![Held::new(program.take_link(link)?)])
            })
        }
        _ => return Err(no_program(hook)),
    };
    let mut attached = attached.map_err(|error| explain(&error))?;
    if hook == Hook::SocketEnds {
        // What is not there is not attached.
        attached.extend(again::attach(ebpf, hook, carrier));
    }
    Ok(attached)
}

fn attach_syscalls(ebpf: &mut Ebpf, names: &[&str]) -> Result<Vec<Held>, ProgramError> {
    let attach = |name: &&str| {
        let program: &mut TracePoint = program(ebpf, name)?;
        let link = program.attach("syscalls", name)?;
        Ok(Held::new(program.take_link(link)?))
    };
    names.iter().map(attach).collect()
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
pub(super) fn find_tracefs() -> Result<(), String> {
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

/// Why the kernel refused a program: in words where its code stands for one thing here, else the error with its causes on one
/// line; of a verifier's log only the last lines matter.
pub(super) fn explain(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(words) = cause.downcast_ref::<io::Error>().and_then(|error| in_words(error, &text)) {
            return words.to_owned();
        }
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

/// What a code stands for, `told` so far.
fn in_words(error: &io::Error, told: &str) -> Option<&'static str> {
    const EPERM: i32 = nix::errno::Errno::EPERM as i32;
    match error.raw_os_error()? {
        // With a verifier's log it is the program that is wrong.
        EPERM if told.lines().count() <= 1 => Some("this kernel's policy does not admit such programs (EPERM)"),
        ENOTSUPP => Some(
            "this kernel cannot attach there (ENOTSUPP), as x86 before 6.6 where a function has more than six arguments",
        ),
        _ => None,
    }
}
