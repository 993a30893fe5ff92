//! A sieve for names: most processes of a host are no proxies, and it must cost next to nothing to know.

use crate::{COMM_LEN, spread::spread};

/// The bit of a sieve in which a name falls. A name whose bit is not set is none of those that the sieve was made of.
pub const fn bit(comm: &[u8; COMM_LEN]) -> u64 {
    /// What is left of 64 bits when there are 64 of them.
    const SHIFT: u32 = 58;
    let Some(beginning) = comm.first_chunk() else { return 0 };
    1 << (spread(u64::from_ne_bytes(*beginning)) >> SHIFT)
}
