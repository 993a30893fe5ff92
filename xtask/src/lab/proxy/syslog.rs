//! A log that arrives in datagrams. HAProxy's threads share its other outputs, and drop a line when another one writes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// Longer than any line.
const LINE: usize = 16 * 1024;

pub(in crate::lab) struct Syslog {
    socket: PathBuf,
    writer: Option<JoinHandle<()>>,
}

/// Not in the run's folder: the path of a unix socket is 107 bytes long at most.
pub(super) fn socket() -> PathBuf {
    format!("/run/observer-stage-{}.log", std::process::id()).into()
}

impl Syslog {
    /// Writes to `log`, a line for each datagram.
    pub(in crate::lab) fn open(log: &Path) -> Result<Self> {
        let socket = socket();
        let _ = fs::remove_file(&socket);
        let datagrams = UnixDatagram::bind(&socket).with_context(|| format!("cannot bind {}", socket.display()))?;
        let mut file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let writer = thread::spawn(move || {
            let mut line = vec![0; LINE];
            // An empty one is the end.
            while let Ok(length @ 1..) = datagrams.recv(&mut line) {
                let text = String::from_utf8_lossy(&line[..length]);
                let _ = writeln!(file, "{}", text.trim_end());
            }
        });
        Ok(Self { socket, writer: Some(writer) })
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        let told = UnixDatagram::unbound().and_then(|sender| sender.send_to(&[], &self.socket));
        if let Some(writer) = self.writer.take().filter(|_| told.is_ok()) {
            let _ = writer.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}
