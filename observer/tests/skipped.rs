//! Programs that the kernel skips, because it has interrupted them. Apart from the other kernel tests, which count what is seen on the
//! CPU that is kept busy here. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "what the kernel tests share; these need some of it")]
mod common;

use std::{
    fs,
    net::{Shutdown, TcpListener, TcpStream},
    process::Command,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use observer::{
    event::{Body, State},
    kernel::Options,
};
use socket2::{Domain, SockRef, Socket, Type};

use common::{Watcher, connect, eventually, in_netns, only};

/// What a RST leaves as a socket's error.
const RESET: u16 = 104;
/// The CPU that takes in this namespace's packets, and the one that sends them.
const RECEIVING: usize = 1;
const SENDING: usize = 0;

/// Has this thread run on one CPU.
fn stay_on(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).expect("CPUs 0 and 1");
}

/// Has packets of this thread's namespace taken in by one CPU, by an interrupt if another sent them (RPS; `enqueue_to_backlog`,
/// net/core/dev.c).
fn receive_on(cpu: usize) {
    let mask = 1 << cpu;
    let script = format!("mount -t sysfs sysfs /sys && echo {mask:x} > /sys/class/net/lo/queues/rx-0/rps_cpus");
    let status = Command::new("unshare").args(["--mount", "sh", "-c", &script]).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Has a socket become a listener and cease to be one, over and over, until the other end of the channel is gone: on this CPU
/// the program that sees state changes is run again and again, and packets that interrupt it find it running.
fn change_states(begins: &Sender<()>, until: &Receiver<()>) {
    stay_on(RECEIVING);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    begins.send(()).unwrap();
    while until.try_recv() == Err(TryRecvError::Empty) {
        socket.listen(1).unwrap();
        socket.shutdown(Shutdown::Read).unwrap();
    }
}

/// How many ends were told, and how many of them as the resets that they were.
fn ends(watcher: &Watcher) -> (usize, usize) {
    let ends = watcher.events.iter().filter_map(|event| match &event.body {
        Body::ConnectionEnded(ended) => Some(ended),
        _ => None,
    });
    ends.fold((0, 0), |(all, resets), ended| {
        let found = (ended.error, ended.old, ended.new, ended.closed_by_proxy);
        (all + 1, resets + usize::from(found == (RESET, State::Established, State::Close, false)))
    })
}

/// Whether this kernel can be made to skip a program here: before 6.2 it does not skip those of raw tracepoints (`__bpf_trace_run`,
/// kernel/trace/bpf_trace.c).
fn skips() -> bool {
    let skips = fs::read_to_string("/proc/kallsyms").unwrap().contains(" bpf_prog_inc_misses_counter\n");
    let can = skips && thread::available_parallelism().unwrap().get() >= 2;
    if !can {
        eprintln!("skipped: takes a kernel that skips programs, and two CPUs");
    }
    can
}

/// Has a hundred connections reset while the program that sees it is busy; gives their clients, which are open still.
fn reset_while_busy(listener: &TcpListener) -> Vec<Socket> {
    const AT_ONCE: usize = 100;
    let address = listener.local_addr().unwrap().to_string();
    // Accepted, and so established at both ends: that has been seen.
    let pairs: Vec<_> = (0..AT_ONCE).map(|_| (connect(&address), listener.accept().unwrap().0)).collect();
    thread::scope(|scope| {
        let ((begins, begun), (_until, ended)) = (channel(), channel());
        scope.spawn(move || change_states(&begins, &ended));
        begun.recv().unwrap();
        let reset = |(client, served): (Socket, TcpStream)| {
            SockRef::from(&served).set_linger(Some(Duration::ZERO)).unwrap();
            drop(served);
            // A socket has no peer once it is in CLOSE, which is after the event (inet_sk_state_store).
            eventually("the reset to come", || client.peer_addr().err());
            client
        };
        pairs.into_iter().map(reset).collect()
    })
}

/// How often the kernel has skipped programs of this process.
fn skipped() -> u64 {
    let all =
        fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let misses =
        |info: String| info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse::<u64>().ok());
    all.filter_map(misses).sum()
}

#[test]
fn what_programs_are_skipped_for_is_seen_to_by_others() {
    if !skips() {
        return;
    }
    in_netns("obs-again", || {
        receive_on(RECEIVING);
        stay_on(SENDING);
        let listener = TcpListener::bind("127.0.0.1:7312").unwrap();
        let mut watcher = Watcher::start(only("obs-again", 7312));
        let mut clients = Vec::new();
        eventually("a program to be skipped", || {
            clients.append(&mut reset_while_busy(&listener));
            (skipped() > 0).then_some(())
        });
        // While they are open, so that nothing else tells.
        watcher.until("every end to be told", |watcher| (ends(watcher).0 == clients.len()).then_some(()));
        assert_eq!(ends(&watcher).1, clients.len(), "each as what it was");
        let opened = clients.len();
        drop(clients);
        let (counters, events) = watcher.finish();
        let told = events.iter().filter(|event| matches!(event.body, Body::ConnectionEnded(_))).count();
        assert_eq!((told, counters.connections_ended), (opened, opened as u64), "each once");
        assert_eq!(counters.lost.total(), 0, "{:?}", counters.lost);
    });
}

#[test]
fn ends_that_nothing_saw_are_told_when_their_sockets_go() {
    if !skips() {
        return;
    }
    in_netns("obs-skipped", || {
        receive_on(RECEIVING);
        stay_on(SENDING);
        let listener = TcpListener::bind("127.0.0.1:7311").unwrap();
        let mut watcher = Watcher::start(Options { seconds: false, ..only("obs-skipped", 7311) });
        let mut clients = Vec::new();
        // As often as it takes for a reset to find the program running.
        let unseen = eventually("an end that is not seen", || {
            clients.append(&mut reset_while_busy(&listener));
            watcher.poll();
            let (seen, as_resets) = ends(&watcher);
            assert_eq!(seen, as_resets);
            let unseen = clients.len() - seen;
            (unseen > 0).then_some(unseen)
        });
        let opened = clients.len();
        drop(clients);
        watcher.until("every end to be told", |watcher| (ends(watcher).0 == opened).then_some(()));
        // Of one that nothing saw, its reset may not have been noted either.
        assert!(ends(&watcher).1 >= opened - unseen, "{:?} of {opened}, {unseen} unseen", ends(&watcher));
        let (counters, events) = watcher.finish();
        let told = events.iter().filter(|event| matches!(event.body, Body::ConnectionEnded(_))).count();
        assert_eq!((told, counters.connections_ended), (opened, opened as u64), "each once");
        assert!(counters.lost.skipped >= unseen as u64, "{unseen} of {:?}", counters.lost);
    });
}
