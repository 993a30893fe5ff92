//! Reading what comes from a file that anybody may have written: text is made harmless, lists have a limit.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::text::escape;

/// Reads text: a `String`, an `Option` or a `Vec` of them. Whatever was escaped when it was written stays as it is.
pub(crate) fn harmless<'de, D: Deserializer<'de>, T: Deserialize<'de> + Text>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer).map(T::escaped)
}

/// What [`harmless`] reads.
pub(crate) trait Text {
    /// The same, made harmless.
    fn escaped(self) -> Self;
}

impl Text for String {
    fn escaped(self) -> Self {
        escape(self.as_bytes())
    }
}

impl<T: Text> Text for Option<T> {
    fn escaped(self) -> Self {
        self.map(T::escaped)
    }
}

impl<T: Text> Text for Vec<T> {
    fn escaped(self) -> Self {
        self.into_iter().map(T::escaped).collect()
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
