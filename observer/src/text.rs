//! Text from elsewhere (comm names, socket paths) made harmless.

use std::{
    fmt::{self, Write as _},
    ops::Deref,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of untrusted text as a string: control characters and invalid UTF-8 escaped, so that nothing in it can move
/// a cursor, forge a line or end a JSON string.
pub fn escape(bytes: &[u8]) -> String {
    // Most of it is, and log lines may come by the ten thousand.
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && let Ok(text) = str::from_utf8(bytes)
    {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmless(c) {
                text.push(c);
            } else {
                text.extend(c.escape_unicode());
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Neither a control character nor one that reorders the text around it.
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The name that a process gives itself, harmless to show. Held in place: it is part of most events, and kept with each try.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comm {
    /// Zeros behind the text.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Comm {
    /// Bytes kept: twice what the kernel keeps of a name (`TASK_COMM_LEN`, include/linux/sched.h). Only a name with much in it
    /// to be escaped is longer, and is cut.
    pub const MAX: usize = 31;

    /// Of a process, escaped.
    pub fn escaped(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(Self::MAX)];
        match str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_harmless) => Self::from(text),
            _ => Self::from(&*escape(bytes)),
        }
    }
}

/// From text that was made harmless already.
impl From<&str> for Comm {
    fn from(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(Self::MAX)];
        let mut bytes = [0; Self::MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self { bytes, length: u8::try_from(text.len()).unwrap_or(u8::MAX) }
    }
}

impl From<String> for Comm {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl Deref for Comm {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::escaped(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_whole_or_cut_between_characters() {
        assert_eq!(&*Comm::from("gunicorn"), "gunicorn");
        let long = format!("{}é", "a".repeat(Comm::MAX - 1));
        assert_eq!(&*Comm::from(&*long), "a".repeat(Comm::MAX - 1));
        assert_eq!(&Comm::escaped(b"a\x1b[2J")[..], "a\\u{1b}[2J");
        assert_eq!(Comm::escaped(&[0x1b; 15]).len(), Comm::MAX);
    }

    #[test]
    fn escape_sequences_lose_their_teeth() {
        assert_eq!(escape(b"ng\x1b[2Jinx\n"), "ng\\u{1b}[2Jinx\\u{a}");
        assert_eq!(escape(b"caf\xc3\xa9 \xff"), "café \\xff");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
