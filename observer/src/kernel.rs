//! The kernel's side as userspace sees it: what this kernel offers, load, attach, the ring, samples by iterator.
//! With `observer-ebpf` the only home of unsafe.

mod again;
mod attach;
pub mod btf;
mod constants;
pub mod decode;
pub(crate) mod first_bytes;
pub mod load;
pub mod look;
pub mod losses;
pub(crate) mod memory;
pub mod statistics;
mod types;
pub mod walk;
pub mod walk_unix;

pub use load::{Kernel, LoadError, Options};
