//! All that an event says, piece by piece. Taken apart in full, so that what is added to an event is not forgotten here.

use std::time::Duration;

use super::words::{name, state};
use crate::{
    addr::UnixPath,
    diagnose::{Evidence, Logged, Verdict},
    event::{
        Application, ApplicationSample, Body, Configuration, Configured, ConnectFailed, ConnectionEnded, Destination,
        Event, FirstBytes, Flow, Handshake, HostSample, Hurt, ListenOverflow, ListenerChanged, ListenerSample, LogLine,
        LogSample, NamespaceSample, Outcome, ProxySample, Request, ResetSent, Retransmit, Signal, UnixListenerSample,
        Unserved,
    },
    time::{Human, Time},
};

/// Of a verdict.
pub(super) fn of_verdict(verdict: &Verdict) -> Evidence {
    let Verdict {
        time: _,
        cause,
        confidence,
        status,
        observed,
        client,
        proxy,
        upstream,
        log,
        because,
        also,
        summary,
        evidence,
        advice: _,
    } = verdict;
    Evidence::default()
        .with("summary", summary.as_str())
        .with("cause", *cause)
        .with("confidence", confidence.name())
        .maybe("status", status.map(u32::from))
        .maybe("status_seen", status.map(|_| *observed))
        .with("upstream", upstream.to_string())
        .with("proxy", name(proxy))
        .maybe("client", client.map(|client| client.to_string()))
        .and(log.as_ref().map(written).unwrap_or_default())
        .maybe("because", *because)
        .maybe("also", (!also.is_empty()).then(|| also.join(", ")))
        .and(evidence.clone())
}

/// Of an event.
pub(super) fn of(event: &Event) -> Evidence {
    let none = Evidence::default();
    match &event.body {
        Body::ConnectionEnded(it) => ended(it, event.time),
        Body::Unserved(it) => unserved(it),
        Body::ConnectFailed(it) => connect_failed(it),
        Body::ListenOverflow(ListenOverflow { flow, path: _, depth, limit }) => {
            ends(flow).with("queue_depth", *depth).with("queue_limit", *limit)
        }
        Body::ListenerChanged(ListenerChanged { at, netns, process, opened, depth, limit }) => none
            .with("listener", at.to_string())
            .with("netns", netns.0)
            .with("process", name(process))
            .with("opened", *opened)
            .with("queue_depth", *depth)
            .with("queue_limit", *limit),
        Body::ResetSent(it) => reset_sent(it),
        Body::Retransmit(Retransmit { flow, syn }) => ends(flow).with("syn", *syn),
        Body::SynAckRetransmit(flow) => ends(flow),
        Body::Outcome(it) => outcome(it),
        Body::Hurt(it) => {
            let Hurt { flow, process, death, bytes_received, bytes_sent } = &**it;
            ends(flow)
                .with("process", name(process))
                .maybe("death", death.map(|death| death.to_string()))
                .with("bytes_received", *bytes_received)
                .with("bytes_sent", *bytes_sent)
        }
        Body::Signal(it) => {
            let Signal { from, to, number } = &**it;
            none.maybe("from", from.as_ref().map(name)).with("to", name(to)).with("signal", *number)
        }
        Body::HostSample(HostSample { ticks, stolen, waited_us }) => {
            none.with("ticks", *ticks).with("stolen_ticks", *stolen).maybe("waited_us", *waited_us)
        }
        Body::ProxySample(it) => {
            let ProxySample { process, open_files, open_files_limit } = &**it;
            none.with("process", name(process))
                .with("open_files", *open_files)
                .with("open_files_limit", *open_files_limit)
        }
        Body::ListenerSample(it) => listener(it),
        Body::NamespaceSample(it) => namespace(it),
        Body::Counters(it) => {
            let lost = it.lost.by_kind().into_iter().filter(|(_, count)| *count > 0);
            lost.fold(
                none.with("connections_started", it.connections_started)
                    .with("connections_ended", it.connections_ended)
                    .with("connects_failed", it.connects_failed)
                    .with("overflows_by_syn", it.listen_overflow_syn)
                    .with("overflows_by_ack", it.listen_overflow_ack)
                    .with("resets_received", it.resets_received)
                    .with("retransmits", it.retransmits)
                    .with("answers", it.answers)
                    .with("answers_failed", it.answers_failed),
                |pieces, (kind, count)| pieces.with(kind, count),
            )
        }
        Body::Tick => none,
        Body::UnixListenerSample(it) => {
            let UnixListenerSample { path, netns, depth, limit, process, holders } = &**it;
            none.with("path", UnixPath::as_str(path))
                .with("netns", netns.0)
                .with("queue_depth", *depth)
                .with("queue_limit", *limit)
                .maybe("process", process.as_ref().map(name))
                .with("processes", *holders)
        }
        Body::FirstBytes(it) => {
            let FirstBytes { netns, upstream, within, unmeasured } = &**it;
            let within: Vec<_> = within
                .iter()
                .map(|(nanos, count)| format!("{count} within {}", span(Duration::from_nanos(*nanos))))
                .collect();
            none.with("upstream", upstream.to_string())
                .with("netns", netns.0)
                .with("answers_begun", within.join(", "))
                .with("unmeasured", *unmeasured)
        }
        Body::LogLine(it) => log_line(it, event.time),
        Body::LogSample(it) => log(it),
        Body::Configuration(it) => configuration(it),
        Body::ApplicationSample(it) => application(it),
        Body::Handshake(Handshake { flow, syn_retransmits }) => {
            ends(flow).with("syn_retransmits", u32::from(*syn_retransmits))
        }
    }
}

