//! The live view: what fails now, why, since when, how often, on which upstream, and what to do, in five seconds.
//!
//! It draws an immutable [`Snapshot`] and locks nothing; to freeze the screen is to keep an old one. Keys become
//! [`action`]s by one table ([`keys`]), actions change the [`app`], and [`view`] turns both into a frame. Below [`run`]
//! nothing reads a clock, an environment variable or a terminal.

mod action;
mod app;
mod input;
mod keys;
mod terminal;
mod theme;
mod view;
mod widget;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::snapshot::{Snapshot, playback::Command};
use action::Effect;
use app::App;
use input::{Input, Keyboard};
use keys::Mode;
use terminal::Screen;
use theme::Theme;

/// The shortest time from one frame to the next: 20 a second, whatever the rate of events.
const FRAME: Duration = Duration::from_millis(50);

/// Shows each latest snapshot until the user quits, a signal asks for the end, or the sender is gone. Where it is a
/// replay's, `control` takes what the user asks of that. Needs a tokio runtime with time and io; fails without a terminal.
pub async fn run(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    control: Option<SyncSender<Command>>,
) -> io::Result<()> {
    let mut signals = Signals::catch()?;
    // Dropped in the reverse order: the keyboard is let go of before the screen is given back.
    let mut screen = Screen::take()?;
    let mut keyboard = Keyboard::start()?;
    let mut app = App::new(Theme::from_env());
    let mut dirty = true;
    let mut next_frame = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(next_frame), if dirty => {
                let live = Arc::clone(&snapshots.borrow_and_update());
                screen.draw(|frame| view::draw(frame, &app, &live))?;
                dirty = false;
                next_frame = Instant::now() + FRAME;
            }
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                dirty = true;
            }
            input = keyboard.next() => {
                let effect = match input {
                    None => return Err(io::Error::other("the terminal can no longer be read")),
                    Some(Input::Resized) => Effect::Redraw,
                    Some(Input::Key(key)) => {
                        let live = Arc::clone(&snapshots.borrow());
                        keys::action(key, Mode::of(&live)).map_or(Effect::Nothing, |action| app.apply(action, &live))
                    }
                };
                match effect {
                    Effect::Nothing => {}
                    Effect::Redraw => dirty = true,
                    // One too many is dropped, as keys are that come too fast.
                    Effect::Replay(command) => drop(control.as_ref().map(|control| control.try_send(command))),
                    Effect::Quit => return Ok(()),
                }
            }
            () = signals.next() => return Ok(()),
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
