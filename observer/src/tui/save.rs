//! A screen's data as a file: always a new one, readable by its owner alone, as it names hosts and processes.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Files of one screen and one second; beyond that it is refused.
const MAX_SAME: u32 = 99;

/// Writes into a file of the folder whose name begins so, and says how it is called.
pub(crate) fn save(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    for number in 1..=MAX_SAME {
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("{name}{number}.txt"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => return file.write_all(text.as_bytes()).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("there are {MAX_SAME} files called {name} already")))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn nothing_is_overwritten_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = save(folder.path(), "observer-now", "one\n").unwrap();
        let second = save(folder.path(), "observer-now", "two\n").unwrap();
        assert!(first.ends_with("observer-now.txt") && second.ends_with("observer-now-2.txt"));
        assert_eq!(
            (fs::read_to_string(&first).unwrap(), fs::read_to_string(&second).unwrap()),
            ("one\n".into(), "two\n".into())
        );
        assert_eq!(fs::metadata(&second).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(save(&folder.path().join("gone"), "observer-now", "").is_err());
    }
}
