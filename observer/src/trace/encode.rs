//! Rows into batches.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, SchemaRef};
use serde::Serialize;

use super::{
    columns::{COLUMNS, Filling},
    detail::{self, Also, Files, Held, Seldom, Serving, Warned, Within},
    said::{Said, Told},
    words::{self, Kind, OVERFLOW_PATHS, flag},
};
use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    event::{
        ApplicationSample, Body, ConnectionEnded, Destination, Event, Flow, Head, LogLine, Outcome, Place, Process,
        ResetSent,
    },
    time::{Time, WallClock},
};

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Row {
    Event(Event),
    Said(Said),
    /// The state, in base64.
    Checkpoint(Time, String),
}

impl Row {
    fn kind(&self) -> Kind {
        match self {
            Self::Event(event) => kind(&event.body),
            Self::Said(Said { what: Told::Verdict { .. }, .. }) => Kind::Verdict,
            Self::Said(Said { what: Told::Warning { .. }, .. }) => Kind::Warning,
            Self::Checkpoint(..) => Kind::Checkpoint,
        }
    }

    pub(super) fn time(&self) -> Time {
        match self {
            Self::Event(event) => event.time,
            Self::Said(said) => said.time,
            Self::Checkpoint(time, _) => *time,
        }
    }
}

/// The kind of row that an event becomes.
pub(crate) fn kind(body: &Body) -> Kind {
    match body {
        Body::ConnectionEnded(_) => Kind::ConnectionEnded,
        Body::Unserved(_) => Kind::Unserved,
        Body::ConnectFailed(_) => Kind::ConnectFailed,
        Body::ListenOverflow(_) => Kind::ListenOverflow,
        Body::ListenerChanged(_) => Kind::ListenerChanged,
        Body::ResetSent(_) => Kind::ResetSent,
        Body::Retransmit(_) => Kind::Retransmit,
        Body::SynAckRetransmit(_) => Kind::SynAckRetransmit,
        Body::Outcome(_) => Kind::Outcome,
        Body::Hurt(_) => Kind::Hurt,
        Body::Signal(_) => Kind::Signal,
        Body::Handshake(_) => Kind::Handshake,
        Body::HostSample(_) => Kind::HostSample,
        Body::ProxySample(_) => Kind::ProxySample,
        Body::ListenerSample(_) => Kind::ListenerSample,
        Body::UnixListenerSample(_) => Kind::UnixListenerSample,
        Body::NamespaceSample(_) => Kind::NamespaceSample,
        Body::FirstBytes(_) => Kind::FirstBytes,
        Body::LogLine(_) => Kind::LogLine,
        Body::LogSample(_) => Kind::LogSample,
        Body::Configuration(_) => Kind::Configuration,
        Body::ApplicationSample(_) => Kind::ApplicationSample,
        Body::Counters(_) => Kind::Counters,
        Body::Tick => Kind::Tick,
    }
}

/// The rows as one batch, grouped by kind: what a kind has nothing to say in are then long runs of nothing, which
/// compress away.
pub(super) fn batch(rows: &[Row], wall: WallClock, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new(Arc::clone(schema), arrays(rows, wall))
}

fn arrays(rows: &[Row], wall: WallClock) -> Vec<ArrayRef> {
    let mut order: Vec<(Kind, usize)> = rows.iter().enumerate().map(|(index, row)| (row.kind(), index)).collect();
    order.sort_unstable();
    let mut columns = Filling::of(rows.len());
    let mut addresses = Addresses::default();
    let mut name = (None, "");
    for (at, (kind, index)) in order.into_iter().enumerate() {
        let row = &rows[index];
        columns.time.set(at, moment(row.time(), wall));
        if name.0 != Some(kind) {
            name = (Some(kind), kind.name());
        }
        columns.kind.set(at, name.1);
        columns.seq.set(at, u32::try_from(index).unwrap_or(u32::MAX));
        let mut line = Line { columns: &mut columns, row: at, now: row.time(), addresses: &mut addresses };
        match row {
            Row::Event(event) => line.event(&event.body),
            Row::Said(said) => line.said(said),
            Row::Checkpoint(_, state) => line.columns.detail.set(at, state),
        }
    }
    let arrays = columns.finish(rows.len());
    debug_assert_eq!(arrays.len(), COLUMNS.len());
    arrays
}

/// Nanoseconds since the epoch; wrapping, so that any time comes back as it was.
fn moment(time: Time, wall: WallClock) -> i64 {
    time.0.wrapping_add(wall.offset).cast_signed()
}

