//! The clipboard of the terminal that one sits at, over any number of hops: OSC 52. No terminal says whether it took it.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Bytes sent at most: terminals drop a sequence that is longer than they have room for, some from 100,000 characters on.
const MAX: usize = 70_000;

/// The escape sequence; `None` if the text is too long for one.
pub(crate) fn sequence(text: &str) -> Option<String> {
    (text.len() <= MAX).then(|| format!("\u{1b}]52;c;{}\u{7}", BASE64_STANDARD.encode(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_packed_so_that_it_cannot_end_the_sequence() {
        assert_eq!(sequence("a\u{7}b").unwrap(), "\u{1b}]52;c;YQdi\u{7}");
        assert_eq!(sequence(&"x".repeat(MAX + 1)), None);
    }
}
