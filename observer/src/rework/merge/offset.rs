//! How far two hosts' clocks are apart, from connections that both saw.
//!
//! What one host did came before what the other saw of it, so each connection on both leaves an interval in which the
//! offset lies. The point that most of them leave is taken: a few that mislead (ports used again, segments lost) do no harm.
//! Where only one direction was prompt, nobody knows how long the other took, but it is not longer than the quickest
//! handshake between the two.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use crate::{
    addr::Endpoint,
    event::{Body, ConnectionEnded, Event, Flow, State},
    time::Time,
};

/// Connections seen by the upstream's side that are looked for on the proxy's; more would not make it any better.
const MAX_CONNECTIONS: usize = 65_536;
/// What is kept of one pair of ends, on each side: it may have been used several times.
const MAX_TIMES: usize = 8;
/// What the upstream's side tells again of the same ends within this time is about the same connection.
const SAME: Duration = Duration::from_mins(1);
/// What shows after the proxy's side has ended is not later than this.
const LATE: i128 = 60_000_000_000;
/// A RST is told of only when it is on its way (tcp_send_active_reset, net/ipv4/tcp_output.c).
const TOLD_LATE: i128 = 100_000;

/// The clocks' offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Nanoseconds to add to a time of the upstream's side.
    pub nanos: i128,
    /// How far off that can be.
    pub uncertainty: Duration,
    /// Connections that it follows from.
    pub connections: usize,
    /// Connections that both sides saw something of.
    pub seen: usize,
}

/// A connection's ends: the client's and the server's.
type Ends = (Endpoint, Endpoint);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A full queue dropped its SYN.
    SynDropped,
    /// A full queue dropped the last ACK of its handshake.
    AckDropped,
    /// A RST was sent, in answer to its SYN or else.
    Reset { syn: bool },
    /// Its client left.
    Left,
    /// Its application closed it.
    Closed,
}

/// What the upstream's side saw.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<Ends, Vec<(Time, What)>>);

impl Seen {
    pub(super) fn event(&mut self, event: &Event) {
        let (flow, what) = match &event.body {
            Body::ListenOverflow(overflow) => (&overflow.flow, dropped(overflow.path)),
            Body::ResetSent(reset) => (&reset.flow, What::Reset { syn: reset.answers_syn }),
            Body::Unserved(unserved) => (&unserved.flow, What::Left),
            Body::Hurt(hurt) => (&hurt.flow, What::Closed),
            _ => return,
        };
        let Flow { local, remote, netns: _ } = *flow;
        // Every host has that address.
        let room = self.0.len() < MAX_CONNECTIONS || self.0.contains_key(&(remote, local));
        if local.ip.is_loopback() || !room {
            return;
        }
        let times = self.0.entry((remote, local)).or_default();
        let again = times.iter().any(|(time, other)| *other == what && event.time.since(*time) < SAME);
        if !again && times.len() < MAX_TIMES {
            times.push((event.time, what));
        }
    }
}

fn dropped(path: crate::event::OverflowPath) -> What {
    match path {
        crate::event::OverflowPath::Ack => What::AckDropped,
        crate::event::OverflowPath::Syn | crate::event::OverflowPath::SynQueue => What::SynDropped,
    }
}

/// A connection on the proxy's side.
#[derive(Clone, Copy, Debug)]
struct Life {
    started: Time,
    established: Option<Time>,
    ended: Time,
    /// By a RST.
    reset: bool,
    /// By the upstream's FIN.
    closed: bool,
}

/// What the proxy's side saw of the same connections.
pub(super) struct Both {
    seen: Seen,
    /// Addresses of the upstream's host that connections came to.
    servers: HashSet<IpAddr>,
    lives: HashMap<Ends, Vec<Life>>,
    /// The quickest handshake.
    round_trip: Option<Duration>,
}

impl Both {
    pub(super) fn new(seen: Seen) -> Self {
        let servers = seen.0.keys().map(|(_, server)| server.ip).collect();
        Self { seen, servers, lives: HashMap::new(), round_trip: None }
    }

    pub(super) fn event(&mut self, event: &Event) {
        let Body::ConnectionEnded(ended) = &event.body else { return };
        let ConnectionEnded { flow, started, established, .. } = **ended;
        if started == Time::default() || !self.servers.contains(&flow.remote.ip) {
            return;
        }
        if let Some(established) = established
            && ended.syn_retransmits == 0
        {
            let took = established.since(started);
            self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
        }
        let ends = (flow.local, flow.remote);
        if self.seen.0.contains_key(&ends) {
            let lives = self.lives.entry(ends).or_default();
            if lives.len() < MAX_TIMES {
                let closed = ended.new == State::CloseWait;
                let reset = ended.reset_received;
                lives.push(Life { started, established, ended: event.time, reset, closed });
            }
        }
    }

