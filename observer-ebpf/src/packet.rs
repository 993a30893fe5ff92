//! Addresses and TCP flags out of packets.

use aya_ebpf::{helpers::bpf_probe_read_kernel, programs::SkBuffContext};
use observer_common::Flow;

use crate::{
    access::Access,
    settings::offset,
    sock::{device_netns, map_v4, skb_field},
};

/// TCP flags, as in the header's 14th byte.
pub(crate) const SYN: u8 = 0x02;
/// See [`SYN`].
pub(crate) const RST: u8 = 0x04;
/// See [`SYN`].
pub(crate) const ACK: u8 = 0x10;

/// Offset of the flags in a TCP header.
const TCP_FLAGS: usize = 13;
const IPPROTO_TCP: u8 = 6;

/// What is needed of a TCP segment: its ends as the receiver sees them, and its flags.
pub(crate) struct Segment {
    pub(crate) flow: Flow,
    pub(crate) flags: u8,
}

impl Segment {
    /// None seen.
    pub(crate) const NONE: Self = Self { flow: Flow::empty(), flags: 0 };
}

/// Parses a packet in a cgroup program, where data begins at the IP header. `None` if it is no plain TCP segment
/// (IPv6 extension headers before TCP are not followed; the kernel's own test comes after them, so such an overflow
/// is seen by ListenOverflows only).
#[inline(always)]
pub(crate) fn of_context(ctx: &SkBuffContext) -> Option<Segment> {
    let mut flow = Flow::empty();
    let version: u8 = ctx.load(0).ok()?;
    let tcp = if version >> 4 == 4 {
        map_v4(ctx.load(12).ok()?, &mut flow.remote);
        map_v4(ctx.load(16).ok()?, &mut flow.local);
        if ctx.load::<u8>(9).ok()? != IPPROTO_TCP {
            return None;
        }
        usize::from(version & 0xf) * 4
    } else {
        flow.remote = ctx.load(8).ok()?;
        flow.local = ctx.load(24).ok()?;
        if ctx.load::<u8>(6).ok()? != IPPROTO_TCP {
            return None;
        }
        40
    };
    flow.remote_port = u16::from_be(ctx.load(tcp).ok()?);
    flow.local_port = u16::from_be(ctx.load(tcp + 2).ok()?);
    Some(Segment { flow, flags: ctx.load(tcp + TCP_FLAGS).ok()? })
}

/// Parses a received packet from its `sk_buff`; what could not be read stays as it was, and then it says false. Into a segment of
/// the caller's and not an `Option`: see [`crate::sock::dying`].
///
/// # Safety
/// `skb` must be an `sk_buff`, for [`crate::access::Direct`] known to the verifier as one and tested against NULL.
#[inline(always)]
pub(crate) unsafe fn of_skb<A: Access>(skb: *const u8, segment: &mut Segment) -> bool {
    // SAFETY: the caller's promise.
    unsafe { parse::<A>(skb, segment) }.is_some()
}

/// `ETH_P_IPV6` (include/uapi/linux/if_ether.h).
const ETH_P_IPV6: u16 = 0x86dd;

/// Whether a received packet came over IPv6.
///
/// # Safety
/// As [`of_skb`].
#[inline(always)]
pub(crate) unsafe fn is_v6<A: Access>(skb: *const u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe { skb_field::<A, u16>(skb, offset!(skb_protocol)) == ETH_P_IPV6.to_be() }
}

/// As [`of_skb`].
#[inline(always)]
unsafe fn parse<A: Access>(skb: *const u8, segment: &mut Segment) -> Option<()> {
    let flow = &mut segment.flow;
    // SAFETY: the caller's promise; the packet's bytes are read with a helper that cannot fault.
    unsafe {
        let head: *const u8 = skb_field::<A, _>(skb, offset!(skb_head));
        let network: u16 = skb_field::<A, _>(skb, offset!(skb_network_header));
        let transport: u16 = skb_field::<A, _>(skb, offset!(skb_transport_header));
        let ip = head.wrapping_add(usize::from(network));
        let tcp = head.wrapping_add(usize::from(transport));
        let version: u8 = bpf_probe_read_kernel(ip).ok()?;
        if version >> 4 == 4 {
            map_v4(bpf_probe_read_kernel(ip.wrapping_add(12).cast()).ok()?, &mut flow.remote);
            map_v4(bpf_probe_read_kernel(ip.wrapping_add(16).cast()).ok()?, &mut flow.local);
        } else {
            flow.remote = bpf_probe_read_kernel(ip.wrapping_add(8).cast()).ok()?;
            flow.local = bpf_probe_read_kernel(ip.wrapping_add(24).cast()).ok()?;
        }
        flow.remote_port = u16::from_be(bpf_probe_read_kernel(tcp.cast()).ok()?);
        flow.local_port = u16::from_be(bpf_probe_read_kernel(tcp.wrapping_add(2).cast()).ok()?);
        let device: *const u8 = skb_field::<A, _>(skb, offset!(skb_dev));
        if !device.is_null() {
            flow.netns = device_netns::<A>(device);
        }
        segment.flags = bpf_probe_read_kernel(tcp.wrapping_add(TCP_FLAGS)).ok()?;
    }
    Some(())
}
