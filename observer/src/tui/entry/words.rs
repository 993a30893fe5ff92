//! Events as sentences, and whom they concern.

use crate::{
    addr::Endpoint,
    event::{
        ApplicationSample, Body, Configuration, ConnectFailed, ConnectionEnded, Destination, Did, Flow, Hurt,
        ListenerSample, Outcome, OverflowPath, Place, Process, ResetSent, Signal, State, Unserved, signal_name,
    },
    time::Human,
};

/// Ends of connections and processes that an event names.
pub(super) struct Concerned<'a> {
    pub(super) ends: Vec<Endpoint>,
    pub(super) processes: Vec<&'a Process>,
}

/// Whom it concerns.
pub(super) fn concerned(body: &Body) -> Concerned<'_> {
    let flow = |flow: &Flow| vec![flow.local, flow.remote];
    let some = |ends, process| Concerned { ends, processes: vec![process] };
    let ends = |ends| Concerned { ends, processes: Vec::new() };
    match body {
        Body::ConnectionEnded(it) => some(flow(&it.flow), &it.proxy),
        Body::Unserved(it) => ends(flow(&it.flow)),
        Body::ConnectFailed(it) => match &it.to {
            Destination::Tcp(to) => some(flow(to), &it.proxy),
            Destination::Unix(_) => some(Vec::new(), &it.proxy),
        },
        Body::ListenOverflow(it) => ends(flow(&it.flow)),
        Body::ListenerChanged(it) => some(vec![it.at], &it.process),
        Body::ResetSent(it) => Concerned { ends: flow(&it.flow), processes: it.process.iter().collect() },
        Body::Retransmit(it) => ends(flow(&it.flow)),
        Body::SynAckRetransmit(it) => ends(flow(it)),
        Body::Outcome(it) => some(it.client.into_iter().collect(), &it.proxy),
        Body::Hurt(it) => some(flow(&it.flow), &it.process),
        Body::Signal(it) => {
            Concerned { ends: Vec::new(), processes: it.from.iter().chain(std::iter::once(&it.to)).collect() }
        }
        Body::ProxySample(it) => some(Vec::new(), &it.process),
        Body::ListenerSample(it) => Concerned { ends: vec![it.at], processes: it.process.iter().collect() },
        Body::UnixListenerSample(it) => Concerned { ends: Vec::new(), processes: it.process.iter().collect() },
        Body::Handshake(it) => ends(flow(&it.flow)),
        Body::FirstBytes(it) => ends(vec![it.upstream]),
        Body::LogLine(it) => some(it.at.into_iter().collect(), &it.process),
        Body::ApplicationSample(it) => Concerned {
            ends: match it.place {
                Place::At(at) => vec![at],
                Place::Path(_) => Vec::new(),
            },
            processes: vec![&it.process],
        },
        Body::LogSample(it) => Concerned { ends: Vec::new(), processes: it.writers.iter().collect() },
        Body::Configuration(it) => {
            Concerned { ends: Vec::new(), processes: std::iter::once(&it.master).chain(&it.workers).collect() }
        }
        Body::HostSample(_) | Body::NamespaceSample(_) | Body::Counters(_) | Body::Tick => ends(Vec::new()),
    }
}

/// What happened, in a line.
pub(super) fn sentence(body: &Body) -> String {
    match body {
        Body::ConnectionEnded(it) => ended(it),
        Body::Unserved(it) => unserved(it),
        Body::ConnectFailed(it) => connect_failed(it),
        Body::ListenOverflow(it) => {
            let what = match it.path {
                OverflowPath::Syn => "SYN dropped, accept queue full",
                OverflowPath::Ack => "final ACK dropped, accept queue full",
                OverflowPath::SynQueue => "SYN dropped, SYN queue full",
            };
            format!("{what} ({}/{}): {}", it.depth, it.limit, arrived(&it.flow))
        }
        Body::ListenerChanged(it) => {
            let what = if it.opened { "listens on" } else { "closed its listener on" };
            format!("{} {what} {} (queue {}/{})", name(&it.process), it.at, it.depth, it.limit)
        }
        Body::ResetSent(it) => reset_sent(it),
        Body::Retransmit(it) => {
            format!("{} sent again: {}", if it.syn { "SYN" } else { "data" }, way(&it.flow))
        }
        Body::SynAckRetransmit(it) => format!("SYN-ACK sent again: {}", way(it)),
        Body::Outcome(it) => outcome(it),
        Body::Hurt(it) => hurt(it),
        Body::Signal(it) => signal(it),
        Body::HostSample(it) => format!("host: {} ticks of processor time, {} stolen", it.ticks, it.stolen),
        Body::ProxySample(it) => {
            format!("{}: {} of {} files open", name(&it.process), it.open_files, it.open_files_limit)
        }
        Body::ListenerSample(it) => listener(it),
        Body::NamespaceSample(it) => format!("namespace {}: {} sockets in TIME_WAIT", it.netns.0, it.time_wait),
        Body::Counters(it) => format!(
            "totals: {} connections begun, {} ended; {} records lost",
            it.connections_started,
            it.connections_ended,
            it.lost.total()
        ),
        Body::Tick => "the time".to_owned(),
        Body::UnixListenerSample(it) => {
            let owner = it.process.as_ref().map(|process| format!(" ({})", name(process))).unwrap_or_default();
            format!("{} {}/{} in its queue{owner}", it.path, it.depth, it.limit)
        }
        Body::Handshake(it) => {
            let again = match it.syn_retransmits {
                0 => String::new(),
                times => format!(" after {times} SYNs more"),
            };
            format!("connected{again}: {}", way(&it.flow))
        }
        Body::FirstBytes(it) => {
            let answers: u64 = it.within.iter().map(|(_, count)| u64::from(*count)).sum();
            format!("{} began {answers} answers", it.upstream)
        }
        Body::LogLine(it) => format!("{} wrote: {} ({})", name(&it.process), it.said, it.request),
        Body::ApplicationSample(it) => application(it),
        Body::LogSample(it) => match &it.trouble {
            Some(why) => format!("log {} is not followed: {why}", it.path),
            None => format!("log {}: {} lines read", it.path, it.lines),
        },
        Body::Configuration(it) => configuration(it),
    }
}

