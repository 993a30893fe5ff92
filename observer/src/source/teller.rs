//! A thread that tells of something as events, so that what it reads slowly keeps nobody waiting.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::event::Event;

/// Handfuls of events that may wait for the pipeline. Full, the thread waits.
const MAX_WAITING: usize = 4;

/// A running thread. Dropping it ends it.
pub(super) struct Teller {
    events: Receiver<Vec<Event>>,
    /// Dropped, the thread tells a last time, or not, and ends.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end of it.
pub(super) struct Told {
    tell: SyncSender<Vec<Event>>,
    stopped: Receiver<()>,
}

impl Told {
    /// Hands events on; whether anybody listens.
    pub(super) fn tell(&self, events: Vec<Event>) -> bool {
        self.tell.send(events).is_ok()
    }

    /// Waits so long, or until it is to end: whether it is.
    pub(super) fn is_over_within(&self, wait: Duration) -> bool {
        self.stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Teller {
    /// Starts one of this name.
    pub(super) fn start(name: &str, run: impl FnOnce(&Told) + Send + 'static) -> io::Result<Self> {
        let (tell, events) = sync_channel(MAX_WAITING);
        let (stop, stopped) = sync_channel(0);
        let thread = thread::Builder::new().name(name.into()).spawn(move || run(&Told { tell, stopped }))?;
        Ok(Self { events, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits for what it tells first.
    pub(super) fn first(&self) -> Vec<Event> {
        self.events.recv().unwrap_or_default()
    }

    /// What has been told and not been taken.
    pub(super) fn take(&self) -> Option<Vec<Event>> {
        self.events.try_recv().ok()
    }

    /// Ends: what is left.
    pub(super) fn last(&mut self) -> Vec<Event> {
        drop(self.stop.take());
        self.events.iter().flatten().collect()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.last();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
