//! The initramfs format: a cpio archive of the kind `newc` (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::{self, Write};

/// Every entry, header with name as well as content, begins at a multiple of this many bytes.
const ALIGNMENT: usize = 4;
/// Kinds of files as `st_mode` has them (stat(2)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
/// The entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive in the making; everything in it belongs to root.
pub(super) struct Archive<W> {
    to: W,
    /// Folders that are in the archive already.
    folders: BTreeSet<String>,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, folders: BTreeSet::new(), entries: 0 }
    }

    /// A folder, with those that it is in.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = relative(path);
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.parent(path)?;
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// A file that anyone may read and run.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        self.entry(relative(path), REGULAR | 0o755, (0, 0), content)
    }

    /// A character device with that major and minor number.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        self.parent(path)?;
        self.entry(relative(path), CHARACTER_DEVICE | 0o600, number, &[])
    }

    /// Ends the archive and gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn parent(&mut self, path: &str) -> io::Result<()> {
        match relative(path).rsplit_once('/') {
            Some((parent, _)) => self.folder(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other(format!("{name} is too large for an initramfs (4 GiB)")))?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| io::Error::other("a name is too long"))?;
        let inode = self.entries;
        // inode, mode, uid, gid, links, time, size, device of the file (2), device that it is (2), name with its NUL, checksum
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08X}")?;
        }
        self.padded(&[&header, name.as_bytes(), &[0]])?;
        self.padded(&[content])
    }

    /// Writes these one after the other, and zeros up to the next boundary; all before ended at one.
    fn padded(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.to.write_all(part)?;
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.to.write_all(&[0; ALIGNMENT][..length.next_multiple_of(ALIGNMENT) - length])
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of each entry, read by the format's own rules.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |number: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * number..14 + 8 * number]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let content = (110 + name_size).next_multiple_of(4);
            let entry = (name, mode, bytes[content..content + size].to_vec());
            bytes = &bytes[(content + size).next_multiple_of(4)..];
            if entry.0 == TRAILER {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push(entry);
        }
    }

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/usr/bin/a", b"12345").unwrap();
        archive.file("/usr/bin/bc", b"").unwrap();
        archive.device("/dev/console", (5, 1)).unwrap();
        archive.folder("/proc").unwrap();
        let entries = read(&archive.finish().unwrap());
        let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["usr", "usr/bin", "usr/bin/a", "usr/bin/bc", "dev", "dev/console", "proc"]);
        assert_eq!((entries[2].1, entries[2].2.as_slice()), (0o100_755, b"12345".as_slice()));
        assert_eq!(entries[5].1, 0o020_600);
    }
}
