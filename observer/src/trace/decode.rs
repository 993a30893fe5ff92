//! Batches into rows. What is in a batch comes from a file: nothing in it is believed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::Deserialize;

use super::{
    columns::{Filled, filled},
    detail::{Files, Held, Seldom, Serving, Within, Written},
    words::{self, Kind, OVERFLOW_PATHS, flag},
};
use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    event::{
        ApplicationSample, Body, Configuration, ConnectFailed, ConnectionEnded, Destination, Event, FirstBytes, Flow,
        Handshake, Head, Hurt, ListenOverflow, ListenerChanged, ListenerSample, LogLine, MAX_METHOD, MAX_SAID,
        MAX_TARGET, NamespaceSample, Outcome, Place, Process, ProxySample, Request, ResetSent, Retransmit, Signal,
        State, UnixListenerSample, Unserved,
    },
    text::{self, Comm},
    time::{Time, WallClock},
};

/// Bytes of any other word.
const MAX_WORD: usize = 64;

/// Bytes of JSON in a row.
const MAX_DETAIL: usize = 1 << 20;
/// Bytes of a checkpoint as text.
pub(super) const MAX_CHECKPOINT: usize = 48 << 20;

/// What a batch had to say.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// In the order in which observer learned of them.
    pub(super) events: Vec<Event>,
    /// observer's state before the first of them.
    pub(super) checkpoint: Option<Vec<u8>>,
    /// The verdicts given at the time.
    pub(super) verdicts: Vec<Given>,
    /// Rows of kinds that are not known here.
    pub(super) unknown: u64,
    /// Rows by kind.
    pub(super) kinds: Vec<(Kind, u64)>,
}

/// A verdict as it was given at the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// When the try failed.
    pub time: Time,
    /// The cause's code; another version of observer may know others.
    pub cause: String,
    /// How sure.
    pub confidence: String,
    /// What lies under it.
    pub because: Option<String>,
}

/// A row that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// A column does not hold what it should.
    #[error("column {0} holds something else than it should")]
    Column(&'static str),
    /// A row lacks what its kind must say, or says what cannot be.
    #[error("row {row} ({kind}): no valid {column}")]
    Row {
        /// Which, from 0.
        row: usize,
        /// Its kind, by name.
        kind: &'static str,
        /// What is wrong.
        column: &'static str,
    },
    /// Two rows claim one place.
    #[error("rows are numbered wrongly")]
    Order,
}

/// The rows of a batch.
pub(super) fn rows(batch: &RecordBatch, wall: WallClock) -> Result<Rows, RowError> {
    let columns = Filled::of(batch).map_err(RowError::Column)?;
    let mut rows = Rows::default();
    let mut places: Vec<Option<Event>> = Vec::new();
    places.resize_with(batch.num_rows(), || None);
    let mut known = Known::default();
    for row in 0..batch.num_rows() {
        let kind = known.kind.read(&columns.kind, row, |name| Some(Kind::named(name))).flatten();
        let Some(kind) = kind else {
            rows.unknown += 1;
            continue;
        };
        match rows.kinds.last_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            _ => rows.kinds.push((kind, 1)),
        }
        let time = columns.time.get(row).ok_or(RowError::Row { row, kind: kind.name(), column: "time" })?;
        let time = Time(time.cast_unsigned().wrapping_sub(wall.offset));
        let mut line = Line { columns: &columns, row, now: time, known: &mut known };
        match kind {
            Kind::Verdict => rows.verdicts.push(Given {
                time,
                cause: columns.cause.get(row).map(|cause| clean(cause, MAX_WORD)).unwrap_or_default(),
                confidence: columns.confidence.get(row).map(|word| clean(word, MAX_WORD)).unwrap_or_default(),
                because: columns.because.get(row).map(|because| clean(because, MAX_WORD)),
            }),
            Kind::Warning => {}
            // One that cannot be read is as good as none.
            Kind::Checkpoint => {
                let text = columns.detail.get(row).filter(|text| text.len() <= MAX_CHECKPOINT);
                rows.checkpoint = text.and_then(|text| BASE64.decode(text).ok());
            }
            _ => {
                let body = line.body(kind).map_err(|column| RowError::Row { row, kind: kind.name(), column })?;
                let seq = columns.seq.get(row).and_then(|seq| usize::try_from(seq).ok());
                let place = seq.and_then(|seq| places.get_mut(seq)).ok_or(RowError::Order)?;
                if place.replace(Event { time, body }).is_some() {
                    return Err(RowError::Order);
                }
            }
        }
    }
    rows.events = places.into_iter().flatten().collect();
    Ok(rows)
}

