//! Evidence: named numbers and words, in the order in which they were found.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{text::Comm, untrusted::harmless};

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A measure; the name carries the unit.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A word or a name.
    Text(#[serde(deserialize_with = "harmless")] String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Number(number) => write!(f, "{number:.1}"),
            Self::Flag(true) => f.write_str("yes"),
            Self::Flag(false) => f.write_str("no"),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number((number * 1000.0).round() / 1000.0)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Comm> for Value {
    fn from(name: Comm) -> Self {
        Self::Text(name.to_string())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Pieces of evidence by name. Names are `snake_case` and end in their unit where they have one (`_ms`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence(Vec<(Cow<'static, str>, Value)>);

impl Evidence {
    /// Adds a piece.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((Cow::Borrowed(name), value.into()));
        self
    }

    /// Adds a piece if there is one.
    #[must_use]
    pub fn maybe<V: Into<Value>>(self, name: &'static str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds all of another's pieces.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// All pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// A piece by name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(each, _)| *each == name).map(|(_, value)| value)
    }
}

/// For people and their tools a map of plain values; else the pieces, each with its kind.
impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_map(self.0.iter().map(|(name, value)| (name, Plain::from(value))))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name(#[serde(deserialize_with = "harmless")] String);

        let pieces = Vec::<(Name, Value)>::deserialize(deserializer)?;
        Ok(Self(pieces.into_iter().map(|(Name(name), value)| (Cow::Owned(name), value)).collect()))
    }
}

/// A value without its kind.
#[derive(Serialize)]
#[serde(untagged)]
enum Plain<'a> {
    Count(u64),
    Number(f64),
    Flag(bool),
    Text(&'a str),
}

impl<'a> From<&'a Value> for Plain<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Count(count) => Self::Count(*count),
            Value::Number(number) => Self::Number(*number),
            Value::Flag(flag) => Self::Flag(*flag),
            Value::Text(text) => Self::Text(text),
        }
    }
}
