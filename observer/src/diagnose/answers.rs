//! What a client got, as a proxy's log with a line for each request has it: of use where the proxy's own answer is hidden (TLS, HTTP/2), and
//! where no other log names the request. Only errors are believed: that a request went well at the second try is for the kernel to show, for
//! a line may be about another request of the same client. Bounded; time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::kept::Key;
use crate::{
    addr::Endpoint,
    event::{LogLine, LogSample, Request},
    model::{Attempt, Ending},
    proxy::haproxy,
    time::Time,
    untrusted::at_most,
};

/// How long before a try's end the line of its request can have been read, if the proxy has more than one thread: what separates the
/// moments at which the kernel tells of the two.
const BEFORE: Duration = Duration::from_millis(100);
/// How long a try waits for what its client got: a little longer than it takes to read a log that is written at once.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(250);
/// How long lines are kept: as long as any try waits for logs.
const KEEP: Duration = Duration::from_secs(2);
/// Lines kept at once. Beyond that the oldest goes, and is counted: its try then has the status to be expected.
const MAX_LINES: usize = 32_768;
/// Errors of one path, by writer.
const MAX_OF_PATH: usize = 64;
/// Logs whose writers are remembered.
const MAX_LOGS: usize = 256;
/// Tries that wait for a line and can be found by their client's connection. Beyond that one has its line when its time is up.
const MAX_WAITING: usize = 16_384;

/// By what a line can be told to be about a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum By {
    /// The client's address and port.
    Port(IpAddr, u16),
    /// nginx's number for the client's connection, which it counts anew whenever it is started, and the path.
    Connection(u64, String),
    /// The client's address, the method and the path: other requests may have the same.
    Path(IpAddr, String, String),
}

impl By {
    fn of(line: &LogLine) -> Option<Self> {
        let Request { method, target, client } = &line.request;
        match (*client, line.port, line.connection) {
            (Some(client), Some(port), _) => Some(Self::Port(client, port)),
            (_, None, connection @ 1..) => Some(Self::Connection(connection, target.clone())),
            (Some(client), None, 0) => Some(Self::Path(client, method.clone(), target.clone())),
            (None, ..) => None,
        }
    }

    fn client(client: Endpoint) -> Self {
        Self::Port(client.ip, client.port)
    }
}

/// What a log says of the request for which a try failed.
#[derive(Debug, PartialEq)]
pub(super) enum Got {
    /// This is its line.
    Line(Arc<LogLine>),
    /// All lines that can be its line say that it got this error.
    Error(u16),
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Answers {
    /// The processes that write to each log.
    #[serde(deserialize_with = "at_most::<MAX_LOGS, _, _, _>")]
    logs: Vec<BTreeSet<u32>>,
    /// Those that are about one request each.
    lines: BTreeMap<By, VecDeque<(Time, Arc<LogLine>)>>,
    /// Of those that name no connection, which errors were last told of by which process when: a storm may have thousands of one path.
    paths: BTreeMap<By, Vec<(u32, u16, Time)>>,
    /// When each line was read, or that of a path was first, and where it is, in that order.
    #[serde(deserialize_with = "at_most::<MAX_LINES, _, _, _>")]
    order: VecDeque<(Time, By)>,
    waiting: BTreeMap<By, Key>,
    dropped: u64,
}

impl Answers {
    /// Takes in which logs are followed.
    pub(super) fn followed<'a>(&mut self, logs: impl Iterator<Item = &'a LogSample>) {
        let of_requests = logs.filter(|log| log.requests && log.trouble.is_none());
        let writers = |log: &LogSample| log.writers.iter().map(|writer| writer.pid).collect();
        self.logs = of_requests.map(writers).take(MAX_LOGS).collect();
    }

    /// Whether a process's requests are logged.
    pub(super) fn of(&self, pid: u32) -> bool {
        self.logs.iter().any(|writers| writers.contains(&pid))
    }

