//! Standard output in a thread of its own, so that a reader that hangs cannot keep observer from ending.

use std::{
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Texts of a few lines that may wait for the reader. Full, whoever writes waits.
const MAX_LINES: usize = 64;
/// At the end a reader has this long to take a line.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where lines go.
pub(super) struct Output {
    lines: mpsc::Sender<String>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    pub(super) fn start() -> Result<Self> {
        let (lines, waiting) = mpsc::channel(MAX_LINES);
        let (finished, done) = oneshot::channel();
        thread::Builder::new()
            .name("observer-output".into())
            .spawn(move || {
                // Nobody may be waiting for it any more.
                let _ = finished.send(write(waiting));
            })
            .context("starting a thread")?;
        Ok(Self { lines, done })
    }

    /// Hands a line over, or several that came together; false if nobody reads any more. Waits while too many wait already.
    pub(super) async fn line(&self, text: String) -> bool {
        self.lines.send(text).await.is_ok()
    }

    /// The same when the end has come: a reader that hangs is not waited for.
    pub(super) async fn last_line(&self, text: String) -> bool {
        matches!(timeout(PATIENCE, self.lines.send(text)).await, Ok(Ok(())))
    }

    /// Waits until everything is written. A reader that has gone is no error; one that hangs is.
    pub(super) async fn finish(self) -> Result<()> {
        drop(self.lines);
        match timeout(PATIENCE, self.done).await {
            Ok(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("writing to standard output")
            }
            Ok(_) => Ok(()),
            Err(_) => bail!("nobody reads standard output: its last lines, the summary among them, are lost"),
        }
    }
}

fn write(mut lines: mpsc::Receiver<String>) -> io::Result<()> {
    let mut out = io::stdout();
    while let Some(line) = lines.blocking_recv() {
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}