/// One row while it is filled.
struct Line<'a> {
    columns: &'a mut Filling,
    row: usize,
    now: Time,
    addresses: &'a mut Addresses,
}

/// The addresses written last, by column: mostly the next is the same.
#[derive(Default)]
struct Addresses {
    local: Written,
    remote: Written,
    client: Written,
}

#[derive(Default)]
struct Written {
    ip: Option<IpAddr>,
    text: String,
}

impl Line<'_> {
    fn event(&mut self, body: &Body) {
        let row = self.row;
        match body {
            Body::ConnectionEnded(ended) => self.ended(ended),
            Body::Unserved(unserved) => {
                self.flow(&unserved.flow);
                let columns = &mut *self.columns;
                columns.state.set(row, &words::state_name(unserved.new));
                columns
                    .flags
                    .set(row, bits([(flag::ACCEPTED, unserved.accepted), (flag::RESET_RECEIVED, unserved.reset)]));
                columns.bytes_received.set(row, unserved.bytes_received);
                columns.bytes_sent.set(row, unserved.bytes_sent);
                columns.unacked.set(row, unserved.unacked);
                columns.since_received_ns.maybe(row, unserved.waited.map(nanos));
            }
            Body::ConnectFailed(failed) => {
                self.process(&failed.proxy);
                match &failed.to {
                    Destination::Tcp(flow) => self.flow(flow),
                    Destination::Unix(path) => self.columns.path.set(row, path),
                }
                self.columns.error.set(row, failed.error);
                let flags = [(flag::BEGAN, failed.began), (flag::ANSWERS_VISIBLE, failed.answers_visible)];
                self.columns.flags.set(row, bits(flags));
            }
            Body::ListenOverflow(overflow) => {
                self.flow(&overflow.flow);
                let what = OVERFLOW_PATHS.iter().find(|(path, _)| *path == overflow.path);
                self.columns.what.maybe(row, what.map(|(_, name)| *name));
                self.queue(overflow.depth, overflow.limit);
            }
            Body::ListenerChanged(changed) => {
                self.local(changed.at, changed.netns);
                self.process(&changed.process);
                self.columns.what.set(row, if changed.opened { "opened" } else { "closed" });
                self.queue(changed.depth, changed.limit);
            }
            Body::ResetSent(sent) => self.reset(sent),
            Body::Retransmit(retransmit) => {
                self.flow(&retransmit.flow);
                self.columns.what.set(row, if retransmit.syn { "syn" } else { "data" });
            }
            Body::SynAckRetransmit(flow) => self.flow(flow),
            Body::Outcome(outcome) => self.outcome(outcome),
            Body::Hurt(hurt) => {
                self.flow(&hurt.flow);
                self.process(&hurt.process);
                self.columns.bytes_received.set(row, hurt.bytes_received);
                self.columns.bytes_sent.set(row, hurt.bytes_sent);
                self.seldom(&Seldom { death: hurt.death, ..Seldom::default() });
            }
            Body::Signal(signal) => {
                self.process(&signal.to);
                self.seldom(&Seldom { number: Some(signal.number), from: signal.from.clone(), ..Seldom::default() });
            }
            Body::Handshake(handshake) => {
                self.flow(&handshake.flow);
                self.columns.syn_retransmits.set(row, handshake.syn_retransmits);
            }
            Body::LogLine(line) => self.log_line(line),
            Body::HostSample(_)
            | Body::LogSample(_)
            | Body::Configuration(_)
            | Body::ApplicationSample(_)
            | Body::ProxySample(_)
            | Body::ListenerSample(_)
            | Body::UnixListenerSample(_)
            | Body::NamespaceSample(_)
            | Body::FirstBytes(_)
            | Body::Counters(_) => self.sample(body),
            Body::Tick => {}
        }
    }

    fn ended(&mut self, ended: &ConnectionEnded) {
        let (row, now) = (self.row, self.now);
        self.flow(&ended.flow);
        self.process(&ended.proxy);
        let columns = &mut *self.columns;
        columns.state_before.set(row, &words::state_name(ended.old));
        columns.state.set(row, &words::state_name(ended.new));
        columns.error.set(row, ended.error);
        let flags = bits([
            (flag::CLOSED_BY_PROXY, ended.closed_by_proxy),
            (flag::RESET_RECEIVED, ended.reset_received),
            (flag::SENT_LAST, ended.sent_last),
            (flag::ANSWERS_VISIBLE, ended.answers_visible),
            (flag::ANSWERS_UNWATCHED, ended.answers_unwatched),
        ]);
        columns.flags.set(row, flags);
        columns.bytes_sent.set(row, ended.bytes_sent);
        columns.bytes_acked.set(row, ended.bytes_acked);
        columns.bytes_received.set(row, ended.bytes_received);
        columns.unacked.set(row, ended.unacked);
        columns.unread.set(row, ended.unread);
        columns.written.maybe(row, ended.written_since_read);
        columns.segments_out.set(row, ended.data_segments_out);
        columns.since_start_ns.maybe(row, (ended.started != Time::default()).then(|| since(now, ended.started)));
        columns.since_established_ns.maybe(row, ended.established.map(|time| since(now, time)));
        columns.since_sent_ns.maybe(row, ended.since_sent.map(nanos));
        columns.since_received_ns.maybe(row, ended.since_received.map(nanos));
        columns.since_read_ns.maybe(row, ended.last_read.map(|time| since(now, time)));
        columns.syn_retransmits.set(row, ended.syn_retransmits);
        columns.data_retransmits.set(row, ended.data_retransmits);
        columns.exchanges.set(row, ended.exchanges);
        columns.upstream_status.maybe(row, ended.answer_status);
        let soft_error = (ended.soft_error != 0).then_some(ended.soft_error);
        self.seldom(&Seldom { soft_error, ..Seldom::default() });
    }

    fn reset(&mut self, sent: &ResetSent) {
        let row = self.row;
        self.flow(&sent.flow);
        if let Some(process) = &sent.process {
            self.process(process);
        }
        let columns = &mut *self.columns;
        columns.what.maybe(row, sent.reason.as_deref());
        columns.state.maybe(row, sent.state.map(words::state_name).as_deref());
        let flags = bits([
            (flag::ANSWERS_SYN, sent.answers_syn),
            (flag::OWNED, sent.owned),
            (flag::ANSWERED, sent.answered),
            (flag::RETRACTS_OVERFLOW, sent.retracts_overflow),
            (flag::NO_HANDSHAKE, sent.no_handshake),
        ]);
        columns.flags.set(row, flags);
        columns.unread.set(row, sent.unread);
        self.queue(sent.depth, sent.limit);
        self.seldom(&Seldom { death: sent.death, ..Seldom::default() });
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let (row, now) = (self.row, self.now);
        self.process(&outcome.proxy);
        self.client(outcome.client);
        let columns = &mut *self.columns;
        let (what, status) = words::did_name(outcome.did);
        columns.what.set(row, what);
        columns.status.maybe(row, status);
        columns.upstream_status.maybe(row, outcome.upstream_status);
        columns.since_told_ns.maybe(row, outcome.told.map(|time| since(now, time)));
        columns.unread.set(row, outcome.left_unread);
        let flags = bits([
            (flag::UNIX_UPSTREAMS, outcome.unix),
            (flag::HEAD_BEGUN, outcome.head == Head::Begun),
            (flag::HEAD_WHOLE, outcome.head == Head::Whole),
            (flag::HEAD_LONG, outcome.head == Head::Long),
        ]);
        columns.flags.set(row, flags);
        let told_before_ns = outcome.told_before.map(|time| since(now, time));
        self.seldom(&Seldom { told_before_ns, ..Seldom::default() });
    }

    fn log_line(&mut self, line: &LogLine) {
        let LogLine { process, after, connection, said, at, path, request, port, status } = line;
        self.process(process);
        if let Some(at) = at {
            self.remote(*at);
        }
        self.columns.path.maybe(self.row, path.as_ref().map(UnixPath::as_str));
        self.columns.client_port.maybe(self.row, *port);
        self.columns.status.maybe(self.row, *status);
        let after_ns = since(self.now, *after);
        self.detail(&detail::Written {
            said: said.clone(),
            after_ns,
            connection: *connection,
            request: request.clone(),
        });
    }

    fn sample(&mut self, body: &Body) {
        match body {
            Body::HostSample(sample) => self.detail(sample),
            Body::LogSample(sample) => self.detail(&**sample),
            Body::Configuration(told) => {
                self.process(&told.master);
                self.columns.netns.set(self.row, told.netns.0);
                self.detail(&**told);
            }
            Body::ApplicationSample(sample) => self.application(sample),
            Body::Counters(counters) => self.detail(&**counters),
            Body::NamespaceSample(sample) => {
                self.columns.netns.set(self.row, sample.netns.0);
                self.detail(sample);
            }
            Body::FirstBytes(told) => {
                self.remote(told.upstream);
                self.columns.netns.set(self.row, told.netns.0);
                self.detail(&Within { within: told.within.clone(), unmeasured: told.unmeasured });
            }
            Body::ProxySample(sample) => {
                self.process(&sample.process);
                self.detail(&Files { open_files: sample.open_files, open_files_limit: sample.open_files_limit });
            }
            Body::ListenerSample(sample) => {
                self.local(sample.at, sample.netns);
                if let Some(process) = &sample.process {
                    self.process(process);
                }
                self.queue(sample.depth, sample.limit);
                let &crate::event::ListenerSample { holders, stopped, runnable, accepted_open, arrivals, .. } =
                    &**sample;
                self.detail(&Held { holders, stopped, runnable, accepted_open, arrivals });
            }
            Body::UnixListenerSample(sample) => {
                self.columns.path.set(self.row, sample.path.as_str());
                self.columns.netns.set(self.row, sample.netns.0);
                if let Some(process) = &sample.process {
                    self.process(process);
                }
                self.queue(sample.depth, sample.limit);
                self.detail(&Held { holders: sample.holders, ..Held::default() });
            }
            _ => {}
        }
    }

    fn application(&mut self, sample: &ApplicationSample) {
        let ApplicationSample { place, netns, process, application } = sample;
        match place {
            Place::At(at) => self.local(*at, *netns),
            Place::Path(path) => {
                self.columns.path.set(self.row, path.as_str());
                self.columns.netns.set(self.row, netns.0);
            }
        }
        self.process(process);
        self.detail(&Serving::of(*application));
    }

    fn said(&mut self, said: &Said) {
        let row = self.row;
        self.columns.cause.set(row, said.cause);
        self.columns.netns.set(row, said.netns.0);
        match &said.what {
            Told::Verdict { confidence, status, observed, client, proxy, endpoint, path, because, also, request } => {
                self.process(proxy);
                self.client(*client);
                if let Some(endpoint) = endpoint {
                    self.remote(*endpoint);
                }
                let columns = &mut *self.columns;
                columns.path.maybe(row, path.as_deref());
                columns.confidence.set(row, confidence);
                columns.status.maybe(row, *status);
                columns.flags.set(row, bits([(flag::OBSERVED, *observed)]));
                columns.because.maybe(row, *because);
                if !also.is_empty() || request.is_some() {
                    self.detail(&Also { also, request: request.as_deref() });
                }
            }
            Told::Warning { subject, summary } => self.detail(&Warned { subject, summary }),
        }
    }

    fn flow(&mut self, flow: &Flow) {
        self.local(flow.local, flow.netns);
        self.remote(flow.remote);
    }

    fn local(&mut self, at: Endpoint, netns: NetNs) {
        let ip = self.addresses.local.of(at.ip);
        self.columns.local_ip.set(self.row, ip);
        self.columns.local_port.set(self.row, at.port);
        self.columns.netns.set(self.row, netns.0);
    }

    fn remote(&mut self, at: Endpoint) {
        let ip = self.addresses.remote.of(at.ip);
        self.columns.remote_ip.set(self.row, ip);
        self.columns.remote_port.set(self.row, at.port);
    }

    fn client(&mut self, at: Option<Endpoint>) {
        if let Some(at) = at {
            let ip = self.addresses.client.of(at.ip);
            self.columns.client_ip.set(self.row, ip);
            self.columns.client_port.set(self.row, at.port);
        }
    }

    fn process(&mut self, process: &Process) {
        self.columns.pid.set(self.row, process.pid);
        self.columns.comm.set(self.row, &process.comm);
    }

    fn queue(&mut self, depth: u32, limit: u32) {
        self.columns.depth.set(self.row, depth);
        self.columns.limit.set(self.row, limit);
    }

    fn seldom(&mut self, seldom: &Seldom) {
        if !seldom.is_empty() {
            self.detail(seldom);
        }
    }

    fn detail(&mut self, detail: &impl Serialize) {
        // Plain structures with text for keys: there is nothing that could fail.
        let text = serde_json::to_string(detail).unwrap_or_default();
        self.columns.detail.set(self.row, &text);
    }
}

impl Written {
    fn of(&mut self, ip: IpAddr) -> &str {
        if self.ip != Some(ip) {
            self.ip = Some(ip);
            self.text.clear();
            // Writing to a string cannot fail.
            let _ = write!(self.text, "{ip}");
        }
        &self.text
    }
}

fn bits<const N: usize>(flags: [(u32, bool); N]) -> u32 {
    flags.into_iter().filter(|(_, set)| *set).map(|(bit, _)| bit).sum()
}

/// From `then` to `now`, negative if it is the other way round; wrapping, so that any time comes back as it was.
fn since(now: Time, then: Time) -> i64 {
    now.0.wrapping_sub(then.0).cast_signed()
}

fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
