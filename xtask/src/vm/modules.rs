//! The few kernel modules that tests need, each after those that it needs itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths;

/// How packed modules end, and what unpacks them.
const PACKED: [(&str, &str); 2] = [("xz", "xz"), ("zst", "zstd")];

/// What came of the modules asked for.
#[derive(Default)]
pub(super) struct Found {
    /// Name and content, in the order in which they can be loaded.
    pub(super) loadable: Vec<(String, Vec<u8>)>,
    /// Neither modules of this kernel nor compiled in.
    pub(super) missing: Vec<String>,
}

/// A kernel's modules by name, as the kernel writes names (`_` for `-`).
pub(super) struct Modules {
    files: BTreeMap<String, PathBuf>,
    /// Compiled in.
    builtin: Vec<String>,
}

impl Modules {
    /// All under `root`, a folder with a kernel's unpacked packages.
    pub(super) fn under(root: &Path) -> Result<Self> {
        let mut modules = Self { files: BTreeMap::new(), builtin: Vec::new() };
        modules.collect(root)?;
        Ok(modules)
    }

    fn collect(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                self.collect(&path)?;
            } else if path.file_name().is_some_and(|name| name == "modules.builtin") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.builtin.extend(text.lines().filter_map(|line| name(Path::new(line))));
            } else if kind.is_file()
                && let Some(name) = name(&path)
            {
                self.files.insert(name, path);
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, wanted: &[&str]) -> Result<Found> {
        let mut found = Found::default();
        for name in wanted {
            self.add(name, &mut found)?;
        }
        Ok(found)
    }

    /// Adds a module after what it depends on. The kernel's own build sees to it that there is no circle.
    fn add(&self, name: &str, found: &mut Found) -> Result<()> {
        if found.loadable.iter().any(|(loaded, _)| loaded == name) || self.builtin.iter().any(|it| it == name) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            found.missing.push(name.to_owned());
            return Ok(());
        };
        let content = read(path)?;
        for dependency in dependencies(&content) {
            self.add(&dependency, found)?;
        }
        found.loadable.push((name.to_owned(), content));
        Ok(())
    }
}

/// A module's name by its file's; none for other files.
fn name(path: &Path) -> Option<String> {
    let (name, kind) = path.file_name()?.to_str()?.split_once('.')?;
    let module = kind == "ko" || PACKED.iter().any(|(end, _)| kind.strip_prefix("ko.") == Some(end));
    module.then(|| name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let Some((_, program)) = PACKED.iter().find(|(end, _)| path.extension().is_some_and(|it| it == *end)) else {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    };
    let Some(unpacker) = paths::program(program) else {
        bail!("{program} is needed to unpack {}: install it", path.display());
    };
    let output =
        Command::new(unpacker).arg("-dcq").arg(path).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// `depends=a,b` in the section `.modinfo` (scripts/mod/modpost.c), whose strings end with a NUL.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|byte| *byte == 0);
    let depends = strings.find_map(|it| it.strip_prefix(b"depends=")).unwrap_or_default();
    let names = String::from_utf8_lossy(depends);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_known_by_their_files() {
        let named = |path: &str| name(Path::new(path));
        assert_eq!(named("kernel/net/sched/sch-netem.ko").as_deref(), Some("sch_netem"));
        assert_eq!(named("veth.ko.xz").as_deref(), Some("veth"));
        assert_eq!(named("veth.ko.zst").as_deref(), Some("veth"));
        assert_eq!(named("modules.order"), None);
    }

    #[test]
    fn dependencies_are_read() {
        assert_eq!(
            dependencies(b"\x7fELF\0license=GPL\0depends=nfnetlink,libcrc32c\0name=a\0"),
            ["nfnetlink", "libcrc32c"]
        );
        assert!(dependencies(b"license=GPL\0depends=\0").is_empty());
    }
}
