//! What two recordings say of themselves, as one.

use crate::{
    hooks::{HookStatus, Hooks},
    trace::About,
};

/// What the recording of the proxy's side says with the upstream's joined to it.
pub(super) fn join(proxy: &About, upstream: &About) -> About {
    let both = |of_proxy: &str, of_upstream: &str| {
        if of_proxy == of_upstream { of_proxy.to_owned() } else { format!("{of_proxy} + {of_upstream}") }
    };
    let settings = upstream.settings.iter().map(|(name, value)| (format!("{name} ({})", upstream.host), value.clone()));
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: format!("{} + {}", proxy.host, upstream.host),
        kernel: both(&proxy.kernel, &upstream.kernel),
        machine: both(&proxy.machine, &upstream.machine),
        wall: proxy.wall,
        since: proxy.since,
        watching: format!("{}: {}; {}: {}", proxy.host, proxy.watching, upstream.host, upstream.watching),
        hooks: weaker(proxy, upstream),
        settings: proxy.settings.iter().cloned().chain(settings).collect(),
        segment: 1,
        joined: proxy.joined + 1,
    }
}

/// Of each hook how it stood where it saw less, with that host's name.
fn weaker(proxy: &About, upstream: &About) -> Hooks {
    let on = |about: &About, status: &HookStatus| match status {
        HookStatus::Full(_) => status.clone(),
        HookStatus::Partial(carrier, what) => HookStatus::Partial(*carrier, format!("on {}: {what}", about.host)),
        HookStatus::Missing(why) => HookStatus::Missing(format!("on {}: {why}", about.host)),
    };
    let hooks = proxy.hooks.0.iter().map(|(hook, here)| {
        let there = upstream.hooks.status(*hook).filter(|there| sight(there) < sight(here));
        (*hook, there.map_or_else(|| on(proxy, here), |there| on(upstream, there)))
    });
    Hooks(hooks.collect())
}

/// How much it sees, of three degrees.
fn sight(status: &HookStatus) -> u8 {
    match status {
        HookStatus::Missing(_) => 0,
        HookStatus::Partial(..) => 1,
        HookStatus::Full(_) => 2,
    }
}
