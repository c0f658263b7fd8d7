//! Links, addresses and routes, asked of the kernel and told to it by rtnetlink: the few messages
//! of it that a first boot needs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        setsockopt, socket, sockopt::ReceiveTimeout,
    },
    sys::time::{TimeVal, TimeValLike},
};

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const NEWNDUSEROPT: u16 = 68;

const ERROR: u16 = 2;
const DONE: u16 = 3;

const F_REQUEST: u16 = 1;
const F_ACK: u16 = 4;
const F_REPLACE: u16 = 0x100;
const F_CREATE: u16 = 0x400;
const F_DUMP: u16 = 0x300;

/// Links, IPv6 addresses, IPv6 routes, what routers say of name servers.
const GROUPS: u32 = 1 | 1 << 8 | 1 << 10 | 1 << 19;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 0x10000;
const ETHERNET: u16 = 1;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    pub(super) has_carrier: bool,
}

/// An address that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) link: u32,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    /// It may be used: nobody else has it, and it is known beyond the link.
    pub(super) is_good: bool,
}

/// What the kernel announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Something changed; look.
    Changed,
    /// A router names name servers.
    NameServers { link: u32, servers: Vec<Ipv6Addr> },
}

/// A conversation with the kernel.
pub(super) struct Kernel {
    asks: OwnedFd,
    hears: OwnedFd,
    sequence: u32,
}

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        let open = |flags: SockFlag, groups: u32| -> io::Result<OwnedFd> {
            let flags = flags | SockFlag::SOCK_CLOEXEC;
            let family = AddressFamily::Netlink;
            let fd = socket(family, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            Ok(fd)
        };
        let asks = open(SockFlag::empty(), 0)?;
        // The kernel answers at once; but nothing shall wait without an end.
        setsockopt(&asks, ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Self { asks, hears: open(SockFlag::SOCK_NONBLOCK, GROUPS)?, sequence: 0 })
    }

    /// What to wait on for news.
    pub(super) fn news_fd(&self) -> BorrowedFd<'_> {
        self.hears.as_fd()
    }

    /// All news since the last time.
    pub(super) fn news(&self) -> Vec<News> {
        let mut news = Vec::new();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match recv(self.hears.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => return news,
                Ok(length) => {
                    for message in messages(&buffer[..length]) {
                        news.push(match (message.kind, name_servers(message.body)) {
                            (NEWNDUSEROPT, Some((link, servers))) => {
                                News::NameServers { link, servers }
                            }
                            _ => News::Changed,
                        });
                    }
                }
                Err(Errno::ENOBUFS) => news.push(News::Changed),
                Err(Errno::EINTR) => {}
                Err(_) => return news,
            }
        }
    }

    /// The cards of this machine.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let bodies = self.dump(GETLINK, &[0; 16], NEWLINK)?;
        Ok(bodies.iter().filter_map(|body| link(body)).collect())
    }

    /// All addresses.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let bodies = self.dump(GETADDR, &[0; 8], NEWADDR)?;
        Ok(bodies.iter().filter_map(|body| address(body)).collect())
    }

    /// The links by which there is a way to everywhere, by IPv6.
    pub(super) fn ways_out(&mut self) -> io::Result<Vec<u32>> {
        let mut body = [0; 12];
        body[0] = AddressFamily::Inet6 as u8;
        let bodies = self.dump(GETROUTE, &body, NEWROUTE)?;
        Ok(bodies.iter().filter_map(|body| way_out(body)).collect())
    }

    /// Brings a link up, or down.
    pub(super) fn set_link(&mut self, link: u32, up: bool) -> io::Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        let body = ifinfomsg(link, flags, IFF_UP);
        self.change(NEWLINK, 0, body)
    }

    /// Sets how large its packets may be.
    pub(super) fn set_mtu(&mut self, link: u32, mtu: u32) -> io::Result<()> {
        let mut body = ifinfomsg(link, 0, 0);
        attribute(&mut body, 4, &mtu.to_ne_bytes());
        self.change(NEWLINK, 0, body)
    }

    /// Gives a link an address.
    pub(super) fn add_address(&mut self, link: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.change(NEWADDR, F_CREATE | F_REPLACE, ifaddrmsg(link, address, prefix))
    }

    /// Takes an address away, and with it the routes that need it.
    pub(super) fn remove_address(
        &mut self,
        link: u32,
        address: IpAddr,
        prefix: u8,
    ) -> io::Result<()> {
        self.change(DELADDR, 0, ifaddrmsg(link, address, prefix))
    }

    /// Says the way to a network. The gateway need not be in the network of the link: some clouds
    /// give out addresses that are a network by themselves.
    pub(super) fn add_route(
        &mut self,
        link: u32,
        to: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        let body = rtmsg(link, to, prefix, gateway);
        self.change(NEWROUTE, F_CREATE | F_REPLACE, body)
    }

    fn change(&mut self, kind: u16, flags: u16, body: Vec<u8>) -> io::Result<()> {
        self.send(kind, F_REQUEST | F_ACK | flags, &body)?;
        self.receive(|_, _| {}).map(drop)
    }

    fn dump(&mut self, kind: u16, body: &[u8], wanted: u16) -> io::Result<Vec<Vec<u8>>> {
        self.send(kind, F_REQUEST | F_DUMP, body)?;
        let mut bodies = Vec::new();
        self.receive(|kind, body| {
            if kind == wanted {
                bodies.push(body.to_vec());
            }
        })?;
        Ok(bodies)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.asks.as_raw_fd(), &bytes, &kernel, MsgFlags::empty())?;
        Ok(())
    }

    /// Hands out what comes until it is over.
    fn receive(&mut self, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = match recv(self.asks.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for message in messages(&buffer[..length]) {
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => {
                        let code = number(message.body, 0).unwrap_or(0) as i32;
                        return match code {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    kind => take(kind, message.body),
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let whole = bytes.get(..length).filter(|whole| whole.len() >= 16)?;
        let sequence = number(whole, 8)?;
        let kind = u16::from_ne_bytes([whole[4], whole[5]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, sequence, body: &whole[16..] })
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // The two highest bits say how it is to be read, and not what it is.
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let data = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    })
}

fn attribute(body: &mut Vec<u8>, kind: u16, data: &[u8]) {
    let length = u16::try_from(4 + data.len()).expect("our attributes are short");
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(data);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
}

fn ifinfomsg(link: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for value in [link, flags, change] {
        body.extend(value.to_ne_bytes());
    }
    body
}

fn ifaddrmsg(link: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    /// Not waiting for others to say that it is theirs: there is nobody to choose another.
    const NODAD: u8 = 2;
    let (family, flags) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet as u8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6 as u8, NODAD),
    };
    let mut body = vec![family, prefix, flags, 0];
    body.extend(link.to_ne_bytes());
    attribute(&mut body, 2, &octets(address));
    attribute(&mut body, 1, &octets(address));
    if let (IpAddr::V4(address), ..=30) = (address, prefix) {
        let broadcast = address.to_bits() | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        attribute(&mut body, 4, &Ipv4Addr::from_bits(broadcast).octets());
    }
    body
}

