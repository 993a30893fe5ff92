//! The codes of causes and of what lies under them, read back from a file: only known ones, so that they are the program's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{because, registry};

/// A code. (By this name serde does not take it for text of the file.)
pub(super) type Code = &'static str;

/// Reads a code, or several: an `Option`, a list or a map of them.
pub(super) fn known<'de, D: Deserializer<'de>, T: FromKnown<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Read::deserialize(deserializer).map(T::from_known)
}

/// What [`known`] reads.
pub(super) trait FromKnown<'de> {
    /// As it is read.
    type Read: Deserialize<'de>;
    /// The codes alone.
    fn from_known(read: Self::Read) -> Self;
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known(Code);

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <&str>::deserialize(deserializer)?;
        let cause = registry::find(code).map(|rule| rule.code);
        let known = cause.or_else(|| because::find(code).map(|because| because.code));
        known.map(Self).ok_or_else(|| D::Error::custom("a code that is not known"))
    }
}

impl FromKnown<'_> for Code {
    type Read = Known;

    fn from_known(Known(code): Known) -> Self {
        code
    }
}

impl FromKnown<'_> for Option<Code> {
    type Read = Option<Known>;

    fn from_known(read: Option<Known>) -> Self {
        read.map(|Known(code)| code)
    }
}

impl FromKnown<'_> for Vec<Code> {
    type Read = Vec<Known>;

    fn from_known(read: Vec<Known>) -> Self {
        read.into_iter().map(|Known(code)| code).collect()
    }
}

impl FromKnown<'_> for BTreeMap<Code, u64> {
    type Read = BTreeMap<Known, u64>;

    fn from_known(read: BTreeMap<Known, u64>) -> Self {
        read.into_iter().map(|(Known(code), count)| (code, count)).collect()
    }
}