/// The name of the column that is wrong.
type Wrong = &'static str;

struct Line<'a, 'b> {
    columns: &'a Filled<'b>,
    row: usize,
    now: Time,
    known: &'a mut Known,
}

/// What was made of the text read last, by column: mostly the next is the same.
#[derive(Default)]
struct Known {
    kind: Last<Option<Kind>>,
    local: Last<IpAddr>,
    remote: Last<IpAddr>,
    client: Last<IpAddr>,
    comm: Last<Comm>,
    state_before: Last<State>,
    state: Last<State>,
}

struct Last<T>(Option<(u128, T)>);

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Copy> Last<T> {
    /// What `parse` makes of a row's text; none if there is none, or if it makes nothing of it.
    fn read(&mut self, column: &filled::Text<'_>, row: usize, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let view = column.view(row)?;
        if let Some((last, value)) = self.0
            && last == view
        {
            return Some(value);
        }
        let value = parse(column.get(row)?)?;
        self.0 = Some((view, value));
        Some(value)
    }
}

fn address(text: &str) -> Option<IpAddr> {
    // As the kernel's side tells them: IPv4 addresses are never in their mapped form.
    Some(text.parse::<IpAddr>().ok()?.to_canonical())
}

impl Line<'_, '_> {
    fn body(&mut self, kind: Kind) -> Result<Body, Wrong> {
        let (columns, row) = (self.columns, self.row);
        Ok(match kind {
            Kind::ConnectionEnded => Body::ConnectionEnded(Box::new(self.ended()?)),
            Kind::Unserved => Body::Unserved(Unserved {
                flow: self.flow()?,
                new: self.state()?.ok_or("state")?,
                accepted: self.flag(flag::ACCEPTED),
                reset: self.flag(flag::RESET_RECEIVED),
                bytes_received: columns.bytes_received.or_zero(row),
                bytes_sent: columns.bytes_sent.or_zero(row),
                unacked: columns.unacked.or_zero(row),
                waited: columns.since_received_ns.get(row).map(duration),
            }),
            Kind::ConnectFailed => Body::ConnectFailed(Box::new(ConnectFailed {
                proxy: self.process(),
                to: match columns.path.get(row) {
                    Some(path) => Destination::Unix(clean(path, MAX_PATH)),
                    None => Destination::Tcp(self.flow()?),
                },
                error: columns.error.or_zero(row),
                began: self.flag(flag::BEGAN),
                answers_visible: self.flag(flag::ANSWERS_VISIBLE),
            })),
            Kind::ListenOverflow => {
                let what = columns.what.get(row);
                let path = OVERFLOW_PATHS.iter().find(|(_, name)| Some(*name) == what);
                Body::ListenOverflow(ListenOverflow {
                    flow: self.flow()?,
                    path: path.ok_or("what")?.0,
                    depth: columns.depth.or_zero(row),
                    limit: columns.limit.or_zero(row),
                })
            }
            Kind::ListenerChanged => {
                let (at, netns) = self.local()?;
                let opened = match columns.what.get(row) {
                    Some("opened") => true,
                    Some("closed") => false,
                    _ => return Err("what"),
                };
                let (depth, limit) = (columns.depth.or_zero(row), columns.limit.or_zero(row));
                Body::ListenerChanged(ListenerChanged { at, netns, process: self.process(), opened, depth, limit })
            }
            Kind::ResetSent => Body::ResetSent(self.reset()?),
            Kind::Retransmit => {
                let syn = match columns.what.get(row) {
                    Some("syn") => true,
                    Some("data") => false,
                    _ => return Err("what"),
                };
                Body::Retransmit(Retransmit { flow: self.flow()?, syn })
            }
            Kind::SynAckRetransmit => Body::SynAckRetransmit(self.flow()?),
            Kind::Outcome => Body::Outcome(Box::new(self.outcome()?)),
            Kind::Hurt => Body::Hurt(Box::new(Hurt {
                flow: self.flow()?,
                process: self.process(),
                death: self.seldom()?.death,
                bytes_received: columns.bytes_received.or_zero(row),
                bytes_sent: columns.bytes_sent.or_zero(row),
            })),
            Kind::Signal => {
                let Seldom { number, from, .. } = self.seldom()?;
                Body::Signal(Box::new(Signal { from, to: self.process(), number: number.ok_or("detail")? }))
            }
            Kind::Handshake => {
                Body::Handshake(Handshake { flow: self.flow()?, syn_retransmits: columns.syn_retransmits.or_zero(row) })
            }
            Kind::Tick => Body::Tick,
            Kind::HostSample => Body::HostSample(self.detail()?),
            Kind::Counters => Body::Counters(Box::new(self.detail()?)),
            Kind::NamespaceSample => Body::NamespaceSample(Box::new(self.namespace()?)),
            Kind::ProxySample => {
                let Files { open_files, open_files_limit } = self.detail()?;
                Body::ProxySample(Box::new(ProxySample { process: self.process(), open_files, open_files_limit }))
            }
            Kind::FirstBytes => {
                let Within { within, unmeasured } = self.detail()?;
                let netns = NetNs(columns.netns.or_zero(row));
                Body::FirstBytes(Box::new(FirstBytes { netns, upstream: self.remote()?, within, unmeasured }))
            }
            Kind::ListenerSample => Body::ListenerSample(Box::new(self.listener()?)),
            Kind::LogLine => Body::LogLine(Arc::new(self.log_line()?)),
            Kind::LogSample => Body::LogSample(Box::new(self.detail()?)),
            Kind::Configuration => Body::Configuration(Box::new(self.configuration()?)),
            Kind::ApplicationSample => Body::ApplicationSample(Box::new(self.application()?)),
            Kind::UnixListenerSample => {
                let Held { holders, .. } = self.detail()?;
                Body::UnixListenerSample(Box::new(UnixListenerSample {
                    path: UnixPath::new(&clean(columns.path.get(row).ok_or("path")?, MAX_PATH)),
                    netns: NetNs(columns.netns.or_zero(row)),
                    depth: columns.depth.or_zero(row),
                    limit: columns.limit.or_zero(row),
                    process: self.maybe_process(),
                    holders,
                }))
            }
            Kind::Verdict | Kind::Warning | Kind::Checkpoint => return Err("kind"),
        })
    }

