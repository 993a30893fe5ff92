//! The keyboard and the mouse, read by a thread of its own, so that no read ever holds up a frame.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use ratatui::crossterm::event::{self, Event, KeyEvent, MouseEvent};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};

/// Inputs that may wait. Beyond that further ones are dropped: nobody types so far ahead on purpose.
const WAITING: usize = 64;
/// How often the thread looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(100);
/// How long the end waits for the thread. One that reads a terminal which has hung up never comes back: crossterm
/// reads on without end there (event/source/unix/mio.rs), so it is left behind.
const FAREWELL: Duration = Duration::from_millis(300);

/// What comes from the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    /// A key.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// The terminal has another size; the next frame sees it.
    Resized,
}

/// The reading thread; it ends with this.
#[derive(Debug)]
pub(crate) struct Keyboard {
    inputs: Receiver<Input>,
    thread: JoinHandle<()>,
}

impl Keyboard {
    /// Starts to read.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, inputs) = mpsc::channel(WAITING);
        let thread = thread::Builder::new().name("keyboard".to_owned()).spawn(move || read(&sender))?;
        Ok(Self { inputs, thread })
    }

    /// The next input; `None` when the terminal can no longer be read.
    pub(crate) async fn next(&mut self) -> Option<Input> {
        self.inputs.recv().await
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // What the user types from here on is for the shell.
        self.inputs.close();
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while !self.thread.is_finished() && waited < FAREWELL {
            thread::sleep(step);
            waited += step;
        }
    }
}

fn read(sender: &Sender<Input>) {
    while !sender.is_closed() {
        let input = match event::poll(POLL) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let input = match input {
            Ok(Event::Key(key)) => Input::Key(key),
            Ok(Event::Mouse(mouse)) => Input::Mouse(mouse),
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            Err(_) => return,
        };
        if let Err(TrySendError::Closed(_)) = sender.try_send(input) {
            return;
        }
    }
}