    /// A line has been read. Gives back the try that waits for it, if one is known to.
    pub(super) fn read(&mut self, now: Time, time: Time, line: &Arc<LogLine>) -> Option<Key> {
        self.forget(now);
        let by = By::of(line)?;
        if let (By::Path(..), Some(status)) = (&by, line.status) {
            self.path_read(by, time, (line.process.pid, status));
            return None;
        }
        self.note(time, by.clone());
        self.lines.entry(by.clone()).or_default().push_back((time, Arc::clone(line)));
        self.waiting.remove(&by)
    }

    fn path_read(&mut self, by: By, time: Time, (pid, status): (u32, u16)) {
        let told = self.paths.entry(by.clone()).or_default();
        if let Some((.., last)) = told.iter_mut().find(|(writer, error, _)| (*writer, *error) == (pid, status)) {
            *last = time;
            return;
        }
        // As many as there are errors and writers of them: few.
        if told.len() < MAX_OF_PATH {
            told.push((pid, status, time));
            self.note(time, by);
        }
    }

    /// Makes room, and remembers to forget it.
    fn note(&mut self, time: Time, by: By) {
        if self.order.len() >= MAX_LINES {
            let dropped = self.drop_first();
            self.dropped = self.dropped.saturating_add(dropped.into());
        }
        self.order.push_back((time, by));
    }

    /// A try begins to wait for its line.
    pub(super) fn waits(&mut self, key: Key, attempt: &Attempt) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.clear();
        }
        for by in exactly(attempt) {
            self.waiting.insert(by, key);
        }
    }

    /// What the client got for whose request this try failed; with `last`, also if that is only likely.
    pub(super) fn to(&mut self, attempt: &Attempt, last: bool) -> Option<Got> {
        if !self.of(attempt.proxy.pid) {
            return None;
        }
        for by in exactly(attempt) {
            let Some(lines) = self.lines.get(&by) else { continue };
            let is_its = |(time, line): &(Time, Arc<LogLine>)| {
                *time >= since(attempt) && fits(attempt, line) && self.is_from(line.process.pid, attempt.proxy.pid)
            };
            if let Some(at) = lines.iter().position(is_its) {
                // Each is about one request.
                return self.lines.get_mut(&by)?.remove(at).map(|(_, line)| Got::Line(line));
            }
        }
        if last { self.likely(attempt) } else { None }
    }

    fn likely(&self, attempt: &Attempt) -> Option<Got> {
        let Request { method, target, client } = &attempt.line.as_ref()?.request;
        let told = self.paths.get(&By::Path((*client)?, method.clone(), target.clone()))?;
        let pid = attempt.proxy.pid;
        let meant = told.iter().filter(|(writer, _, last)| *last >= since(attempt) && self.is_from(*writer, pid));
        let mut statuses = meant.map(|(_, status, _)| *status);
        let first = statuses.next()?;
        statuses.all(|status| status == first).then_some(Got::Error(first))
    }

    /// Whether what one process wrote is in a log that the other writes to as well.
    fn is_from(&self, writer: u32, pid: u32) -> bool {
        self.logs.iter().any(|writers| writers.contains(&pid) && writers.contains(&writer))
    }

    fn forget(&mut self, now: Time) {
        while self.order.front().is_some_and(|(time, _)| now.since(*time) > KEEP) {
            self.drop_first();
        }
    }

    /// Forgets what was read first. Whether there was a line that no try has taken.
    fn drop_first(&mut self) -> bool {
        let Some((time, by)) = self.order.pop_front() else { return false };
        if let Some(told) = self.paths.get(&by) {
            // One that was told of again is kept as long from then on.
            let again = told.iter().map(|(.., last)| *last).filter(|last| *last > time).min();
            match again {
                Some(last) if self.order.len() < MAX_LINES / 2 => self.order.push_back((last, by)),
                _ => drop(self.paths.remove(&by)),
            }
            return false;
        }
        let Some(lines) = self.lines.get_mut(&by) else { return false };
        let left = lines.pop_front_if(|(read, _)| *read <= time).is_some();
        if lines.is_empty() {
            self.lines.remove(&by);
        }
        left
    }

    /// Lines that went before their try was judged, for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What is surely about this try's request.
