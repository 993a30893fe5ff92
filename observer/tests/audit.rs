//! The audit of configurations that are modelled on real ones: each planted mistake is found with its file and line, and nothing else is.
//! `#! code` behind a line says what is to be found there; `# nginx VERSION` at the top by which version it is judged.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use observer::{
    audit,
    proxy::nginx::{Version, config, running},
};

/// Debian 12's.
const USUAL: Version = Version(1, 22, 1);

/// The configurations of a kind, each in a folder of its own.
fn configurations(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit").join(kind);
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// File, line and code of what is planted.
fn planted(folder: &Path) -> Vec<(String, u32, String)> {
    let mut all = Vec::new();
    for path in files(folder) {
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            let Some((_, codes)) = line.split_once("#! ") else { continue };
            let name = path.display().to_string();
            all.extend(codes.split_whitespace().map(|code| (name.clone(), number, code.to_owned())));
        }
    }
    all.sort();
    all
}

fn found(folder: &Path) -> Vec<(String, u32, String)> {
    let file = folder.join("nginx.conf");
    let text = fs::read_to_string(&file).unwrap();
    let version = text.lines().next().and_then(|line| line.strip_prefix("# nginx ")?.parse().ok()).unwrap_or(USUAL);
    let config = config::read(Path::new("/"), &file).unwrap();
    let audit = audit::nginx(&file.to_string_lossy(), &config, version, None);
    let of = |finding: audit::Finding| (finding.place.file.to_string(), finding.place.line, finding.code.to_owned());
    audit.findings.into_iter().map(of).collect()
}

#[test]
fn each_planted_mistake_is_found_where_it_is() {
    let all = configurations("bad");
    assert!(all.len() >= 20, "{} of them", all.len());
    for folder in all {
        let planted = planted(&folder);
        assert!(!planted.is_empty(), "{}", folder.display());
        assert_eq!(found(&folder), planted, "{}", folder.display());
    }
}

#[test]
fn nothing_is_found_in_good_ones() {
    let all = configurations("good");
    assert!(all.len() >= 5, "{} of them", all.len());
    for folder in all {
        assert_eq!(found(&folder), [], "{}", folder.display());
    }
}

/// What nginx itself would not read shows nothing.
#[test]
fn nginx_takes_them_for_configurations() {
    for folder in [configurations("bad"), configurations("good")].concat() {
        let file = folder.join("nginx.conf");
        if fs::read_to_string(&file).unwrap().contains("# Not checked by nginx") {
            continue;
        }
        let told = Command::new("nginx").args(["-t", "-q", "-e", "/dev/null", "-c"]).arg(&file).output();
        let told = told.expect("nginx is installed: `cargo xtask setup` does it");
        assert!(told.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&told.stderr));
    }
}

/// nginx, until it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master takes the worker along.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

#[test]
fn what_runs_is_read_as_it_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let text = format!(
        "daemon off; pid {at}/pid; events {{}} http {{ access_log off; upstream a {{ server 127.0.0.1:1; keepalive 2; }}\n\
         server {{ listen unix:{at}/socket; location / {{ proxy_pass http://a; }} }} }}\n"
    );
    fs::write(folder.path().join("own.conf"), text).unwrap();
    let arguments = ["-e", "/dev/null", "-p", &at.to_string(), "-c", "own.conf"];
    let nginx =
        Nginx(Command::new("nginx").args(arguments).spawn().expect("nginx is installed: `cargo xtask setup` does it"));
    let deadline = Instant::now() + Duration::from_secs(10);
    let master = loop {
        if let Some(master) = running::masters().into_iter().find(|master| master.pid == nginx.0.id()) {
            break master;
        }
        assert!(Instant::now() < deadline, "nginx did not become a master");
        std::thread::sleep(Duration::from_millis(10));
    };
    let told = Command::new("nginx").arg("-v").output().unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.trim_end().rsplit('/').next(), master.version.map(|version| version.to_string()).as_deref());
    assert_eq!(master.file, folder.path().join("own.conf"));
    assert!(master.open_files.is_some());
    let config = config::read(&master.root, &master.file).unwrap();
    let audit = audit::nginx("own.conf", &config, USUAL, master.open_files);
    let codes: Vec<_> = audit.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["connect-timeout-long", "keepalive-not-in-effect"]);
}

#[test]
fn the_host_is_looked_at_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    // An application with a queue that one burst fills.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(5).unwrap();
    let application = listener.local_addr().unwrap().as_socket().unwrap();
    let text = format!(
        "daemon off; pid {at}/pid; events {{}} http {{ access_log off; server {{ listen unix:{at}/socket; location / {{ \
         proxy_pass http://{application}; }} }} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text).unwrap();
    let arguments = ["-e", "/dev/null", "-c", &file.to_string_lossy()];
    let nginx =
        Nginx(Command::new("nginx").args(arguments).spawn().expect("nginx is installed: `cargo xtask setup` does it"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running::masters().into_iter().any(|master| master.pid == nginx.0.id()) {
        assert!(Instant::now() < deadline, "nginx did not become a master");
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = Command::new(env!("CARGO_BIN_EXE_observer")).args(["audit", "--format", "json"]).output().unwrap();
    // Others may run here, whose configuration cannot be read.
    assert!(matches!(told.status.code(), Some(1 | 2)), "{told:?}");
    let lines: Vec<serde_json::Value> =
        told.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let host = lines.iter().find(|line| line["of"] == "this host").unwrap();
    let of_ours =
        |finding: &&serde_json::Value| finding["whose"].as_str().unwrap().starts_with(&application.to_string());
    let ours: Vec<_> = host["findings"].as_array().unwrap().iter().filter(of_ours).collect();
    assert!(ours.iter().any(|finding| finding["code"] == "backlog-small"), "{host}");
    assert!(ours[0]["whose"].as_str().unwrap().contains(&format!("[{}]", std::process::id())), "{host}");
}

/// Written where it is told to, in the words that nginx would take there.
#[test]
fn what_to_write_fits_what_is_there() {
    let fixes = |name: &str| -> Vec<String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/bad").join(name).join("nginx.conf");
        let config = config::read(Path::new("/"), &file).unwrap();
        let folder = format!("{}/", file.parent().unwrap().display());
        let findings = audit::nginx("nginx.conf", &config, USUAL, None).findings.into_iter();
        findings.map(|finding| finding.fix.replace(&folder, "")).collect()
    };
    assert_eq!(fixes("03-websocket-map-closes"), ["\"\" \"\";  in the map, instead of nginx.conf:6"]);
    assert_eq!(
        fixes("24-headers-from-around"),
        ["proxy_set_header Connection \"\";  beside the other headers, nginx.conf:9"]
    );
    assert_eq!(
        fixes("06-no-upstream-block")[0],
        "upstream app {\n  server 127.0.0.1:3000;\n  keepalive 32;\n}\nand here\nproxy_pass http://app/;\n\
         proxy_set_header Host 127.0.0.1;"
    );
}
