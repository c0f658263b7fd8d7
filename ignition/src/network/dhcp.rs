//! DHCP for IPv4 (RFC 2131), from nothing to a lease. Renewing it is for the system that starts
//! afterwards.
//!
//! ```text
//! Selecting --offer--> Requesting --ack--> Bound
//!     ^                    |
//!     +--nak, no answer----+
//! ```

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(16);
const REQUESTS: u32 = 4;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What a server lets us be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// How many of its bits are of the network.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Who knows the way to everywhere else.
    pub routers: Vec<Ipv4Addr>,
    /// Networks, their bits and the way there (0.0.0.0 is the link itself); they replace `routers`.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers.
    pub nameservers: Vec<Ipv4Addr>,
    /// Domains that short names are in.
    pub search: Vec<String>,
    /// What this machine is called there.
    pub hostname: Option<String>,
    /// The largest packet.
    pub mtu: Option<u32>,
}

/// One link's side of the conversation.
#[derive(Clone, Debug)]
pub struct Client {
    id: u32,
    mac: [u8; 6],
    state: State,
    started: Instant,
    wake: Instant,
    wait: Duration,
    /// How often we asked in all, for the report.
    pub sent: u32,
    /// How many messages were for us, for the report.
    pub heard: u32,
}

#[derive(Clone, Debug)]
enum State {
    Selecting,
    Requesting { offered: Ipv4Addr, server: Ipv4Addr, tries: u32 },
    Bound,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A message came.
    Heard(&'a [u8]),
    /// The time that was waited for is there.
    Woken,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send to everybody.
    Send(Vec<u8>),
    /// Say something.
    Say(String),
    /// Be this.
    Bound(Lease),
}

impl Client {
    /// Begins, with a number that nobody else has.
    pub fn new(id: u32, mac: [u8; 6], now: Instant) -> Self {
        let (state, wait) = (State::Selecting, FIRST_WAIT);
        Self { id, mac, state, started: now, wake: now, wait, sent: 0, heard: 0 }
    }

    /// When to wake it.
    pub fn wake(&self) -> Option<Instant> {
        match self.state {
            State::Bound => None,
            State::Selecting | State::Requesting { .. } => Some(self.wake),
        }
    }

    /// Something happened.
    pub fn step(&mut self, event: Event<'_>, now: Instant) -> Vec<Effect> {
        match (self.state.clone(), event) {
            (State::Bound, _) => Vec::new(),
            (_, Event::Woken) if now < self.wake => Vec::new(),
            (State::Selecting, Event::Woken) => vec![self.send(now)],
            (State::Requesting { tries: REQUESTS.., .. }, Event::Woken) => {
                self.restart();
                let text = format!("no answer to {REQUESTS} requests, starting over");
                vec![Effect::Say(text), self.send(now)]
            }
            (State::Requesting { offered, server, tries }, Event::Woken) => {
                self.state = State::Requesting { offered, server, tries: tries + 1 };
                vec![self.send(now)]
            }
            (State::Selecting, Event::Heard(bytes)) => match self.read(bytes) {
                Some((OFFER, lease)) => {
                    let Lease { address: offered, server, .. } = lease;
                    self.state = State::Requesting { offered, server, tries: 1 };
                    self.wait = FIRST_WAIT;
                    let text = format!("{server} offers {offered}");
                    vec![Effect::Say(text), self.send(now)]
                }
                _ => Vec::new(),
            },
            (State::Requesting { server, offered, .. }, Event::Heard(bytes)) => {
                match self.read(bytes) {
                    Some((ACK, lease)) if lease.server == server => {
                        self.state = State::Bound;
                        vec![Effect::Bound(lease)]
                    }
                    Some((NAK, lease)) if lease.server == server => {
                        self.restart();
                        // Not at once: a server that says no to everything is not to be flooded.
                        self.wake = now + FIRST_WAIT;
                        vec![Effect::Say(format!("{server} takes {offered} back"))]
                    }
                    _ => Vec::new(),
                }
            }
        }
    }

    fn restart(&mut self) {
        self.state = State::Selecting;
        self.wait = FIRST_WAIT;
        self.id = self.id.wrapping_add(1);
    }

    fn send(&mut self, now: Instant) -> Effect {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&self.id.to_be_bytes());
        let seconds = now.saturating_duration_since(self.started).as_secs();
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        bytes[8..10].copy_from_slice(&seconds.to_be_bytes());
        // Answer to everybody: this machine has no address that it could be reached by.
        bytes[10] = 0x80;
        bytes[28..34].copy_from_slice(&self.mac);
        bytes.extend(COOKIE);
        let mut option = |code: u8, data: &[u8]| {
            bytes.extend([code, data.len() as u8]);
            bytes.extend(data);
        };
        match &self.state {
            State::Requesting { offered, server, .. } => {
                option(53, &[REQUEST]);
                option(50, &offered.octets());
                option(54, &server.octets());
            }
            State::Selecting | State::Bound => option(53, &[DISCOVER]),
        }
        let mac = self.mac;
        option(61, &[1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]);
        option(57, &1500u16.to_be_bytes());
        option(60, b"pithos-ignition");
        option(55, &[1, 3, 6, 12, 15, 26, 119, 121]);
        bytes.push(255);
        // Old relays throw shorter ones away.
        bytes.resize(bytes.len().max(300), 0);
        self.sent += 1;
        self.wake = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Effect::Send(bytes)
    }

