//! observer stopped under load, as by a debugger, a frozen cgroup or a host without memory: what it says afterwards. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const OBSERVER: &str = env!("CARGO_BIN_EXE_observer");
/// Tries before it is stopped, and while it is: the ring has room for the records of about half of these.
const BEFORE: usize = 5;
const MEANWHILE: usize = 50_000;
/// By so much its memory may grow when it goes on: the ring's eight MiB as events, waiting tries and their evidence.
const GROWTH_KIB: u64 = 64 << 10;

/// The most memory that a process has had, KiB; none once it has ended.
fn most_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Tries at a port on which nobody listens.
fn try_in_vain(to: SocketAddr, times: usize) {
    for _ in 0..times {
        assert_eq!(TcpStream::connect(to).unwrap_err().raw_os_error(), Some(111));
    }
}

#[test]
fn what_is_lost_while_it_is_stopped_is_counted_and_doubted() {
    fs::write("/proc/thread-self/comm", "obs-stopped").unwrap();
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let to = reserved.local_addr().unwrap().as_socket().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("a.arrows.zst");
    let mut child = Command::new(OBSERVER)
        .args(["watch", "--format", "json", "--no-answers", "--proxy", "obs-stopped"])
        .args(["--port", &to.port().to_string(), "--record"])
        .arg(&trace)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = vec![lines.next().unwrap().unwrap()];
    try_in_vain(to, BEFORE);
    said.extend(lines.by_ref().take(BEFORE).map(Result::unwrap));
    let memory = most_memory(child.id()).unwrap();

    send(&child, Signal::SIGSTOP);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert!(matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(..)));
    try_in_vain(to, MEANWHILE);
    send(&child, Signal::SIGCONT);
    send(&child, Signal::SIGINT);
    let mut most = memory;
    for line in lines {
        said.push(line.unwrap());
        if said.len().is_multiple_of(500) {
            most = most_memory(child.id()).unwrap_or(most);
        }
    }
    assert!(child.wait().unwrap().success());
    println!("memory: {memory} KiB before, {most} KiB at most");
    assert!(most < memory + GROWTH_KIB, "{memory} KiB before, {most} KiB at most");

    let values: Vec<Value> = said.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [ready, verdicts @ .., summary] = &values[..] else { panic!("{values:?}") };
    assert_eq!((&ready["type"], &summary["type"]), (&"ready".into(), &"summary".into()));
    let counted = |of: &Value, name: &str| usize::try_from(of[name].as_u64().unwrap()).unwrap();
    for counter in ["connections_started", "connections_ended", "resets_received"] {
        assert_eq!(counted(&summary["counters"], counter), BEFORE + MEANWHILE, "{counter}");
    }
    let lost = counted(&summary["lost"], "connection_ended");
    assert!(lost > 0, "the ring was meant to overflow");
    assert_eq!(verdicts.len() + lost, BEFORE + MEANWHILE);
    let of_all_kinds: u64 = summary["lost"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    println!("lost: {}", summary["lost"]);
    for (index, verdict) in verdicts.iter().enumerate() {
        assert_eq!((&verdict["type"], &verdict["cause"]), (&"verdict".into(), &"upstream-refused".into()), "{verdict}");
        let doubt = (&verdict["confidence"], &verdict["evidence"]["records_lost"]);
        if index < BEFORE {
            assert_eq!(doubt, (&"certain".into(), &Value::Null), "{verdict}");
        } else {
            assert_eq!(doubt, (&"likely".into(), &of_all_kinds.into()), "{verdict}");
        }
    }

    let again =
        Command::new(OBSERVER).args(["watch", "--format", "json", "--from-trace"]).arg(&trace).output().unwrap();
    let again = String::from_utf8(again.stdout).unwrap();
    assert!(again.lines().eq(said.iter().map(String::as_str)), "a recording says the same");
}
