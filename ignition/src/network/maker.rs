//! Makes a network: looks for links, brings them up, asks on all of them, and waits.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    Made, Network, NetworkError,
    cmdline::{self, LinkWish, Method, Wish},
    dhcp::{Client, Effect, Event, Lease},
    kernel,
    names::{self, Device},
    rtnetlink::{Kernel, Link, News},
    sockets::{Everybody, Overheard},
    way::{self, Progress, Verdict},
};
use http_client::entropy;

use crate::{fetch::Names, journal::Journal};

/// How often to look where nothing is announced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes a network.
pub(super) struct Maker<'m> {
    wish: &'m Wish,
    journal: &'m dyn Journal,
    kernel: Kernel,
    overheard: Option<Overheard>,
    cards: Vec<Card>,
    /// Links that were looked at, and shall not be used.
    refused: Vec<u32>,
    made: Vec<Made>,
    /// What routers say of name servers.
    servers: Vec<IpAddr>,
    start: Instant,
}

impl<'m> Maker<'m> {
    pub(super) fn new(
        wish: &'m Wish,
        journal: &'m dyn Journal,
        kernel: Kernel,
        overheard: Option<Overheard>,
    ) -> Self {
        let (cards, refused, made, servers) = Default::default();
        let start = Instant::now();
        Self { wish, journal, kernel, overheard, cards, refused, made, servers, start }
    }

    /// The kernel, and what was made by it, to take it away again.
    pub(super) fn undo(self) -> (Kernel, Vec<Made>) {
        (self.kernel, self.made)
    }

    pub(super) fn make(&mut self) -> Result<Network, NetworkError> {
        let end = self.start + self.wish.timeout;
        loop {
            self.look()?;
            self.work(Instant::now());
            let now = Instant::now();
            let progress: Vec<Progress> = self.cards.iter().map(Card::progress).collect();
            let static_wishes = self.wish.links.iter().filter(|wish| wish.is_static()).count();
            match way::judge(&progress, static_wishes, now - self.start, self.wish.timeout) {
                Verdict::Done => return self.finish(),
                Verdict::Over => return Err(self.nothing()),
                Verdict::Wait(limit) => {
                    let wakes = self.cards.iter().filter_map(|card| card.client.as_ref()?.0.wake());
                    let wake = wakes.min().unwrap_or(end).min(end);
                    let limit = limit.min(wake.saturating_duration_since(now)).min(LOOK_AGAIN);
                    self.wait(limit)?;
                }
            }
        }
    }

    /// Looks for links, carriers, and what routers did.
    fn look(&mut self) -> Result<(), NetworkError> {
        let links = self.kernel.links().map_err(kernel("listing links"))?;
        for link in links {
            if self.refused.contains(&link.index) {
                continue;
            }
            match self.cards.iter_mut().find(|card| card.link.index == link.index) {
                Some(card) => {
                    if link.has_carrier != card.link.has_carrier {
                        let has =
                            if link.has_carrier { "a carrier" } else { "no carrier any more" };
                        self.journal.say(&format!("network: {} has {has}", link.name));
                    }
                    card.link = link;
                }
                None => self.welcome(link),
            }
        }
        let addresses = self.kernel.addresses().map_err(kernel("listing addresses"))?;
        let ways_out = self.kernel.ways_out().unwrap_or_default();
        for card in &mut self.cards {
            let said = matches!(card.wish.method, Method::Automatic | Method::Routers);
            let found = addresses.iter().find(|address| {
                address.link == card.link.index && address.address.is_ipv6() && address.is_good
            });
            let Some(found) = found.filter(|_| said) else { continue };
            card.has_way_out = ways_out.contains(&card.link.index);
            if card.router_address != Some(found.address) {
                card.router_address = Some(found.address);
                let (name, address) = (&card.link.name, found.address);
                self.journal.say(&format!("network: {name} is {address}, as a router says"));
            }
        }
        Ok(())
    }

