//! Where in an event there are times, addresses, namespaces, processes and paths. Every field is named here: one that is
//! added must be looked at.

use std::{net::IpAddr, sync::Arc};

use crate::{
    addr::{Endpoint, NetNs, UnixPath},
    event::{
        ApplicationSample, Body, Configuration, Configured, ConnectFailed, ConnectionEnded, Destination, Event,
        FirstBytes, Flow, Handshake, Hurt, ListenOverflow, ListenerChanged, ListenerSample, LogLine, LogSample,
        NamespaceSample, Outcome, Place, Process, ProxySample, Request, ResetSent, Retransmit, Server, Signal,
        UnixListenerSample, Unserved,
    },
    time::Time,
};

/// What becomes of each; what stands for "unknown" is not asked about.
pub(super) trait Change {
    fn time(&mut self, _: &mut Time) {}
    fn netns(&mut self, _: &mut NetNs) {}
    fn ip(&mut self, _: &mut IpAddr) {}
    fn process(&mut self, _: &mut Process) {}
    fn path(&mut self, _: &mut String) {}
    /// A file's name, or a request's path.
    fn name(&mut self, _: &mut String) {}
    /// What a log says.
    fn said(&mut self, _: &mut String) {}
    /// A sentence about a configuration, or what to write there.
    fn written(&mut self, _: &mut String) {}
}

/// Changes an event wherever there is something to change.
pub(super) fn change(event: &mut Event, to: &mut impl Change) {
    let Event { time, body } = event;
    to.time(time);
    match body {
        Body::ConnectionEnded(it) => ended(it, to),
        Body::Unserved(Unserved {
            flow: it,
            new: _,
            accepted: _,
            reset: _,
            bytes_received: _,
            bytes_sent: _,
            unacked: _,
            waited: _,
        })
        | Body::ListenOverflow(ListenOverflow { flow: it, path: _, depth: _, limit: _ })
        | Body::Retransmit(Retransmit { flow: it, syn: _ })
        | Body::SynAckRetransmit(it)
        | Body::Handshake(Handshake { flow: it, syn_retransmits: _ }) => flow(it, to),
        Body::ConnectFailed(it) => {
            let ConnectFailed { proxy, to: destination, error: _, began: _, answers_visible: _ } = &mut **it;
            to.process(proxy);
            match destination {
                Destination::Tcp(it) => flow(it, to),
                Destination::Unix(path) => to.path(path),
            }
        }
        Body::ListenerChanged(ListenerChanged { at, netns: ns, process, opened: _, depth: _, limit: _ }) => {
            endpoint(at, to);
            netns(ns, to);
            to.process(process);
        }
        Body::ResetSent(it) => reset(it, to),
        Body::Outcome(it) => outcome(it, to),
        Body::Hurt(it) => {
            let Hurt { flow: of, process, death: _, bytes_received: _, bytes_sent: _ } = &mut **it;
            flow(of, to);
            to.process(process);
        }
        Body::Signal(it) => {
            let Signal { from, to: target, number: _ } = &mut **it;
            if let Some(from) = from {
                to.process(from);
            }
            to.process(target);
        }
        // Of the whole host.
        Body::HostSample(_) | Body::Counters(_) | Body::Tick => {}
        Body::ProxySample(it) => {
            let ProxySample { process, open_files: _, open_files_limit: _ } = &mut **it;
            to.process(process);
        }
        Body::FirstBytes(it) => {
            let FirstBytes { netns: ns, upstream, within: _, unmeasured: _ } = &mut **it;
            endpoint(upstream, to);
            netns(ns, to);
        }
        Body::LogLine(it) => log_line(Arc::make_mut(it), to),
        Body::LogSample(it) => {
            let LogSample {
                device: _,
                inode: _,
                path,
                writers,
                lines: _,
                missed: _,
                emptied: _,
                left: _,
                trouble,
                requests: _,
            } = &mut **it;
            to.name(path);
            if let Some(trouble) = trouble {
                to.name(trouble);
            }
            for process in writers {
                to.process(process);
            }
        }
        Body::Configuration(it) => configuration(it, to),
        Body::ApplicationSample(it) => application(it, to),
        Body::ListenerSample(it) => listener(it, to),
        Body::UnixListenerSample(it) => unix_listener(it, to),
        Body::NamespaceSample(it) => namespace(it, to),
    }
}

fn ended(ended: &mut ConnectionEnded, to: &mut impl Change) {
    let ConnectionEnded {
        flow: of,
        proxy,
        started,
        established,
        old: _,
        new: _,
        error: _,
        closed_by_proxy: _,
        reset_received: _,
        bytes_sent: _,
        bytes_acked: _,
        bytes_received: _,
        unacked: _,
        data_segments_out: _,
        since_sent: _,
        since_received: _,
        sent_last: _,
        written_since_read: _,
        unread: _,
        answer_status: _,
        soft_error: _,
        last_read,
        exchanges: _,
        answers_visible: _,
        answers_unwatched: _,
        syn_retransmits: _,
        data_retransmits: _,
    } = ended;
    flow(of, to);
    to.process(proxy);
    if *started != Time::default() {
        to.time(started);
    }
    if let Some(time) = established {
        to.time(time);
    }
    if let Some(time) = last_read {
        to.time(time);
    }
}