fn log_line(it: &LogLine, now: Time) -> Evidence {
    let LogLine { process, after, connection, said, at, path, request, port, status } = it;
    Evidence::default()
        .with("process", name(process))
        .with("said", said.as_str())
        .maybe("upstream", at.map(|at| at.to_string()).or_else(|| path.map(|path| path.to_string())))
        .with("connection", *connection)
        .and(asked(request))
        .maybe("request_port", port.map(u32::from))
        .maybe("status", status.map(u32::from))
        .with("written_within", span(now.since(*after)))
}

fn log(it: &LogSample) -> Evidence {
    let LogSample { device: _, inode: _, path, writers, requests, lines, missed, emptied, left, trouble } = it;
    Evidence::default()
        .with("path", path.as_str())
        .with("writers", u32::try_from(writers.len()).unwrap_or(u32::MAX))
        .with("line_for_each_request", *requests)
        .with("lines", *lines)
        .with("missed_bytes", *missed)
        .with("emptied", *emptied)
        .with("left", *left)
        .maybe("trouble", trouble.clone())
}

fn configuration(it: &Configuration) -> Evidence {
    let Configuration { master, netns, workers, file, findings, left_out, gone, trouble } = it;
    let of = |finding: &Configured| format!("{} ({}:{})", finding.code, finding.file, finding.line);
    let told: Vec<_> = findings.iter().filter(|finding| !finding.only_if_seen).map(of).collect();
    Evidence::default()
        .with("process", name(master))
        .with("netns", netns.0)
        .with("file", file.as_str())
        .with("workers", u32::try_from(workers.len()).unwrap_or(u32::MAX))
        .with("findings", told.join(", "))
        .with("left_out", *left_out)
        .with("gone", *gone)
        .maybe("trouble", trouble.clone())
}

fn application(it: &ApplicationSample) -> Evidence {
    let ApplicationSample { place, netns, process, application } = it;
    let told =
        Evidence::default().with("listener", place.to_string()).with("netns", netns.0).with("process", name(process));
    let Some(Application { software, workers, threads, event_loop }) = *application else { return told };
    told.with("software", software.name())
        .maybe("workers", workers)
        .maybe("threads", threads)
        .with("event_loop", event_loop)
}

fn written(log: &Logged) -> Evidence {
    let Logged { said, request, status, agrees } = log;
    asked(request)
        .with("proxy_says", said.as_str())
        .maybe("logged_status", status.map(u32::from))
        .with("which_agrees", *agrees)
}

fn asked(request: &Request) -> Evidence {
    let Request { method, target, client } = request;
    Evidence::default()
        .with("request", format!("{method} {target}"))
        .maybe("request_by", client.map(|client| client.to_string()))
}

fn ends(flow: &Flow) -> Evidence {
    let Flow { local, remote, netns } = flow;
    Evidence::default().with("local", local.to_string()).with("remote", remote.to_string()).with("netns", netns.0)
}

fn span(duration: Duration) -> String {
    Human(duration).to_string()
}

fn ended(it: &ConnectionEnded, now: Time) -> Evidence {
    let ConnectionEnded {
        flow,
        proxy,
        started,
        established,
        old,
        new,
        error,
        closed_by_proxy,
        reset_received,
        bytes_sent,
        bytes_acked,
        bytes_received,
        unacked,
        data_segments_out,
        since_sent,
        since_received,
        sent_last,
        written_since_read,
        unread,
        answer_status,
        soft_error,
        last_read,
        exchanges,
        answers_visible,
        answers_unwatched,
        syn_retransmits,
        data_retransmits,
    } = it;
    let known = |time: &Time| *time != Time::default();
    ends(flow)
        .with("proxy", name(proxy))
        .with("state_before", state(*old))
        .with("state_after", state(*new))
        .with("errno", u32::from(*error))
        .with("closed_by_proxy", *closed_by_proxy)
        .with("reset_received", *reset_received)
        .maybe("lasted", Some(started).filter(|time| known(time)).map(|time| span(now.since(*time))))
        .maybe("handshake", established.filter(|_| known(started)).map(|established| span(established.since(*started))))
        .with("bytes_sent", *bytes_sent)
        .with("bytes_acked", *bytes_acked)
        .with("bytes_received", *bytes_received)
        .with("unacknowledged_bytes", *unacked)
        .with("unread_bytes", *unread)
        .with("data_segments_out", *data_segments_out)
        .maybe("since_sent", since_sent.map(span))
        .maybe("since_received", since_received.map(span))
        .maybe("since_read", last_read.map(|read| span(now.since(read))))
        .with("sent_last", *sent_last)
        .maybe("written_since_read", *written_since_read)
        .maybe("answer_status", answer_status.map(u32::from))
        .with("answers", *exchanges)
        .with("answers_visible", *answers_visible)
        .with("answers_unwatched", *answers_unwatched)
        .with("soft_errno", u32::from(*soft_error))
        .with("syn_retransmits", u32::from(*syn_retransmits))
        .with("data_retransmits", u32::from(*data_retransmits))
}

