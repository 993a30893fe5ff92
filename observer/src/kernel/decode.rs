//! Wire records to Events. Everything that comes through the ring passes here, and nothing in it is trusted for a
//! length or a value.

use std::{collections::HashMap, time::Duration};

use observer_common::{
    Header, Kind, answer, connect, connection, handshake, listener, reset, retransmit, signal, state,
};
use zerocopy::FromBytes;

use crate::{
    addr::{Endpoint, NetNs},
    event::{
        Body, ConnectFailed, ConnectionEnded, Death, Destination, Did, Event, Flow, Handshake, Head, Hurt,
        ListenOverflow, ListenerChanged, Outcome, OverflowPath, Process, ResetSent, Retransmit, Signal, State,
        Unserved,
    },
    text::{Comm, escape},
    time::Time,
};

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its kind demands.
    #[error("record cut short")]
    Short,
    /// A kind that this version does not know.
    #[error("unknown kind of record {0}")]
    UnknownKind(u32),
    /// A field with a value that cannot be.
    #[error("impossible value in a record")]
    Impossible,
}

/// Decodes records of one kernel.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// `enum sk_rst_reason` by value.
    pub reset_reasons: HashMap<u32, String>,
    /// Overflows on the ACK path are counted before the kernel knows whether there was a handshake: those without one are taken
    /// off again.
    pub retracts: bool,
}

fn read<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_prefix(bytes).map(|(record, _)| record).map_err(|_| DecodeError::Short)
}

impl Decoder {
    /// The Event that a record tells of.
    pub fn decode(&self, bytes: &[u8]) -> Result<Event, DecodeError> {
        let header: Header = read(bytes)?;
        let kind = Kind::from_wire(header.kind).ok_or(DecodeError::UnknownKind(header.kind))?;
        let body = match kind {
            Kind::ConnectionEnded => ended(&read(bytes)?),
            Kind::Unserved => unserved(&read(bytes)?),
            Kind::ConnectFailed => connect_failed(&read(bytes)?),
            Kind::ListenOverflow => overflow(&read(bytes)?)?,
            Kind::ListenerChanged => listener_changed(&read(bytes)?),
            Kind::ResetSent => self.reset_sent(&read(bytes)?),
            Kind::Retransmit => retransmitted(&read(bytes)?),
            Kind::SynAckRetransmit => {
                let record: retransmit::SynAck = read(bytes)?;
                Body::SynAckRetransmit(flow(&record.flow))
            }
            Kind::Outcome => outcome(&read(bytes)?)?,
            Kind::Hurt => hurt(&read(bytes)?),
            Kind::Signal => signalled(&read(bytes)?),
            Kind::Handshake => {
                let record: handshake::Done = read(bytes)?;
                Body::Handshake(Handshake { flow: flow(&record.flow), syn_retransmits: record.syn_retransmits })
            }
        };
        Ok(Event { time: Time(header.time), body })
    }

    fn reset_sent(&self, record: &reset::Sent) -> Body {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        let reason = match record.reason {
            reset::NO_REASON => None,
            known => Some(self.reset_reasons.get(&known).cloned().unwrap_or_else(|| format!("reason {known}"))),
        };
        Body::ResetSent(ResetSent {
            flow: flow(&record.flow),
            process: (record.answer == 0).then(|| process(&record.task)),
            reason,
            state: (record.state != reset::NO_STATE).then(|| tcp_state(record.state)),
            answers_syn: record.segment_flags & (SYN | ACK) == SYN,
            owned: record.owned == 1,
            answered: record.answered == 1,
            unread: record.unread,
            depth: record.depth,
            limit: record.limit,
            no_handshake: record.no_handshake == 1,
            retracts_overflow: record.no_handshake == 1 && self.retracts,
            death: death(record.exiting, record.exit_code),
        })
    }
}

fn flow(wire: &observer_common::Flow) -> Flow {
    Flow {
        local: Endpoint::from_wire(wire.local, wire.local_port),
        remote: Endpoint::from_wire(wire.remote, wire.remote_port),
        netns: NetNs(wire.netns),
    }
}

fn process(task: &observer_common::Task) -> Process {
    named(task.pid, &task.comm)
}

fn named(pid: u32, comm: &[u8]) -> Process {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    Process { pid, comm: Comm::escaped(&comm[..end]) }
}

