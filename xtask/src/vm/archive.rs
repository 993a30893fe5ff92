//! Debian's package archive over several releases, by an apt state of its own: the machine's own sources stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::mirrors::{KEYRING, Mirrors};
use crate::{paths, shell};

/// Which releases carry which kernels: 5.10 the first, 6.1 and 6.12 the second, newer ones the last.
const SUITES: &str = "bullseye bookworm bookworm-backports trixie-backports";
const SECURITY_SUITES: &str = "bullseye-security bookworm-security";
/// Lists of packages younger than this are not fetched again.
const FRESH: Duration = Duration::from_hours(24);

/// An apt state in a folder.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Opens the state in `folder`, with lists no older than [`FRESH`].
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        for name in ["lists/partial", "state", "cache/archives/partial", "sources"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        if paths::program("apt-get").is_none() || !Path::new(KEYRING).is_file() {
            bail!("Debian's kernels are fetched with apt-get and {KEYRING}: install apt and debian-archive-keyring");
        }
        fs::write(folder.join("sources/vm.sources"), sources(&Mirrors::own()))
            .with_context(|| format!("cannot write to {}", folder.display()))?;
        let archive = Self { folder };
        archive.refresh()?;
        Ok(archive)
    }

    fn refresh(&self) -> Result<()> {
        let stamp = self.folder.join("refreshed");
        let age = fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < FRESH) {
            return Ok(());
        }
        eprintln!("vm: fetching the lists of Debian's packages");
        if let Err(error) = shell::output(self.apt("apt-get").args(["-qq", "update"])) {
            // A release that has left the mirror takes only its own kernels with it.
            if self.names("linux-image-")?.is_empty() {
                return Err(error.context("cannot fetch the lists of Debian's packages: is the mirror in reach?"));
            }
            eprintln!("vm: going on with the lists that could be fetched: {error:#}");
            return Ok(());
        }
        fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))
    }

    /// Names of all packages that begin so.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = shell::output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Unpacks these packages, all of them, under `into`. Listed does not mean there: the archive moves.
    pub(super) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let folder = self.folder.join("download");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        shell::output(self.apt("apt-get").args(["-qq", "download"]).args(packages).current_dir(&folder))?;
        for package in fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()? {
            shell::output(Command::new("dpkg-deb").arg("--extract").arg(package.path()).arg(into))?;
        }
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).args([
            "-o",
            "Dir::Etc::sourcelist=/dev/null",
            // Nothing is installed here; what the machine has must not matter.
            "-o",
            "Dir::State::status=/dev/null",
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Acquire::Languages=none",
            "-o",
            "Acquire::Retries=3",
        ]);
        let places =
            [("Etc::sourceparts", "sources"), ("State", "state"), ("State::lists", "lists"), ("Cache", "cache")];
        for (option, name) in places {
            command.arg("-o").arg(format!("Dir::{option}={}", self.folder.join(name).display()));
        }
        command
    }
}

fn sources(mirrors: &Mirrors) -> String {
    format!("{}\n{}", mirrors.main(SUITES), mirrors.security(SECURITY_SUITES))
}
