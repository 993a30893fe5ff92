//! The trace file: an Arrow IPC stream of Events, compressed by zstd as a whole, complete in itself, readable by anything that
//! reads Arrow and zstd.
//!
//! One wide table ([`columns`]), whose rows are told apart by their kind ([`words`]); [`about`] is in the stream's metadata. A
//! recording is one file, or a ring of segments, each of which begins with a checkpoint of observer's state, so that it can be
//! replayed when those before it are gone. Bounds and the rule for what may change are in [`format`]; writer and reader are
//! side by side here so that they stay together.

pub mod about;
pub mod columns;
mod decode;
mod detail;
mod encode;
pub mod export;
pub mod format;
mod frames;
pub mod info;
pub mod reader;
pub mod recorder;
mod said;
pub mod schema;
mod table;
pub mod words;
mod writer;

pub use about::About;
pub use decode::Given;
pub(crate) use encode::kind;
pub use info::Info;
pub use reader::{Packed, ReadError, Reader, Tail};
pub use recorder::{Closing, RecordError, RecordOptions, Recorded, Recorder};
pub use said::{Said, Told};
pub use writer::{WriteError, Writer};

#[cfg(test)]
pub(crate) mod tests;