    fn ended(&mut self) -> Result<ConnectionEnded, Wrong> {
        let (columns, row) = (self.columns, self.row);
        Ok(ConnectionEnded {
            flow: self.flow()?,
            proxy: self.process(),
            started: columns.since_start_ns.get(row).map_or(Time::default(), |since| self.ago(since)),
            established: columns.since_established_ns.get(row).map(|since| self.ago(since)),
            old: self.known.state_before.read(&columns.state_before, row, words::state_named).ok_or("state_before")?,
            new: self.state()?.ok_or("state")?,
            error: columns.error.or_zero(row),
            closed_by_proxy: self.flag(flag::CLOSED_BY_PROXY),
            reset_received: self.flag(flag::RESET_RECEIVED),
            bytes_sent: columns.bytes_sent.or_zero(row),
            bytes_acked: columns.bytes_acked.or_zero(row),
            bytes_received: columns.bytes_received.or_zero(row),
            unacked: columns.unacked.or_zero(row),
            data_segments_out: columns.segments_out.or_zero(row),
            since_sent: columns.since_sent_ns.get(row).map(duration),
            since_received: columns.since_received_ns.get(row).map(duration),
            sent_last: self.flag(flag::SENT_LAST),
            written_since_read: columns.written.get(row),
            unread: columns.unread.or_zero(row),
            answer_status: columns.upstream_status.get(row),
            soft_error: self.seldom()?.soft_error.unwrap_or(0),
            last_read: columns.since_read_ns.get(row).map(|since| self.ago(since)),
            exchanges: columns.exchanges.or_zero(row),
            answers_visible: self.flag(flag::ANSWERS_VISIBLE),
            answers_unwatched: self.flag(flag::ANSWERS_UNWATCHED),
            syn_retransmits: columns.syn_retransmits.or_zero(row),
            data_retransmits: columns.data_retransmits.or_zero(row),
        })
    }

