//! Numbers for tables: neighbours far apart, the same on both sides of the kernel boundary.

/// Spreads neighbours over 64 bits, best over the highest: a product with 2^64 divided by the golden ratio (Knuth, The Art of
/// Computer Programming, 6.4).
#[inline]
pub const fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
