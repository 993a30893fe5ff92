//! The terminal is as it was before, however the view ends.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
const ENTERED: &str = "\u{1b}[?1049h";
/// The alternate screen left, the mouse let go of, the cursor shown.
const GIVEN_BACK: [&str; 3] = ["\u{1b}[?1049l", "\u{1b}[?1000l", "\u{1b}[?25h"];

/// The view on a recording, in a terminal of its own.
struct Session {
    keyboard: Option<File>,
    terminal: OwnedFd,
    screen: Receiver<Vec<u8>>,
    reader: Option<JoinHandle<()>>,
    seen: String,
    child: Child,
}

impl Session {
    fn begin() -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let trace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/traces/v1-mixed.arrows.zst");
        let end = || pty.slave.try_clone().expect("another handle");
        let child = Command::new(env!("CARGO_BIN_EXE_observer"))
            .arg("replay")
            .arg(trace)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("it starts");
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().expect("another handle");
        let (send, screen) = channel();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer)
                && send.send(buffer[..count].to_vec()).is_ok()
            {}
        });
        let mut session = Self {
            keyboard: Some(keyboard),
            terminal: pty.slave,
            screen,
            reader: Some(reader),
            seen: String::new(),
            child,
        };
        session.sees(ENTERED);
        session.sees("[1 now]");
        assert!(!session.is_cooked());
        session
    }

    /// Waits until all of that has been sent to the terminal.
    fn sees(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let more = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&more);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.as_mut().expect("a keyboard").write_all(keys).expect("it is read");
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().try_into().expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Whether lines are edited and keys echoed, as before.
    fn is_cooked(&self) -> bool {
        let flags = tcgetattr(self.terminal.as_fd()).expect("a terminal").local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < until, "it goes on");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The terminal is whole.
    fn whole(mut self) {
        assert!(self.ended().success());
        for sequence in GIVEN_BACK {
            self.sees(sequence);
        }
        assert!(self.is_cooked());
    }
}

#[test]
fn after_quitting_on_any_screen() {
    for keys in [&b"q"[..], b"c\x03", b"4/port:1\rq", b"?q", b"5\x03"] {
        let mut session = Session::begin();
        session.press(keys);
        session.whole();
    }
}

#[test]
fn after_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let session = Session::begin();
        session.signal(signal);
        session.whole();
    }
}

/// A lost ssh: the terminal is gone, and a hangup says so. Nobody is left behind who reads it on and on.
#[test]
fn a_lost_terminal_ends_it() {
    let mut session = Session::begin();
    // What is drawn next finds nobody, and with that the last hold on the terminal's other end is gone.
    session.screen = channel().1;
    session.press(b"5");
    session.reader.take().unwrap().join().unwrap();
    drop(session.keyboard.take());
    session.signal(Signal::SIGHUP);
    session.ended();
}

#[test]
fn a_click_and_the_wheel_arrive() {
    let mut session = Session::begin();
    // The fifth tab of the last line, by the left button, pressed and let go.
    session.press(b"\x1b[<0;42;24M\x1b[<0;42;24m");
    session.sees("[5 hooks]");
    session.press(b"\x1b[<65;10;10M");
    session.press(b"q");
    session.whole();
}