fn unserved(it: &Unserved) -> Evidence {
    let Unserved { flow, new, accepted, reset, bytes_received, bytes_sent, unacked, waited } = it;
    ends(flow)
        .with("state_after", state(*new))
        .with("accepted", *accepted)
        .with("reset_by_client", *reset)
        .with("bytes_received", *bytes_received)
        .with("bytes_sent", *bytes_sent)
        .with("unacknowledged_bytes", *unacked)
        .maybe("waited", waited.map(span))
}

fn connect_failed(it: &ConnectFailed) -> Evidence {
    let ConnectFailed { proxy, to, error, began, answers_visible } = it;
    let to = match to {
        Destination::Tcp(flow) => ends(flow),
        Destination::Unix(path) => Evidence::default().with("path", path.as_str()),
    };
    to.with("proxy", name(proxy))
        .with("errno", u32::from(*error))
        .with("handshake_began", *began)
        .with("answers_visible", *answers_visible)
}

fn reset_sent(it: &ResetSent) -> Evidence {
    let ResetSent {
        flow,
        process,
        reason,
        state: socket,
        answers_syn,
        owned,
        answered,
        unread,
        depth,
        limit,
        no_handshake,
        retracts_overflow,
        death,
    } = it;
    ends(flow)
        .maybe("process", process.as_ref().map(name))
        .maybe("reason", reason.clone())
        .maybe("state", socket.map(state))
        .with("answers_syn", *answers_syn)
        .with("owned", *owned)
        .with("answered", *answered)
        .with("unread_bytes", *unread)
        .with("queue_depth", *depth)
        .with("queue_limit", *limit)
        .with("no_handshake", *no_handshake)
        .with("retracts_overflow", *retracts_overflow)
        .maybe("death", death.map(|death| death.to_string()))
}

fn outcome(it: &Outcome) -> Evidence {
    let Outcome { proxy, told: _, did: _, client, head, left_unread, told_before: _, upstream_status, unix } = it;
    Evidence::default()
        .with("proxy", name(proxy))
        .maybe("client", client.map(|client| client.to_string()))
        .with("head_of_answer", format!("{head:?}").to_lowercase())
        .with("left_unread_bytes", *left_unread)
        .maybe("upstream_status", upstream_status.map(u32::from))
        .with("has_unix_upstreams", *unix)
}

fn listener(it: &ListenerSample) -> Evidence {
    let ListenerSample { at, netns, depth, limit, process, holders, stopped, runnable, accepted_open, arrivals } = it;
    Evidence::default()
        .with("listener", at.to_string())
        .with("netns", netns.0)
        .with("queue_depth", *depth)
        .with("queue_limit", *limit)
        .maybe("process", process.as_ref().map(name))
        .with("processes", *holders)
        .with("stopped", *stopped)
        .with("runnable", *runnable)
        .with("accepted_open", *accepted_open)
        .maybe("arrivals", *arrivals)
}

fn namespace(it: &NamespaceSample) -> Evidence {
    let NamespaceSample {
        netns,
        time_wait,
        time_wait_by_destination,
        addresses,
        port_range,
        somaxconn,
        tw_reuse,
        abort_on_overflow,
        listen_overflows,
        listen_drops,
    } = it;
    let first = time_wait_by_destination.first();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    Evidence::default()
        .with("netns", netns.0)
        .with("time_wait", *time_wait)
        .maybe("time_wait_most", first.map(|(to, count)| format!("{count} to {to}")))
        .maybe("port_range", port_range.map(|(low, high)| format!("{low}-{high}")))
        .maybe("somaxconn", *somaxconn)
        .maybe("tcp_tw_reuse", *tw_reuse)
        .maybe("tcp_abort_on_overflow", *abort_on_overflow)
        .maybe("listen_overflows", *listen_overflows)
        .maybe("listen_drops", *listen_drops)
        .with("addresses", addresses.join(", "))
}
