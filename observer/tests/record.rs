//! Recordings as they are left behind by a recorder that is killed, or whose disk is full. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use observer::{
    event::{Body, Counters, Event},
    trace::{ReadError, Reader, Tail},
};
use socket2::{Domain, Socket, Type};

const OBSERVER: &str = env!("CARGO_BIN_EXE_observer");
/// As many recorders are killed.
const ROUNDS: u64 = 50;
/// Counts and rows of one moment may be apart by this much: one is added before the other is stamped.
const MOMENT: Duration = Duration::from_millis(10);

/// A recorder that has said that it records.
fn recording(comm: &str, arguments: &[&str], trace: &Path) -> Child {
    let mut child = Command::new(OBSERVER)
        .args(["record", "--no-answers", "--proxy", comm, "-o"])
        .arg(trace)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("recording"), "{line}");
    child
}

/// A port on which nobody listens, and nobody else will.
fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Connects until told to stop, as fast as it goes; the local ports in order.
fn refused_until(to: SocketAddr, comm: &str, stop: &AtomicBool) -> Vec<u16> {
    fs::write("/proc/thread-self/comm", comm).unwrap();
    let mut ports = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        ports.push(socket.local_addr().unwrap().as_socket().unwrap().port());
        socket.connect(&to.into()).unwrap_err();
    }
    ports
}

fn read(path: &Path) -> (Vec<Event>, Result<Tail, ReadError>) {
    let mut reader = Reader::open(&[path.to_owned()]).unwrap();
    let mut events = Vec::new();
    loop {
        match reader.next_batch(&mut events) {
            Ok(Some(_)) => {}
            Ok(None) => return (events, Ok(reader.tail())),
            Err(error) => return (events, Err(error)),
        }
    }
}

