//! nginx's own log beside what the kernel shows: each request that fails is found in it, whatever becomes of the file, and whatever
//! others write there. Needs root, and nginx.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

const OBSERVER: &str = env!("CARGO_BIN_EXE_observer");
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A port on which nobody listens, and nobody else will.
fn closed_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// An application that does to each request what its path says.
fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let Ok(length) = stream.read(&mut request) else { return };
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let kind = request.split('/').nth(1).unwrap_or_default();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n";
    let _ = match kind {
        "closed" => Ok(()),
        "reset" => SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
        "header" => stream.write_all(format!("{ok}Bad: a\0b\r\n\r\n").as_bytes()),
        "big" => stream.write_all(format!("{ok}X: {}\r\n\r\n", "x".repeat(20_000)).as_bytes()),
        "slow" | "hurried" => {
            // Until nginx has given up.
            let _ = stream.read(&mut [0]);
            Ok(())
        }
        _ => stream.write_all(format!("{ok}\r\n").as_bytes()),
    };
}

/// The client's port, and the status that it got of a proxy.
fn ask(proxy: u16, path: &str) -> (u16, u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy)).unwrap();
    let port = stream.local_addr().unwrap().port();
    write!(stream, "GET {path}?secret=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (port, answer.split(' ').nth(1).unwrap().parse().unwrap())
}

/// nginx in front of it.
struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    _reserved: Vec<Socket>,
}

