//! Where Events come from.

pub mod live;
pub mod procs;
pub mod sampler;

pub use live::Live;
