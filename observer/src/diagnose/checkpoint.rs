//! The state of an engine as bytes: what a recording's segments begin with, so that each can be replayed without those before.

use super::Engine;

/// The layout of a checkpoint. To be raised whenever a type that is part of the engine's state changes: its fields, their order
/// or types, the order of an enum's variants, or what a value means. The test below knows the bytes of one state.
pub const LAYOUT: u16 = 5;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was written with another layout.
    #[error("the checkpoint has layout {found}, and this observer reads layout {LAYOUT}: another version wrote it")]
    OtherVersion {
        /// The layout that it was written with.
        found: u16,
    },
    /// It ends too soon, or breaks a limit or a rule of its layout.
    #[error("the checkpoint is damaged")]
    Damaged(#[from] postcard::Error),
    /// More follows than its layout has.
    #[error("the checkpoint is damaged: {0} bytes too many")]
    TooLong(usize),
}

impl Engine {
    /// The whole state. Equal states make equal bytes.
    pub fn checkpoint(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_extend(self, LAYOUT.to_le_bytes().to_vec())
    }

    /// The engine of a [checkpoint](Self::checkpoint), which may come from anywhere: limits hold, and what tables must have in
    /// common is made anew from what was read.
    pub fn restore(checkpoint: &[u8]) -> Result<Self, RestoreError> {
        let (layout, state) =
            checkpoint.split_first_chunk().ok_or(RestoreError::Damaged(postcard::Error::DeserializeUnexpectedEnd))?;
        let found = u16::from_le_bytes(*layout);
        if found != LAYOUT {
            return Err(RestoreError::OtherVersion { found });
        }
        let (engine, rest) = postcard::take_from_bytes(state)?;
        if rest.is_empty() { Ok(engine) } else { Err(RestoreError::TooLong(rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        diagnose::{
            Confidence, Evidence, Incidents, Logged, Said, Verdict,
            open::{GRACE, HOLD},
        },
        event::{Body, Event, Process, Request},
        model::UpstreamKey,
        testing::sequence::{Dice, any_sequence},
        time::Time,
    };

    fn feed(engine: &mut Engine, events: &[Event]) -> Vec<Said> {
        let mut said = Vec::new();
        for event in events {
            engine.apply(event, &mut |each| said.push(each));
        }
        said
    }

    fn finish(mut engine: Engine) -> (Vec<Said>, Vec<u8>) {
        let mut said = Vec::new();
        engine.finish(&mut |each| said.push(each));
        let state = engine.checkpoint().unwrap();
        (said, state)
    }

    fn checkpoint(events: &[Event]) -> Vec<u8> {
        let mut engine = Engine::default();
        feed(&mut engine, events);
        engine.checkpoint().unwrap()
    }

    #[test]
    fn wherever_it_is_cut_what_follows_is_the_same() {
        for seed in 1..=300 {
            let mut dice = Dice::new(seed);
            let events = any_sequence(&mut dice);
            let mut uncut = Engine::default();
            let mut cut = Engine::default();
            for (index, each) in events.iter().enumerate() {
                if dice.below(8) == 0 {
                    let bytes = cut.checkpoint().unwrap();
                    cut = Engine::restore(&bytes).unwrap();
                    assert_eq!(cut.checkpoint().unwrap(), bytes, "seed {seed}, event {index}");
                }
                let each = std::slice::from_ref(each);
                assert_eq!(feed(&mut uncut, each), feed(&mut cut, each), "seed {seed}, event {index}");
            }
            assert_eq!(uncut.harmless(), cut.harmless(), "seed {seed}");
            assert_eq!(uncut.incidents().totals(), cut.incidents().totals(), "seed {seed}");
            assert_eq!(uncut.model().counters(), cut.model().counters(), "seed {seed}");
            assert!(uncut.model().listeners().eq(cut.model().listeners()), "seed {seed}");
            // All that is left to be said, and the whole state after that.
            assert_eq!(finish(uncut), finish(cut), "seed {seed}");
        }
    }

    /// Restores what may be damaged; an engine that comes of it must bear any events.
    fn survives(bytes: &[u8], events: &[Event]) -> bool {
        let Ok(mut engine) = Engine::restore(bytes) else { return false };
        feed(&mut engine, events);
        let later = engine.model().now() + HOLD + GRACE;
        feed(&mut engine, &[Event { time: later, body: Body::Tick }]);
        finish(engine);
        true
    }

    #[test]
    fn damage_is_an_error_or_harmless() {
        let mut restored = 0;
        for seed in 1..=100 {
            let mut dice = Dice::new(seed);
            let bytes = checkpoint(&any_sequence(&mut dice));
            let events: Vec<_> = any_sequence(&mut dice).into_iter().take(12).collect();
            for _ in 0..100 {
                let mut damaged = bytes.clone();
                for _ in 0..=dice.below(4) {
                    let place = 2 + usize::try_from(dice.below(damaged.len() as u64 - 2)).unwrap();
                    let any = u8::try_from(dice.below(256)).unwrap();
                    // The largest numbers of 64 and 32 bits as postcard writes them, the smallest, and others.
                    let instead: &[u8] = match dice.below(6) {
                        0 => &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                        1 => &[0xff, 0xff, 0xff, 0xff, 0x0f],
                        2 => &[0],
                        3 => &[0xff],
                        4 => &[damaged[place] ^ (1 << dice.below(8))],
                        _ => &[any],
                    };
                    damaged.splice(place..=place, instead.iter().copied());
                }
                restored += u32::from(survives(&damaged, &events));
            }
        }
        assert!((1_000..9_900).contains(&restored), "{restored} of 10000 were taken");
    }

    #[test]
    fn no_part_is_taken_for_the_whole() {
        let bytes = checkpoint(&any_sequence(&mut Dice::new(1)));
        for length in 0..bytes.len() {
            assert!(!survives(&bytes[..length], &[]), "{length}");
        }
        assert!(matches!(Engine::restore(&[&bytes[..], &[0]].concat()), Err(RestoreError::TooLong(1))));
    }

    /// Events a nanosecond apart: nothing is due yet, so that nothing is said.
    fn at_once(seed: u64) -> Vec<Event> {
        let events = any_sequence(&mut Dice::new(seed));
        let start = events[0].time;
        let at = |nanos| start + Duration::from_nanos(nanos);
        (0..).zip(events).map(|(nanos, Event { body, .. })| Event { time: at(nanos), body }).collect()
    }

    #[test]
    fn the_layout_is_that_of_its_number() {
        let mut bytes: Vec<u8> = (1..=20).flat_map(|seed| checkpoint(&at_once(seed))).collect();
        let proxy = Process { pid: 42, comm: "nginx".into() };
        let verdict = Verdict {
            time: Time(1_000_000_000),
            cause: "unknown",
            confidence: Confidence::Possible,
            status: Some(502),
            observed: true,
            client: None,
            proxy,
            upstream: UpstreamKey::NONE,
            log: Some(Logged { said: "said".into(), request: Request::default(), status: Some(502), agrees: true }),
            because: Some("keepalive-off"),
            also: vec!["cpu-steal"],
            summary: "a summary".into(),
            evidence: Evidence::default().with("count", 1_u32).with("share", 0.5).with("flag", true).with("text", "a"),
            advice: vec!["advice".into()],
        };
        let mut incidents = Incidents::default();
        incidents.add(&verdict);
        bytes.extend(postcard::to_stdvec(&incidents).unwrap());
        // FNV-1a, 64 bits.
        let sum = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325, sum);
        let changed = "the layout (or the sequences) changed: if the layout did, raise LAYOUT; note the new sum";
        assert_eq!((LAYOUT, sum), (5, 263_328_047_694_302_982), "{changed}");
    }

    #[test]
    fn another_layout_is_told() {
        let mut bytes = checkpoint(&[]);
        bytes[0] = bytes[0].wrapping_add(1);
        assert!(matches!(Engine::restore(&bytes), Err(RestoreError::OtherVersion { found }) if found == LAYOUT + 1));
    }
}
