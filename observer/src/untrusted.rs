//! Reading what comes from a file that anybody may have written: text is made harmless, lists have a limit.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::text::escape;

/// Reads text: a `String`, an `Option` or a `Vec` of them. Whatever was escaped when it was written stays as it is.
pub(crate) fn harmless<'de, D: Deserializer<'de>, T: FromText<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Read::deserialize(deserializer).map(T::from_text)
}

/// What [`harmless`] reads.
pub(crate) trait FromText<'de> {
    /// As it was written.
    type Read: Deserialize<'de>;
    /// Made harmless.
    fn from_text(read: Self::Read) -> Self;
}

impl<'de> FromText<'de> for String {
    type Read = &'de str;

    fn from_text(read: &str) -> Self {
        escape(read.as_bytes())
    }
}

impl<'de> FromText<'de> for Option<String> {
    type Read = Option<&'de str>;

    fn from_text(read: Option<&str>) -> Self {
        read.map(|text| escape(text.as_bytes()))
    }
}

impl<'de> FromText<'de> for Vec<String> {
    type Read = Vec<&'de str>;

    fn from_text(read: Vec<&str>) -> Self {
        read.iter().map(|text| escape(text.as_bytes())).collect()
    }
}

/// Reads a list that may have no more than `LIMIT` elements.
pub(crate) fn at_most<'de, const LIMIT: usize, D, T, C>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
    C: From<Vec<T>> + IntoIterator<Item = T>,
{
    AtMost::<T, LIMIT>::deserialize(deserializer).map(|AtMost(elements)| elements.into())
}

/// A list of at most `LIMIT` elements, as it is read.
pub(crate) struct AtMost<T, const LIMIT: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Deserialize<'de> for AtMost<T, LIMIT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements::<T, LIMIT>(PhantomData)).map(Self)
    }
}

struct Elements<T, const LIMIT: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for Elements<T, LIMIT> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {LIMIT} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut read: A) -> Result<Vec<T>, A::Error> {
        // Grows with what is there, whatever number the file gives.
        let mut elements = Vec::new();
        while let Some(element) = read.next_element()? {
            if elements.len() >= LIMIT {
                return Err(A::Error::invalid_length(LIMIT + 1, &self));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