/// `task_struct.exit_code`: the signal in the low 7 bits, else the status in the second byte (do_exit, kernel/exit.c).
fn death(exiting: u8, code: u32) -> Option<Death> {
    let byte = |value: u32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    let signal = byte(code) & 0x7f;
    (exiting == 1).then(|| if signal == 0 { Death::Exit(byte(code >> 8)) } else { Death::Signal(signal) })
}

fn tcp_state(wire: u8) -> State {
    match wire {
        state::ESTABLISHED => State::Established,
        state::SYN_SENT => State::SynSent,
        state::FIN_WAIT1 => State::FinWait1,
        state::CLOSE => State::Close,
        state::CLOSE_WAIT => State::CloseWait,
        state::LISTEN => State::Listen,
        other => State::Other(other),
    }
}

/// A span in microseconds, where there is one.
fn age(microseconds: u32) -> Option<Duration> {
    (microseconds != u32::MAX).then(|| Duration::from_micros(u64::from(microseconds)))
}

fn ended(record: &connection::Ended) -> Body {
    Body::ConnectionEnded(Box::new(ConnectionEnded {
        flow: flow(&record.flow),
        proxy: process(&record.task),
        started: Time(record.started),
        established: (record.established != 0).then_some(Time(record.established)),
        old: tcp_state(record.old_state),
        new: tcp_state(record.new_state),
        error: record.error,
        closed_by_proxy: record.shutdown == 3,
        reset_received: record.flags & connection::RESET_RECEIVED != 0,
        bytes_sent: record.bytes_sent,
        bytes_acked: record.bytes_acked,
        bytes_received: record.bytes_received,
        unacked: record.unacked,
        data_segments_out: record.data_segments_out,
        since_sent: age(record.since_sent),
        since_received: age(record.since_received),
        sent_last: record.outstanding == 1,
        syn_retransmits: record.syn_retransmits,
        data_retransmits: record.data_retransmits,
        written_since_read: (record.flags & connection::BASELINE != 0).then_some(record.written_since_read),
        unread: record.unread,
        answer_status: (record.answer_status != 0).then_some(record.answer_status),
        soft_error: record.soft_error,
        last_read: (record.last_read != 0).then_some(Time(record.last_read)),
        exchanges: record.exchanges,
        answers_visible: record.flags & connection::ANSWERS_VISIBLE != 0,
        answers_unwatched: record.flags & connection::ANSWERS_UNWATCHED != 0,
    }))
}

fn outcome(record: &answer::Outcome) -> Result<Body, DecodeError> {
    let did = match record.what {
        answer::ANSWERED => Did::Answered(record.status),
        answer::HIDDEN => Did::Hidden,
        answer::RETRIED => Did::Retried,
        answer::CLIENT_GONE => Did::ClientGone,
        _ => return Err(DecodeError::Impossible),
    };
    let head = match record.head {
        answer::HEAD_NONE => Head::Unseen,
        answer::HEAD_BEGUN => Head::Begun,
        answer::HEAD_WHOLE => Head::Whole,
        answer::HEAD_LONG => Head::Long,
        _ => return Err(DecodeError::Impossible),
    };
    let client = flow(&record.flow).remote;
    Ok(Body::Outcome(Box::new(Outcome {
        proxy: process(&record.task),
        told: (record.told != 0).then_some(Time(record.told)),
        did,
        client: (client.port != 0).then_some(client),
        head,
        left_unread: record.left_unread,
        told_before: (record.told_before != 0).then_some(Time(record.told_before)),
        upstream_status: (record.upstream_status != 0).then_some(record.upstream_status),
        unix: record.unix == 1,
    })))
}

fn hurt(record: &connection::Hurt) -> Body {
    Body::Hurt(Box::new(Hurt {
        flow: flow(&record.flow),
        process: process(&record.task),
        death: death(record.exiting, record.exit_code),
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
    }))
}

fn signalled(record: &signal::Sent) -> Body {
    Body::Signal(Box::new(Signal {
        from: (record.by_kernel == 0).then(|| process(&record.task)),
        to: named(record.target, &record.comm),
        number: record.signal,
    }))
}

