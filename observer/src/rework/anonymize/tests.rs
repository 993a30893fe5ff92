//! Nothing of what was hidden is left, and the verdicts are the same.

use std::collections::HashSet;

use super::*;
use crate::{
    diagnose::{Engine, Said},
    event::{Body, Destination, Event},
    hooks::HookStatus,
    testing::{
        event,
        sequence::{Dice, any_sequence},
    },
    time::Time,
    trace::{
        About, Reader,
        tests::{about, every_kind, read, record},
    },
};

type Verdict = (Time, &'static str, &'static str, Option<&'static str>, Vec<&'static str>);

fn verdicts(events: &[Event]) -> Vec<Verdict> {
    let mut engine = Engine::default();
    let mut verdicts = Vec::new();
    let mut say = |said| {
        if let Said::Verdict(it) = said {
            verdicts.push((it.time, it.cause, it.confidence.name(), it.because, it.also));
        }
    };
    for event in events {
        engine.apply(event, &mut say);
    }
    engine.finish(&mut say);
    verdicts
}

/// The events, and what the recording says of itself, afterwards.
fn anonymized(events: &[Event]) -> (Vec<Event>, About) {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("a"), folder.path().join("b"));
    record(&before, events);
    let left_out = anonymize(Reader::open(&[before]).unwrap(), std::fs::File::create(&after).unwrap()).unwrap();
    assert!(left_out.is_none());
    let about = Reader::open(std::slice::from_ref(&after)).unwrap().about().clone();
    (read(&[after]).0, about)
}

#[test]
fn no_name_and_no_address_is_left() {
    let (events, about) = anonymized(&every_kind());
    assert_eq!(events.len(), every_kind().len());
    let text = format!("{events:?} {about:?}");
    let of_configurations = ["/etc/nginx", "/run/a.sock", "the upstream a", "proxy_http_version"];
    let hidden = ["10.0.0.", "2001:db8", "gunicorn", "\"app\"", "kill", "/run/app.sock", "@app", "edge-7"];
    for hidden in hidden.into_iter().chain(of_configurations) {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    for kept in ["\"nginx\"", "8000", "0.0.0.0", "upstream port", "host-", "app-", "/run/"] {
        assert!(text.contains(kept), "{kept} not in {text}");
    }
}

#[test]
fn whatever_happened_the_verdicts_are_the_same() {
    for seed in 1..=20 {
        let events = any_sequence(&mut Dice::new(seed));
        let before = verdicts(&events);
        assert!(!before.is_empty(), "seed {seed} says nothing");
        assert_eq!(before, verdicts(&anonymized(&events).0), "seed {seed}");
    }
}

#[test]
fn the_same_stays_the_same_and_what_differs_differs() {
    let key = Key::random();
    let addresses: Vec<_> = (0..=u16::MAX).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n))).collect();
    let changed: HashSet<_> = addresses.iter().map(|ip| key.v4(*ip)).collect();
    assert_eq!(changed.len(), addresses.len());
    assert_eq!(key.v4(addresses[7]), key.v4(addresses[7]));
    assert_ne!(key.v4(addresses[7]), Key::random().v4(addresses[7]), "with another key");
    for special in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        assert_eq!(key.v4(special.parse().unwrap()).to_string(), special);
    }
    for special in ["::", "::1", "ff02::1"] {
        assert_eq!(key.v6(special.parse().unwrap()).to_string(), special);
    }
    let link_local = key.v6("fe80::1".parse().unwrap());
    assert!(link_local.is_unicast_link_local() && link_local != "fe80::1".parse::<Ipv6Addr>().unwrap());
    assert_ne!(key.v6("2001:db8::1".parse().unwrap()), key.v6("2001:db8::2".parse().unwrap()));
}

#[test]
fn a_service_of_the_system_stays_one() {
    let key = Key::random();
    assert_eq!(key.unix_path("/dev/log"), "/dev/log");
    for path in ["/run/systemd/private", "/run/app.sock", "@app"] {
        let changed = key.unix_path(path);
        let is_upstream = |path: &str| Destination::Unix(path.to_owned()).is_upstream();
        assert_eq!((is_upstream(&changed), changed == path), (is_upstream(path), false), "{path}");
    }
}

#[test]
fn what_is_said_of_two_hosts_names_neither() {
    let mut joined = about();
    joined.host = "edge-7 + db-1".into();
    joined.kernel = "6.18.44-acme + 6.1.0".into();
    joined.watching = "edge-7: nginx, shopd; upstream port 80; db-1: nginx".into();
    joined.hooks.0[1].1 = HookStatus::Missing("on db-1: not there".into());
    joined.settings = vec![("net.core.somaxconn (db-1)".into(), "128".into())];
    let key = Key::random();
    let hidden = key.about(&joined);
    let (edge, db, shop) = (key.host("edge-7"), key.host("db-1"), key.comm("shopd"));
    assert_eq!((hidden.host, hidden.kernel.as_str()), (format!("{edge} + {db}"), "6.18.44 + 6.1.0"));
    assert_eq!(hidden.watching, format!("{edge}: nginx, {shop}; upstream port 80; {db}: nginx"));
    assert_eq!(hidden.hooks.0[1].1, HookStatus::Missing(format!("on {db}: not there")));
    assert_eq!(hidden.settings[0].0, format!("net.core.somaxconn ({db})"));
}

#[test]
fn ticks_are_kept() {
    let (events, _) = anonymized(&[event(5, Body::Tick)]);
    assert_eq!(events, [event(5, Body::Tick)]);
}
