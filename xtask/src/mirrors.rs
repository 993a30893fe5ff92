//! Where Debian's packages come from.

use std::fs;

/// Where Debian describes its own sources since release 12; other places are not searched.
const OWN_SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What is taken where the machine does not say: the mirrors that Debian itself sets up.
const MAIN: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";

/// Addresses of the mirrors for Debian and for its security updates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// Those that this machine uses.
    pub(crate) fn own() -> Self {
        Self::read(&fs::read_to_string(OWN_SOURCES).unwrap_or_default())
    }

    /// Those that this text, in the deb822 format of sources.list(5), names.
    fn read(text: &str) -> Self {
        let uris = || text.lines().filter_map(|line| line.strip_prefix("URIs:")).flat_map(str::split_whitespace);
        Self {
            main: uris().find(|uri| !uri.contains("security")).unwrap_or(MAIN).to_owned(),
            security: uris().find(|uri| uri.contains("security")).unwrap_or(SECURITY).to_owned(),
        }
    }

    /// A stanza of sources.list(5) for these suites (`bookworm bookworm-backports`).
    pub(crate) fn main(&self, suites: &str) -> String {
        stanza(&self.main, suites)
    }

    /// The same for suites of security updates.
    pub(crate) fn security(&self, suites: &str) -> String {
        stanza(&self.security, suites)
    }
}

fn stanza(uri: &str, suites: &str) -> String {
    format!("Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirrors_are_taken() {
        let text = "Types: deb\n# http://elsewhere\nURIs: http://mirror/debian\nSuites: a\n\n\
                    Types: deb\nURIs: http://mirror/debian-security\n";
        let Mirrors { main, security } = Mirrors::read(text);
        assert_eq!((main.as_str(), security.as_str()), ("http://mirror/debian", "http://mirror/debian-security"));
        assert_eq!(Mirrors::read(""), Mirrors { main: MAIN.to_owned(), security: SECURITY.to_owned() });
    }
}
