//! Whatever a trace file holds: no panic while it is read and judged. The input is the stream before compression, and
//! checksums are taken for right, so that what is changed reaches the reader.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use observer::{diagnose::Engine, trace::Reader};

fuzz_target!(|stream: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let packed = zstd::encode_all(stream, 1).expect("zstd takes anything");
    file.write_all(&packed).expect("the file takes it");
    let Ok(mut reader) = Reader::open(&[file.path().to_owned()]) else { return };
    let mut engine = Engine::default();
    let mut events = Vec::new();
    while let Ok(Some(besides)) = reader.next_batch(&mut events) {
        if let Some(restored) = besides.checkpoint.and_then(|state| Engine::restore(&state).ok()) {
            engine = restored;
        }
        for event in events.drain(..) {
            engine.apply(&event, &mut |_| {});
        }
    }
    engine.finish(&mut |_| {});
});
