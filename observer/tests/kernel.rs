//! The kernel's side, for real: programs attached to this kernel, traffic in namespaces of the tests' own, and the
//! kernel's own counters as the judge. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "kernel/answers.rs"]
mod answers;
mod common;
#[path = "kernel/connects.rs"]
mod connects;
#[path = "kernel/errnos.rs"]
mod errnos;
#[path = "kernel/follow.rs"]
mod follow;
#[path = "kernel/ladder.rs"]
mod ladder;
#[path = "kernel/look.rs"]
mod look;
#[path = "kernel/loss.rs"]
mod loss;
#[path = "kernel/overflow.rs"]
mod overflow;
#[path = "kernel/places.rs"]
mod places;
#[path = "kernel/reset.rs"]
mod reset;
#[path = "kernel/retransmit.rs"]
mod retransmit;
#[path = "kernel/time_wait.rs"]
mod time_wait;
