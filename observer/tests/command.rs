//! The binary as people run it: what it prints, how it ends, what it leaves behind. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const OBSERVER: &str = env!("CARGO_BIN_EXE_observer");

fn observer(arguments: &[&str]) -> Output {
    Command::new(OBSERVER).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A `watch` that has said that it is ready, and the rest of what it will say.
fn watching(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>, Value) {
    let mut child = Command::new(OBSERVER)
        .args(["watch", "--format", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    (child, lines, serde_json::from_str(&first).unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Ids of the eBPF programs that a process holds open, by /proc.
fn programs_of(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let ids = entries.filter_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    });
    ids.collect()
}

fn loaded_programs() -> Vec<u32> {
    aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect()
}

#[test]
fn a_recording_says_again_what_was_said() {
    fs::write("/proc/thread-self/comm", "obs-replay").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("a.arrows");
    let trace = trace.to_str().unwrap();
    let (child, lines, ready) = watching(&["--no-answers", "--proxy", "obs-replay", "--port", "7", "--record", trace]);
    TcpStream::connect("127.0.0.1:7").unwrap_err();
    TcpStream::connect("127.0.0.1:7").unwrap_err();
    let mut live = vec![ready];
    let mut lines = lines.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    live.extend(lines.by_ref().take(2));
    signal(&child, Signal::SIGINT);
    live.extend(lines);
    assert_eq!(live.last().unwrap()["verdicts"]["upstream-refused"], 2);

    // By somebody without any privilege.
    for options in [
        &["--from-trace", trace][..],
        &["--from-trace", trace, "--speed", "16"],
        &["--from-trace", trace, "--from", "0s"],
    ] {
        let again = observer(&[&["watch", "--format", "json"], options].concat());
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        assert_eq!(String::from_utf8_lossy(&again.stderr), "");
        let again: Vec<Value> =
            again.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_eq!(again, live);
    }
}

#[test]
fn what_is_no_recording_is_said_so() {
    for (file, expected) in [("/no/such/file", "cannot open /no/such/file"), ("/proc/self/status", "/proc/self/status")]
    {
        let output = observer(&["watch", "--from-trace", file]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.starts_with(&format!("observer: {expected}")) && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn watch_says_ready_then_verdicts_then_a_summary() {
    // Our own process stands in for the proxy, under its thread's name.
    fs::write("/proc/thread-self/comm", "obs-command").unwrap();
    let (child, mut lines, ready) = watching(&["--no-answers", "--proxy", "obs-command", "--port", "7"]);
    assert_eq!(ready["type"], "ready");
    assert_eq!(ready["hooks"]["state_changes"], "tp_btf");
    TcpStream::connect("127.0.0.1:7").unwrap_err();

    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let verdict: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&verdict["type"], &verdict["cause"]), (&"verdict".into(), &"upstream-refused".into()));
    assert_eq!((&verdict["upstream"], &verdict["status"]), (&"127.0.0.1:7".into(), &502.into()));
    assert_eq!(verdict["proxy"]["pid"], std::process::id());

    signal(&child, Signal::SIGTERM);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let summary: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["verdicts"]["upstream-refused"], 1);
    assert_eq!(summary["counters"]["connections_started"], 1);
    assert!(summary["lost"].as_object().unwrap().values().all(|count| count == 0), "{summary}");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
}

#[test]
fn nothing_stays_attached_however_it_ends() {
    for end in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let (mut child, _lines, _) = watching(&["--port", "9"]);
        let programs = programs_of(child.id());
        assert!(programs.len() >= 6, "{programs:?}");
        signal(&child, end);
        child.wait().unwrap();
        // The kernel frees programs after a grace period of its own.
        let deadline = Instant::now() + Duration::from_secs(20);
        while loaded_programs().iter().any(|id| programs.contains(id)) {
            assert!(Instant::now() < deadline, "still loaded after {end}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_reader_that_leaves_ends_it_in_peace() {
    let (mut child, lines, _) = watching(&["--no-answers", "--proxy", "obs-reader", "--port", "11"]);
    drop(lines);
    fs::write("/proc/thread-self/comm", "obs-reader").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        TcpStream::connect("127.0.0.1:11").unwrap_err();
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "still running");
        thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn a_reader_that_hangs_cannot_keep_it() {
    fs::write("/proc/thread-self/comm", "obs-hang").unwrap();
    let (mut child, lines, _) = watching(&["--no-answers", "--proxy", "obs-hang", "--port", "15"]);
    // More than a pipe holds, and nobody reads it.
    for _ in 0..600 {
        TcpStream::connect("127.0.0.1:15").unwrap_err();
    }
    signal(&child, Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "still running");
        thread::sleep(Duration::from_millis(10));
    }
    drop(lines);
}

#[test]
fn without_privileges_it_says_so_in_one_line() {
    // Where anybody may run it.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("observer");
    fs::copy(OBSERVER, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(copy).arg("watch").uid(65_534).gid(65_534).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("root") && text.contains("CAP_BPF"), "{text}");
}

#[test]
fn the_live_view_without_a_terminal_points_to_watch() {
    let output = observer(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("observer watch"));
}

#[test]
fn bad_arguments_are_told_with_what_is_right() {
    for (arguments, hint) in [
        (&["watch", "--port", "0"][..], "1..=65535"),
        (&["watch", "--duration", "soon"], "try 20s"),
        (&["watch", "--ring-size", "3M"], "a power of two"),
        (&["explain", "gremlins"], "observer explain"),
    ] {
        let output = observer(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text.contains(hint), "{arguments:?}: {text}");
    }
}

#[test]
fn explain_lists_and_prints_pages() {
    let list = String::from_utf8(observer(&["explain"]).stdout).unwrap();
    assert!(list.lines().any(|line| line == "accept-queue-overflow"));
    assert!(list.lines().any(|line| line == "worker-killed"));
    for cause in list.lines().filter(|line| !line.starts_with('#')) {
        let page = String::from_utf8(observer(&["explain", cause]).stdout).unwrap();
        assert!(page.starts_with(&format!("# {cause}\n")), "{cause}");
    }
}

#[test]
fn doctor_finds_this_kernel_usable() {
    let output = observer(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    assert!(text.contains("state_changes          ✓ tp_btf"), "{text}");
    assert!(text.contains("net.core.somaxconn"), "{text}");
}

#[test]
fn doctor_shows_each_ladder_and_has_only_a_forced_carrier_tried() {
    let output = observer(&["doctor", "--format", "json", "--force-carrier", "retransmits=raw_tp"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["unusable"], Value::Null);
    let hooks = said["hooks"].as_array().unwrap();
    assert_eq!(hooks.len(), observer::hooks::Hook::ALL.len());
    let hook = |name: &str| hooks.iter().find(|hook| hook["hook"] == name).unwrap();
    let states: Vec<_> = hook("retransmits")["carriers"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(hook("retransmits")["carrier"], "raw_tp");
    assert_eq!(states, ["left_out", "chosen"]);
    assert_eq!(hook("state_changes")["carrier"], "tp_btf");
    let output = observer(&["watch", "--force-carrier", "listen_overflow=tp_btf"]);
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("can be carried by fentry, kprobe, cgroup_skb, kfree_skb"), "{told}");
}

/// The live view on a terminal of its own, which `script` makes and copies to a file.
struct Screen {
    script: Child,
    copy: tempfile::NamedTempFile,
}

impl Screen {
    fn open() -> Self {
        let copy = tempfile::NamedTempFile::new().unwrap();
        let script = Command::new("script")
            .args([
                "--quiet",
                "--flush",
                "--return",
                "--command",
                &format!("stty rows 24 cols 80; exec {OBSERVER} live --port 13"),
            ])
            .arg(copy.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let screen = Self { script, copy };
        screen.shows("q quit");
        screen
    }

    /// Waits until that was written to the terminal.
    fn shows(&self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !String::from_utf8_lossy(&fs::read(self.copy.path()).unwrap()).contains(what) {
            assert!(Instant::now() < deadline, "never on the screen: {what:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The observer in it, which has taken the place of the shell that `script` runs.
    fn observer(&self) -> i32 {
        let mut pid = self.script.id();
        loop {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            match children.split_whitespace().next() {
                Some(child) => pid = child.parse().unwrap(),
                None => return i32::try_from(pid).unwrap(),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal hangs up with it, and that ends the view.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn the_live_view_gives_the_terminal_back() {
    const LEFT_ALTERNATE_SCREEN: &str = "\u{1b}[?1049l";
    const CURSOR_SHOWN: &str = "\u{1b}[?25h";
    for end in [None, Some(Signal::SIGTERM), Some(Signal::SIGINT), Some(Signal::SIGHUP)] {
        let mut screen = Screen::open();
        match end {
            None => screen.script.stdin.as_mut().unwrap().write_all(b"q").unwrap(),
            Some(signal) => kill(Pid::from_raw(screen.observer()), signal).unwrap(),
        }
        screen.shows(LEFT_ALTERNATE_SCREEN);
        screen.shows(CURSOR_SHOWN);
        let status = screen.script.wait().unwrap();
        assert!(status.success(), "{end:?}: {status}");
    }
}

#[test]
fn a_report_is_made_of_what_was_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.arrows");
    let trace = trace.to_str().unwrap();
    fs::write("/proc/thread-self/comm", "obs-report").unwrap();
    let (child, mut lines, _) = watching(&["--no-answers", "--proxy", "obs-report", "--port", "17", "--record", trace]);
    TcpStream::connect("127.0.0.1:17").unwrap_err();
    lines.read_line(&mut String::new()).unwrap();
    signal(&child, Signal::SIGTERM);
    assert!(child.wait_with_output().unwrap().status.success());

    let json = observer(&["report", trace, "--format", "json"]);
    assert!(json.status.success(), "{json:?}");
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["failures"]["count"], &json["failures"]["tries"]), (&1.into(), &1.into()));
    assert_eq!(
        (&json["causes"][0]["cause"], &json["remarks"]),
        (&"upstream-refused".into(), &Value::Array(Vec::new()))
    );
    let recorded = fs::read(trace).unwrap();
    assert!(!observer(&["report", trace, "-o", trace]).status.success());
    assert_eq!(fs::read(trace).unwrap(), recorded, "a report does not take the place of its recording");

    let page = directory.path().join("report.html");
    assert!(observer(&["report", trace, "-o", page.to_str().unwrap()]).status.success());
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("1 try failed"), "{page}");
}
