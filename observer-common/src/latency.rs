//! How times are counted in little room: a bucket for each width of time, told by its upper end.

/// Buckets; a bucket's number is a byte.
pub const BUCKETS: usize = 256;
/// They begin at `1 << FIRST_OCTAVE` nanoseconds, 8 µs; what took less is in the first.
const FIRST_OCTAVE: u32 = 13;
/// Buckets that an octave is cut into, `1 << PARTS`: each is a fifteenth to an eighth wide.
const PARTS: u32 = 3;

/// The bucket of a time in nanoseconds. The last ends at 2^45 ns, nearly ten hours; what took longer is in it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "kernel programs are one function each")]
#[expect(clippy::manual_ilog2, reason = "`ilog2` can panic, and kernel programs have nowhere to")]
#[expect(clippy::cast_possible_truncation, reason = "compared just before")]
pub const fn bucket(nanos: u64) -> u8 {
    let nanos = if nanos < 1 << FIRST_OCTAVE { 1 << FIRST_OCTAVE } else { nanos };
    let octave = 63 - nanos.leading_zeros();
    let part = (nanos >> (octave - PARTS)) & ((1 << PARTS) - 1);
    let bucket = (((octave - FIRST_OCTAVE) as u64) << PARTS) + part;
    if bucket < BUCKETS as u64 { bucket as u8 } else { u8::MAX }
}

/// Where a bucket ends, in nanoseconds: what is in it took less.
pub const fn upper_end(bucket: u8) -> u64 {
    let (octave, part) = (FIRST_OCTAVE + (bucket as u32 >> PARTS), bucket as u64 & ((1 << PARTS) - 1));
    ((1 << PARTS) + part + 1) << (octave - PARTS)
}

/// A map's value, in the kernel only: how often something took how long, by bucket.
pub type Counts = [u32; BUCKETS];
