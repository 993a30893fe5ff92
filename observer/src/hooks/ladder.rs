//! How the carriers of one hook fared on this kernel.

use std::str::FromStr;

use super::{Carrier, Hook, HookStatus};

/// The only carrier that is to be tried for a hook. Written `HOOK=CARRIER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The hook.
    pub hook: Hook,
    /// One of its [`Hook::carriers`].
    pub carrier: Carrier,
}

impl FromStr for Forced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (hook, carrier) = text.split_once('=').ok_or("HOOK=CARRIER, such as listen_overflow=kprobe")?;
        let hook: Hook = hook.parse()?;
        let can = hook.carriers().iter().copied().find(|can| can.name() == carrier);
        let carrier = can.ok_or_else(|| {
            let names: Vec<_> = hook.carriers().iter().map(|carrier| carrier.name()).collect();
            format!("{} can be carried by {}, not by {carrier:?}", hook.name(), names.join(", "))
        })?;
        Ok(Self { hook, carrier })
    }
}

/// How a carrier fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fared {
    /// It carries the hook.
    Chosen,
    /// The kernel refused it; the text says why.
    Refused(String),
    /// One above it carries the hook.
    NotNeeded,
    /// Another was forced.
    LeftOut,
}

/// A carrier and how it fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The carrier.
    pub carrier: Carrier,
    /// How it fared.
    pub fared: Fared,
}

/// The carriers of one hook in the order in which they are tried, one rung each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The hook.
    pub hook: Hook,
    /// Its carriers, at most one of them chosen.
    pub rungs: Vec<Rung>,
}

impl Ladder {
    /// Tries the hook's carriers in their order until one attaches; only the one that is forced, if one is.
    pub(crate) fn climb(
        hook: Hook,
        forced: Option<Carrier>,
        mut attach: impl FnMut(Carrier) -> Result<(), String>,
    ) -> Self {
        let mut chosen = false;
        let rungs = hook.carriers().iter().map(|&carrier| {
            let fared = match forced {
                _ if chosen => Fared::NotNeeded,
                Some(forced) if forced != carrier => Fared::LeftOut,
                _ => match attach(carrier) {
                    Ok(()) => Fared::Chosen,
                    Err(why) => Fared::Refused(why),
                },
            };
            chosen |= fared == Fared::Chosen;
            Rung { carrier, fared }
        });
        Self { hook, rungs: rungs.collect() }
    }

    /// The carrier that was chosen.
    pub fn chosen(&self) -> Option<Carrier> {
        self.rungs.iter().find(|rung| rung.fared == Fared::Chosen).map(|rung| rung.carrier)
    }

    /// How the hook stands.
    pub fn status(&self) -> HookStatus {
        if let Some(carrier) = self.chosen() {
            return match self.hook.unseen_by(carrier) {
                None => HookStatus::Full(carrier),
                Some(unseen) => HookStatus::Partial(carrier, unseen.to_owned()),
            };
        }
        let refusals = self.rungs.iter().filter_map(|rung| match &rung.fared {
            Fared::Refused(why) if self.rungs.len() == 1 => Some(why.clone()),
            Fared::Refused(why) => Some(format!("{}: {why}", rung.carrier)),
            _ => None,
        });
        HookStatus::Missing(refusals.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_attaches_carries_and_no_other_is_tried() {
        let mut tried = Vec::new();
        let ladder = Ladder::climb(Hook::ListenOverflow, None, |carrier| {
            tried.push(carrier);
            if carrier == Carrier::Kprobe { Ok(()) } else { Err("not here".to_owned()) }
        });
        assert_eq!(tried, [Carrier::Fentry, Carrier::Kprobe]);
        assert_eq!(ladder.status(), HookStatus::Full(Carrier::Kprobe));
        let fared: Vec<_> = ladder.rungs.into_iter().map(|rung| rung.fared).collect();
        assert_eq!(fared, [Fared::Refused("not here".into()), Fared::Chosen, Fared::NotNeeded, Fared::NotNeeded]);
    }

    #[test]
    fn a_forced_one_is_tried_alone() {
        let ladder = Ladder::climb(Hook::StateChanges, Some(Carrier::RawTp), |carrier| Err(format!("no {carrier}")));
        assert_eq!(ladder.rungs[0].fared, Fared::LeftOut);
        assert_eq!(ladder.status(), HookStatus::Missing("raw_tp: no raw_tp".into()));
        let ladder = Ladder::climb(Hook::ListenOverflow, Some(Carrier::KfreeSkb), |_| Ok(()));
        assert!(matches!(ladder.status(), HookStatus::Partial(Carrier::KfreeSkb, _)));
    }

    #[test]
    fn unknown_names_are_answered_with_those_there_are() {
        let forced = Forced { hook: Hook::ListenOverflow, carrier: Carrier::Kprobe };
        assert_eq!("listen_overflow=kprobe".parse(), Ok(forced));
        let error = |text: &str| text.parse::<Forced>().unwrap_err();
        assert!(error("overflow=kprobe").contains("listen_overflow, sockets"), "{}", error("overflow=kprobe"));
        assert!(error("listen_overflow=tp").contains("fentry, kprobe, cgroup_skb, kfree_skb"));
        assert!(error("connects=iterator").contains("tracepoint"));
        assert!(error("listen_overflow").contains("HOOK=CARRIER"));
    }

    #[test]
    fn every_hook_can_be_carried_and_every_carrier_carries() {
        for hook in Hook::ALL {
            assert!(!hook.carriers().is_empty());
            assert_eq!(hook.name().parse(), Ok(hook));
        }
        for carrier in Carrier::ALL {
            assert!(Hook::ALL.iter().any(|hook| hook.carriers().contains(&carrier)), "{carrier}");
        }
    }
}
