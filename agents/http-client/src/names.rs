//! Names to addresses. In the initramfs there is no `/etc/resolv.conf` for the C library to find,
//! so the servers that the network told us are asked here: one question, a few records, no cache.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    time::{Duration, Instant},
};

use crate::entropy;

/// How long one server is given for one question; twice as long in the second round.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 2;
const A: u16 = 1;
const AAAA: u16 = 28;

/// Who knows the addresses of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// The C library, as the machine is configured.
    System,
    /// These servers.
    Servers {
        /// Where they listen; port 53 except in tests.
        servers: Vec<SocketAddr>,
        /// Domains that a name without a dot may be in.
        search: Vec<String>,
    },
}

impl Names {
    /// The addresses of a host, IPv4 first: in the initramfs it is the one that rarely half-works.
    pub(crate) fn addresses(&self, host: &str, end: Instant) -> io::Result<Vec<IpAddr>> {
        let (servers, search) = match self {
            Self::System => {
                let mut found: Vec<IpAddr> =
                    (host, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
                found.sort_by_key(IpAddr::is_ipv6);
                found.dedup();
                return Ok(found);
            }
            Self::Servers { servers, search } => (servers, search),
        };
        if host == "localhost" {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if servers.is_empty() {
            let why = format!("no name server is known that could be asked for {host}");
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        let mut last = None;
        for name in candidates(host, search) {
            match ask(&name, servers, end) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            let who: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
            let why = format!("the name {host} is not known to {}", who.join(", "));
            io::Error::new(io::ErrorKind::NotFound, why)
        }))
    }
}

/// The names to ask for: a name without a dot is looked for in the domains first.
fn candidates(host: &str, search: &[String]) -> Vec<String> {
    if let Some(whole) = host.strip_suffix('.') {
        return vec![whole.to_owned()];
    }
    let mut names: Vec<String> = search.iter().map(|domain| format!("{host}.{domain}")).collect();
    let at = if host.contains('.') { 0 } else { names.len() };
    names.insert(at, host.to_owned());
    names
}

/// Asks for both kinds of addresses. A server that does not answer is an error only if none does.
fn ask(name: &str, servers: &[SocketAddr], end: Instant) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for round in 0..ROUNDS {
        for server in servers {
            let left = end.saturating_duration_since(Instant::now());
            let limit = left.min(PATIENCE * (round + 1));
            if limit.is_zero() {
                return Err(last);
            }
            let both = ask_one(name, A, *server, limit).and_then(|mut found| {
                // Some servers never answer the second question: what the first gave is good then.
                match ask_one(name, AAAA, *server, limit) {
                    Ok(more) => found.extend(more),
                    Err(error) if found.is_empty() => return Err(error),
                    Err(_) => {}
                }
                Ok(found)
            });
            match both {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let why = format!("asking {} for {name}: {error}", server.ip());
                    last = io::Error::new(error.kind(), why);
                }
            }
        }
    }
    Err(last)
}

fn ask_one(name: &str, kind: u16, server: SocketAddr, limit: Duration) -> io::Result<Vec<IpAddr>> {
    let id = entropy::number() as u16;
    let question = encode(id, name, kind)?;
    let end = Instant::now() + limit;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let mut buffer = [0; 4096];
    let answer = loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        match decode(&question, kind, &buffer[..length]) {
            // Somebody else's answer, or a forged one.
            Answer::Other => {}
            Answer::Cut => break ask_by_tcp(&question, kind, server, end)?,
            answer => break answer,
        }
    };
    match answer {
        Answer::Addresses(found) => Ok(found),
        Answer::Refused(why) => Err(io::Error::other(why)),
        Answer::Other | Answer::Cut => Err(io::Error::other("an answer that makes no sense")),
    }
}

