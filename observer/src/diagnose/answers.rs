//! What a client got, as a proxy's log with a line for each request has it: of use where the proxy's own answer is hidden (TLS, HTTP/2), and
//! where no other log names the request. Bounded; time is an argument.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{lines::LINE_WITHIN, logged::is_failed};
use crate::{
    event::{LogLine, LogSample, Request},
    model::Attempt,
    time::Time,
    untrusted::at_most,
};

/// How long before a try's end the line of its request can have been read, if the proxy has more than one thread: what separates the
/// moments at which the kernel tells of the two.
const BEFORE: Duration = Duration::from_millis(100);
/// How long lines are kept: as long as tries wait for one.
const KEEP: Duration = Duration::from_secs(LINE_WITHIN.as_secs() + 1);
/// Lines kept at once. Beyond that the oldest goes: its try then has the status to be expected.
const MAX_LINES: usize = 4_096;
/// Processes of which it is remembered that their requests are logged; as many as have logs.
const MAX_WRITERS: usize = 16_384;

/// What a log says of the request for which a try failed.
#[derive(Debug, PartialEq)]
pub(super) enum Got {
    /// This is its line.
    Line(Arc<LogLine>),
    /// All lines that can be its line say that it got this error.
    Error(u16),
    /// It was tried again: the line is that of a later try.
    TriedAgain,
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Answers {
    #[serde(deserialize_with = "at_most::<MAX_WRITERS, _, _, _>")]
    writers: Vec<u32>,
    #[serde(deserialize_with = "at_most::<MAX_LINES, _, _, _>")]
    lately: VecDeque<(Time, Arc<LogLine>)>,
}

impl Answers {
    /// Takes in which logs are followed.
    pub(super) fn followed<'a>(&mut self, logs: impl Iterator<Item = &'a LogSample>) {
        let of_requests = logs.filter(|log| log.requests && log.trouble.is_none());
        let pids: BTreeSet<u32> = of_requests.flat_map(|log| log.writers.iter().map(|writer| writer.pid)).collect();
        self.writers = pids.into_iter().take(MAX_WRITERS).collect();
    }

    /// Whether a process's requests are logged.
    pub(super) fn of(&self, pid: u32) -> bool {
        self.writers.binary_search(&pid).is_ok()
    }

    /// A line has been read.
    pub(super) fn read(&mut self, now: Time, time: Time, line: &Arc<LogLine>) {
        while self.lately.pop_front_if(|(time, _)| now.since(*time) > KEEP).is_some() {}
        if self.lately.len() >= MAX_LINES {
            self.lately.pop_front();
        }
        self.lately.push_back((time, Arc::clone(line)));
    }

    /// What the client got for whose request this try failed, if that can be told for sure by now.
    pub(super) fn to(&mut self, attempt: &Attempt, tried_again: impl Fn(&LogLine, Time) -> bool) -> Option<Got> {
        let at = self.lately.iter().position(|(time, line)| *time >= attempt.told - BEFORE && is_its(attempt, line))?;
        let (time, line) = &self.lately[at];
        if attempt.line.as_ref().is_some_and(|written| tried_again(written, *time)) {
            return Some(Got::TriedAgain);
        }
        let line = Arc::clone(line);
        self.lately.remove(at);
        Some(Got::Line(line))
    }

    /// The same, of what all lines have in common that can be meant.
    pub(super) fn likely(&self, attempt: &Attempt) -> Option<Got> {
        let written = attempt.line.as_ref().filter(|written| written.request.client.is_some())?;
        let meant = self.lately.iter().filter(|(time, line)| {
            *time >= written.after && !names_its_connection(line) && is_same(&line.request, &written.request)
        });
        let mut statuses = meant.filter_map(|(_, line)| line.status);
        let first = statuses.next().filter(|status| is_failed(*status))?;
        statuses.all(|status| status == first).then_some(Got::Error(first))
    }
}

/// Whether a line says whose connection it is about.
fn names_its_connection(line: &LogLine) -> bool {
    line.port.is_some() || line.connection != 0
}

fn is_same(one: &Request, other: &Request) -> bool {
    (one.client, &one.target, &one.method) == (other.client, &other.target, &other.method)
}

