//! The last events, for somebody who looks at them. Gathered only meanwhile.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    event::{Body, Event},
    snapshot::Tail,
};

/// Events kept: hours of quiet, and what a reader has stopped at for the first seconds of a storm. The oldest goes first; its
/// number tells.
pub(super) const MAX_TAIL: usize = 2000;

/// See the module.
#[derive(Default)]
pub(super) struct Gathered {
    on: bool,
    /// Number of the next event; it goes on when nobody looks.
    next: u64,
    events: VecDeque<Event>,
    passed: u64,
    /// As last shown, unless something has come since.
    shown: Option<Arc<Tail>>,
}

impl Gathered {
    /// Begins to gather, or drops what was gathered.
    pub(super) fn look(&mut self, on: bool) {
        if self.on != on {
            *self = Self { on, next: self.next, ..Self::default() };
        }
    }

    /// What comes next follows upon something else.
    pub(super) fn jump(&mut self) {
        *self = Self { on: self.on, next: self.next, ..Self::default() };
    }

    /// Whether that one is to be [kept](Self::keep).
    pub(super) fn wants(&mut self, event: &Event) -> bool {
        if !self.on || event.body == Body::Tick {
            return false;
        }
        self.passed += 1;
        self.shown = None;
        says_something(&event.body)
    }

    pub(super) fn keep(&mut self, event: Event) {
        if self.events.len() >= MAX_TAIL {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.next += 1;
    }

    /// For a snapshot.
    pub(super) fn show(&mut self) -> Option<Arc<Tail>> {
        let Self { on, next, events, passed, shown } = self;
        on.then(|| {
            let tail = || {
                let events: Vec<_> = events.iter().cloned().collect();
                Arc::new(Tail { first: *next - events.len() as u64, events, passed: *passed })
            };
            Arc::clone(shown.get_or_insert_with(tail))
        })
    }
}

/// Whether a reader of single events learns something: not by what is sampled every second and shown elsewhere, nor by
/// handshakes that go well, of which only some are told.
fn says_something(body: &Body) -> bool {
    match body {
        Body::Tick
        | Body::Counters(_)
        | Body::HostSample(_)
        | Body::ProxySample(_)
        | Body::NamespaceSample(_)
        | Body::LogSample(_)
        | Body::ApplicationSample(_)
        | Body::FirstBytes(_) => false,
        Body::ListenerSample(sample) => sample.depth > 0,
        Body::UnixListenerSample(sample) => sample.depth > 0,
        Body::Handshake(handshake) => handshake.syn_retransmits > 0,
        Body::ConnectionEnded(_)
        | Body::Unserved(_)
        | Body::ConnectFailed(_)
        | Body::ListenOverflow(_)
        | Body::ListenerChanged(_)
        | Body::ResetSent(_)
        | Body::Retransmit(_)
        | Body::SynAckRetransmit(_)
        | Body::Outcome(_)
        | Body::Hurt(_)
        | Body::LogLine(_)
        | Body::Configuration(_)
        | Body::Signal(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{HostSample, Retransmit},
        testing::{client_flow, event},
    };

    fn pass(gathered: &mut Gathered, event: Event) {
        if gathered.wants(&event) {
            gathered.keep(event);
        }
    }

    fn retransmit(ms: u64) -> Event {
        event(ms, Body::Retransmit(Retransmit { flow: client_flow(), syn: false }))
    }

    #[test]
    fn an_event_keeps_its_number() {
        let mut gathered = Gathered::default();
        pass(&mut gathered, retransmit(0));
        assert_eq!(gathered.show(), None, "nobody looks");
        gathered.look(true);
        for ms in 0..5_000 {
            pass(&mut gathered, retransmit(ms));
        }
        let tail = gathered.show().unwrap();
        assert_eq!((tail.first, tail.events.len(), tail.passed), (3_000, MAX_TAIL, 5_000));
        assert_eq!(tail.events[0], retransmit(3_000));
        gathered.look(false);
        pass(&mut gathered, retransmit(5_000));
        gathered.look(true);
        pass(&mut gathered, retransmit(5_001));
        let tail = gathered.show().unwrap();
        assert_eq!((tail.first, tail.passed), (5_000, 1));
        assert_eq!(tail.events, [retransmit(5_001)], "what nobody looked at is not known");
    }

    #[test]
    fn what_says_nothing_takes_no_room() {
        let mut gathered = Gathered::default();
        gathered.look(true);
        pass(&mut gathered, retransmit(0));
        let before = gathered.show().unwrap();
        pass(&mut gathered, event(1, Body::Tick));
        assert!(Arc::ptr_eq(&before, &gathered.show().unwrap()), "a tick changes nothing");
        pass(&mut gathered, event(2, Body::HostSample(HostSample::default())));
        let after = gathered.show().unwrap();
        assert_eq!((after.events.len(), after.passed), (1, 2));
    }
}
