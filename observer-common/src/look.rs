//! The close look: programs that run for every read, write and packet of a host, attached only while there is reason to.
//!
//! Two slots of a map say since when, in nanoseconds of `bpf_ktime_get_ns`; 0 while they are not attached.

/// What proxies read, answer and connect to.
pub const PROXIES: usize = 0;
/// Packets that meet a full accept queue.
pub const QUEUES: usize = 1;
/// Within this time after a look began, in nanoseconds, a proxy's answer may be about a try that was let go of before it: such an
/// answer is not told without its try. Proxies that are preempted in between were seen to take 27 ms.
pub const SETTLED: u64 = 100_000_000;
/// Not a look: 1 while a walk takes connections over.
pub const ADOPTING: usize = 2;
/// Not a look: 1 from before the second program of state changes is attached.
pub const TWICE: usize = 3;
/// How many slots there are.
pub const SLOTS: usize = 4;
