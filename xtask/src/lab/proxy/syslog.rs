//! A log that arrives in datagrams. HAProxy's threads share its other outputs, and drop a line when another one writes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::lab::netns::Netns;

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
    /// Writes to `log`, a line for each datagram. The socket is the namespace's, for it is there that its queue can be made
    /// long enough: HAProxy drops what finds no room.
    pub(in crate::lab) fn open(log: &Path, netns: &Netns) -> Result<Self> {
        netns.sysctl("net.unix.max_dgram_qlen", "4096")?;
        let socket = socket();
        let _ = fs::remove_file(&socket);
        let mut file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let inside = File::open(netns.path()).context("the namespace has gone")?;
        let (bound, is_bound) = sync_channel(1);
        let path = socket.clone();
        let writer = thread::spawn(move || {
            let datagrams = setns(inside, CloneFlags::CLONE_NEWNET)
                .map_err(std::io::Error::from)
                .and_then(|()| UnixDatagram::bind(&path));
            let datagrams = match datagrams {
                Ok(datagrams) => datagrams,
                Err(error) => return drop(bound.send(Err(error))),
            };
            let _ = bound.send(Ok(()));
            let mut line = vec![0; LINE];
            // An empty one is the end.
            while let Ok(length @ 1..) = datagrams.recv(&mut line) {
                let text = String::from_utf8_lossy(&line[..length]);
                let _ = writeln!(file, "{}", text.trim_end());
            }
        });
        is_bound
            .recv()
            .context("the log's thread ended")?
            .with_context(|| format!("cannot bind {}", socket.display()))?;
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
