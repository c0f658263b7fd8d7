//! The sockets of a DHCP client that has no address yet.

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recvfrom,
        setsockopt, socket,
        sockopt::{BindToDevice, Broadcast, ReuseAddr},
    },
};

const CLIENT: u16 = 68;
const SERVER: u16 = 67;

/// Sends to everybody on one link, and hears what is sent to everybody there.
pub(super) struct Everybody(UdpSocket);

impl Everybody {
    pub(super) fn open(link: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&fd, ReuseAddr, &true)?;
        setsockopt(&fd, Broadcast, &true)?;
        setsockopt(&fd, BindToDevice, &OsString::from(link))?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT)))?;
        Ok(Self(UdpSocket::from(fd)))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.send_to(bytes, (Ipv4Addr::BROADCAST, SERVER)).map(drop)
    }

    pub(super) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }
}

/// Hears what a server sends to the address that we do not have yet, against what we asked for.
pub(super) struct Overheard(OwnedFd);

impl Overheard {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthIp)?;
        Ok(Self(fd))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A message, and the link on which it came; nothing if there is no more.
    pub(super) fn receive(&self) -> Option<(u32, Vec<u8>)> {
        let mut buffer = [0; 4096];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok((length, Some(from))) => {
                    let link = u32::try_from(from.ifindex()).unwrap_or(0);
                    if let Some(message) = message(&buffer[..length]) {
                        return Some((link, message.to_vec()));
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The message in a packet, if it is for a DHCP client and not for everybody (that one is heard
/// already).
fn message(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let head = usize::from(first & 0x0f) * 4;
    let is_whole = first >> 4 == 4 && head >= 20;
    let is_fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff != 0;
    let is_udp = *packet.get(9)? == 17;
    let for_all = packet.get(16..20)? == Ipv4Addr::BROADCAST.octets();
    let udp = packet.get(head..)?;
    let to = u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]);
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let wanted = is_whole && !is_fragment && is_udp && !for_all && to == CLIENT;
    udp.get(8..length).filter(|_| wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_message_to_a_client_is_taken() {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[16..20].copy_from_slice(&[192, 0, 2, 50]);
        packet[22..26].copy_from_slice(&[0, 68, 0, 10]);
        packet.extend(b"hipadding");
        assert_eq!(message(&packet), Some(&b"hi"[..]));
        packet[16..20].fill(255);
        assert_eq!(message(&packet), None);
    }

    proptest! {
        #[test]
        fn no_packet_breaks_the_reader(bytes: Vec<u8>) {
            message(&bytes);
        }
    }
}
