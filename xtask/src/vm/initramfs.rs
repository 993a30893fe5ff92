//! What a guest has: the tests, this xtask as its first process, observer, a few programs with their libraries, modules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::kernel_tests::Built;
use super::plan::{self, Plan};
use super::{INIT, MODULES, PROGRAMS, TESTS};
use crate::{paths, shell};

/// Programs that the tests and the lab run.
const NEEDED: [&str; 7] = ["cat", "chrt", "ip", "nft", "nginx", "ss", "sysctl"];
/// Where things are mounted, and what programs expect to be there.
const FOLDERS: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", MODULES];
/// The users that nginx asks for, in the formats of passwd(5) and group(5).
const USERS: [(&str, &str); 2] = [("/etc/passwd", "root:x:0:0:root:/:/bin/false\n"), ("/etc/group", "root:x:0:\n")];
/// /dev/console, which the kernel opens for the first process (init/main.c: console_on_rootfs).
const CONSOLE: (u32, u32) = (5, 1);

/// Files of the host that each guest gets, and where the guest has them.
pub(super) struct Contents {
    files: Vec<(String, PathBuf)>,
}

impl Contents {
    /// The programs bring the libraries that the dynamic linker would take. What the lab needs is where it is on the host.
    pub(super) fn gather(built: &Built) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find our own executable")?;
        let mut programs = vec![
            (TESTS.to_owned(), small(&built.tests, "kernel-tests")?),
            (INIT.to_owned(), small(&own, "xtask")?),
            (in_guest(&paths::observer()), small(&built.observer, "observer")?),
        ];
        for name in NEEDED {
            let Some(program) = paths::program(name) else {
                bail!("a guest needs {name}: `cargo xtask setup` brings it");
            };
            programs.push((format!("{PROGRAMS}/{name}"), program));
        }
        let mut files = BTreeSet::new();
        for (_, program) in &programs {
            files.extend(libraries(program)?);
        }
        let definitions = paths::lab_definitions();
        for entry in fs::read_dir(&definitions).with_context(|| format!("cannot read {}", definitions.display()))? {
            files.insert(entry.context("cannot read the scenario folder")?.path());
        }
        programs.extend(files.into_iter().map(|file| (in_guest(&file), file)));
        Ok(Self { files: programs })
    }

    /// Writes the initramfs for one kernel, packed in no way: that is fastest for the guest.
    pub(super) fn write(&self, kernel: &Kernel, plan: &Plan, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        for folder in FOLDERS {
            archive.folder(folder)?;
        }
        archive.device("/dev/console", CONSOLE)?;
        archive.file(plan::PATH, &plan.write()?)?;
        for (path, content) in USERS {
            archive.file(path, content.as_bytes())?;
        }
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

fn in_guest(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A copy without debugging information, which would fill the guest's memory.
fn small(program: &Path, name: &str) -> Result<PathBuf> {
    let copy = paths::machines().join(name);
    fs::create_dir_all(paths::machines()).context("cannot create target/vm")?;
    shell::output(Command::new("strip").arg("--strip-debug").arg("-o").arg(&copy).arg(program))
        .context("a program cannot be made small (strip is in Debian's binutils)")?;
    Ok(copy)
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
