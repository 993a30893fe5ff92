//! A file that grows: what is new in it, line by line, through truncation, bounded.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use memchr::memchr;

/// Bytes of a line that are handed on; what comes behind them in it is passed over. nginx's own lines end at half of it
/// (`NGX_MAX_ERROR_STR`, src/core/ngx_log.h).
pub const MAX_LINE: usize = 4096;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Bytes that are looked at in one call: what is left waits for the next, so that one log keeps nobody from another.
const MAX_LOOK: usize = 2 << 20;
/// Bytes that may be left to read. A log that runs further ahead is not caught up with: what is between is passed over, and counted.
const MAX_BEHIND: u64 = 256 << 20;

/// Bytes by which the place where reading goes on is known again: lines of a log differ in them, by time or number.
const MARK: usize = 128;

/// See the module.
#[derive(Debug)]
pub struct Tail {
    file: File,
    /// Where reading goes on.
    at: u64,
    /// The last bytes before that, as they were read.
    mark: Vec<u8>,
    /// The beginning of a line whose end is still to come, [`MAX_LINE`] bytes at most.
    begun: Vec<u8>,
    /// What comes up to the next end of a line belongs to none that is handed on.
    passing: bool,
    lines: u64,
    missed: u64,
    emptied: u64,
}

impl Tail {
    /// From the file's beginning.
    pub fn from_start(file: File) -> Self {
        Self { file, at: 0, mark: Vec::new(), begun: Vec::new(), passing: false, lines: 0, missed: 0, emptied: 0 }
    }

    /// From what is written next.
    pub fn from_end(file: File) -> io::Result<Self> {
        let size = file.metadata()?.size();
        // The last byte says whether a line is only half written.
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        Ok(Self { at: size, passing: last != [b'\n'], ..Self::from_start(file) })
    }

    /// Hands on each whole line that has come, without its end; whether that was all.
    pub fn read(&mut self, buffer: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let size = self.file.metadata()?.size();
        if size < self.at || size > self.at && !self.is_as_it_was()? {
            // Emptied (logrotate's copytruncate), and written to since perhaps: it begins anew.
            (self.at, self.passing) = (0, false);
            self.mark.clear();
            self.emptied = self.emptied.saturating_add(1);
            self.begun.clear();
        }
        if size - self.at > MAX_BEHIND {
            let skipped = size - self.at - MAX_BEHIND / 2;
            self.missed = self.missed.saturating_add(skipped);
            (self.at, self.passing) = (self.at + skipped, true);
            self.mark.clear();
            self.begun.clear();
        }
        buffer.resize(CHUNK, 0);
        let mut looked = 0;
        while looked < MAX_LOOK {
            let count = match self.file.read_at(buffer, self.at) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.at += count as u64;
            looked += count;
            self.take(&buffer[..count], &mut each);
            self.mark.clear();
            self.mark.extend_from_slice(&buffer[count.saturating_sub(MARK)..count]);
        }
        Ok(false)
    }

    /// Whether what was read last is still there.
    fn is_as_it_was(&self) -> io::Result<bool> {
        let mut now = [0; MARK];
        let now = &mut now[..self.mark.len()];
        match self.file.read_exact_at(now, self.at - self.mark.len() as u64) {
            Ok(()) => Ok(now == self.mark),
            // It was emptied this very moment.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', bytes) {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if std::mem::take(&mut self.passing) {
                self.begun.clear();
                continue;
            }
            self.lines = self.lines.saturating_add(1);
            if self.begun.is_empty() {
                each(&line[..line.len().min(MAX_LINE)]);
            } else {
                self.begin(line);
                each(&self.begun);
                self.begun.clear();
            }
        }
        if !self.passing {
            self.begin(bytes);
        }
    }

    fn begin(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.begun.len();
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Lines read.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Times that the file was found emptied, perhaps of lines that had not been read.
    pub fn emptied(&self) -> u64 {
        self.emptied
    }

    /// Bytes passed over, for they came faster than they could be read.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    struct Log {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        file: File,
    }

    impl Log {
        fn with(text: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("error.log");
            fs::write(&path, text).unwrap();
            let file = File::options().append(true).open(&path).unwrap();
            Self { _folder: folder, path, file }
        }

        fn reader(&self) -> File {
            File::open(&self.path).unwrap()
        }
    }

    fn read(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        while !tail.read(&mut Vec::new(), |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap() {}
        lines
    }

    #[test]
    fn only_what_comes_is_read_and_only_when_it_is_whole() {
        let mut log = Log::with(b"old\nhalf");
        let mut tail = Tail::from_end(log.reader()).unwrap();
        log.file.write_all(b" a line\nnew\n\nbeg").unwrap();
        assert_eq!(read(&mut tail), ["new", ""]);
        log.file.write_all(b"un\n").unwrap();
        assert_eq!(read(&mut tail), ["begun"]);
        assert_eq!(read(&mut Tail::from_start(log.reader())), ["old", "half a line", "new", "", "begun"]);
        assert_eq!((tail.lines(), tail.missed()), (3, 0));
    }

    #[test]
    fn a_file_that_was_emptied_begins_anew() {
        let mut log = Log::with(b"first\n");
        let mut tail = Tail::from_start(log.reader());
        log.file.write_all(b"cut").unwrap();
        assert_eq!(read(&mut tail), ["first"]);
        log.file.set_len(0).unwrap();
        log.file.write_all(b"next\n").unwrap();
        assert_eq!(read(&mut tail), ["next"]);
        assert_eq!(tail.emptied(), 1);
        // And has grown past where it was read to by the time somebody looks.
        log.file.set_len(0).unwrap();
        log.file.write_all(b"more than there was before\n").unwrap();
        assert_eq!(read(&mut tail), ["more than there was before"]);
        assert_eq!(tail.emptied(), 2);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut log = Log::with(b"");
        let mut tail = Tail::from_start(log.reader());
        log.file.write_all(&vec![b'x'; 3 * CHUNK]).unwrap();
        assert!(read(&mut tail).is_empty());
        assert!(tail.begun.len() <= MAX_LINE);
        log.file.write_all(b"\nnext\n").unwrap();
        assert_eq!(read(&mut tail).iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE, 4]);
    }

    #[test]
    fn lines_across_what_is_read_at_a_time_are_whole() {
        let line = |number: usize| format!("{number:0>width$}", width = 1 + number * 37 % 300);
        let text: String = (0..9_000).flat_map(|number| [line(number), "\n".to_owned()]).collect();
        assert!(text.len() > 4 * CHUNK, "{}", text.len());
        let log = Log::with(text.as_bytes());
        let expected: Vec<_> = (0..9_000).map(line).collect();
        assert_eq!(read(&mut Tail::from_start(log.reader())), expected);
    }

    #[test]
    fn one_that_runs_far_ahead_is_passed_over_and_that_is_counted() {
        let mut log = Log::with(b"first\n");
        let mut tail = Tail::from_start(log.reader());
        // What lies between is a hole, which takes no room.
        log.file.set_len(2 * MAX_BEHIND).unwrap();
        log.file.write_all(b"\nlast\n").unwrap();
        assert_eq!(read(&mut tail), ["last"]);
        assert_eq!(tail.missed(), 2 * MAX_BEHIND + 6 - MAX_BEHIND / 2);
    }
}