fn unserved(record: &connection::Unserved) -> Body {
    Body::Unserved(Unserved {
        flow: flow(&record.flow),
        new: tcp_state(record.new_state),
        accepted: record.accepted == 1,
        reset: record.reset == 1,
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
        unacked: record.unacked,
        waited: age(record.waited),
    })
}

fn connect_failed(record: &connect::Failed) -> Body {
    let to = if record.family == connect::AF_UNIX {
        let length = usize::try_from(record.path_len).unwrap_or(usize::MAX).min(connect::PATH_LEN);
        Destination::Unix(unix_path(&record.path[..length]))
    } else {
        Destination::Tcp(flow(&record.flow))
    };
    Body::ConnectFailed(Box::new(ConnectFailed {
        proxy: process(&record.task),
        to,
        error: record.error,
        began: record.began == 1,
        answers_visible: record.answers_visible == 1,
    }))
}

/// A path up to its NUL, or an abstract name, which begins with one.
pub(super) fn unix_path(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((0, name)) => format!("@{}", escape(name)),
        _ => escape(bytes.split(|byte| *byte == 0).next().unwrap_or_default()),
    }
}

fn overflow(record: &listener::Overflow) -> Result<Body, DecodeError> {
    let path = match record.path {
        listener::PATH_SYN => OverflowPath::Syn,
        listener::PATH_ACK => OverflowPath::Ack,
        listener::PATH_SYN_QUEUE => OverflowPath::SynQueue,
        _ => return Err(DecodeError::Impossible),
    };
    Ok(Body::ListenOverflow(ListenOverflow {
        flow: flow(&record.flow),
        path,
        depth: if path == OverflowPath::SynQueue { record.syn_queue } else { record.depth },
        limit: record.limit,
    }))
}

fn listener_changed(record: &listener::Changed) -> Body {
    let flow = flow(&record.flow);
    Body::ListenerChanged(ListenerChanged {
        at: flow.local,
        netns: flow.netns,
        process: process(&record.task),
        opened: record.opened == 1,
        depth: record.depth,
        limit: record.limit,
    })
}

fn retransmitted(record: &retransmit::Segment) -> Body {
    Body::Retransmit(Retransmit { flow: flow(&record.flow), syn: record.state == state::SYN_SENT })
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    fn overflow_record() -> listener::Overflow {
        listener::Overflow {
            header: Header { time: 7, kind: Kind::ListenOverflow as u32, size: 72 },
            depth: 129,
            limit: 128,
            path: listener::PATH_ACK,
            ..listener::Overflow::default()
        }
    }

    #[test]
    fn a_record_becomes_its_event() {
        let event = Decoder::default().decode(overflow_record().as_bytes()).unwrap();
        assert_eq!(event.time, Time(7));
        let Body::ListenOverflow(overflow) = event.body else { panic!("{event:?}") };
        assert_eq!((overflow.depth, overflow.limit, overflow.path), (129, 128, OverflowPath::Ack));
    }

    #[test]
    fn damage_is_an_error_at_every_length() {
        let record = overflow_record();
        let bytes = record.as_bytes();
        for length in 0..bytes.len() {
            assert_eq!(Decoder::default().decode(&bytes[..length]), Err(DecodeError::Short), "{length}");
        }
        let mut unknown = bytes.to_vec();
        unknown[8] = 99;
        assert_eq!(Decoder::default().decode(&unknown), Err(DecodeError::UnknownKind(99)));
        let odd = listener::Overflow { path: 9, ..record };
        assert_eq!(Decoder::default().decode(odd.as_bytes()), Err(DecodeError::Impossible));
    }

    #[test]
    fn no_bytes_whatever_make_it_panic() {
        let decoder = Decoder::default();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for kind in 0..12_u8 {
            for _ in 0..2_000 {
                let mut bytes = [0_u8; 208];
                for byte in &mut bytes {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    *byte = seed.to_le_bytes()[3];
                }
                bytes[8..12].copy_from_slice(&[kind, 0, 0, 0]);
                let _ = decoder.decode(&bytes);
            }
        }
    }

    #[test]
    fn unix_paths_are_told_apart_and_escaped() {
        assert_eq!(unix_path(b"/run/app.sock\0junk"), "/run/app.sock");
        assert_eq!(unix_path(b"\0name"), "@name");
        assert_eq!(unix_path(b"/a\x1b[31m"), "/a\\u{1b}[31m");
    }
}
