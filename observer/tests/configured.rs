//! What is wrong with the configuration of the nginx that runs, found in the live source and held against what the kernel shows. Needs
//! root, and nginx.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const OBSERVER: &str = env!("CARGO_BIN_EXE_observer");
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// More than it takes to tell whether connections are kept.
const REQUESTS: usize = 40;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An application that keeps connections, if it is let.
fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().for_each(|stream| drop(thread::spawn(move || serve(stream.unwrap())))));
    port
}

fn serve(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut request) {
        let keeps = String::from_utf8_lossy(&request[..length]).starts_with("GET / HTTP/1.1");
        let connection = if keeps { "keep-alive" } else { "close" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {connection}\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).is_err() || !keeps {
            return;
        }
    }
}

struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// With these directives where requests are passed on, on line 6.
    fn start(application: u16, passing: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let nginx = Self {
            port,
            child: {
                write(folder.path(), port, application, passing);
                let file = folder.path().join("nginx.conf");
                let nginx = Command::new("nginx").args(["-e", "/dev/null", "-c"]).arg(file).spawn();
                nginx.expect("nginx is installed: `cargo xtask setup` does it")
            },
            folder,
        };
        until("nginx", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn ask(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn write(folder: &Path, port: u16, application: u16, passing: &str) {
    let at = folder.display();
    let text = format!(
        "user root; daemon off; worker_processes 1; pid {at}/pid; error_log /dev/null; events {{ worker_connections 64; }}\n\
         http {{ access_log off; proxy_connect_timeout 3s;\n\
         client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         upstream app {{ server 127.0.0.1:{application}; keepalive 8; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{\n\
         {passing} proxy_pass http://app; }} }} }}\n"
    );
    fs::write(folder.join("nginx.conf"), text).unwrap();
}

/// Records until `done` returns.
fn recorded(file: &Path, done: impl FnOnce()) {
    let pid = std::process::id();
    let tid = nix::unistd::gettid();
    let mut child = Command::new(OBSERVER)
        .args(["record", "--close-look", "always", "--netns", &format!("/proc/{pid}/task/{tid}/ns/net"), "-o"])
        .arg(file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the recording", || fs::metadata(file).is_ok_and(|data| data.len() > 0));
    done();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What is said of a recording.
fn said(arguments: &[&str], file: &Path) -> Value {
    let told = Command::new(OBSERVER).args(arguments).arg(file).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&told.stderr)))
}

fn in_netns(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn confirmed(advice: &Value) -> Vec<&Value> {
    let all = advice["configuration"].as_array().unwrap().iter();
    all.filter(|finding| finding["code"] == "keepalive-not-in-effect").collect()
}

#[test]
fn keepalive_that_is_not_in_effect_is_confirmed_by_the_connections() {
    in_netns(|| {
        let application = application();
        // In every version.
        let nginx = Nginx::start(application, "proxy_http_version 1.0;");
        let file = nginx.folder.path().join("a.arrows");
        recorded(&file, || (0..REQUESTS).for_each(|_| nginx.ask()));
        let advice = said(&["advise", "--format", "json"], &file);
        let [finding] = confirmed(&advice)[..] else { panic!("{advice}") };
        let conf = nginx.folder.path().join("nginx.conf");
        assert_eq!((finding["file"].as_str(), &finding["line"]), (conf.to_str(), &Value::from(6)));
        assert_eq!(finding["proxy"]["pid"], nginx.child.id());
        assert_eq!(finding["upstreams"][0], format!("127.0.0.1:{application}"));
        assert_eq!(finding["seen"], format!("{REQUESTS} of {REQUESTS} connections carried a single request"));
    });
}

#[test]
fn what_was_loaded_anew_is_told_and_no_longer_confirmed() {
    in_netns(|| {
        let application = application();
        let nginx = Nginx::start(application, "proxy_http_version 1.0;");
        let file = nginx.folder.path().join("a.arrows");
        recorded(&file, || {
            (0..REQUESTS).for_each(|_| nginx.ask());
            let workers = || {
                let master = nginx.child.id();
                fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap()
            };
            let before = workers();
            write(
                nginx.folder.path(),
                nginx.port,
                application,
                "proxy_http_version 1.1; proxy_set_header Connection '';",
            );
            nginx.signal(Signal::SIGHUP);
            until("new workers alone", || {
                let now = workers();
                !now.is_empty() && before.split_whitespace().all(|pid| now.split_whitespace().all(|new| new != pid))
            });
            (0..REQUESTS).for_each(|_| nginx.ask());
            // Until it has been looked at again, which nothing shows but the rows.
            until("the configuration, read again", || configurations(&file).len() >= 2);
        });
        let rows = configurations(&file);
        let codes = |row: &Value| {
            let detail: Value = match &row["detail"] {
                Value::String(text) => serde_json::from_str(text).unwrap(),
                other => other.clone(),
            };
            let findings = detail["findings"].as_array().unwrap().clone();
            findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let is_kept = |row: &Value| !codes(row).contains(&"keepalive-not-in-effect".to_owned());
        assert!(!is_kept(&rows[0]) && is_kept(rows.last().unwrap()), "{rows:?}");
        assert!(confirmed(&said(&["advise", "--format", "json"], &file)).is_empty());
    });
}

/// The rows of configurations in a recording, one that is still written to as well.
fn configurations(file: &Path) -> Vec<Value> {
    let told = Command::new(OBSERVER).args(["export", "--format", "jsonl"]).arg(file).output().unwrap();
    let lines = String::from_utf8(told.stdout).unwrap();
    let rows = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    rows.filter(|row| row["kind"] == "configuration").collect()
}