    /// A link that was not there before: decides what it shall be, and brings it up.
    fn welcome(&mut self, link: Link) {
        let device = names::device(&link.name, Path::new("/sys"));
        for wish in self.wishes(&link, &device) {
            if wish.method == Method::Off {
                self.refused.push(link.index);
                self.journal.say(&format!("network: {} stays off, as is wished", link.name));
                return;
            }
            let name = link.name.clone();
            let carrier = if link.has_carrier { "a" } else { "no" };
            self.journal.say(&format!("network: {name}, with {carrier} carrier: {}", wish.method));
            let mut trouble = None;
            if !link.is_up {
                match self.kernel.set_link(link.index, true) {
                    Ok(()) => self.made.push(Made::Up(link.index)),
                    Err(error) => trouble = Some(format!("it does not come up: {error}")),
                }
            }
            if let Some(mtu) = wish.mtu
                && let Err(error) = self.set_mtu(&link, mtu)
            {
                trouble = Some(format!("its MTU cannot be {mtu}: {error}"));
            }
            self.cards.push(Card {
                link: link.clone(),
                wish,
                client: None,
                lease: None,
                is_set: false,
                router_address: None,
                has_way_out: false,
                trouble,
            });
        }
        if self.cards.iter().all(|card| card.link.index != link.index) {
            self.refused.push(link.index);
        }
    }

    /// What a link shall be: what is said of it, else what is said of any; if nothing is said of
    /// any link at all, it finds out by itself.
    fn wishes(&self, link: &Link, device: &Device) -> Vec<LinkWish> {
        let wishes = &self.wish.links;
        let named = |wish: &&LinkWish| {
            wish.link.as_deref().is_some_and(|name| names::is_meant(link, device, name))
        };
        let own: Vec<LinkWish> = wishes.iter().filter(named).cloned().collect();
        if !own.is_empty() {
            return own;
        }
        let any: Vec<LinkWish> =
            wishes.iter().filter(|wish| wish.link.is_none()).cloned().collect();
        if any.is_empty() && wishes.is_empty() {
            return vec![LinkWish { link: None, method: Method::Automatic, mtu: None }];
        }
        // An address that is said of no link in particular is for one link only: the first.
        let taken =
            |wish: &LinkWish| wish.is_static() && self.cards.iter().any(|card| card.wish == *wish);
        any.into_iter().filter(|wish| !taken(wish)).collect()
    }

    /// Does what is due on each link.
    fn work(&mut self, now: Instant) {
        for index in 0..self.cards.len() {
            if !self.cards[index].link.has_carrier {
                continue;
            }
            match self.cards[index].wish.method.clone() {
                Method::Static(wanted) if !self.cards[index].is_set => self.set(index, &wanted),
                Method::Automatic | Method::Dhcp => self.ask(index, now),
                Method::Static(_) | Method::Routers | Method::Off => {}
            }
        }
    }

    fn set(&mut self, index: usize, wanted: &cmdline::Static) {
        let link = self.cards[index].link.clone();
        let everywhere = unspecified(wanted.address);
        let mut done = self.give(link.index, wanted.address, wanted.prefix);
        if let (Ok(()), Some(gateway)) = (&done, wanted.gateway) {
            done = self.kernel.add_route(link.index, everywhere, 0, Some(gateway));
        }
        let card = &mut self.cards[index];
        match done {
            Ok(()) => {
                card.is_set = true;
                let (name, address, prefix) = (link.name, wanted.address, wanted.prefix);
                self.journal.say(&format!("network: {name} is {address}/{prefix}, as is wished"));
            }
            Err(error) => card.trouble = Some(format!("it cannot be {}: {error}", wanted.address)),
        }
    }

    fn give(&mut self, link: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.kernel.add_address(link, address, prefix)?;
        self.made.push(Made::Address { link, address, prefix });
        Ok(())
    }

    fn set_mtu(&mut self, link: &Link, mtu: u32) -> io::Result<()> {
        self.kernel.set_mtu(link.index, mtu)?;
        self.made.push(Made::Mtu { link: link.index, before: link.mtu });
        Ok(())
    }

