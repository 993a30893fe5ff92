//! Debian's kernels: the newest of a series that can be had, kept under `target/vm`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::modules::Modules;
use super::{bzimage, version};

/// Modules that tests need. nftables' own is enough for rules on addresses and ports.
const MODULES: [&str; 2] = ["veth", "nf_tables"];
/// Names in a kernel's types on which tests depend, and which came after 5.10.
const TYPES: [&str; 2] = ["BPF_FUNC_task_pt_regs", "bpf_iter__unix"];
/// Names of modules that the kernel lacks, one a line.
const MISSING: &str = "missing";

/// A kernel ready to boot.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// `6.1`
    pub(super) series: String,
    /// `6.1.0-56-cloud-amd64`
    pub(super) version: String,
    pub(super) image: PathBuf,
    /// Files `NN-NAME.ko`, to be loaded in the order of their names.
    pub(super) modules: Vec<PathBuf>,
    /// Modules and types that this kernel has not got.
    pub(super) missing: Vec<String>,
}

/// The kernel in `cache`, brought there first if need be. Remove the folder for a newer one.
pub(super) fn bring(series: &str, cache: &Path) -> Result<Kernel> {
    let folder = cache.join("kernels").join(series);
    if !folder.is_dir() {
        fetch(series, cache, &folder).with_context(|| format!("no kernel {series} to be had"))?;
    }
    open(series, &folder)
}

fn open(series: &str, folder: &Path) -> Result<Kernel> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}: remove its folder", path.display()))
    };
    let mut modules = Vec::new();
    for entry in fs::read_dir(folder.join("modules")).with_context(|| format!("{} is damaged", folder.display()))? {
        modules.push(entry?.path());
    }
    modules.sort();
    let image = folder.join("vmlinux");
    let mut missing: Vec<_> = read(MISSING)?.lines().map(str::to_owned).collect();
    missing.extend(missing_types(&fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?));
    Ok(Kernel { series: series.to_owned(), version: read("version")?, image, modules, missing })
}

/// Those of [`TYPES`] that are no string of the kernel's image, in which its types' names are, each ended by a NUL.
fn missing_types(image: &[u8]) -> impl Iterator<Item = String> {
    let mut missing = TYPES.to_vec();
    for string in image.split(|byte| *byte == 0) {
        missing.retain(|name| name.as_bytes() != string);
    }
    missing.into_iter().map(str::to_owned)
}

fn fetch(series: &str, cache: &Path, folder: &Path) -> Result<()> {
    let archive = Archive::open(cache.join("apt"))?;
    let mut names = Vec::new();
    for prefix in version::PREFIXES {
        names.extend(archive.names(&format!("{prefix}{series}."))?);
    }
    let unpacked = cache.join("unpacked");
    for version in version::newest_first(series, names.iter().map(String::as_str)) {
        eprintln!("vm: {series}: fetching {version}");
        if let Some(image) = image_of(&archive, &version, &unpacked)? {
            keep(&version, &image, &unpacked, folder)?;
            return fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()));
        }
        eprintln!("vm: {series}: {version} is listed but cannot be downloaded, trying an older one");
    }
    bail!("the archive has none that can be downloaded: is the mirror in reach? `cargo xtask vm -k` takes other series")
}

/// Unpacks the packages of a version; none if they cannot be had.
fn image_of(archive: &Archive, version: &str, unpacked: &Path) -> Result<Option<PathBuf>> {
    // From 6.19 on the kernel is in linux-binary and its modules are apart; before, all is in one, signed or not.
    let sets: [&[&str]; 3] =
        [&["linux-binary-{}", "linux-modules-{}"], &["linux-image-{}"], &["linux-image-{}-unsigned"]];
    for set in sets {
        let _ = fs::remove_dir_all(unpacked);
        fs::create_dir_all(unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
        let packages: Vec<_> = set.iter().map(|name| name.replace("{}", version)).collect();
        if archive.unpack(&packages, unpacked).is_ok() {
            let places = [
                format!("boot/vmlinuz-{version}"),
                format!("usr/lib/modules/{version}/vmlinuz"),
                format!("lib/modules/{version}/vmlinuz"),
            ];
            if let Some(image) = places.iter().map(|place| unpacked.join(place)).find(|image| image.is_file()) {
                return Ok(Some(image));
            }
        }
    }
    Ok(None)
}

/// Puts what is needed of a kernel into `folder`, all at once: what is there is whole.
fn keep(version: &str, image: &Path, unpacked: &Path, folder: &Path) -> Result<()> {
    let fresh = folder.with_extension("new");
    let _ = fs::remove_dir_all(&fresh);
    let modules = fresh.join("modules");
    fs::create_dir_all(&modules).with_context(|| format!("cannot create {}", modules.display()))?;
    bzimage::unpack(image, &fresh.join("vmlinux"))?;
    let found = Modules::under(unpacked)?.find(&MODULES)?;
    for (number, (name, content)) in found.loadable.iter().enumerate() {
        fs::write(modules.join(format!("{number:02}-{name}.ko")), content)?;
    }
    fs::write(fresh.join(MISSING), found.missing.join("\n"))?;
    fs::write(fresh.join("version"), version)?;
    fs::rename(&fresh, folder).with_context(|| format!("cannot write {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_a_kernel_lacks_are_told_by_name() {
        let missing: Vec<_> = missing_types(b"\x7fELF\0my_bpf_iter__unix\0BPF_FUNC_task_pt_regs\0").collect();
        assert_eq!(missing, ["bpf_iter__unix"]);
    }
}
