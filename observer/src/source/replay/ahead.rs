//! Reads a recording ahead of what is given out, in a thread of its own. It goes no further than to columns: events made in one
//! thread and freed in another cost more than is won.

use std::{
    io,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use crate::trace::{Packed, ReadError, Reader, Tail};

/// Batches that are read ahead: one to be given out, one to come.
const MAX_AHEAD: usize = 2;

/// What comes next in a recording.
pub(super) enum Next {
    Batch(Packed),
    /// That was all.
    End(Tail),
    /// It breaks off.
    Broken(ReadError),
}

/// A recording that is read by a thread.
pub(super) struct Ahead {
    batches: Receiver<Next>,
    thread: JoinHandle<Reader>,
}

impl Ahead {
    /// Reads on from where the reader is.
    pub(super) fn start(mut reader: Reader) -> io::Result<Self> {
        let (give, batches) = sync_channel(MAX_AHEAD);
        let thread = thread::Builder::new().name("observer-read".into()).spawn(move || {
            loop {
                let next = match reader.next_packed() {
                    Ok(Some(packed)) => Next::Batch(packed),
                    Ok(None) => Next::End(reader.tail()),
                    Err(error) => Next::Broken(error),
                };
                let last = !matches!(next, Next::Batch(_));
                // Fails when nobody wants to know how it goes on from here.
                if give.send(next).is_err() || last {
                    return reader;
                }
            }
        })?;
        Ok(Self { batches, thread })
    }

    /// Waits for what comes next; none after the end, or if the thread has panicked.
    pub(super) fn next(&self) -> Option<Next> {
        self.batches.recv().ok()
    }

    /// The reader, somewhere ahead of what was given out; none if the thread has panicked.
    pub(super) fn stop(self) -> Option<Reader> {
        drop(self.batches);
        self.thread.join().ok()
    }
}