fn exactly(attempt: &Attempt) -> impl Iterator<Item = By> {
    let client = attempt.answer.and_then(|answer| answer.client).map(By::client);
    let written = attempt.line.as_ref().filter(|written| written.connection != 0);
    let connection = written.map(|written| By::Connection(written.connection, written.request.target.clone()));
    client.into_iter().chain(connection)
}

/// From when on its line can have been read: nginx writes of the error first.
fn since(attempt: &Attempt) -> Time {
    attempt.line.as_ref().map_or(attempt.told - BEFORE, |written| written.after)
}

/// Whether a line can be about this try by what it says of it.
fn fits(attempt: &Attempt, line: &LogLine) -> bool {
    let status = attempt.status();
    let without_try = attempt.ending == Ending::NoTry;
    let no_server = haproxy::had_no_server(&line.said);
    (status.is_none() || status == line.status) && (!no_server || without_try)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Head, Process},
        model::Answer,
        testing::{at, refused_connection},
    };

    const OURS: u32 = 42;

    fn line(path: &str, connection: u64, port: Option<u16>, status: u16) -> LogLine {
        let request = Request { method: "GET".into(), target: path.into(), client: Some([10, 0, 0, 1].into()) };
        let process = Process { pid: OURS, comm: "nginx".into() };
        LogLine { process, connection, request, port, status: Some(status), ..LogLine::default() }
    }

    fn failed(written: Option<LogLine>, port: Option<u16>) -> Attempt {
        let client = port.map(|port| Endpoint { ip: [10, 0, 0, 1].into(), port });
        let answer = client.map(|client| Answer {
            status: None,
            client: Some(client),
            head: Head::Unseen,
            left_unread: 0,
            upstream_status: None,
            unix: false,
        });
        let attempt = Attempt::from_connection(at(1_000), at(1_000), &refused_connection());
        Attempt { line: written.map(Arc::new), answer, ..attempt }
    }

    fn log(pids: &[u32]) -> LogSample {
        let writers = pids.iter().map(|pid| Process { pid: *pid, comm: "nginx".into() }).collect();
        LogSample { requests: true, writers, ..LogSample::default() }
    }

    fn answers(lines: &[LogLine]) -> Answers {
        let mut answers = Answers::default();
        answers.followed([log(&[41, OURS]), log(&[7])].iter());
        for line in lines {
            answers.read(at(1_020), at(1_020), &Arc::new(line.clone()));
        }
        answers
    }

    /// An error line of that connection.
    fn written(path: &str, connection: u64) -> LogLine {
        LogLine { status: None, after: at(1_000), ..line(path, connection, None, 0) }
    }

    fn status(got: Option<Got>) -> u16 {
        match got {
            Some(Got::Line(line)) => line.status.unwrap(),
            Some(Got::Error(status)) => status,
            None => 0,
        }
    }

    #[test]
    fn a_client_is_known_by_its_port_or_by_its_number_and_each_line_is_of_one_request() {
        let mut by_port = answers(&[line("/", 0, Some(4_001), 502), line("/", 0, Some(4_000), 503)]);
        let attempt = failed(None, Some(4_000));
        assert_eq!((status(by_port.to(&attempt, false)), status(by_port.to(&attempt, true))), (503, 0));
        let mut by_number =
            answers(&[line("/", 44, None, 504), line("/other", 45, None, 504), line("/", 45, None, 502)]);
        let attempt = failed(Some(written("/", 45)), None);
        assert_eq!((status(by_number.to(&attempt, false)), status(by_number.to(&attempt, true))), (502, 0));
    }

    #[test]
    fn of_several_requests_on_one_connection_each_has_its_own_in_order() {
        let mut answers = answers(&[line("/", 45, None, 502), line("/", 45, None, 504)]);
        let attempt = || failed(Some(written("/", 45)), None);
        assert_eq!([0, 0, 0].map(|_| status(answers.to(&attempt(), false))), [502, 504, 0]);
    }

    #[test]
    fn what_another_proxy_wrote_or_was_read_before_is_about_another() {
        let theirs = LogLine { process: Process { pid: 7, comm: "nginx".into() }, ..line("/", 45, None, 502) };
        let mut answers = answers(&[theirs]);
        let attempt = failed(Some(written("/", 45)), None);
        assert_eq!(answers.to(&attempt, true), None);
        let early = Arc::new(line("/", 45, None, 502));
        answers.read(at(1_020), at(999), &early);
        assert_eq!(answers.to(&attempt, true), None, "nginx writes of the error first");
    }

    #[test]
    fn by_its_path_alone_an_error_is_known_where_no_other_error_can_be_meant() {
        let attempt = failed(Some(written("/", 45)), None);
        let likely = |statuses: &[u16]| {
            let lines: Vec<_> = statuses.iter().map(|status| line("/", 0, None, *status)).collect();
            (status(answers(&lines).to(&attempt, false)), status(answers(&lines).to(&attempt, true)))
        };
        assert_eq!(likely(&[502, 502]), (0, 502));
        assert_eq!((likely(&[502, 504]), likely(&[])), ((0, 0), (0, 0)));
        assert_eq!(answers(&[line("/", 46, None, 502)]).to(&attempt, true), None, "that is another's, by its number");
        assert_eq!(answers(&[line("/", 0, None, 502)]).to(&failed(None, None), true), None);
    }

    #[test]
    fn that_there_was_no_server_is_about_no_try() {
        let no_server = LogLine { said: "termination state SC-- (<NOSRV>)".into(), ..line("/", 0, Some(4_000), 503) };
        let attempt = failed(None, Some(4_000));
        assert_eq!(answers(std::slice::from_ref(&no_server)).to(&attempt, true), None);
        let without_try = Attempt { ending: Ending::NoTry, ..attempt };
        assert_eq!(status(answers(&[no_server]).to(&without_try, false)), 503);
    }

    #[test]
    fn a_try_that_waits_is_found_by_its_line_and_all_is_bounded() {
        let mut answers = answers(&[]);
        let attempt = failed(None, Some(4_000));
        answers.waits((OURS, at(1_000)), &attempt);
        let own = Arc::new(line("/", 0, Some(4_000), 502));
        assert_eq!(answers.read(at(1_020), at(1_020), &own), Some((OURS, at(1_000))));
        assert_eq!(answers.read(at(1_020), at(1_020), &own), None);
        for number in 0..40_000_u64 {
            answers.read(at(1_020), at(1_020), &Arc::new(line("/", number + 1, None, 502)));
        }
        assert_eq!((answers.order.len(), answers.dropped()), (MAX_LINES, 40_002 - MAX_LINES as u64));
        assert!(answers.lines.len() <= MAX_LINES);
        for _ in 0..40_000 {
            answers.read(at(1_030), at(1_030), &Arc::new(line("/", 0, None, 502)));
        }
        assert_eq!(
            (answers.order.len(), answers.paths.len(), answers.dropped()),
            (MAX_LINES, 1, 40_003 - MAX_LINES as u64),
            "of one path all are one"
        );
        answers.read(at(9_000), at(9_000), &own);
        assert_eq!((answers.order.len(), answers.lines.len()), (1, 1), "what is old is forgotten");
        assert!(answers.paths.is_empty());
    }

    #[test]
    fn only_logs_with_a_line_for_each_request_tell() {
        let mut answers = Answers::default();
        answers.followed([LogSample { requests: false, ..log(&[OURS]) }].iter());
        assert!(!answers.of(OURS));
        answers.followed([log(&[OURS])].iter());
        assert!(answers.of(OURS) && !answers.of(43));
        answers.followed([LogSample { trouble: Some("gone".into()), ..log(&[OURS]) }].iter());
        assert!(!answers.of(OURS));
    }
}