impl Nginx {
    /// With directives of its own in the http block.
    fn start(http: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ((first, refused), (second, other)) = (closed_port(), closed_port());
        let (application, (own, port)) = (application(), closed_port());
        let at = folder.path().display();
        let text = format!(
            "user root; daemon off; worker_processes 2; pid {at}/pid; error_log {at}/main.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
               error_log {at}/error.log; {http} proxy_read_timeout 1s; proxy_next_upstream_tries 2;\n\
               client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;\n\
               scgi_temp_path {at}/s;\n\
               upstream half {{ server 127.0.0.1:{refused} max_fails=0; server 127.0.0.1:{application} max_fails=0; }}\n\
               upstream gone {{ server 127.0.0.1:{refused}; server 127.0.0.1:{other}; }}\n\
               server {{\n\
                 listen 127.0.0.1:{port} reuseport;\n\
                 location / {{ proxy_pass http://127.0.0.1:{application}; }}\n\
                 location /hurried/ {{ proxy_pass http://127.0.0.1:{application}; proxy_read_timeout 300ms; }}\n\
                 location /refused/ {{ proxy_pass http://127.0.0.1:{refused}; }}\n\
                 location /missing/ {{ proxy_pass http://unix:{at}/none.sock; }}\n\
                 location /half/ {{ proxy_pass http://half; }}\n\
                 location /gone/ {{ proxy_pass http://gone; }}\n\
               }}\n\
             }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, text).unwrap();
        drop(own);
        let child = Command::new("nginx")
            .args(["-e", &format!("{at}/main.log"), "-c"])
            .arg(&file)
            .spawn()
            .expect("nginx is installed: `cargo xtask setup` does it");
        let nginx = Self { child, folder, port, _reserved: vec![first, second] };
        until("nginx", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("error.log")
    }

    /// Its processes.
    fn pids(&self) -> Vec<u64> {
        let master = self.child.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([u64::from(master)]).collect()
    }

    fn ask(&self, path: &str) -> (u16, u16) {
        ask(self.port, path)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        send(&self.child, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

const NO_ACCESS_LOG: &str = "access_log off;";

/// HAProxy in front of the same application, with its log in a file.
struct HaProxy {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    _reserved: Vec<Socket>,
}

impl HaProxy {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ((gone, refused), (own, port)) = (closed_port(), closed_port());
        let application = application();
        let text = format!(
            "global\n  nbthread 1\n  log stdout format raw local0\n\
             defaults\n  mode http\n  log global\n  option httplog\n  option httpclose\n  retries 0\n  timeout connect 1s\n  \
             timeout server 1s\n  timeout client 30s\n\
             frontend front\n  bind 127.0.0.1:{port}\n  use_backend gone if {{ path_beg /refused/ }}\n  \
             use_backend down if {{ path_beg /down/ }}\n  default_backend app\n\
             backend gone\n  server s1 127.0.0.1:{refused}\n\
             backend down\n  server s2 127.0.0.1:{refused} disabled\n\
             backend app\n  server s3 127.0.0.1:{application}\n"
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        drop(own);
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("HAProxy is installed: `cargo xtask setup` does it");
        let proxy = Self { child, folder, port, _reserved: vec![gone] };
        until("HAProxy", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        proxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        send(&self.child, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// What observer said, by type.
type Said = BTreeMap<String, Vec<Value>>;

struct Watch {
    child: Child,
    out: BufReader<ChildStdout>,
    said: Said,
}

impl Watch {
    /// Returns when it is ready.
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(OBSERVER)
            .args(["watch", "--format", "json", "--close-look", "always"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.contains("\"ready\""), "{line}");
        Self { child, out, said: BTreeMap::new() }
    }

    /// The next line, if there is one.
    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let line = line.strip_suffix('\n')?;
        assert!(!line.contains(char::is_control), "{line:?}");
        let value: Value = serde_json::from_str(line).unwrap();
        self.said.entry(value["type"].as_str().unwrap().to_owned()).or_default().push(value.clone());
        Some(value)
    }

    /// Waits for its verdict on the request of this client.
    fn until_told(&mut self, port: u16) {
        let client = format!("127.0.0.1:{port}");
        while self.read().expect("observer has ended")["client"] != client.as_str() {}
    }

    /// All that it said.
    fn end(mut self) -> Said {
        send(&self.child, Signal::SIGINT);
        while self.read().is_some() {}
        assert!(self.child.wait().unwrap().success());
        self.said
    }
}

/// Its verdicts on tries of these processes.
fn verdicts_of(said: &Said, pids: &[u64]) -> Vec<Value> {
    let all = said.get("verdict").into_iter().flatten();
    all.filter(|verdict| pids.contains(&verdict["proxy"]["pid"].as_u64().unwrap())).cloned().collect()
}

/// That each of these requests has a verdict, with its own line and one of these causes.
fn assert_each_is_found(
    asked: &[(String, u16, u16)],
    verdicts: &[Value],
    causes: impl Fn(&str) -> &'static [&'static str],
) {
    let failed: Vec<_> = asked.iter().filter(|(_, _, status)| *status >= 500).collect();
    for (path, port, status) in &failed {
        let client = format!("127.0.0.1:{port}");
        // A client's port may be another client's later.
        let is_meant =
            |verdict: &&Value| verdict["client"] == client.as_str() && verdict["log"]["path"] == path.as_str();
        let about: Vec<_> = verdicts.iter().filter(is_meant).collect();
        let [verdict] = about[..] else {
            let of_client: Vec<_> = verdicts.iter().filter(|verdict| verdict["client"] == client.as_str()).collect();
            panic!("{path} ({status}): {about:?} of {of_client:?}")
        };
        assert_eq!(verdict["log"]["method"], "GET", "{verdict}");
        assert_eq!(verdict["log"]["client"], "127.0.0.1", "{verdict}");
        assert_eq!(verdict["log"]["agrees"], true, "{verdict}");
        let kind = path.split('/').nth(1).unwrap();
        assert!(causes(kind).contains(&verdict["cause"].as_str().unwrap()), "{verdict}");
    }
    assert_eq!(verdicts.len(), failed.len(), "{verdicts:?}");
}

fn causes(kind: &str) -> &'static [&'static str] {
    match kind {
        "refused" => &["upstream-refused"],
        "closed" => &["upstream-closed-early"],
        "reset" => &["upstream-reset"],
        "header" | "big" => &["bad-response"],
        "slow" | "hurried" => &["upstream-timeout"],
        "missing" => &["unix-missing"],
        // The first of a worker finds both servers gone, the others find none left.
        "gone" => &["upstream-refused", "no-live-upstreams"],
        _ => &[],
    }
}

#[test]
fn each_of_many_requests_at_once_has_its_own_line() {
    // Each line stands in two logs.
    let second = tempfile::NamedTempFile::new().unwrap();
    let nginx = Nginx::start(&format!("{NO_ACCESS_LOG} error_log {};", second.path().display()));
    let watch = Watch::start(&[]);
    let kinds = ["refused", "closed", "reset", "header", "big", "slow", "hurried", "missing", "gone", "well"];
    let next = AtomicUsize::new(0);
    let asked: Vec<_> = thread::scope(|scope| {
        let client = || {
            let mut asked = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= 300 {
                    return asked;
                }
                let path = format!("/{}/{number}", kinds[number % kinds.len()]);
                let (port, status) = nginx.ask(&path);
                asked.push((path, port, status));
            }
        };
        let clients: Vec<_> = (0..18).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let well = asked.iter().filter(|(path, _, status)| path.starts_with("/well") && *status == 200).count();
    assert_eq!(well, 30);
    let (pids, said) = (nginx.pids(), watch.end());
    let verdicts = verdicts_of(&said, &pids);
    assert_each_is_found(&asked, &verdicts, causes);
    assert!(
        verdicts.iter().any(|verdict| verdict["cause"] == "no-live-upstreams" && verdict["confidence"] == "likely")
    );
    assert!(
        !verdicts.iter().any(|verdict| verdict.to_string().contains("secret")),
        "what is behind ? is nobody's business"
    );
}

#[test]
fn a_log_that_is_rotated_or_emptied_is_followed_on() {
    let nginx = Nginx::start(NO_ACCESS_LOG);
    let mut watch = Watch::start(&[]);
    let mut asked = Vec::new();
    let mut ask = |number: usize| {
        let path = format!("/refused/{number}");
        let (port, status) = nginx.ask(&path);
        asked.push((path, port, status));
        port
    };
    let mut ask_all = |numbers: Range<usize>| numbers.map(&mut ask).last().unwrap();
    ask_all(0..10);
    // As logrotate does it: nginx writes into the old file until it is told.
    fs::rename(nginx.log(), nginx.folder.path().join("error.log.1")).unwrap();
    ask_all(10..20);
    send(&nginx.child, Signal::SIGUSR1);
    until("the new log", || nginx.log().exists());
    ask_all(20..30);
    // The workers open it in their own time.
    until("lines in the new log", || {
        ask_all(30..31);
        fs::metadata(nginx.log()).unwrap().len() > 0
    });
    watch.until_told(ask_all(31..32));
    ask_all(32..35);
    // copytruncate: of what is written just before, lines may be lost, and nobody knows whose. That never makes another request's line
    // theirs.
    let at_risk: Vec<_> = (32..40).map(|number| format!("/refused/{number}")).collect();
    File::options().write(true).open(nginx.log()).unwrap().set_len(0).unwrap();
    watch.until_told(ask_all(35..40));
    ask_all(40..50);
    let (pids, said) = (nginx.pids(), watch.end());
    let (lost, read): (Vec<_>, Vec<_>) =
        verdicts_of(&said, &pids).into_iter().partition(|verdict| verdict["log"].is_null());
    let ports: Vec<_> = lost.iter().filter_map(|verdict| verdict["client"].as_str()).map(str::to_owned).collect();
    let (unread, asked): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|(_, port, _)| ports.contains(&format!("127.0.0.1:{port}")));
    assert!(unread.iter().all(|(path, ..)| at_risk.contains(path)), "{unread:?}");
    assert_each_is_found(&asked, &read, causes);
}

#[test]
fn what_the_kernel_does_not_show_is_told_by_the_log_alone() {
    let nginx = Nginx::start(NO_ACCESS_LOG);
    let watch = Watch::start(&["--no-answers"]);
    // Each worker has to find out for itself that both are gone.
    let asked: Vec<_> = (0..20).map(|number| nginx.ask(&format!("/gone/{number}"))).collect();
    assert!(asked.iter().all(|(_, status)| *status == 502));
    nginx.ask("/header/1");
    let (pids, said) = (nginx.pids(), watch.end());
    let verdicts = verdicts_of(&said, &pids);
    let of = |cause: &str| verdicts.iter().filter(|verdict| verdict["cause"] == cause).collect::<Vec<_>>();
    let text = fs::read_to_string(nginx.log()).unwrap();
    let logged = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!((of("no-live-upstreams").len(), of("upstream-refused").len()), (logged("no live"), logged("(111: ")));
    assert!(of("no-live-upstreams").len() >= 16, "{verdicts:?}");
    for verdict in of("no-live-upstreams").iter().chain(&of("bad-response")) {
        assert_eq!(
            (&verdict["confidence"], &verdict["status_source"]),
            (&"possible".into(), &"expected".into()),
            "{verdict}"
        );
    }
    assert_eq!(of("bad-response")[0]["log"]["path"], "/header/1");
}

/// A line as nginx would write it.
fn forged(pid: u64, said: &str, upstream: &str) -> String {
    format!(
        "2026/11/30 19:05:00 [error] {pid}#{pid}: *1 {said}, client: 10.6.6.6, server: , request: \"GET /forged HTTP/1.1\", \
         upstream: \"{upstream}\", host: \"a\"\n"
    )
}

#[test]
fn what_others_write_there_is_harmless() {
    let nginx = Nginx::start(NO_ACCESS_LOG);
    let watch = Watch::start(&[]);
    let worker = nginx.pids()[0];
    let mut log = File::options().append(true).open(nginx.log()).unwrap();
    let refused = "connect() failed (111: Connection refused) while connecting to upstream";
    let mut hostile = vec![b'x'; 1 << 20];
    hostile.extend(b"\n\x1b[2J\x1b]0;owned\x07 upstream \xff\xfe\n\n");
    for (said, upstream) in [
        (refused, "http://10.6.6.6:80/forged"),
        (
            "upstream sent invalid header: \"\x1b[31m\u{202e}\" while reading response header from upstream",
            "http://\x1b[2J/",
        ),
        (refused, &"http://x/".repeat(2_000)),
    ] {
        hostile.extend(forged(worker, said, upstream).bytes());
    }
    log.write_all(&hostile).unwrap();
    let asked: Vec<_> = (0..10)
        .map(|number| {
            let path = format!("/refused/{number}");
            let (port, status) = nginx.ask(&path);
            (path, port, status)
        })
        .collect();
    let (pids, said) = (nginx.pids(), watch.end());
    let verdicts = verdicts_of(&said, &pids);
    // What it says of an answer that was not seen is told as what it is: a log's word.
    let (forged, ours): (Vec<_>, Vec<_>) =
        verdicts.into_iter().partition(|verdict| verdict["log"]["path"] == "/forged");
    assert_each_is_found(&asked, &ours, causes);
    for verdict in &forged {
        assert_eq!(
            (&verdict["cause"], &verdict["confidence"]),
            (&"bad-response".into(), &"possible".into()),
            "{verdict}"
        );
    }
    assert_eq!(forged.len(), 1, "no try of it was seen: {forged:?}");
    let summary = &said["summary"][0];
    let logs = summary["logs"]["followed"].as_array().unwrap();
    let ours = |log: &&Value| log["path"] == nginx.log().to_str().unwrap();
    let followed = logs.iter().find(ours).unwrap_or_else(|| panic!("{summary}"));
    assert_eq!(followed["missed_bytes"], 0);
    assert!(Path::new(followed["path"].as_str().unwrap()).exists());
}

#[test]
fn what_clients_got_that_cannot_be_seen_is_told_by_the_log_of_requests() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let formats =
        ["'$remote_addr [$time_local] $connection \"$request\" $status'", "'$remote_addr \"$request\" $status'"];
    for format in formats {
        let nginx = Nginx::start(&format!("log_format own {format}; access_log {} own;", log.display()));
        let watch = Watch::start(&["--no-answers"]);
        let refused: Vec<_> = (0..10).map(|number| nginx.ask(&format!("/refused/{number}"))).collect();
        assert!(refused.iter().all(|(_, status)| *status == 502));
        // The same path again and again, with an answer that is well in between.
        let again: Vec<_> =
            (0..10).map(|_| (nginx.ask("/slow/"), nginx.ask("/closed/"), nginx.ask("/well/"))).collect();
        assert!(again.iter().all(|((_, slow), (_, closed), (_, well))| (*slow, *closed, *well) == (504, 502, 200)));
        // Every other one meets the server that refuses first, and is tried again.
        let half: Vec<_> = (0..20).map(|number| nginx.ask(&format!("/half/{number}"))).collect();
        assert!(half.iter().all(|(_, status)| *status == 200));
        let (pids, said) = (nginx.pids(), watch.end());
        let (tried_again, failed): (Vec<_>, Vec<_>) = verdicts_of(&said, &pids)
            .into_iter()
            .partition(|verdict| verdict["log"]["path"].as_str().unwrap().starts_with("/half/"));
        assert_eq!(failed.len(), 30, "{failed:?}");
        for verdict in &failed {
            let expected = if verdict["log"]["path"] == "/slow/" { 504 } else { 502 };
            assert_eq!(
                (&verdict["status"], &verdict["status_source"]),
                (&expected.into(), &"logged".into()),
                "{verdict}"
            );
        }
        // That no client of these got an error only the kernel shows, which was not to look.
        assert!(tried_again.iter().all(|verdict| verdict["status_source"] == "expected"), "{tried_again:?}");
    }
}

#[test]
fn each_request_that_haproxy_fails_has_its_line() {
    let proxy = HaProxy::start();
    let watch = Watch::start(&[]);
    let kinds = ["refused", "closed", "reset", "header", "big", "slow", "down", "well"];
    let asked: Vec<_> = (0..40)
        .map(|number| {
            let path = format!("/{}/{number}", kinds[number % kinds.len()]);
            let (port, status) = ask(proxy.port, &path);
            (path, port, status)
        })
        .collect();
    let (pids, said) = ([u64::from(proxy.child.id())], watch.end());
    let verdicts = verdicts_of(&said, &pids);
    let log = fs::read_to_string(proxy.folder.path().join("log")).unwrap();
    let failed: Vec<_> = asked.iter().filter(|(_, _, status)| *status >= 500).collect();
    for (path, port, status) in &failed {
        let client = format!("127.0.0.1:{port}");
        let about: Vec<_> = verdicts.iter().filter(|verdict| verdict["client"] == client.as_str()).collect();
        let [verdict] = about[..] else { panic!("{path} ({status}): {about:?} of {verdicts:#?}") };
        let logged = &verdict["log"];
        assert_eq!((&logged["path"], &logged["status"]), (&path.as_str().into(), &(*status).into()), "{verdict}");
        assert_eq!(logged["agrees"], true, "{verdict}\n{log}");
        let expected = match path.split('/').nth(1).unwrap() {
            "down" => &["no-live-upstreams"],
            kind => causes(kind),
        };
        assert!(expected.contains(&verdict["cause"].as_str().unwrap()), "{verdict}");
    }
    assert_eq!(verdicts.len(), failed.len(), "{verdicts:?}");
}
