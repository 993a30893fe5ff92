//! Files as a process sees them that has another root: a proxy in a container.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern};
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, major, minor},
};

/// Bytes of one file.
const MAX_BYTES: u64 = 16 << 20;
/// The null device (major 1, minor 3; Documentation/admin-guide/devices.txt), which containers put in the place of a file that is not to
/// be there.
const NULL: (u64, u64) = (1, 3);
/// Opens nothing that blocks (a FIFO), or acts when it is opened.
const WITHOUT_EFFECT: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY);
/// Names that one pattern may stand for.
const MAX_MATCHES: usize = 10_000;

/// A root directory. Links within it, absolute ones too, lead nowhere outside.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?))
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(&self.0, path, how)?)
    }

    /// A regular file's bytes.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::from(self.resolve(path, OFlag::O_RDONLY | WITHOUT_EFFECT)?);
        let kind = file.metadata()?;
        if kind.file_type().is_char_device() && (major(kind.rdev()), minor(kind.rdev())) == NULL {
            return Ok(Vec::new());
        }
        if !kind.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
        }
        Ok(bytes)
    }

    fn exists(&self, path: &Path) -> bool {
        self.resolve(path, OFlag::O_PATH).is_ok()
    }

    /// The names in a directory, sorted.
    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let directory = self.resolve(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        // By its descriptor, which the path cannot be taken away from.
        let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        let mut names = Vec::new();
        for entry in entries.take(MAX_MATCHES) {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    }

    /// The paths that a pattern stands for, as glob(3) finds them, sorted. The pattern itself if it is none.
    pub(super) fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        // What glob(3) does without flags: a name that begins with a dot must be asked for.
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let mut found = vec![PathBuf::from("/")];
        let mut is_pattern = false;
        for component in pattern.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => OsStr::new(".."),
                _ => continue,
            };
            let Some(matches) = as_pattern(&name.to_string_lossy()) else {
                for path in &mut found {
                    path.push(name);
                }
                continue;
            };
            is_pattern = true;
            let mut next = Vec::new();
            for path in found {
                // A directory that is not there matches nothing.
                let names = self.names(&path).unwrap_or_default();
                let matching = names.iter().filter(|name| matches.matches_with(&name.to_string_lossy(), options));
                next.extend(matching.map(|name| path.join(name)));
            }
            next.truncate(MAX_MATCHES);
            found = next;
        }
        if is_pattern {
            found.retain(|path| self.exists(path));
        }
        found
    }
}

/// A name with wildcards in it, as glob(3) means them; `None` if it has none that are whole.
fn as_pattern(name: &str) -> Option<Pattern> {
    if !name.contains(['*', '?', '[']) {
        return None;
    }
    let mut one_star = name.replace("[^", "[!");
    while one_star.contains("**") {
        one_star = one_star.replace("**", "*");
    }
    Pattern::new(&one_star).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_nowhere_outside() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/nginx")).unwrap();
        fs::write(folder.path().join("etc/real.conf"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/real.conf", folder.path().join("etc/nginx/absolute.conf")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/hostname", folder.path().join("etc/nginx/up.conf")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        assert_eq!(root.read(Path::new("/etc/nginx/absolute.conf")).unwrap(), b"inside");
        assert_eq!(root.read(Path::new("/etc/nginx/up.conf")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(root.read(Path::new("/etc")).is_err(), "a directory");
        let all = Root::open(Path::new("/")).unwrap();
        assert_eq!(all.read(Path::new("/dev/null")).unwrap(), b"");
        assert!(all.read(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn patterns_match_as_the_shell_has_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/x.conf", "a/y.conf", "a/.hidden.conf", "a/z.txt", "b/x.conf"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let root = Root::open(folder.path()).unwrap();
        let matching = |pattern: &str| -> Vec<String> {
            root.matching(Path::new(pattern)).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(matching("/a/*.conf"), ["/a/x.conf", "/a/y.conf"]);
        assert_eq!(matching("/*/x.conf"), ["/a/x.conf", "/b/x.conf"]);
        assert_eq!(matching("/a/[xy].c?nf"), ["/a/x.conf", "/a/y.conf"]);
        assert_eq!(matching("/*/y.conf"), ["/a/y.conf"], "what is not there matches nothing");
        assert_eq!(matching("/a/[^x].conf"), ["/a/y.conf"]);
        assert_eq!(matching("/a/**.txt"), ["/a/z.txt"]);
        assert_eq!(matching("/a/[xy"), ["/a/[xy"], "no pattern");
        assert_eq!(matching("/nowhere/*.conf"), [""; 0]);
        assert_eq!(matching("/nowhere/plain.conf"), ["/nowhere/plain.conf"]);
    }
}
