//! nginx as it runs: which masters there are, of which version, and what they were told to read. Nothing is run for it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::Version;

/// Bytes of an executable that are looked through; with all modules linked in it has a fifth of that.
const MAX_EXECUTABLE: u64 = 64 << 20;
/// nginx's own prefix, unless built otherwise (auto/options).
const PREFIX: &str = "/usr/local/nginx";
/// What a master calls itself (`ngx_master_process_cycle`, src/os/unix/ngx_process_cycle.c), before its arguments.
const TITLE: &str = "nginx: master process ";
/// Processes that are masters, of this many at most.
const MAX_MASTERS: usize = 64;

/// A master process.
#[derive(Debug)]
pub struct Master {
    /// Its process id.
    pub pid: u32,
    /// Its version, if it could be found in its executable.
    pub version: Option<Version>,
    /// Files that a process of it may have open, unless its configuration says otherwise.
    pub open_files: Option<u64>,
    /// Its root directory, seen from here.
    pub root: PathBuf,
    /// Its configuration, seen from there.
    pub file: PathBuf,
}

/// The masters that run, by process id.
pub fn masters() -> Vec<Master> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(master).take(MAX_MASTERS).collect()
}

/// A process as a master, if it is one.
pub fn master(pid: u32) -> Option<Master> {
    let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let title = String::from_utf8_lossy(&title);
    let arguments = title.strip_prefix(TITLE)?.trim_end_matches('\0');
    let mut executable = Vec::new();
    // One that was replaced meanwhile is still the one that runs.
    if let Ok(file) = File::open(format!("/proc/{pid}/exe")) {
        let _ = file.take(MAX_EXECUTABLE).read_to_end(&mut executable);
    }
    let built = Built::of(&executable);
    Some(Master {
        pid,
        version: built.version,
        open_files: fs::read_to_string(format!("/proc/{pid}/limits")).ok().as_deref().and_then(open_files),
        root: PathBuf::from(format!("/proc/{pid}/root")),
        file: built.file(arguments),
    })
}

/// The soft limit of open files, as /proc/PID/limits has it (`proc_pid_limits`, fs/proc/base.c).
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What an executable was built as.
#[derive(Debug, Default, PartialEq, Eq)]
struct Built {
    version: Option<Version>,
    prefix: Option<String>,
    file: Option<String>,
}

impl Built {
    /// Its arguments to `configure` are in it, to be printed by `nginx -V`.
    fn of(executable: &[u8]) -> Self {
        let option = |name: &str| {
            let value = behind(executable, name).next()?;
            let end = value.iter().position(|byte| b" '\0".contains(byte))?;
            Some(String::from_utf8_lossy(&value[..end]).into_owned())
        };
        let mut named = ["nginx/", "openresty/"].into_iter().flat_map(|name| behind(executable, name));
        Self { version: named.find_map(version), prefix: option("--prefix="), file: option("--conf-path=") }
    }

    /// The configuration that it reads with these arguments, which have lost their quotes.
    fn file(&self, arguments: &str) -> PathBuf {
        let words: Vec<&str> = arguments.split_ascii_whitespace().collect();
        let told = |option: &str| {
            let at = words.iter().position(|word| word.starts_with(option))?;
            let joined = &words[at][option.len()..];
            if joined.is_empty() { words.get(at + 1).copied() } else { Some(joined) }
        };
        let prefix = told("-p").or(self.prefix.as_deref()).unwrap_or(PREFIX);
        let file = told("-c").or(self.file.as_deref()).unwrap_or("conf/nginx.conf");
        Path::new("/").join(prefix).join(file)
    }
}

/// What comes behind each place where a name stands.
fn behind<'a>(text: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let name = name.as_bytes();
    let places = text.windows(name.len()).enumerate().filter(move |(_, window)| *window == name);
    places.map(move |(at, _)| &text[at + name.len()..])
}

/// The version that a text begins with.
fn version(text: &[u8]) -> Option<Version> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    let text = std::str::from_utf8(&text[..end]).ok()?;
    // OpenResty has a number of its own behind nginx's.
    let numbers: Vec<&str> = text.split('.').take(3).collect();
    numbers.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_says_what_it_is() {
        let nginx = b"\0nginx version: \0http://nginx/x\0nginx/1.26.3\0 --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --x\0";
        let built = Built::of(nginx);
        assert_eq!(built.version, Some(Version(1, 26, 3)));
        assert_eq!(built.file(""), Path::new("/etc/nginx/nginx.conf"));
        assert_eq!(Built::of(b"\0openresty/1.25.3.1\0").version, Some(Version(1, 25, 3)));
        assert_eq!(Built::of(b"nginx/1.2"), Built::default());
        assert_eq!(Built::of(b""), Built::default());
    }

    #[test]
    fn the_soft_limit_is_what_a_process_has() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             unlimited            unlimited            processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files            unlimited            unlimited            files"), None);
    }

    #[test]
    fn its_arguments_say_what_it_reads() {
        let built = Built { version: None, prefix: Some("/opt/nginx".to_owned()), file: None };
        for (arguments, file) in [
            ("nginx", "/opt/nginx/conf/nginx.conf"),
            ("nginx -g daemon off; -c /etc/a.conf", "/etc/a.conf"),
            ("/usr/sbin/nginx -c/etc/a.conf", "/etc/a.conf"),
            ("nginx -p /srv -c b.conf", "/srv/b.conf"),
            ("nginx -c", "/opt/nginx/conf/nginx.conf"),
        ] {
            assert_eq!(built.file(arguments), Path::new(file), "{arguments}");
        }
        assert_eq!(Built::default().file(""), Path::new("/usr/local/nginx/conf/nginx.conf"));
    }
}
