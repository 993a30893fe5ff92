//! A network namespace for each test, and a live source that watches just what happens in it.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use observer::{
    addr::NetNs,
    diagnose::{Engine, Said, Verdict},
    event::{Body, Counters, Event, NamespaceSample},
    hooks::{Carrier, Forced, Hook},
    kernel::{Options, look::When},
    source::{Live, Polled, Source as _, logs},
};
use socket2::{Domain, Socket, Type};

/// Nothing here takes longer, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` in a thread with a network namespace of its own, loopback up, under the name `comm`.
pub(crate) fn in_netns<T: Send>(comm: &str, test: impl FnOnce() -> T + Send) -> T {
    let outcome = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            ip("link set lo up");
            // A namespace is found by the processes in it; a thread alone does not show. Ends with its standard input.
            let mut resident = start(Command::new("cat").stdin(Stdio::piped()));
            fs::write("/proc/thread-self/comm", comm).unwrap();
            let outcome = test();
            drop(resident.stdin.take());
            resident.wait().unwrap();
            outcome
        });
        thread.join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Held for writing while a program is started: until it runs, the new process has everything open that this one has, other
/// tests' sockets too, and what they close meanwhile it closes after them, in their stead.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program; all processes of these tests begin here.
pub(crate) fn start(command: &mut Command) -> Child {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    // The new process closes its copy when it has closed all others; that its parent goes on comes before (begin_new_exec,
    // fs/exec.c).
    let (mut closed, copied) = std::io::pipe().unwrap();
    let child = command.spawn().unwrap();
    drop(copied);
    assert_eq!(closed.read(&mut [0; 1]).unwrap(), 0);
    child
}

/// As long as this is held, no program is started, and what a thread closes is closed there and then.
pub(crate) fn nobody_starts() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Sets a sysctl of this thread's namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).unwrap();
}

/// A counter of this thread's namespace, from /proc/net/netstat or snmp.
pub(crate) fn kernel_counter(name: &str) -> u64 {
    kernel_counter_of("thread-self", name)
}