fn configuration(it: &Configuration) -> String {
    let (master, file) = (name(&it.master), &it.file);
    if it.gone {
        return format!("{master} has gone, which ran with {file}");
    }
    if let Some(why) = &it.trouble {
        return format!("{master}: its configuration is not known: {why}");
    }
    let found = it.findings.iter().filter(|finding| !finding.only_if_seen).count();
    format!("{master} runs with {file}: {found} findings")
}

/// `nginx[42]`
pub(super) fn name(process: &Process) -> String {
    format!("{}[{}]", process.comm, process.pid)
}

/// By the kernel's name.
pub(super) fn state(state: State) -> String {
    match state {
        State::Established => "ESTABLISHED".to_owned(),
        State::SynSent => "SYN_SENT".to_owned(),
        State::FinWait1 => "FIN_WAIT1".to_owned(),
        State::Close => "CLOSE".to_owned(),
        State::CloseWait => "CLOSE_WAIT".to_owned(),
        State::Listen => "LISTEN".to_owned(),
        State::Other(number) => format!("state {number}"),
    }
}

fn way(flow: &Flow) -> String {
    format!("{} → {}", flow.local, flow.remote)
}

/// Of what came to the local end.
fn arrived(flow: &Flow) -> String {
    format!("{} → {}", flow.remote, flow.local)
}

fn ended(it: &ConnectionEnded) -> String {
    let how = match (it.error, it.reset_received, it.closed_by_proxy, it.new) {
        (errno, true, ..) => format!("reset, errno {errno}"),
        (0, _, true, _) => "closed by the proxy".to_owned(),
        (0, _, _, State::CloseWait) => "closed by the upstream".to_owned(),
        (0, ..) => "ended".to_owned(),
        (errno, ..) => format!("failed, errno {errno}"),
    };
    let answer = it.answer_status.map(|status| format!(", answer {status}")).unwrap_or_default();
    format!(
        "{} {}: {how} ({} → {}), {} bytes out, {} in{answer}",
        name(&it.proxy),
        way(&it.flow),
        state(it.old),
        state(it.new),
        it.bytes_sent,
        it.bytes_received
    )
}

fn unserved(it: &Unserved) -> String {
    let how = if it.reset { "reset by its client" } else { "given up by its client" };
    let accepted = if it.accepted { "accepted" } else { "never accepted" };
    let waited = it.waited.map(|waited| format!(" after {}", Human(waited))).unwrap_or_default();
    format!("{}: {how}{waited}, {accepted}", arrived(&it.flow))
}

fn connect_failed(it: &ConnectFailed) -> String {
    let to = match &it.to {
        Destination::Tcp(flow) => flow.remote.to_string(),
        Destination::Unix(path) => format!("unix:{path}"),
    };
    format!("{} connect() to {to} failed: errno {}", name(&it.proxy), it.error)
}

fn reset_sent(it: &ResetSent) -> String {
    let who = it.process.as_ref().map(|process| format!(" by {}", name(process))).unwrap_or_default();
    let why = it.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
    let socket = it.state.map_or_else(|| "no socket".to_owned(), state);
    format!("RST sent{who}: {} ({socket}{why})", way(&it.flow))
}

fn outcome(it: &Outcome) -> String {
    let did = match it.did {
        Did::Answered(status) => format!("answered {status}"),
        Did::Hidden => "answered something that cannot be read".to_owned(),
        Did::Retried => "tried again".to_owned(),
        Did::ClientGone => "closed its client's connection without a word".to_owned(),
    };
    let client = it.client.map(|client| format!(" to {client}")).unwrap_or_default();
    format!("{} {did}{client}", name(&it.proxy))
}

fn hurt(it: &Hurt) -> String {
    let how = it.death.map_or_else(|| "closed".to_owned(), |death| format!("{death}:"));
    format!("{} {how} with a request unanswered: {}", name(&it.process), arrived(&it.flow))
}

fn signal(it: &Signal) -> String {
    let from = it.from.as_ref().map_or_else(|| "the kernel".to_owned(), name);
    format!("{} to {} from {from}", signal_name(it.number), name(&it.to))
}

fn application(it: &ApplicationSample) -> String {
    let what = it.application.map_or_else(|| "no application server that is known".to_owned(), |it| it.to_string());
    format!("{} is served by {what} ({})", it.place, name(&it.process))
}

fn listener(it: &ListenerSample) -> String {
    let owner = it.process.as_ref().map(|process| format!(" ({}, {} processes)", name(process), it.holders));
    format!("{} {}/{} in its accept queue{}", it.at, it.depth, it.limit, owner.unwrap_or_default())
}
