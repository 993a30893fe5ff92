//! The live view: what fails now, why, since when, how often, on which upstream, and what to do, in five seconds.
//!
//! It draws an immutable [`Snapshot`] and locks nothing; to freeze the screen is to keep an old one. Keys become intents by one
//! table ([`keys`]); what an intent means on the screen that is shown is an [`action`] ([`steer`]), actions change the [`app`],
//! and [`view`] turns both into a frame. Below [`run`] nothing reads a clock, an environment variable or a terminal.

mod action;
mod app;
mod clipboard;
mod entry;
mod filter;
mod input;
mod keys;
mod page;
mod save;
mod screen;
mod steer;
mod terminal;
mod theme;
mod view;
mod widget;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod journeys;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::Path,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use ratatui::crossterm::event::KeyEvent;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    snapshot::{Desk, Snapshot, playback::Command},
    text::escape,
};
use action::{Effect, Intent, Text};
use app::App;
use input::{Input, Keyboard};
use keys::Mode;
use page::Room;
use terminal::Tty;
use theme::Theme;

/// From one frame to the next while nothing is pressed: as often as one can read numbers that change, and no more bytes for a
/// slow line than that takes.
const CALM: Duration = Duration::from_millis(250);
/// From a key to the frame that answers it, and from that to the next.
const PROMPT: Duration = Duration::from_millis(30);

/// Shows each latest snapshot until the user quits, a signal asks for the end, or the sender is gone. What has to be gathered for
/// it, and whether to record, goes to the `desk`. Where it is a replay's, `control` takes what the user asks of that. Needs a
/// tokio runtime with time and io; fails without a terminal.
pub async fn run(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    control: Option<SyncSender<Command>>,
    desk: Desk,
) -> io::Result<()> {
    let mut signals = Signals::catch()?;
    // Dropped in the reverse order: the keyboard is let go of before the screen is given back.
    let mut tty = Tty::take()?;
    let mut keyboard = Keyboard::start()?;
    let mut view = View::new();
    let mut drawn = Instant::now();
    // The first frame is due at once.
    let mut due = Some(drawn);
    loop {
        tokio::select! {
            () = sleep_until(due.unwrap_or(drawn)), if due.is_some() => {
                let live = Arc::clone(&snapshots.borrow_and_update());
                desk.look(view.app.look());
                tty.draw(|frame| view.draw(frame, &live))?;
                (drawn, due) = (Instant::now(), None);
            }
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                due = Some(due.unwrap_or(drawn + CALM).min(drawn + CALM));
            }
            input = keyboard.next() => {
                let live = Arc::clone(&snapshots.borrow());
                let room = tty.room();
                let effect = match input {
                    None => return Err(io::Error::other("the terminal can no longer be read")),
                    Some(Input::Resized) => Effect::Redraw,
                    Some(Input::Key(key)) => view.press(key, &live, room),
                    Some(Input::Mouse(mouse)) => {
                        keys::pointed(mouse).map_or(Effect::Nothing, |intent| view.wish(intent, &live, room))
                    }
                };
                match effect {
                    Effect::Nothing => continue,
                    Effect::Redraw => {}
                    // One too many is dropped, as keys are that come too fast.
                    Effect::Replay(command) => drop(control.as_ref().map(|control| control.try_send(command))),
                    Effect::Copy(text) => view.copy(&mut tty, &text)?,
                    Effect::Write(text) => view.write(Path::new("."), &text),
                    Effect::Record => desk.record(),
                    Effect::Quit => return Ok(()),
                }
                due = Some(drawn + PROMPT);
            }
            () = signals.next() => return Ok(()),
        }
    }
}

/// The view without a terminal around it.
#[derive(Debug)]
pub struct View {
    app: App,
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

impl View {
    /// As it begins; in colour unless `NO_COLOR` is set.
    pub fn new() -> Self {
        Self { app: App::new(Theme::from_env()) }
    }

    /// Draws a frame. `live` is the latest snapshot; what is shown may be an older one.
    pub fn draw(&self, frame: &mut ratatui::Frame<'_>, live: &Snapshot) {
        view::draw(frame, &self.app, live);
    }

    fn press(&mut self, key: KeyEvent, live: &Arc<Snapshot>, room: Room) -> Effect {
        match keys::intent(key, &self.app, Mode::of(live)) {
            Some(intent) => self.wish(intent, live, room),
            None => Effect::Nothing,
        }
    }

    fn wish(&mut self, intent: Intent, live: &Arc<Snapshot>, room: Room) -> Effect {
        match steer::action(intent, &self.app, live, room) {
            Some(action) => self.app.apply(action, live),
            None => Effect::Nothing,
        }
    }

    fn copy(&mut self, tty: &mut Tty, Text { what, text }: &Text) -> io::Result<()> {
        let Some(sequence) = clipboard::sequence(text) else {
            self.app.say(format!("too long for a clipboard: {what}; w writes it into a file"), true);
            return Ok(());
        };
        let lines = text.lines().count();
        let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
        // No terminal says whether it took it; tmux as it is delivered does not.
        let tmux = if std::env::var_os("TMUX").is_some() { "; tmux needs set-clipboard on" } else { "" };
        self.app.say(format!("sent to the clipboard (OSC 52): {what}, {lines}{tmux}"), false);
        tty.send(&sequence)
    }

    fn write(&mut self, folder: &Path, Text { what, text }: &Text) {
        match save::save(folder, what, text) {
            Ok(path) => {
                let path = escape(path.as_os_str().as_encoded_bytes());
                self.app.say(format!("written: {path}"), false);
            }
            Err(error) => self.app.say(format!("not written: {error}"), true),
        }
    }
}

/// The signals that end the view in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