fn rtmsg(link: u32, to: IpAddr, prefix: u8, gateway: Option<IpAddr>) -> Vec<u8> {
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    const LINK: u8 = 253;
    const ONLINK: u32 = 4;
    let family = match to {
        IpAddr::V4(_) => AddressFamily::Inet as u8,
        IpAddr::V6(_) => AddressFamily::Inet6 as u8,
    };
    let scope = if gateway.is_none() && to.is_ipv4() { LINK } else { 0 };
    let flags = if gateway.is_some() { ONLINK } else { 0 };
    let mut body = vec![family, prefix, 0, 0, MAIN, BOOT, scope, UNICAST];
    body.extend(flags.to_ne_bytes());
    if prefix > 0 {
        attribute(&mut body, 1, &octets(to));
    }
    if let Some(gateway) = gateway {
        attribute(&mut body, 5, &octets(gateway));
    }
    attribute(&mut body, 4, &link.to_ne_bytes());
    // One metric for each link: two default routes can be there at once, the first link's is used.
    attribute(&mut body, 6, &(1024 + link).to_ne_bytes());
    body
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn link(body: &[u8]) -> Option<Link> {
    let kind = u16::from_ne_bytes([*body.get(2)?, *body.get(3)?]);
    let (index, flags) = (number(body, 4)?, number(body, 8)?);
    let (mut name, mut mac, mut mtu) = (None, None, 0);
    for (kind, data) in attributes(body.get(16..)?) {
        match kind {
            1 => mac = <[u8; 6]>::try_from(data).ok(),
            4 => mtu = number(data, 0)?,
            3 => name = Some(String::from_utf8_lossy(data).trim_end_matches('\0').to_owned()),
            _ => {}
        }
    }
    let is_card = kind == ETHERNET && flags & IFF_LOOPBACK == 0;
    let (name, mac) = (name?, mac.filter(|_| is_card)?);
    let (is_up, has_carrier) = (flags & IFF_UP != 0, flags & IFF_LOWER_UP != 0);
    Some(Link { index, name, mac, mtu, is_up, has_carrier })
}

fn address(body: &[u8]) -> Option<Address> {
    const TENTATIVE: u32 = 0x40;
    const FAILED: u32 = 0x08;
    let [family, prefix, flags, scope] = *body.get(..4)? else { return None };
    let link = number(body, 4)?;
    let mut flags = u32::from(flags);
    let mut found = None;
    for (kind, data) in attributes(body.get(8..)?) {
        match (kind, i32::from(family)) {
            (2, nix::libc::AF_INET) => {
                found = <[u8; 4]>::try_from(data).ok().map(IpAddr::from);
            }
            (1, nix::libc::AF_INET6) => {
                found = <[u8; 16]>::try_from(data).ok().map(IpAddr::from);
            }
            (8, _) => flags = number(data, 0)?,
            _ => {}
        }
    }
    // Site-local is a scope of its own, and as good as any.
    let is_good = flags & (TENTATIVE | FAILED) == 0 && (scope == 0 || scope == 200);
    Some(Address { link, address: found?, prefix, is_good })
}

fn way_out(body: &[u8]) -> Option<u32> {
    let prefix = *body.get(1)?;
    let mut attributes = attributes(body.get(12..)?);
    let link = attributes.find(|(kind, _)| *kind == 4).and_then(|(_, data)| number(data, 0));
    let leads_out = body.get(7) == Some(&1) && prefix == 0;
    link.filter(|_| leads_out)
}

/// The option of a router that names name servers (RFC 8106).
fn name_servers(body: &[u8]) -> Option<(u32, Vec<Ipv6Addr>)> {
    let length = usize::from(u16::from_ne_bytes([*body.get(2)?, *body.get(3)?]));
    let link = number(body, 4)?;
    let mut options = body.get(16..16 + length)?;
    let mut servers = Vec::new();
    while let [kind, units, ..] = options {
        let whole = usize::from(*units) * 8;
        let option = options.get(..whole).filter(|option| option.len() >= 8)?;
        if *kind == 25 {
            let sixteen = option[8..].chunks_exact(16);
            servers.extend(
                sixteen.filter_map(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(Ipv6Addr::from),
            );
        }
        options = &options[whole..];
    }
    (!servers.is_empty()).then_some((link, servers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut body = ifinfomsg(3, IFF_UP | IFF_LOWER_UP, 0);
        body[2..4].copy_from_slice(&ETHERNET.to_ne_bytes());
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 1, &[1, 2, 3, 4, 5, 6]);
        attribute(&mut body, 4, &1500u32.to_ne_bytes());
        let wanted = Link {
            index: 3,
            name: "eth0".to_owned(),
            mac: [1, 2, 3, 4, 5, 6],
            mtu: 1500,
            is_up: true,
            has_carrier: true,
        };
        assert_eq!(link(&body), Some(wanted));
        let ip = IpAddr::from([192, 0, 2, 2]);
        let wanted = Address { link: 3, address: ip, prefix: 24, is_good: true };
        assert_eq!(address(&ifaddrmsg(3, ip, 24)), Some(wanted));
        let everywhere = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        assert_eq!(way_out(&rtmsg(3, everywhere, 0, Some(ip))), Some(3));
        assert_eq!(way_out(&rtmsg(3, everywhere, 64, None)), None);
    }

    #[test]
    fn the_kernel_of_this_machine_answers() {
        let mut kernel = Kernel::open().unwrap();
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        kernel.links().unwrap();
        kernel.ways_out().unwrap();
        let addresses = kernel.addresses().unwrap();
        // A network namespace may have no address at all.
        if let Some(address) = addresses.iter().find(|address| address.address == here) {
            assert_eq!(address.prefix, 8);
        }
    }

    proptest! {
        #[test]
        fn no_message_breaks_the_reader(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                link(message.body);
            }
            link(&bytes);
            address(&bytes);
            way_out(&bytes);
            name_servers(&bytes);
        }
    }
}
