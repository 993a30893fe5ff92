//! The wire between the proxy's namespace and the upstream's.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::netns::Netns;

const PROXY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const UPSTREAM: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
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
        [(proxy, "up0", PROXY, UPSTREAM, UPSTREAM_LINK), (upstream, "px0", UPSTREAM, PROXY, PROXY_LINK)]
    {
        netns.ip(&["address", "add", &format!("{own}/24"), "dev", device])?;
        netns.ip(&["link", "set", device, "up"])?;
        let neighbour = ["neighbour", "replace", &peer.to_string(), "lladdr", peer_link, "dev", device];
        netns.ip(&[neighbour.as_slice(), &["nud", "permanent"]].concat())?;
    }
    Ok(())
}