fn ask_by_tcp(question: &[u8], kind: u16, server: SocketAddr, end: Instant) -> io::Result<Answer> {
    let left = || {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&server, left()?)?;
    stream.set_read_timeout(Some(left()?))?;
    stream.set_write_timeout(Some(left()?))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(decode(question, kind, &answer))
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// These, or none.
    Addresses(Vec<IpAddr>),
    /// Too long for a datagram.
    Cut,
    /// It does not want to, or cannot.
    Refused(&'static str),
    /// Not an answer to our question.
    Other,
}

fn encode(id: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion desired, one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no name"));
        bytes.push(length.ok_or_else(bad)?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    Ok(bytes)
}

/// The addresses among the answers. A recursive server follows aliases itself and sends the
/// addresses at their end along, so no name of the answer need be read, only stepped over.
fn decode(question: &[u8], kind: u16, answer: &[u8]) -> Answer {
    const HEADER: usize = 12;
    let Some(header) = answer.get(..HEADER) else { return Answer::Other };
    let echoed = answer.get(HEADER..question.len());
    let same = echoed.is_some_and(|echoed| echoed.eq_ignore_ascii_case(&question[HEADER..]));
    if header[..2] != question[..2] || header[2] & 0x80 == 0 || header[4..6] != [0, 1] || !same {
        return Answer::Other;
    }
    if header[2] & 0x02 != 0 {
        return Answer::Cut;
    }
    match header[3] & 0x0f {
        0 => {}
        // There is no such name: an answer as good as no address.
        3 => return Answer::Addresses(Vec::new()),
        2 => return Answer::Refused("the server failed"),
        5 => return Answer::Refused("the server refuses to answer"),
        _ => return Answer::Refused("the server does not understand the question"),
    }
    let count = u16::from_be_bytes([header[6], header[7]]);
    let mut rest = &answer[question.len()..];
    let mut found = Vec::new();
    for _ in 0..count {
        let Some((record, behind)) = record(rest) else { break };
        rest = behind;
        let address: Option<IpAddr> = match (record.kind, kind) {
            (A, A) => <[u8; 4]>::try_from(record.data).ok().map(IpAddr::from),
            (AAAA, AAAA) => <[u8; 16]>::try_from(record.data).ok().map(IpAddr::from),
            _ => None,
        };
        found.extend(address);
    }
    Answer::Addresses(found)
}

struct Record<'a> {
    kind: u16,
    data: &'a [u8],
}

fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let mut rest = bytes;
    loop {
        let (&length, behind) = rest.split_first()?;
        match length {
            0 => {
                rest = behind;
                break;
            }
            // The rest of the name is elsewhere.
            0xc0.. => {
                rest = behind.get(1..)?;
                break;
            }
            length => rest = behind.get(usize::from(length)..)?,
        }
    }
    let (fixed, rest) = rest.split_at_checked(10)?;
    let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
    let class = u16::from_be_bytes([fixed[2], fixed[3]]);
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let (data, rest) = rest.split_at_checked(length)?;
    // A class other than the Internet has no addresses for us.
    Some((Record { kind: if class == 1 { kind } else { 0 }, data }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to a question: an alias first, then the addresses.
    fn answer(question: &[u8], code: u8, addresses: &[&[u8]]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes[3] = 0x80 | code;
        bytes[7] = 1 + addresses.len() as u8;
        bytes.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0c");
        for address in addresses {
            let kind = if address.len() == 4 { 1 } else { 28 };
            bytes.extend(b"\x01b\xc0\x0c");
            bytes.extend([0, kind, 0, 1, 0, 0, 0, 60, 0, address.len() as u8]);
            bytes.extend(*address);
        }
        bytes
    }

    #[test]
    fn addresses_come_from_behind_an_alias() {
        let question = encode(7, "a.example", A).unwrap();
        let bytes = answer(&question, 0, &[&[192, 0, 2, 1], &[0; 16]]);
        let addresses = vec![IpAddr::from([192, 0, 2, 1])];
        assert_eq!(decode(&question, A, &bytes), Answer::Addresses(addresses));
    }

    #[test]
    fn only_an_answer_to_our_question_counts() {
        let question = encode(7, "a.example", A).unwrap();
        let other = encode(7, "b.example", A).unwrap();
        assert_eq!(decode(&question, A, &answer(&other, 0, &[])), Answer::Other);
        let other = encode(8, "a.example", A).unwrap();
        assert_eq!(decode(&question, A, &answer(&other, 0, &[])), Answer::Other);
        assert_eq!(decode(&question, A, &question), Answer::Other);
        let none = Answer::Addresses(Vec::new());
        assert_eq!(decode(&question, A, &answer(&question, 3, &[])), none);
        assert!(matches!(decode(&question, A, &answer(&question, 2, &[])), Answer::Refused(_)));
    }

    #[test]
    fn short_names_are_looked_for_in_the_domains_first() {
        let search = ["x.org".to_owned()];
        assert_eq!(candidates("host", &search), ["host.x.org", "host"]);
        assert_eq!(candidates("host.net", &search), ["host.net", "host.net.x.org"]);
        assert_eq!(candidates("host.net.", &search), ["host.net"]);
        assert!(encode(1, "a..b", A).is_err());
        assert!(encode(1, &"a".repeat(64), A).is_err());
    }

    #[test]
    fn a_server_is_asked_and_its_answer_taken() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let names = Names::Servers {
            servers: vec![server.local_addr().unwrap()],
            search: vec!["example".to_owned()],
        };
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..2 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let question = &buffer[..length];
                assert!(question[12..].starts_with(b"\x01a\x07example\0"));
                let bytes = answer(question, 0, &[&[192, 0, 2, 1], &[1; 16]]);
                server.send_to(&bytes, from).unwrap();
            }
        });
        let found = names.addresses("a", Instant::now() + Duration::from_secs(10)).unwrap();
        assert_eq!(found, [IpAddr::from([192, 0, 2, 1]), IpAddr::from([1; 16])]);
        thread.join().unwrap();
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(bytes: Vec<u8>, tail: Vec<u8>) {
            let question = encode(7, "a.example", A).unwrap();
            decode(&question, A, &bytes);
            let mut bytes = answer(&question, 0, &[&[1; 4]]);
            bytes.extend(tail);
            bytes[7] = 255;
            decode(&question, A, &bytes);
        }
    }
}
