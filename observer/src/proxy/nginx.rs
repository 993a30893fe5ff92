//! nginx's configuration, as nginx reads it.

pub mod access;
pub mod config;
pub mod errors;
pub mod findings;
pub mod running;
pub mod site;
mod words;

use std::{fmt, str::FromStr};

/// A version of nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

/// What it calls its processes, as the kernel knows them.
pub const NAMES: [&str; 2] = ["nginx", "openresty"];

impl Version {
    /// What is assumed where it is not known: the last version with the old defaults. What they lack is found, and in newer ones it does
    /// no harm.
    pub const ASSUMED: Self = Self(1, 29, 6);
    /// From this one on upstreams are asked in HTTP/1.1 and connections to them are kept, unless told otherwise
    /// (nginx's CHANGES, 1.29.7, March 2026).
    pub const KEEPS_CONNECTIONS: Self = Self(1, 29, 7);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.splitn(3, '.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text:?} is no version of nginx, as 1.28.0 is")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers_in_order() {
        assert!("1.29.10".parse::<Version>().unwrap() > Version::KEEPS_CONNECTIONS);
        assert!("1.9.15".parse::<Version>().unwrap() < Version::KEEPS_CONNECTIONS);
        for text in ["", "1.2", "1.2.x", "1.2.3.4", "1.2.99999"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
