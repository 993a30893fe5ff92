//! One boot of one kernel in QEMU, by plain emulation: no disk, no network, two serial ports into files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::INIT;
use super::kernel::Kernel;
use super::results::{self, Report};
use crate::{shell, wait};

pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// MiB: the initramfs twice while it is unpacked, kernel maps, the tests.
const MEMORY: u32 = 1536;
/// Boot and all the tests take five minutes where a CPU is free, an emulated machine being some fifteen times slower than a
/// real one; three times as long among busy neighbours.
const LIMIT: Duration = Duration::from_mins(30);
/// Lines of the console that are shown of a machine that died.
const TAIL: usize = 30;

/// Where a machine's files are.
pub(super) struct Machine {
    folder: PathBuf,
}

/// What came of it.
pub(super) struct Run {
    pub(super) report: Report,
    /// Why the report is not whole, with the console's end.
    pub(super) died: Option<String>,
}

impl Machine {
    /// Files go into `folder`, those of an earlier boot are written over.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(super) fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.cpio")
    }

    /// What the kernel said, and all programs but for their results.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// What the tests and the lab said.
    pub(super) fn report(&self) -> PathBuf {
        self.folder.join("report.log")
    }

    /// Boots, and waits for the guest's end. `progress` is shown the report each time that it has grown.
    pub(super) fn run(&self, kernel: &Kernel, progress: impl FnMut(&Report)) -> Result<Run> {
        for log in [self.console(), self.report()] {
            fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        }
        let mut command = self.command(kernel);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {QEMU}: `apt-get install qemu-system-x86` brings it"))?;
        let ended = self.wait_for(&mut child, progress);
        shell::end(&mut child);
        let ended = ended?;
        let report = self.reported();
        // The verdict is what the guest wrote last; QEMU's own status says nothing about it.
        let died = match (report.exit, ended) {
            (Some(_), _) => None,
            (None, true) => Some("the machine died"),
            (None, false) => Some("the machine was ended at its time limit"),
        };
        let died = died.map(|how| format!("{how}; its console's end:\n{}", tail(&read(&self.console()))));
        Ok(Run { report, died })
    }

    fn reported(&self) -> Report {
        results::parse(&read(&self.report()))
    }

    /// False at the time limit.
    fn wait_for(&self, child: &mut Child, mut progress: impl FnMut(&Report)) -> Result<bool> {
        let mut seen = 0;
        wait::at_most(LIMIT, || {
            let ended = child.try_wait().context("cannot wait for QEMU")?.is_some();
            let length = fs::metadata(self.report()).map_or(0, |file| file.len());
            if length > seen {
                seen = length;
                progress(&self.reported());
            }
            Ok(ended)
        })
    }

    fn command(&self, kernel: &Kernel) -> Command {
        let serial = |path: &Path| format!("file:{}", path.display());
        // What follows `--` the kernel hands to the first process. A panic reboots at once, which ends QEMU. Of two processors
        // one is off, but when a test switches it on: the machine would run them in turns, of a tenth of a second each.
        let append =
            format!("console=ttyS0 quiet no_timer_check maxcpus=1 panic=-1 oops=panic rdinit={INIT} -- vm-guest");
        let mut command = Command::new(QEMU);
        command
            // KVM is not asked for: where it is there but does not work, QEMU hangs. One thread: with two, this QEMU
            // lets guests fail while the kernel patches its own code, as it does for tracepoints.
            .args(["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", &MEMORY.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-serial", &serial(&self.console()), "-serial", &serial(&self.report())])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(self.initramfs())
            .args(["-append", &append])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