    fn ask(&mut self, index: usize, now: Instant) {
        let card = &mut self.cards[index];
        if card.client.is_none() {
            match Everybody::open(&card.link.name) {
                Ok(socket) => {
                    let id = entropy::number() as u32;
                    card.client = Some((Client::new(id, card.link.mac, now), socket));
                }
                Err(error) => card.trouble = Some(format!("no socket for DHCP: {error}")),
            }
        }
        let Some((client, socket)) = &mut card.client else { return };
        let mut effects = client.step(Event::Woken, now);
        while let Some(bytes) = socket.receive() {
            effects.extend(client.step(Event::Heard(&bytes), now));
        }
        self.perform(index, effects);
    }

    fn perform(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            let card = &mut self.cards[index];
            let name = card.link.name.clone();
            match effect {
                Effect::Say(text) => self.journal.say(&format!("network: {name}: DHCP: {text}")),
                Effect::Send(bytes) => {
                    let Some((client, socket)) = &card.client else { continue };
                    let sent = client.sent;
                    match socket.send(&bytes) {
                        Ok(()) if sent == 1 => {
                            self.journal.say(&format!("network: {name}: asking by DHCP"));
                        }
                        Ok(()) => {
                            let line = format!("network: {name}: asking by DHCP, message {sent}");
                            self.journal.delay(&line);
                        }
                        Err(error) => card.trouble = Some(format!("sending: {error}")),
                    }
                }
                Effect::Bound(lease) => self.bind(index, lease),
            }
        }
    }

    fn bind(&mut self, index: usize, lease: Lease) {
        let link = self.cards[index].link.clone();
        let say = |text: String| self.journal.say(&format!("network: {}: {text}", link.name));
        if let Some(mtu) = lease.mtu.filter(|_| self.cards[index].wish.mtu.is_none())
            && let Err(error) = self.set_mtu(&link, mtu)
        {
            say(format!("its MTU stays, and is not {mtu}: {error}"));
        }
        let address = IpAddr::from(lease.address);
        if let Err(error) = self.give(link.index, address, lease.prefix) {
            self.cards[index].trouble = Some(format!("it cannot be {address}: {error}"));
            return;
        }
        say(format!("is {address}/{}, as {} says", lease.prefix, lease.server));
        for (to, bits, gateway) in way::routes(&lease) {
            let gateway = gateway.map(IpAddr::from);
            if let Err(error) = self.kernel.add_route(link.index, to.into(), bits, gateway) {
                say(format!("no route to {to}/{bits}: {error}"));
            }
        }
        self.cards[index].lease = Some(lease);
    }

    fn wait(&mut self, limit: Duration) -> Result<(), NetworkError> {
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.kernel.news_fd()];
        fds.extend(self.overheard.as_ref().map(Overheard::fd));
        fds.extend(self.cards.iter().filter_map(|card| Some(card.client.as_ref()?.1.fd())));
        let mut fds: Vec<PollFd<'_>> =
            fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let millis = limit.as_micros().div_ceil(1000).max(1);
        let millis = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, millis) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(kernel("waiting")(errno.into())),
        }
        for news in self.kernel.news() {
            if let News::NameServers { servers, .. } = news {
                let new = servers.into_iter().map(IpAddr::from);
                let known = self.servers.clone();
                self.servers.extend(new.filter(|server| !known.contains(server)));
            }
        }
        while let Some((link, bytes)) = self.overheard.as_ref().and_then(Overheard::receive) {
            let card = self.cards.iter().position(|card| card.link.index == link);
            let Some(index) = card else { continue };
            let Some((client, _)) = &mut self.cards[index].client else { continue };
            let effects = client.step(Event::Heard(&bytes), Instant::now());
            self.perform(index, effects);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Network, NetworkError> {
        for route in &self.wish.routes {
            let card = self.cards.iter().find(|card| match &route.link {
                None => card.progress() != Progress::Waiting,
                Some(name) => {
                    let device = names::device(&card.link.name, Path::new("/sys"));
                    names::is_meant(&card.link, &device, name)
                }
            });
            let what = format!("the route to {}/{}", route.to, route.prefix);
            let Some(card) = card else {
                return Err(kernel(&what)(io::Error::other("there is no such link")));
            };
            let added =
                self.kernel.add_route(card.link.index, route.to, route.prefix, route.gateway);
            added.map_err(kernel(&what))?;
        }
        let leases = || self.cards.iter().filter_map(|card| card.lease.as_ref());
        let mut servers = self.wish.nameservers.clone();
        for card in &self.cards {
            if let Method::Static(wanted) = &card.wish.method {
                servers.extend(&wanted.nameservers);
            }
        }
        servers.extend(leases().flat_map(|lease| &lease.nameservers).copied().map(IpAddr::from));
        servers.extend(&self.servers);
        let mut search: Vec<String> = leases().flat_map(|lease| lease.search.clone()).collect();
        let mut seen = Vec::new();
        servers.retain(|server| {
            !seen.contains(server) && {
                seen.push(*server);
                true
            }
        });
        search.dedup();
        let list: Vec<String> = servers.iter().map(IpAddr::to_string).collect();
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        self.journal.say(&format!(
            "network: up after {} ms; name servers: {list}",
            self.start.elapsed().as_millis()
        ));
        let names = Names::Servers {
            servers: servers.into_iter().map(|server| SocketAddr::from((server, 53))).collect(),
            search,
        };
        Ok(Network {
            names,
            hostname: leases().find_map(|lease| lease.hostname.clone()),
            server: leases().next().map(|lease| lease.server.into()),
            made: std::mem::take(&mut self.made),
        })
    }

    fn nothing(&mut self) -> NetworkError {
        let seconds = self.start.elapsed().as_secs();
        let mut found: Vec<String> = self.cards.iter().map(Card::to_string).collect();
        let wanted = self.wish.links.iter().filter_map(|wish| wish.link.as_deref());
        for name in wanted {
            if self.cards.iter().all(|card| card.wish.link.as_deref() != Some(name)) {
                found.push(format!("{name}, of the command line: there is no such link"));
            }
        }
        if found.is_empty() {
            found.push("there is no network card that may be used".to_owned());
        }
        NetworkError::Nothing { seconds, found: found.join("; ") }
    }
}

