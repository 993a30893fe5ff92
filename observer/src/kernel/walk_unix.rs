//! `iter/unix` from userspace: the listening unix sockets of the calling thread's network namespace.

use std::io::Read as _;

use aya::programs::Iter;
use observer_common::{connect::PATH_LEN, unix::Sample};
use zerocopy::FromBytes as _;

use super::{attach::program, decode::unix_path, load::Kernel, walk::WalkError};
use crate::addr::UnixPath;

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "walk_unix";
/// What it walks over, as the kernel calls it.
pub(super) const KIND: &str = "unix";

/// A listening unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixListener {
    /// Where it is bound.
    pub path: UnixPath,
    /// The socket's inode.
    pub inode: u64,
    /// Connections that wait to be accepted.
    pub depth: u32,
    /// How many may; full means deeper than that.
    pub limit: u32,
}

impl Kernel {
    /// The listening unix sockets of the network namespace that the calling thread is in, the youngest last: a path that was
    /// removed and bound again leads to that one.
    pub fn unix_listeners(&mut self) -> Result<Vec<UnixListener>, WalkError> {
        let iterator: &mut Iter = program(&mut self.ebpf, PROGRAM)?;
        let link = iterator.attach()?;
        let mut bytes = Vec::new();
        iterator.take_link(link)?.into_file()?.read_to_end(&mut bytes)?;
        let samples = bytes.chunks_exact(size_of::<Sample>()).filter_map(|chunk| Sample::read_from_bytes(chunk).ok());
        let mut listeners: Vec<_> = samples.map(|sample| listener(&sample)).collect();
        listeners.sort_unstable_by_key(|listener| listener.inode);
        Ok(listeners)
    }
}

fn listener(sample: &Sample) -> UnixListener {
    let length = usize::try_from(sample.path_len).unwrap_or(usize::MAX).min(PATH_LEN);
    UnixListener {
        path: UnixPath::new(&unix_path(&sample.path[..length])),
        inode: sample.inode,
        depth: sample.depth,
        limit: sample.limit,
    }
}