fn reset(sent: &mut ResetSent, to: &mut impl Change) {
    let ResetSent {
        flow: of,
        process,
        reason: _,
        state: _,
        answers_syn: _,
        owned: _,
        answered: _,
        unread: _,
        depth: _,
        limit: _,
        no_handshake: _,
        retracts_overflow: _,
        death: _,
    } = sent;
    flow(of, to);
    if let Some(process) = process {
        to.process(process);
    }
}

fn outcome(outcome: &mut Outcome, to: &mut impl Change) {
    let Outcome { proxy, told, did: _, client, head: _, left_unread: _, told_before, upstream_status: _, unix: _ } =
        outcome;
    to.process(proxy);
    if let Some(time) = told {
        to.time(time);
    }
    if let Some(time) = told_before {
        to.time(time);
    }
    if let Some(client) = client {
        endpoint(client, to);
    }
}

fn listener(sample: &mut ListenerSample, to: &mut impl Change) {
    let ListenerSample {
        at,
        netns: ns,
        depth: _,
        limit: _,
        process,
        holders: _,
        stopped: _,
        runnable: _,
        accepted_open: _,
        arrivals: _,
    } = sample;
    endpoint(at, to);
    netns(ns, to);
    if let Some(process) = process {
        to.process(process);
    }
}

fn application(sample: &mut ApplicationSample, to: &mut impl Change) {
    let ApplicationSample { place, netns: ns, process, application: _ } = sample;
    match place {
        Place::At(at) => endpoint(at, to),
        Place::Path(path) => unix_path(path, to),
    }
    netns(ns, to);
    to.process(process);
}

fn log_line(line: &mut LogLine, to: &mut impl Change) {
    let LogLine { process, after, connection: _, said, at, path, request, port: _, status: _ } = line;
    let Request { method: _, target, client } = request;
    to.process(process);
    to.time(after);
    to.said(said);
    if let Some(at) = at {
        endpoint(at, to);
    }
    if let Some(path) = path {
        unix_path(path, to);
    }
    to.name(target);
    if let Some(client) = client {
        to.ip(client);
    }
}

fn configuration(told: &mut Configuration, to: &mut impl Change) {
    let Configuration { master, netns: ns, workers, file, findings, left_out: _, gone: _, trouble } = told;
    to.process(master);
    netns(ns, to);
    for process in workers {
        to.process(process);
    }
    to.name(file);
    if let Some(trouble) = trouble {
        to.name(trouble);
    }
    for Configured { code: _, file, line: _, what, fix, servers, number: _, only_if_seen: _ } in findings {
        to.name(file);
        to.written(what);
        for line in fix.iter_mut() {
            to.written(line);
        }
        fix.retain(|line| !line.is_empty());
        for server in servers {
            match server {
                Server::At(at) => endpoint(at, to),
                Server::Port(_) => {}
                Server::Unix(path) => unix_path(path, to),
            }
        }
    }
}

fn unix_path(path: &mut UnixPath, to: &mut impl Change) {
    let mut text = path.as_str().to_owned();
    to.path(&mut text);
    *path = UnixPath::new(&text);
}

fn unix_listener(sample: &mut UnixListenerSample, to: &mut impl Change) {
    let UnixListenerSample { path, netns: ns, depth: _, limit: _, process, holders: _ } = sample;
    unix_path(path, to);
    netns(ns, to);
    if let Some(process) = process {
        to.process(process);
    }
}

fn namespace(sample: &mut NamespaceSample, to: &mut impl Change) {
    let NamespaceSample {
        netns: ns,
        time_wait: _,
        time_wait_by_destination,
        addresses,
        port_range: _,
        somaxconn: _,
        tw_reuse: _,
        abort_on_overflow: _,
        listen_overflows: _,
        listen_drops: _,
    } = sample;
    netns(ns, to);
    for (destination, _) in time_wait_by_destination {
        endpoint(destination, to);
    }
    for ip in addresses {
        to.ip(ip);
    }
}

fn flow(flow: &mut Flow, to: &mut impl Change) {
    let Flow { local, remote, netns: ns } = flow;
    endpoint(local, to);
    endpoint(remote, to);
    netns(ns, to);
}

fn endpoint(endpoint: &mut Endpoint, to: &mut impl Change) {
    let Endpoint { ip, port: _ } = endpoint;
    to.ip(ip);
}

fn netns(netns: &mut NetNs, to: &mut impl Change) {
    if netns.known() {
        to.netns(netns);
    }
}
