//! Listeners of a network namespace by netlink (sock_diag(7)): without eBPF, for what only looks once.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use observer_common::state;

use crate::addr::Endpoint;

/// `SOCK_DIAG_BY_FAMILY` (include/uapi/linux/sock_diag.h)
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` (include/uapi/linux/netlink.h)
const REQUEST_DUMP: u16 = 0x301;
/// `NLMSG_ERROR`, `NLMSG_DONE`
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct inet_diag_req_v2` (include/uapi/linux/inet_diag.h)
const REQUEST: usize = 56;
/// `struct inet_diag_msg`
const MESSAGE: usize = 72;
/// Address families by number (include/linux/socket.h).
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// What the kernel writes at a time, at most (`NLMSG_GOODSIZE`, and more where it may).
const BUFFER: usize = 32 << 10;
/// Listeners that are looked at; a host with more has the others left out.
const MAX_LISTENERS: usize = 65_536;

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// Where it is bound.
    pub(super) at: Endpoint,
    /// The queue's limit (`sk_max_ack_backlog`): full means deeper than that.
    pub(super) limit: u32,
    /// Its inode number.
    pub(super) inode: u64,
}

/// The TCP listeners of the namespace that this thread is in.
pub(super) fn listeners() -> io::Result<Vec<Listening>> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    let mut found = Vec::new();
    for family in [INET, INET6] {
        send(fd.as_raw_fd(), &request(family), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if take(&buffer[..length], &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

fn request(family: u8) -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    (bytes[HEADER], bytes[HEADER + 1]) = (family, TCP);
    let states: u32 = 1 << state::LISTEN;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// Takes in what the kernel wrote; whether that was the end.
fn take(mut bytes: &[u8], found: &mut Vec<Listening>) -> io::Result<bool> {
    while let Some((header, _)) = bytes.split_at_checked(HEADER) {
        let length = number(header, 0) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = bytes.get(HEADER..length) else {
            return Err(io::Error::other("a netlink message is shorter than it says"));
        };
        match kind {
            DONE => return Ok(true),
            // A negative errno; of none it is an acknowledgement, which was not asked for.
            ERROR => return Err(io::Error::from_raw_os_error(number(body, 0).cast_signed().saturating_neg())),
            _ if body.len() >= MESSAGE && found.len() < MAX_LISTENERS => found.push(listening(body)),
            _ => {}
        }
        // Messages begin at multiples of four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn listening(body: &[u8]) -> Listening {
    let port = u16::from_be_bytes([body[4], body[5]]);
    let mut address = [0; 16];
    address.copy_from_slice(&body[8..24]);
    if body[0] == INET {
        let v4 = [address[0], address[1], address[2], address[3]];
        address = if v4 == [0; 4] { [0; 16] } else { std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets() };
    }
    Listening { at: Endpoint::from_wire(address, port), limit: number(body, 60), inode: number(body, 68).into() }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_listener_of_our_own_is_found_with_its_limit() {
        for (address, backlog) in [("127.0.0.1:0", 7), ("[::1]:0", 9)] {
            let address: std::net::SocketAddr = address.parse().unwrap();
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(backlog).unwrap();
            let at = socket.local_addr().unwrap().as_socket().unwrap();
            let at = Endpoint { ip: at.ip(), port: at.port() };
            let found: Vec<_> = listeners().unwrap().into_iter().filter(|listener| listener.at == at).collect();
            let [only] = found[..] else { panic!("{found:?}") };
            assert_eq!(only.limit, u32::try_from(backlog).unwrap());
            assert!(only.inode > 0);
        }
    }

    #[test]
    fn no_answer_is_too_strange() {
        let mut found = Vec::new();
        assert!(!take(&[], &mut found).unwrap() && !take(&[0; 15], &mut found).unwrap());
        assert!(take(&[0; 16], &mut found).is_err(), "shorter than its own header");
        let mut long = [0; 20];
        long[0..4].copy_from_slice(&400_u32.to_ne_bytes());
        assert!(take(&long, &mut found).is_err());
        let mut error = [0; 20];
        error[0..4].copy_from_slice(&20_u32.to_ne_bytes());
        error[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        error[16..20].copy_from_slice(&(-13_i32).to_ne_bytes());
        assert_eq!(take(&error, &mut found).unwrap_err().raw_os_error(), Some(13));
        assert!(found.is_empty());
    }
}