/// Whether a line is the one of the request for which a try failed, by the client's connection.
pub(super) fn is_its(attempt: &Attempt, line: &LogLine) -> bool {
    let status = attempt.status();
    if status.is_some() && status != line.status {
        return false;
    }
    if let Some(written) = attempt.line.as_ref().filter(|written| written.connection != 0 && line.connection != 0) {
        return written.connection == line.connection && is_same(&written.request, &line.request);
    }
    let client = attempt.answer.and_then(|answer| answer.client);
    client.is_some_and(|client| (line.request.client, line.port) == (Some(client.ip), Some(client.port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::Endpoint,
        event::Head,
        model::Answer,
        testing::{at, refused_connection},
    };

    fn line(path: &str, connection: u64, port: Option<u16>, status: u16) -> Arc<LogLine> {
        let request = Request { method: "GET".into(), target: path.into(), client: Some([10, 0, 0, 1].into()) };
        Arc::new(LogLine { connection, request, port, status: Some(status), ..LogLine::default() })
    }

    fn failed(written: Option<Arc<LogLine>>, port: Option<u16>) -> Attempt {
        let client = port.map(|port| Endpoint { ip: [10, 0, 0, 1].into(), port });
        let answer = client.map(|client| Answer {
            status: None,
            client: Some(client),
            head: Head::Unseen,
            left_unread: 0,
            upstream_status: None,
            unix: false,
        });
        Attempt { line: written, answer, ..Attempt::from_connection(at(1_000), at(1_000), &refused_connection()) }
    }

    fn answers(lines: &[Arc<LogLine>]) -> Answers {
        let mut answers = Answers::default();
        for line in lines {
            answers.read(at(1_020), at(1_020), line);
        }
        answers
    }

    const NEVER: fn(&LogLine, Time) -> bool = |_, _| false;

    #[test]
    fn a_client_is_known_by_its_port_or_by_its_number_and_each_line_is_of_one_request() {
        let own = line("/", 0, Some(4_000), 503);
        let mut by_port = answers(&[line("/", 0, Some(4_001), 502), Arc::clone(&own)]);
        assert_eq!(by_port.to(&failed(None, Some(4_000)), NEVER), Some(Got::Line(own)));
        assert_eq!(by_port.to(&failed(None, Some(4_000)), NEVER), None);
        let own = line("/", 45, None, 502);
        let mut by_number = answers(&[line("/", 44, None, 504), line("/other", 45, None, 504), Arc::clone(&own)]);
        let written = line("/", 45, None, 0);
        assert_eq!(by_number.to(&failed(Some(Arc::clone(&written)), None), |_, _| true), Some(Got::TriedAgain));
        assert_eq!(by_number.to(&failed(Some(written), None), NEVER), Some(Got::Line(own)));
    }

    #[test]
    fn what_was_read_long_before_is_about_another() {
        let mut answers = Answers::default();
        answers.read(at(500), at(500), &line("/", 0, Some(4_000), 502));
        assert_eq!(answers.to(&failed(None, Some(4_000)), NEVER), None);
        answers.read(at(9_000), at(9_000), &line("/", 0, Some(4_000), 502));
        assert_eq!(answers.lately.len(), 1);
    }

    #[test]
    fn by_its_path_alone_an_error_is_known_where_no_other_can_be_meant() {
        let attempt = failed(Some(line("/", 45, None, 0)), None);
        let likely = |statuses: &[u16]| {
            answers(&statuses.iter().map(|status| line("/", 0, None, *status)).collect::<Vec<_>>()).likely(&attempt)
        };
        assert_eq!(likely(&[502, 502]), Some(Got::Error(502)));
        assert_eq!((likely(&[502, 504]), likely(&[502, 200]), likely(&[200]), likely(&[])), (None, None, None, None));
        assert_eq!(answers(&[line("/", 46, None, 502)]).likely(&attempt), None, "that is another's, by its number");
        assert_eq!(answers(&[line("/", 0, None, 502)]).likely(&failed(None, None)), None);
    }

    #[test]
    fn only_logs_with_a_line_for_each_request_tell() {
        let writers = vec![crate::event::Process { pid: 42, comm: "nginx".into() }];
        let errors = LogSample { writers, ..LogSample::default() };
        let requests = LogSample { requests: true, ..errors.clone() };
        let mut answers = Answers::default();
        answers.followed([&errors].into_iter());
        assert!(!answers.of(42));
        answers.followed([&requests].into_iter());
        assert!(answers.of(42) && !answers.of(43));
        answers.followed([&LogSample { trouble: Some("gone".into()), ..requests }].into_iter());
        assert!(!answers.of(42));
    }
}