fn ended(events: &[Event]) -> Vec<(observer::time::Time, u16)> {
    let ended = events.iter().filter_map(|event| match &event.body {
        Body::ConnectionEnded(ended) => Some((event.time, ended.flow.local.port)),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_killed_recorder_leaves_a_trace_without_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let (_reserved, to) = closed_port();
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let trace = folder.path().join(format!("{round}.arrows.zst"));
        let port = to.port().to_string();
        let mut recorder = recording("obs-killed", &["--port", &port], &trace);
        let stop = AtomicBool::new(false);
        let (ports, killed) = thread::scope(|scope| {
            let load = scope.spawn(|| refused_until(to, "obs-killed", &stop));
            // At whatever moment: what is to be killed is in the middle of something.
            thread::sleep(Duration::from_millis(100 + round * 617 % 1_300));
            let killed = observer::host::now();
            recorder.kill().unwrap();
            recorder.wait().unwrap();
            stop.store(true, Ordering::Relaxed);
            (load.join().unwrap(), killed)
        });
        let (events, tail) = read(&trace);
        assert!(!matches!(tail, Ok(Tail::Whole)), "round {round}: nobody ended it");
        let rows = ended(&events);
        let seen: Vec<_> = rows.iter().map(|(_, port)| *port).collect();
        assert_eq!(seen, ports[..seen.len()], "round {round}: all from the first one on, and in order");
        if let Some(event) = events.last() {
            longest = longest.max(killed.since(event.time));
        }
        for (time, counters) in events.iter().filter_map(counters) {
            let by = |moment| rows.iter().filter(|(row, _)| *row <= moment).count() as u64;
            assert!(by(time - MOMENT) <= counters.connections_ended, "round {round}: rows that were not counted");
            if events.last().is_some_and(|last| last.time > time + MOMENT) {
                assert!(counters.connections_ended <= by(time + MOMENT), "round {round}: counted, and no row");
            }
            assert_eq!(counters.lost.total(), 0, "round {round}");
        }
    }
    println!("at most the last {longest:?} were lost");
}

fn counters(event: &Event) -> Option<(observer::time::Time, Counters)> {
    match &event.body {
        Body::Counters(counters) => Some((event.time, **counters)),
        _ => None,
    }
}

/// A file system of that many bytes, gone with this.
struct Small(PathBuf);

impl Small {
    fn mount(folder: &Path, bytes: u64) -> Self {
        let options = format!("size={bytes}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder).status().unwrap();
        assert!(status.success(), "these tests need root");
        Self(folder.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_what_was_written_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let _disk = Small::mount(folder.path(), 1 << 20);
    let trace = folder.path().join("a.arrows.zst");
    let (_reserved, to) = closed_port();
    let stop = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        let recorder = recording("obs-full", &["--port", &to.port().to_string()], &trace);
        let load = scope.spawn(|| refused_until(to, "obs-full", &stop));
        let output = recorder.wait_with_output().unwrap();
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        output
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device") && said.contains("everything up to then is in it"), "{said}");
    let (events, tail) = read(&trace);
    assert_eq!(tail.unwrap(), Tail::Unfinished, "what did not fit was taken back");
    assert!(!ended(&events).is_empty());
}

#[test]
fn a_full_disk_ends_no_lines() {
    let folder = tempfile::tempdir().unwrap();
    let _disk = Small::mount(folder.path(), 16 << 10);
    let trace = folder.path().join("a.arrows.zst");
    fs::write("/proc/thread-self/comm", "obs-lines").unwrap();
    let (_reserved, to) = closed_port();
    let mut child = Command::new(OBSERVER)
        .args(["watch", "--no-answers", "--proxy", "obs-lines", "--port", &to.port().to_string(), "--record"])
        .arg(&trace)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| refused_until(to, "obs-lines", &stop));
        let mut said = String::new();
        // What is said keeps coming, so that nobody waits for anybody.
        let reader = scope.spawn(move || lines.map_while(Result::ok).count());
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("No space left on device"), "{said}");
        assert!(child.try_wait().unwrap().is_none(), "the lines go on");
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "and the status tells");
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn what_cannot_be_recorded_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there.arrows.zst");
    fs::write(&there, "something").unwrap();
    let missing = folder.path().join("no/such.arrows.zst");
    for (path, expected) in [(&there, "--force"), (&missing, "No such file or directory")] {
        let output = Command::new(OBSERVER).args(["record", "-o"]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.contains(&*path.to_string_lossy()), "{said}");
    }
    assert_eq!(fs::read(&there).unwrap(), b"something");
}

#[test]
fn a_ring_can_be_replayed_from_any_segment_on() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("ring.arrows.zst");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_reserved, to) = closed_port();
    fs::write("/proc/thread-self/comm", "obs-ring").unwrap();
    let ports = [to.port().to_string(), listener.local_addr().unwrap().port().to_string()];
    let arguments =
        ["--format", "json", "--max-size", "64K", "--max-files", "99999", "--no-answers", "--proxy", "obs-ring"];
    let mut child = Command::new(OBSERVER)
        .arg("watch")
        .args(arguments)
        .args(["--port", &ports[0], "--port", &ports[1], "--record"])
        .arg(&trace)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let stop = AtomicBool::new(false);
    let live = thread::scope(|scope| {
        let load = scope.spawn(|| refused_until(to, "obs-ring", &stop));
        let reader = scope.spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        let begun = std::time::Instant::now();
        // An upstream that is well for a change, and enough of the other for several segments.
        while segments(folder.path()).len() < 4 {
            drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            drop(listener.accept().unwrap());
            thread::sleep(Duration::from_millis(5));
            assert!(begun.elapsed() < Duration::from_mins(1), "no segments");
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        child.wait().unwrap();
        reader.join().unwrap()
    });
    let segments = segments(folder.path());
    for from in 0..segments.len() {
        let output = Command::new(OBSERVER)
            .args(["watch", "--format", "json", "--from-trace"])
            .args(&segments[from..])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let again: Vec<_> = text.lines().skip(1).collect();
        // The load may end as the last one begins.
        assert!(again.len() > 1 || from + 1 == segments.len());
        let expected: Vec<_> = live[live.len() - again.len()..].iter().map(String::as_str).collect();
        assert!(again == expected, "from segment {} on, something else was said", from + 1);
    }
}

/// In order.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn what_a_recording_lacks_is_said_at_its_end() {
    const TRIES: usize = 500;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("a.arrows.zst");
    let (_reserved, to) = closed_port();
    let ring = ["--port", &to.port().to_string(), "--ring-size", "4096"];
    let child = recording("obs-lost", &ring, &trace);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let send = |signal| nix::sys::signal::kill(pid, signal).unwrap();
    // Nobody empties the ring meanwhile.
    send(nix::sys::signal::Signal::SIGSTOP);
    let stopped = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, nix::sys::wait::WaitStatus::Stopped(..)), "{stopped:?}");
    thread::spawn(move || {
        fs::write("/proc/thread-self/comm", "obs-lost").unwrap();
        for _ in 0..TRIES {
            TcpStream::connect(to).unwrap_err();
        }
    })
    .join()
    .unwrap();
    send(nix::sys::signal::Signal::SIGCONT);
    send(nix::sys::signal::Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (events, tail) = read(&trace);
    assert_eq!(tail.unwrap(), Tail::Whole, "{said}");
    let told = ended(&events).len();
    assert!(told < TRIES, "the ring is not that large");
    assert!(
        said.contains(&format!("LOST on the way into it: connection_ended {}", TRIES - told)),
        "{told} told: {said}"
    );
}