/// A link that takes part.
struct Card {
    link: Link,
    wish: LinkWish,
    client: Option<(Client, Everybody)>,
    lease: Option<Lease>,
    /// What is said on the command line is done.
    is_set: bool,
    /// An address that a router made known, and a way to everywhere by it.
    router_address: Option<IpAddr>,
    has_way_out: bool,
    trouble: Option<String>,
}

impl Card {
    fn progress(&self) -> Progress {
        match (&self.wish.method, &self.lease, self.router_address) {
            (Method::Static(_), _, _) if self.is_set => Progress::Set,
            (_, Some(lease), _) if way::leads_out(lease) => Progress::LeadsOut,
            (_, Some(_), _) => Progress::HasAddress,
            (method, None, Some(address)) if self.has_way_out && way::is_global(address) => {
                match method {
                    Method::Routers => Progress::LeadsOut,
                    _ => Progress::LeadsOutByRouter,
                }
            }
            (Method::Routers, None, Some(_)) if self.has_way_out => Progress::LeadsOut,
            (_, None, Some(_)) => Progress::HasRouterAddress,
            (_, None, None) => Progress::Waiting,
        }
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carrier = if self.link.has_carrier { "a carrier" } else { "no carrier" };
        write!(f, "{} has {carrier}", self.link.name)?;
        if let Some((client, _)) = &self.client {
            write!(f, ", {} DHCP messages sent and {} heard", client.sent, client.heard)?;
        }
        if let Some(address) = self.router_address {
            write!(f, ", the address {address} of a router that leads nowhere")?;
        }
        match &self.trouble {
            Some(trouble) => write!(f, ", and {trouble}"),
            None => Ok(()),
        }
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