/// The same of the namespace of a task, named as in /proc.
pub(crate) fn kernel_counter_of(task: &str, name: &str) -> u64 {
    let mut counters = HashMap::new();
    for file in ["netstat", "snmp"] {
        let text = fs::read_to_string(format!("/proc/{task}/net/{file}")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.chunks(2) {
            let numbers = pair[1].split_whitespace().skip(1).map(|number| number.parse::<i64>().unwrap());
            let names = pair[0].split_whitespace().skip(1).map(str::to_owned);
            counters.extend(names.zip(numbers));
        }
    }
    u64::try_from(counters[name]).unwrap()
}

/// A listener with that backlog.
pub(crate) fn listen(at: &str, backlog: i32) -> Socket {
    let address: SocketAddr = at.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket
}

/// A connect() under way; its failure shows later.
pub(crate) fn connect(to: &str) -> Socket {
    let address: SocketAddr = to.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // EINPROGRESS, or what the kernel thinks of it at once.
    let _ = socket.connect(&address.into());
    socket
}

/// Waits until a condition holds.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether other tasks may take the processor from a program on a tracepoint (`Layout::preempts_tracepoints`).
pub(crate) fn preempts_tracepoints() -> bool {
    kernel_knows("tracepoint_srcu_srcu_data") && kernel_knows("srcu_reader_flavor")
}

/// Whether this kernel's types have that name, asked of their strings alone.
pub(crate) fn kernel_knows(name: &str) -> bool {
    let types = fs::read(observer::kernel::btf::VMLINUX).unwrap();
    types.split(|byte| *byte == 0).any(|string| string == name.as_bytes())
}

pub(crate) fn ip(arguments: &str) {
    let status = start(Command::new("ip").args(arguments.split_whitespace())).wait().unwrap();
    assert!(status.success(), "ip {arguments}");
}

pub(crate) fn nft(rules: &str) {
    let status = start(Command::new("nft").arg(rules)).wait().unwrap();
    assert!(status.success(), "nft {rules}");
}

/// What a test watches: a live source, the engine behind it, and all that came.
pub(crate) struct Watcher {
    pub(crate) live: Live,
    pub(crate) engine: Engine,
    pub(crate) events: Vec<Event>,
    pub(crate) said: Vec<Said>,
}

/// Options for one test: its own process name and port, so that tests side by side do not see each other.
pub(crate) fn only(comm: &str, port: u16) -> Options {
    Options {
        proxies: vec![comm.to_owned()],
        ports: vec![port],
        answers: false,
        look: When::Always,
        ..Options::default()
    }
}

/// All ports of this thread's namespace, which makes the kernel's own counters comparable.
pub(crate) fn here(comm: &str) -> Options {
    Options { ports: Vec::new(), netns: Some(NetNs(netns())), ..only(comm, 0) }
}

/// The same with only this carrier for a hook.
pub(crate) fn carried_by(hook: Hook, carrier: Carrier, options: Options) -> Options {
    Options { forced: vec![Forced { hook, carrier }], ..options }
}

/// Waits until no other run of these tests watches this host: the same names and ports are in both, and each would see the
/// other's. The kernel lets go of it when this process ends.
fn only_run() -> fs::File {
    let lock = fs::File::create(std::env::temp_dir().join("observer-kernel-tests.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

impl Watcher {
    pub(crate) fn start(options: Options) -> Self {
        static RUN: OnceLock<fs::File> = OnceLock::new();
        RUN.get_or_init(only_run);
        let live = Live::start(options, logs::Options::default()).expect("attaching");
        Self { live, engine: Engine::default(), events: Vec::new(), said: Vec::new() }
    }

    /// Takes in what has come.
    pub(crate) fn poll(&mut self) {
        let mut batch = Vec::new();
        while self.live.poll(&mut batch) == Polled::More {}
        self.take(batch);
    }

    fn take(&mut self, batch: Vec<Event>) {
        for event in &batch {
            self.engine.apply(event, &mut |said| self.said.push(said));
        }
        self.events.extend(batch);
    }

    /// Waits until a condition on what came holds.
    pub(crate) fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        eventually(what, || {
            self.poll();
            condition(self)
        })
    }

    pub(crate) fn verdicts(&self) -> Vec<&Verdict> {
        let verdicts = self.said.iter().filter_map(|said| match said {
            Said::Verdict(verdict) => Some(&**verdict),
            Said::Warning(_) => None,
        });
        verdicts.collect()
    }

    pub(crate) fn count(&self, matches: impl Fn(&Body) -> bool) -> usize {
        self.events.iter().filter(|event| matches(&event.body)).count()
    }

    /// The latest sample of the namespace with these addresses' listener, if there is one.
    pub(crate) fn namespace(&self, netns: u32) -> Option<&NamespaceSample> {
        self.events.iter().rev().find_map(|event| match &event.body {
            Body::NamespaceSample(sample) if sample.netns.0 == netns => Some(&**sample),
            _ => None,
        })
    }

    /// Detaches, and gives the final counters with all that came.
    pub(crate) fn finish(self) -> (Counters, Vec<Event>) {
        let Self { mut live, mut engine, mut events, mut said } = self;
        let rest = live.last();
        for event in &rest {
            engine.apply(event, &mut |each| said.push(each));
        }
        events.extend(rest);
        (*engine.model().counters(), events)
    }
}

/// What was lost, but for programs that were skipped: that happens to other tests' sockets as well, and not by socket.
pub(crate) fn lost(counters: &Counters) -> u64 {
    counters.lost.total() - counters.lost.skipped
}

/// Whether all that happened was counted, but for what the kernel owns to have skipped: from 7.0 on programs on tracepoints can be
/// preempted, and what happens on their processor meanwhile they do not see (`__DECLARE_TRACE`, include/linux/tracepoint.h;
/// `__bpf_trace_run`, kernel/trace/bpf_trace.c).
pub(crate) fn all_but_skipped(counted: u64, happened: u64, counters: &Counters) -> bool {
    (happened.saturating_sub(counters.lost.skipped)..=happened).contains(&counted)
}

/// Inode of this thread's network namespace.
pub(crate) fn netns() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    u32::try_from(fs::metadata("/proc/thread-self/ns/net").unwrap().ino()).unwrap()
}
