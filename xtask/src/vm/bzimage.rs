//! The kernel proper out of a bzImage (Documentation/arch/x86/boot.rst): emulation unpacks it far slower than the host does.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;

/// The setup header's mark, and where it is.
const MARK: (usize, &[u8]) = (0x202, b"HdrS");
/// Number of sectors before the kernel proper, less one; 0 means 4.
const SETUP_SECTORS: usize = 0x1f1;
const SECTOR: usize = 512;
/// Where the packed kernel is, from the end of the setup sectors, and its length; 32 bits each.
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The payload ends with the unpacked size (arch/x86/boot/compressed: `size_append`); for gzip that is part of the format.
const SIZE: usize = 4;

/// A program that unpacks, its arguments, and whether it wants the size at the end too.
type Unpacker = (&'static str, &'static [&'static str], bool);

/// Packed kernels by how they begin.
const FORMATS: [(&[u8], Unpacker); 4] = [
    (b"\x28\xb5\x2f\xfd", ("zstd", &["-dcq"], false)),
    (b"\x02\x21\x4c\x18", ("lz4", &["-dcq"], false)),
    (b"\xfd7zXZ\0", ("xz", &["-dcq", "--single-stream"], false)),
    (b"\x1f\x8b", ("gzip", &["-dcq"], true)),
];

#[derive(Debug, PartialEq, Eq)]
struct Packed<'a> {
    content: &'a [u8],
    unpacker: &'static str,
    arguments: &'static [&'static str],
    /// Bytes, unpacked.
    size: u64,
}

/// Writes the ELF kernel in `image` to `to`.
pub(super) fn unpack(image: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let packed = find(&bytes).with_context(|| format!("{} is no kernel that can be unpacked", image.display()))?;
    let Some(program) = paths::program(packed.unpacker) else {
        bail!("{0} is needed to unpack a kernel: install it (apt-get install {0}, or xz-utils)", packed.unpacker);
    };
    let piece = to.with_extension("packed");
    fs::write(&piece, packed.content).with_context(|| format!("cannot write {}", piece.display()))?;
    let out = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut command = Command::new(program);
    command.args(packed.arguments).stdin(File::open(&piece)?).stdout(out).stderr(Stdio::null());
    // Its exit status says nothing: what follows the kernel may displease it. The size does.
    let _ = command.status().with_context(|| format!("cannot run {}", packed.unpacker))?;
    let _ = fs::remove_file(&piece);
    let size = fs::metadata(to)?.len();
    if size != packed.size {
        bail!("{} was unpacked to {size} bytes instead of {}", image.display(), packed.size);
    }
    Ok(())
}

fn find(image: &[u8]) -> Result<Packed<'_>> {
    if image.get(MARK.0..MARK.0 + MARK.1.len()) != Some(MARK.1) {
        bail!("it has no setup header");
    }
    let sectors = match image[SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let offset = (sectors + 1) * SECTOR + number(image, PAYLOAD_OFFSET)?;
    let payload = image.get(offset..offset + number(image, PAYLOAD_LENGTH)?).context("it is cut short")?;
    let Some((_, (unpacker, arguments, whole))) = FORMATS.iter().find(|(mark, _)| payload.starts_with(mark)) else {
        bail!("its compression is unknown (it begins {:02x?})", payload.get(..SIZE).unwrap_or_default());
    };
    let end = payload.len().checked_sub(SIZE).context("it is empty")?;
    let content = if *whole { payload } else { &payload[..end] };
    Ok(Packed { content, unpacker, arguments, size: number(payload, end)? as u64 })
}

/// 32 bits, little-endian.
fn number(bytes: &[u8], at: usize) -> Result<usize> {
    let bytes = bytes.get(at..at + 4).context("it is cut short")?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 16];
        image[SETUP_SECTORS] = 1;
        image[MARK.0..MARK.0 + 4].copy_from_slice(MARK.1);
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = u8::try_from(payload.len()).unwrap();
        image.extend(payload);
        image
    }

    #[test]
    fn the_payload_is_found_with_its_format_and_size() {
        let xz = image(b"\xfd7zXZ\0abc\x00\x01\x00\x00");
        let found = find(&xz).unwrap();
        assert_eq!((found.content, found.unpacker, found.size), (b"\xfd7zXZ\0abc".as_slice(), "xz", 256));
        let gzip = image(b"\x1f\x8bab\x07\x00\x00\x00");
        assert_eq!(find(&gzip).unwrap().content, b"\x1f\x8bab\x07\x00\x00\x00");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(find(b"short").is_err());
        assert!(find(&image(b"unknown")).unwrap_err().to_string().contains("compression"));
        let mut cut = image(b"\x1f\x8bab\x07\x00\x00\x00");
        cut.truncate(cut.len() - 1);
        assert!(find(&cut).is_err());
    }
}
