//! Small helpers that know of cells and text, and nothing of observer.

pub(crate) mod bar;
pub(crate) mod gauge;
pub(crate) mod number;
pub(crate) mod spark;
pub(crate) mod stack;
pub(crate) mod text;
