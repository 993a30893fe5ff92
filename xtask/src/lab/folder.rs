//! The folder of one run: configuration and logs, left there for looking at until the next run of the same name.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{paths, wait};

/// Longer than a trial. A demo may last longer, and then a second one is told so.
const TURN: Duration = Duration::from_mins(2);

/// Two labs may run side by side; the same scenario of both takes turns.
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let lock = lock(&path)?;
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("tmp")).with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).context("cannot open up the folder")?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(paths::lab_runs()).context("cannot create target/lab")?;
    let path = folder.with_added_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let what = format!("another run of ours to release {}", path.display());
    wait::until(&what, TURN, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock"),
    })?;
    Ok(file)
}