    /// The offset that most connections allow; of several the one nearest to `expected` nanoseconds. `None` if no connection
    /// was seen on both sides.
    pub(super) fn offset(&self, expected: i128) -> Option<Offset> {
        let allowed: Vec<Vec<Allowed>> = self.lives.iter().map(|(ends, lives)| self.allowed(ends, lives)).collect();
        let allowed: Vec<_> = allowed.into_iter().filter(|each| !each.is_empty()).collect();
        let (from, to) = most_common(allowed.iter().flatten(), expected)?;
        let agrees = |it: &&Allowed| it.from <= from && to <= it.to;
        let round_trip = self.round_trip.map(|it| i128::try_from(it.as_nanos()).unwrap_or(i128::MAX));
        let (mut low, mut high) = (from, to);
        if let Some(round_trip) = round_trip {
            let agreeing = || allowed.iter().flatten().filter(agrees);
            if let Some(there) = agreeing().filter(|it| it.prompt_there).map(|it| it.from).max() {
                high = high.min(low.max(there + round_trip));
            }
            if let Some(back) = agreeing().filter(|it| it.prompt_back).map(|it| it.to).min() {
                low = low.max(high.min(back - round_trip - TOLD_LATE));
            }
        }
        Some(Offset {
            nanos: i128::midpoint(low, high),
            uncertainty: Duration::from_nanos(u64::try_from((high - low) / 2).unwrap_or(u64::MAX)),
            connections: allowed.iter().filter(|each| each.iter().any(|it| agrees(&it))).count(),
            seen: allowed.len(),
        })
    }

    fn allowed(&self, ends: &Ends, lives: &[Life]) -> Vec<Allowed> {
        let times = self.seen.0.get(ends).into_iter().flatten();
        times.flat_map(|(time, what)| lives.iter().filter_map(|life| Allowed::by(life, *time, *what))).collect()
    }
}

/// Where the offset can be, in nanoseconds, if these two belong together.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    from: i128,
    to: i128,
    /// The lower end is off by no more than the way there takes.
    prompt_there: bool,
    /// The upper end is off by no more than the way back takes, and [`TOLD_LATE`].
    prompt_back: bool,
}

impl Allowed {
    fn by(life: &Life, time: Time, what: What) -> Option<Self> {
        let at = |of_life: Time| i128::from(of_life.0) - i128::from(time.0);
        let (started, ended) = (at(life.started), at(life.ended));
        let established = life.established.map_or(started, at);
        let (from, to, prompt_there, prompt_back) = match what {
            What::SynDropped => (started, ended, true, false),
            What::AckDropped => (established, ended, true, false),
            What::Reset { syn } if life.reset => (started, ended + TOLD_LATE, syn, true),
            What::Closed if life.reset || life.closed => (established, ended, false, true),
            What::Left if !life.reset && !life.closed => (ended, ended + LATE, true, false),
            // What the two sides tell is not about the same.
            What::Reset { .. } | What::Closed | What::Left => return None,
        };
        (from <= to).then_some(Self { from, to, prompt_there, prompt_back })
    }
}

/// The span that most of them have in common.
fn most_common<'a>(all: impl Iterator<Item = &'a Allowed>, expected: i128) -> Option<(i128, i128)> {
    // Where one begins before where another ends: both belong to that point.
    let mut edges: Vec<(i128, bool)> = all.flat_map(|it| [(it.from, false), (it.to, true)]).collect();
    edges.sort_unstable();
    let (mut depth, mut best) = (0_usize, None::<(usize, (i128, i128))>);
    for pair in edges.windows(2) {
        let [(from, ends), (to, next_ends)] = *pair else { continue };
        depth = if ends { depth - 1 } else { depth + 1 };
        if !ends && next_ends {
            let distance = |(from, to): (i128, i128)| expected.clamp(from, to).abs_diff(expected);
            let better =
                best.is_none_or(|(most, span)| depth > most || depth == most && distance((from, to)) < distance(span));
            if better {
                best = Some((depth, (from, to)));
            }
        }
    }
    best.map(|(_, span)| span)
}

#[cfg(test)]
mod tests;