    fn read(&mut self, bytes: &[u8]) -> Option<(u8, Lease)> {
        let fixed = bytes.get(..236)?;
        let ours = fixed[..3] == [2, 1, 6]
            && fixed[4..8] == self.id.to_be_bytes()
            && fixed[28..34] == self.mac;
        if !ours || bytes.get(236..240)? != COOKIE {
            return None;
        }
        self.heard += 1;
        let options = Options::read(&bytes[240..], &fixed[108..236], &fixed[44..108]);
        let kind = *options.get(53)?.first()?;
        let address = four(&fixed[16..20])?;
        if address.is_unspecified() && kind != NAK {
            return None;
        }
        let server = options.get(54).and_then(four)?;
        Some((kind, options.lease(address, server)))
    }
}

/// Options by their code. One that comes in parts is one (RFC 3396).
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// Reads them; the fields for a file and for a server's name may hold more of them.
    fn read(main: &[u8], file: &[u8], server: &[u8]) -> Self {
        let mut options = Self(Vec::new());
        options.add(main);
        let more = options.get(52).and_then(|overload| overload.first().copied()).unwrap_or(0);
        if more & 1 != 0 {
            options.add(file);
        }
        if more & 2 != 0 {
            options.add(server);
        }
        options
    }

    fn add(&mut self, mut bytes: &[u8]) {
        loop {
            match bytes {
                [0, rest @ ..] => bytes = rest,
                [255, ..] | [] | [_] => return,
                [code, length, rest @ ..] => {
                    let Some((data, rest)) = rest.split_at_checked(usize::from(*length)) else {
                        return;
                    };
                    match self.0.iter_mut().find(|(known, _)| known == code) {
                        Some((_, known)) => known.extend(data),
                        None => self.0.push((*code, data.to_vec())),
                    }
                    bytes = rest;
                }
            }
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, data)| data.as_slice())
    }

    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        self.get(code).unwrap_or_default().chunks_exact(4).filter_map(four).collect()
    }

    fn text(&self, code: u8) -> Option<String> {
        let text = String::from_utf8_lossy(self.get(code)?);
        let text = text.trim_end_matches(['\0', '.']).to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (!text.is_empty() && text.chars().all(plain)).then_some(text)
    }

    fn lease(&self, address: Ipv4Addr, server: Ipv4Addr) -> Lease {
        let mask = self.get(1).and_then(four);
        // Without a mask: what the classes of old said.
        let prefix = match (mask, address.octets()[0]) {
            (Some(mask), _) => mask.to_bits().leading_ones() as u8,
            (None, ..128) => 8,
            (None, ..192) => 16,
            (None, _) => 24,
        };
        let mut search = self.get(119).map(domains).unwrap_or_default();
        if search.is_empty() {
            // Some servers put several domains into the option for one.
            let one = self.get(15).map(|text| String::from_utf8_lossy(text).into_owned());
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let words = one.iter().flat_map(|text| text.trim_end_matches('\0').split(' '));
            let words = words.map(|word| word.trim_end_matches('.'));
            search = words
                .filter(|word| !word.is_empty() && word.chars().all(plain))
                .map(str::to_owned)
                .collect();
        }
        let mtu = self.get(26).and_then(|data| <[u8; 2]>::try_from(data).ok());
        Lease {
            address,
            prefix,
            server,
            routers: self.addresses(3),
            routes: self.get(121).map(routes).unwrap_or_default(),
            nameservers: self.addresses(6),
            search,
            hostname: self.text(12),
            // Smaller ones are mistakes: IPv6 would go with them.
            mtu: mtu.map(|data| u32::from(u16::from_be_bytes(data))).filter(|mtu| *mtu >= 576),
        }
    }
}

fn four(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes.get(..4)?).ok().map(Ipv4Addr::from)
}

/// Classless routes (RFC 3442): of each network only as many bytes as count.
fn routes(mut bytes: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let [bits @ ..=32, rest @ ..] = bytes {
        let count = usize::from(bits.div_ceil(8));
        let Some((network, rest)) = rest.split_at_checked(count) else { break };
        let Some((gateway, rest)) = rest.split_at_checked(4) else { break };
        let mut octets = [0; 4];
        octets[..count].copy_from_slice(network);
        routes.extend(four(gateway).map(|gateway| (Ipv4Addr::from(octets), *bits, gateway)));
        bytes = rest;
    }
    routes
}

/// Domains as DNS writes them, with references back (RFC 3397).
fn domains(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let (mut at, mut behind, mut jumps) = (start, None, 0);
        let mut labels = Vec::new();
        loop {
            match bytes.get(at).copied() {
                Some(0) => {
                    at += 1;
                    break;
                }
                Some(high @ 0xc0..) if jumps < 8 => {
                    let Some(&low) = bytes.get(at + 1) else { return found };
                    behind = behind.or(Some(at + 2));
                    at = usize::from(u16::from_be_bytes([high & 0x3f, low]));
                    jumps += 1;
                }
                Some(length @ 1..=63) => {
                    let end = at + 1 + usize::from(length);
                    let Some(label) = bytes.get(at + 1..end) else { return found };
                    if labels.len() > 16 {
                        return found;
                    }
                    labels.push(String::from_utf8_lossy(label).into_owned());
                    at = end;
                }
                _ => return found,
            }
        }
        let name = labels.join(".");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.is_empty() && name.chars().all(plain) && found.len() < 16 {
            found.push(name);
        }
        start = behind.unwrap_or(at);
    }
    found
}

#[cfg(test)]
#[path = "dhcp/tests.rs"]
mod tests;
