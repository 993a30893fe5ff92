//! Text from outside in commands and configuration: quoted, or left out.

/// As one word of a POSIX shell, whatever is in it.
pub(super) fn quote(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Means nothing special to a shell, to a proxy's configuration or to the filters of `ss`.
pub(super) fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | '+' | ':');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// A path of the file system as it is there: one in which something was escaped is another by now.
pub(super) fn is_true_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_as_they_are() {
        for word in ["/run/app.sock", "@name", "10.0.0.2:8000", "a-b_c+d"] {
            assert_eq!(quote(word), word);
        }
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let words =
            ["/run/my app.sock", "$(reboot)", "`id`", "it's", "a\"b", "a;b&c|d", "*?[a]", "-rf", "", "~x", "\\u{a}"];
        for word in words {
            let script = format!("printf %s {}", quote(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), if word == "-rf" { "-rf" } else { word }, "{script}");
        }
    }

    #[test]
    fn a_path_with_something_escaped_is_not_used() {
        assert!(is_true_path("/run/my app.sock"));
        assert!(!is_true_path("/run/\\u{1b}.sock") && !is_true_path("@name") && !is_true_path("relative.sock"));
    }
}
