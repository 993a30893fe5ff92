//! The wire between the proxy's namespace and the upstream's.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::netns::Netns;

/// Differs from run to run: whether an upstream is on this host at all, observer can only tell by its address, and two
/// labs may run side by side.
fn host(number: u8) -> Ipv4Addr {
    let distinct = u8::try_from(std::process::id() % 250).unwrap_or_default();
    Ipv4Addr::new(10, 77, distinct, number)
}

pub(super) fn upstream() -> Ipv4Addr {
    host(2)
}

/// Link addresses of our own choosing, so that neighbour entries can be permanent and no SYN waits for ARP.
const PROXY_LINK: &str = "02:00:00:4d:00:01";
const UPSTREAM_LINK: &str = "02:00:00:4d:00:02";

pub(super) fn connect(proxy: &Netns, upstream: &Netns) -> Result<()> {
    proxy.ip(&[
        "link",
        "add",
        "up0",
        "address",
        PROXY_LINK,
        "type",
        "veth",
        "peer",
        "name",
        "px0",
        "address",
        UPSTREAM_LINK,
        "netns",
        upstream.name(),
    ])?;
    for (netns, device, own, peer, peer_link) in
        [(proxy, "up0", host(1), host(2), UPSTREAM_LINK), (upstream, "px0", host(2), host(1), PROXY_LINK)]
    {
        netns.ip(&["address", "add", &format!("{own}/24"), "dev", device])?;
        netns.ip(&["link", "set", device, "up"])?;
        let neighbour = ["neighbour", "replace", &peer.to_string(), "lladdr", peer_link, "dev", device];
        netns.ip(&[neighbour.as_slice(), &["nud", "permanent"]].concat())?;
    }
    Ok(())
}
