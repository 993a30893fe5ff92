//! What became of a try that a proxy let go: the answer that it wrote to its client, or the next try.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{COMM_LEN, Flow, Header, Task};

/// [`Outcome::what`]: a plain HTTP answer with [`Outcome::status`].
pub const ANSWERED: u8 = 1;
/// [`Outcome::what`]: something was written to a client that is no plain HTTP answer (TLS, HTTP/2).
pub const HIDDEN: u8 = 2;
/// [`Outcome::what`]: the proxy tried again.
pub const RETRIED: u8 = 3;
/// [`Outcome::what`]: the proxy closed its client's connection without a word.
pub const CLIENT_GONE: u8 = 4;

/// [`Outcome::head`]: no status line was seen, or it could not be looked at.
pub const HEAD_NONE: u8 = 0;
/// [`Outcome::head`]: a status line, and no empty line after it.
pub const HEAD_BEGUN: u8 = 1;
/// [`Outcome::head`]: a whole head.
pub const HEAD_WHOLE: u8 = 2;
/// [`Outcome::head`]: a status line in a read too long to be looked at.
pub const HEAD_LONG: u8 = 3;

/// A proxy's thread let go of a try and then did this; or it wrote a 502 or 504 without a try behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Outcome {
    /// When and what.
    pub header: Header,
    /// The client's connection, the proxy's end local; empty where it was not looked up.
    pub flow: Flow,
    /// The proxy's thread.
    pub task: Task,
    /// [`Header::time`] of the record that told how the try ended; 0 if the thread had let go of none.
    pub told: u64,
    /// HTTP status of the answer; 0 if that could not be seen.
    pub status: u16,
    /// [`ANSWERED`] or another.
    pub what: u8,
    /// How much of an HTTP head the proxy had read as the try's last answer: [`HEAD_NONE`] or another.
    pub head: u8,
    /// Payload bytes of the try that the proxy left unread.
    pub left_unread: u32,
    /// [`Header::time`] of the record that told of this answer before, then without its try; 0 if there was none.
    pub told_before: u64,
    /// HTTP status of the last answer whose head the proxy read on the try's connection; 0 if none was seen.
    pub upstream_status: u16,
    /// 1 if the process has upstreams behind unix sockets, on which nothing can be followed.
    pub unix: u8,
    /// Padding, 0.
    pub pad: [u8; 5],
}
const _: () = assert!(size_of::<Outcome>() == 112);

/// Value of the PROXIES map: the thread that lets go of a try is the one that answers for it.
pub const THREAD_PER_REQUEST: u8 = 1;
/// Value of the PROXIES map: requests move between threads (Go's runtime does that), so only the process is a hint.
pub const THREADS_SHARED: u8 = 2;

/// A process that has read so many answers and written none to a client writes them in a way that is not seen.
pub const UNSEEN_AFTER: u32 = 16;

/// Value of the PROXIES map: like [`THREAD_PER_REQUEST`], but the thread answers first and lets go then (HAProxy does that).
pub const ANSWERS_FIRST: u8 = 3;

/// Statuses of 500 and above that a proxy both gives itself and passes on.
pub const SERVER_ERRORS: [u16; 4] = [500, 502, 503, 504];

/// [`Process::speaks`]: nothing yet.
pub const SILENT: u32 = 0;
/// [`Process::speaks`]: something that cannot be read (TLS, HTTP/2).
pub const IN_CIPHER: u32 = 1;
/// [`Process::speaks`]: plain HTTP, among other things perhaps.
pub const PLAINLY: u32 = 2;

/// What is known of a proxy's process; value of the PROCESSES map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Process {
    /// When it last read an upstream's own answer of [`SERVER_ERRORS`], nanoseconds; 0 for never.
    pub passed_on_at: u64,
    /// How many of each of [`SERVER_ERRORS`] it has read and not yet passed on.
    pub passed_on: [i32; 4],
    /// What it was seen to write to clients: [`SILENT`] or another.
    pub speaks: u32,
    /// [`THREAD_PER_REQUEST`] or another.
    pub threading: u32,
    /// Upstreams' answers that it has read while [`SILENT`].
    pub read_in_silence: u32,
    /// 1 once it has connected to a unix socket.
    pub unix: u32,
    /// The name by which it was recognised last; zeroes if not by the programs.
    pub comm: [u8; COMM_LEN],
}
const _: () = assert!(size_of::<Process>() == 56);

impl Process {
    /// One of which nothing has been seen.
    pub const fn new(threading: u8) -> Self {
        Self {
            passed_on_at: 0,
            passed_on: [0; 4],
            speaks: SILENT,
            threading: threading as u32,
            read_in_silence: 0,
            unix: 0,
            comm: [0; COMM_LEN],
        }
    }
}
