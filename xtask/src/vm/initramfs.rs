//! What a guest has: the tests, this xtask as its first process, a few programs with their libraries, and modules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::{INIT, MODULES, TESTS};
use crate::{paths, shell};

/// Programs that the tests run.
const PROGRAMS: [&str; 3] = ["cat", "ip", "nft"];
/// Where things are mounted, and what the tests expect to be there.
const FOLDERS: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", MODULES];
/// /dev/console, which the kernel opens for the first process (init/main.c: console_on_rootfs).
const CONSOLE: (u32, u32) = (5, 1);

/// Files of the host that each guest gets, where the guest has them.
pub(super) struct Contents {
    files: Vec<(String, PathBuf)>,
}

impl Contents {
    /// `tests` is a static program; the others bring the libraries that the dynamic linker would take.
    pub(super) fn gather(tests: PathBuf) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find our own executable")?;
        let mut libraries = libraries(&own)?;
        let mut files = vec![(TESTS.to_owned(), tests), (INIT.to_owned(), own)];
        for name in PROGRAMS {
            let Some(program) = paths::program(name) else {
                bail!("the tests need {name}: `cargo xtask setup` brings it");
            };
            libraries.extend(self::libraries(&program)?);
            files.push((format!("/usr/bin/{name}"), program));
        }
        files.extend(libraries.into_iter().map(|library| (library.to_string_lossy().into_owned(), library)));
        Ok(Self { files })
    }

    /// Writes the initramfs for one kernel, packed in no way: that is fastest for the guest.
    pub(super) fn write(&self, kernel: &Kernel, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        for folder in FOLDERS {
            archive.folder(folder)?;
        }
        archive.device("/dev/console", CONSOLE)?;
        for (path, host) in &self.files {
            archive.file(path, &read(host)?)?;
        }
        for module in &kernel.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("{MODULES}/{name}"), &read(module)?)?;
        }
        archive.finish().with_context(|| format!("cannot write {}", to.display()))?;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The shared libraries that a program needs, the dynamic linker among them.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let text = shell::output(Command::new("ldd").arg(program))?;
    if let Some(name) = text.lines().find_map(|line| line.trim().strip_suffix("=> not found")) {
        bail!("{} needs the library {}, which is not there", program.display(), name.trim());
    }
    Ok(parse(&text))
}

/// ldd's lines are `NAME => PATH (ADDRESS)`, and `PATH (ADDRESS)` for the dynamic linker.
fn parse(text: &str) -> BTreeSet<PathBuf> {
    let paths = text.lines().filter_map(|line| line.trim().rsplit("=> ").next()?.split(" (").next());
    paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(text), expected.into_iter().map(PathBuf::from).collect());
        assert!(parse("\tstatically linked\n").is_empty());
    }
}