    fn reset(&mut self) -> Result<ResetSent, Wrong> {
        let (columns, row) = (self.columns, self.row);
        Ok(ResetSent {
            flow: self.flow()?,
            process: self.maybe_process(),
            reason: columns.what.get(row).map(|what| clean(what, MAX_WORD)),
            state: self.state()?,
            answers_syn: self.flag(flag::ANSWERS_SYN),
            owned: self.flag(flag::OWNED),
            answered: self.flag(flag::ANSWERED),
            unread: columns.unread.or_zero(row),
            depth: columns.depth.or_zero(row),
            limit: columns.limit.or_zero(row),
            // The one implies the other, and was alone in older traces.
            no_handshake: self.flag(flag::NO_HANDSHAKE) || self.flag(flag::RETRACTS_OVERFLOW),
            retracts_overflow: self.flag(flag::RETRACTS_OVERFLOW),
            death: self.seldom()?.death,
        })
    }

    fn outcome(&mut self) -> Result<Outcome, Wrong> {
        let (columns, row) = (self.columns, self.row);
        let head = match (self.flag(flag::HEAD_BEGUN), self.flag(flag::HEAD_WHOLE), self.flag(flag::HEAD_LONG)) {
            (true, ..) => Head::Begun,
            (_, true, _) => Head::Whole,
            (.., true) => Head::Long,
            _ => Head::Unseen,
        };
        let did = columns.what.get(row).and_then(|what| words::did_named(what, columns.status.get(row)));
        Ok(Outcome {
            proxy: self.process(),
            told: columns.since_told_ns.get(row).map(|since| self.ago(since)),
            did: did.ok_or("what")?,
            client: match columns.client_ip.view(row) {
                Some(_) => Some(Endpoint {
                    ip: self.known.client.read(&columns.client_ip, row, address).ok_or("client_ip")?,
                    port: columns.client_port.or_zero(row),
                }),
                None => None,
            },
            head,
            left_unread: columns.unread.or_zero(row),
            told_before: self.seldom()?.told_before_ns.map(|since| self.ago(since)),
            upstream_status: columns.upstream_status.get(row),
            unix: self.flag(flag::UNIX_UPSTREAMS),
        })
    }

    fn log_line(&mut self) -> Result<LogLine, Wrong> {
        let Written { said, after_ns, connection, request: Request { method, target, client } } = self.detail()?;
        Ok(LogLine {
            process: self.process(),
            after: self.ago(after_ns),
            connection,
            said: cut(said, MAX_SAID),
            at: self.columns.remote_ip.view(self.row).map(|_| self.remote()).transpose()?,
            path: self.columns.path.get(self.row).map(|path| UnixPath::new(&clean(path, MAX_PATH))),
            request: Request { method: cut(method, MAX_METHOD), target: cut(target, MAX_TARGET), client },
            port: self.columns.client_port.get(self.row),
            status: self.columns.status.get(self.row),
        })
    }

    fn configuration(&mut self) -> Result<Configuration, Wrong> {
        let told: Configuration = self.detail()?;
        let netns = NetNs(self.columns.netns.or_zero(self.row));
        Ok(Configuration { master: self.process(), netns, ..told }.bounded())
    }

