//! The terminal, taken over and given back whole: on return, on error, and on a panic of any thread.

use std::{
    io::{self, BufWriter, Stdout, Write as _, stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        style::Print,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use super::page::Room;

/// Buttons and the wheel alone (xterm's mode 1000, in SGR form): not every move of the mouse, as crossterm's own mouse capture
/// would have it, which is a flood on a slow line.
const MOUSE_ON: &str = "\u{1b}[?1000h\u{1b}[?1006h";
const MOUSE_OFF: &str = "\u{1b}[?1006l\u{1b}[?1000l";

/// A frame goes out in one write where it can: a slow line then shows no half of one.
const WRITE_BUFFER: usize = 32 * 1024;

/// The screen is ours at the moment. Process-wide, as the terminal is.
static OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal in raw mode on its alternate screen, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Tty {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Tty {
    /// Takes the terminal over.
    pub(crate) fn take() -> io::Result<Self> {
        HOOK.call_once(chain_panic_hook);
        enable_raw_mode()?;
        OURS.store(true, Ordering::SeqCst);
        let taken = execute!(stdout(), EnterAlternateScreen, Print(MOUSE_ON))
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(WRITE_BUFFER, stdout()))));
        match taken {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Draws a frame.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        // Another thread's panic has given the terminal back and printed its message: that must stay readable.
        if !OURS.load(Ordering::SeqCst) {
            return Err(io::Error::other("a thread of observer panicked; its message stands above"));
        }
        self.terminal.draw(draw).map(|_| ())
    }

    /// Its size.
    pub(crate) fn room(&self) -> Room {
        let size = self.terminal.size().unwrap_or_default();
        Room { width: size.width.into(), height: size.height.into() }
    }

    /// Sends a sequence that draws nothing.
    pub(crate) fn send(&mut self, sequence: &str) -> io::Result<()> {
        let out = self.terminal.backend_mut();
        out.write_all(sequence.as_bytes())?;
        io::Write::flush(out)
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        give_back();
    }
}

/// Restores the terminal, once. There is nobody to tell of a failure: the terminal is what failed.
fn give_back() {
    if OURS.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), Print(MOUSE_OFF), LeaveAlternateScreen, Show);
        let _ = stdout().flush();
    }
}

/// A panic's message must not vanish with the alternate screen.
fn chain_panic_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        give_back();
        previous(info);
    }));
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, process::Command, thread};

    use nix::{
        pty::openpty,
        sys::termios::{LocalFlags, tcgetattr},
    };

    use super::*;

    const INSIDE: &str = "tui::terminal::tests::a_thread_panics_in_a_terminal";

    #[test]
    #[ignore = "needs a terminal: the test below runs it in one"]
    fn a_thread_panics_in_a_terminal() {
        let mut tty = Tty::take().unwrap();
        assert!(tty.draw(|_| ()).is_ok());
        assert!(thread::spawn(|| panic!("its last words")).join().is_err());
        assert!(tty.draw(|_| ()).is_err(), "nothing is drawn over the message");
    }

    #[test]
    fn a_panic_of_any_thread_gives_the_terminal_back_before_it_is_told_of() {
        let pty = openpty(None, None).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", INSIDE, "--ignored", "--nocapture"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let mut master = File::from(pty.master);
        let reader = thread::spawn(move || {
            let mut told = Vec::new();
            // The end of a terminal is an error.
            let _ = master.read_to_end(&mut told);
            String::from_utf8_lossy(&told).into_owned()
        });
        assert!(child.wait().unwrap().success());
        let flags = tcgetattr(&pty.slave).unwrap().local_flags;
        assert!(flags.contains(LocalFlags::ECHO | LocalFlags::ICANON));
        drop(pty.slave);
        let told = reader.join().unwrap();
        let place = |text: &str| told.find(text).unwrap_or_else(|| panic!("no {text:?} in {told:?}"));
        let order = [place(MOUSE_ON), place(MOUSE_OFF), place("\u{1b}[?1049l"), place("its last words")];
        assert!(order.is_sorted(), "{told:?}");
    }
}
