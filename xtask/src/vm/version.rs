//! Which of Debian's kernel packages are of a series, and in what order.

use std::cmp::Ordering;
use std::iter;

/// Debian's kernels for clouds: virtio and what networks need, a third of the size of the general ones.
const FLAVOUR: &str = "-cloud-amd64";
/// How the packages' names begin that carry a kernel; from 6.19 on the image is in `linux-binary-*`.
pub(super) const PREFIXES: [&str; 2] = ["linux-image-", "linux-binary-"];

/// Versions of the series (`6.1`), newest first, each once, out of package names (`linux-image-6.1.0-56-cloud-amd64`). A version
/// is what the packages' names have in common: `6.1.0-56-cloud-amd64`.
pub(super) fn newest_first<'a>(series: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut versions: Vec<_> = names.filter_map(|name| version(series, name)).map(str::to_owned).collect();
    versions.sort_by(|a, b| compare(b, a));
    versions.dedup();
    versions
}

fn version<'a>(series: &str, name: &'a str) -> Option<&'a str> {
    let version = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let version = version.strip_suffix("-unsigned").unwrap_or(version);
    let number = version.strip_suffix(FLAVOUR)?;
    // `6.1` must not find `6.12.1`, nor `6.1.0-rt`.
    let rest = number.strip_prefix(series)?.strip_prefix('.')?;
    let numbered = rest.starts_with(|first: char| first.is_ascii_digit());
    (numbered && !rest.contains("-rt")).then_some(version)
}

/// By numbers where there are numbers (as dpkg does it), by letters elsewhere.
fn compare(a: &str, b: &str) -> Ordering {
    parts(a).cmp(parts(b))
}

/// Runs of digits as numbers, each with the text before it.
fn parts(version: &str) -> impl Iterator<Item = (&str, u64)> {
    let mut rest = version;
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(end);
        rest = after;
        Some((text, number.parse().unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_series_comes_first_and_no_other_series() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-rt-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
        ];
        let found = newest_first("6.1", names.into_iter());
        assert_eq!(found, ["6.1.0-56-cloud-amd64", "6.1.0-9-cloud-amd64"]);
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_kernels_in_two_packages_are_one() {
        let names = [
            "linux-image-7.2.9+deb13-cloud-amd64",
            "linux-binary-7.2.12+deb13-cloud-amd64",
            "linux-image-7.2.12+deb13-cloud-amd64",
        ];
        let found = newest_first("7.2", names.into_iter());
        assert_eq!(found, ["7.2.12+deb13-cloud-amd64", "7.2.9+deb13-cloud-amd64"]);
    }
}