    fn application(&mut self) -> Result<ApplicationSample, Wrong> {
        let told: Serving = self.detail()?;
        let place = match self.columns.path.get(self.row) {
            Some(path) => Place::Path(UnixPath::new(&clean(path, MAX_PATH))),
            None => Place::At(self.local()?.0),
        };
        let netns = NetNs(self.columns.netns.or_zero(self.row));
        Ok(ApplicationSample { place, netns, process: self.process(), application: told.application() })
    }

    fn namespace(&mut self) -> Result<NamespaceSample, Wrong> {
        let mut sample: NamespaceSample = self.detail()?;
        sample.netns = NetNs(self.columns.netns.or_zero(self.row));
        sample.time_wait_by_destination.truncate(crate::event::MAX_DESTINATIONS);
        Ok(sample)
    }

    fn listener(&mut self) -> Result<ListenerSample, Wrong> {
        let (columns, row) = (self.columns, self.row);
        let (at, netns) = self.local()?;
        let Held { holders, stopped, runnable, accepted_open, arrivals } = self.detail()?;
        Ok(ListenerSample {
            at,
            netns,
            depth: columns.depth.or_zero(row),
            limit: columns.limit.or_zero(row),
            process: self.maybe_process(),
            holders,
            stopped,
            runnable,
            accepted_open,
            arrivals,
        })
    }

    fn flow(&mut self) -> Result<Flow, Wrong> {
        let (local, netns) = self.local()?;
        Ok(Flow { local, remote: self.remote()?, netns })
    }

    fn remote(&mut self) -> Result<Endpoint, Wrong> {
        let ip = self.known.remote.read(&self.columns.remote_ip, self.row, address).ok_or("remote_ip")?;
        Ok(Endpoint { ip, port: self.columns.remote_port.or_zero(self.row) })
    }

    fn local(&mut self) -> Result<(Endpoint, NetNs), Wrong> {
        let ip = self.known.local.read(&self.columns.local_ip, self.row, address).ok_or("local_ip")?;
        let netns = NetNs(self.columns.netns.or_zero(self.row));
        Ok((Endpoint { ip, port: self.columns.local_port.or_zero(self.row) }, netns))
    }

    fn process(&mut self) -> Process {
        self.maybe_process().unwrap_or_default()
    }

    fn maybe_process(&mut self) -> Option<Process> {
        let pid = self.columns.pid.get(self.row)?;
        let comm = self.known.comm.read(&self.columns.comm, self.row, |comm| Some(Comm::escaped(comm.as_bytes())));
        Some(Process { pid, comm: comm.unwrap_or_default() })
    }

    fn state(&mut self) -> Result<Option<State>, Wrong> {
        match self.columns.state.view(self.row) {
            Some(_) => {
                self.known.state.read(&self.columns.state, self.row, words::state_named).map(Some).ok_or("state")
            }
            None => Ok(None),
        }
    }

    fn flag(&self, bit: u32) -> bool {
        self.columns.flags.or_zero(self.row) & bit != 0
    }

    /// The time so long before this row's.
    fn ago(&self, since: i64) -> Time {
        Time(self.now.0.wrapping_sub(since.cast_unsigned()))
    }

    fn seldom(&self) -> Result<Seldom, Wrong> {
        if self.columns.detail.get(self.row).is_some() { self.detail() } else { Ok(Seldom::default()) }
    }

    fn detail<T: for<'a> Deserialize<'a>>(&self) -> Result<T, Wrong> {
        let text = self.columns.detail.get(self.row).filter(|text| text.len() <= MAX_DETAIL).ok_or("detail")?;
        serde_json::from_str(text).map_err(|_| "detail")
    }
}

/// Bytes of a unix socket's path that are read: all that an address has room for, each written as ten at most.
const MAX_PATH: usize = 10 * UnixPath::MAX;

/// Harmless text of bounded length.
fn clean(text: &str, limit: usize) -> String {
    text::escape(&text.as_bytes()[..text.floor_char_boundary(limit)])
}

/// Harmless text that may be no longer than that.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    let mut text = text::escape(text.as_bytes());
    text.truncate(text.floor_char_boundary(limit));
    text
}

fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
