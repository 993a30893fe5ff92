//! Files as a process sees them that has another root: a proxy in a container.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern};
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

/// Bytes of one file.
const MAX_BYTES: u64 = 4 << 20;
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
        // Nothing that blocks (a FIFO) or acts when opened.
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(&self.0, path, how)?)
    }

    /// A regular file's bytes.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::from(self.resolve(path, OFlag::O_RDONLY)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
        }
        Ok(bytes)
    }

    /// The names in a directory, sorted.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = self.resolve(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        // By its descriptor, which the path cannot be taken away from.
        let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        let mut names = Vec::new();
        for entry in entries.take(MAX_MATCHES) {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// The paths that a pattern stands for, as glob(3) finds them, sorted. The pattern itself if it is none.
    pub(super) fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        // What glob(3) does without flags: a name that begins with a dot must be asked for.
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        let mut found = vec![PathBuf::from("/")];
        for component in pattern.components() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    for path in &mut found {
                        path.push("..");
                    }
                }
                continue;
            };
            let name = name.to_str().ok_or_else(|| io::Error::other("it is not UTF-8"))?;
            if !name.contains(['*', '?', '[']) {
                for path in &mut found {
                    path.push(name);
                }
                continue;
            }
            let matches = Pattern::new(name).map_err(io::Error::other)?;
            let mut next = Vec::new();
            for path in found {
                // A directory that is not there matches nothing.
                let names = self.names(&path).unwrap_or_default();
                next.extend(
                    names.iter().filter(|name| matches.matches_with(name, options)).map(|name| path.join(name)),
                );
            }
            next.truncate(MAX_MATCHES);
            found = next;
        }
        Ok(found)
    }
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
            root.matching(Path::new(pattern)).unwrap().iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(matching("/a/*.conf"), ["/a/x.conf", "/a/y.conf"]);
        assert_eq!(matching("/*/x.conf"), ["/a/x.conf", "/b/x.conf"]);
        assert_eq!(matching("/a/[xy].c?nf"), ["/a/x.conf", "/a/y.conf"]);
        assert_eq!(matching("/nowhere/*.conf"), [""; 0]);
        assert_eq!(matching("/nowhere/plain.conf"), ["/nowhere/plain.conf"]);
    }
}
