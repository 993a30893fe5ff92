//! The trace file: an Arrow IPC stream of Events, complete in itself, readable by anything that reads Arrow.

pub mod about;

pub use about::About;
