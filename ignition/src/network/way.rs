//! When a network is enough, and by which routes it leads on.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::dhcp::Lease;

/// Another link may be a moment behind the first.
const MOMENT: Duration = Duration::from_secs(2);
/// A network that leads nowhere may be what is wanted, if no better one comes.
const NOWHERE: Duration = Duration::from_secs(15);
/// IPv6 is there at once, where DHCP may be slow: most servers are still known by IPv4 only.
const SLOW: Duration = Duration::from_secs(30);

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet.
    Waiting,
    /// It is as the command line says.
    Set,
    /// It has an address, and there is a way to everywhere.
    LeadsOut,
    /// So it has, but by IPv6 alone, and DHCP is still being tried.
    LeadsOutByRouter,
    /// It has an address.
    HasAddress,
    /// It has one that a router made known, which does not lead anywhere.
    HasRouterAddress,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// At most so long.
    Wait(Duration),
    /// The time is over, and there is nothing.
    Over,
}

/// Judges what the links are, after `elapsed` of `timeout`. All that the command line says must be
/// there; of the rest, one link that leads out is enough.
pub(super) fn judge(
    links: &[Progress],
    set: usize,
    elapsed: Duration,
    timeout: Duration,
) -> Verdict {
    let is_there = |progress| links.contains(&progress);
    let all_set = links.iter().filter(|link| **link == Progress::Set).count() >= set;
    let after = |delay: Duration| match elapsed >= delay.min(timeout) {
        true => Verdict::Done,
        false => Verdict::Wait(delay.min(timeout) - elapsed),
    };
    if elapsed >= timeout {
        let something = links.iter().any(|link| *link != Progress::Waiting);
        return if something && all_set { Verdict::Done } else { Verdict::Over };
    }
    if !all_set {
        return Verdict::Wait(timeout - elapsed);
    }
    let settled = links.iter().all(|link| matches!(link, Progress::Set | Progress::LeadsOut));
    if settled && !links.is_empty() {
        Verdict::Done
    } else if is_there(Progress::LeadsOut) || is_there(Progress::Set) {
        after(MOMENT)
    } else if is_there(Progress::HasAddress) {
        after(NOWHERE)
    } else if is_there(Progress::LeadsOutByRouter) {
        after(SLOW)
    } else {
        Verdict::Wait(timeout - elapsed)
    }
}

/// The routes of a lease: those that it names, else one by its router.
pub(super) fn routes(lease: &Lease) -> Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)> {
    let gateway = |gateway: Ipv4Addr| Some(gateway).filter(|gateway| !gateway.is_unspecified());
    if lease.routes.is_empty() {
        let router = lease.routers.first();
        return router
            .map(|router| (Ipv4Addr::UNSPECIFIED, 0, gateway(*router)))
            .into_iter()
            .collect();
    }
    lease.routes.iter().map(|(to, bits, by)| (*to, *bits, gateway(*by))).collect()
}

/// Whether there is a way to everywhere.
pub(super) fn leads_out(lease: &Lease) -> bool {
    routes(lease).iter().any(|(_, bits, gateway)| *bits == 0 && gateway.is_some())
}

/// Whether an address is one of the Internet, and not of a site alone.
pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress::*, *};

    fn at(links: &[Progress], set: usize, seconds: u64) -> Verdict {
        judge(links, set, Duration::from_secs(seconds), Duration::from_secs(120))
    }

    fn wait(seconds: u64) -> Verdict {
        Verdict::Wait(Duration::from_secs(seconds))
    }

    #[test]
    fn one_link_that_leads_out_is_enough() {
        assert_eq!(at(&[], 0, 0), wait(120));
        assert_eq!(at(&[Waiting], 0, 20), wait(100));
        assert_eq!(at(&[LeadsOut], 0, 0), Verdict::Done);
        assert_eq!(at(&[LeadsOut, Waiting], 0, 1), wait(1));
        assert_eq!(at(&[LeadsOut, Waiting], 0, 2), Verdict::Done);
        assert_eq!(at(&[Waiting], 0, 120), Verdict::Over);
    }

    #[test]
    fn less_is_enough_if_nothing_better_comes() {
        assert_eq!(at(&[HasAddress], 0, 14), wait(1));
        assert_eq!(at(&[HasAddress], 0, 15), Verdict::Done);
        assert_eq!(at(&[LeadsOutByRouter], 0, 20), wait(10));
        assert_eq!(at(&[LeadsOutByRouter], 0, 30), Verdict::Done);
        assert_eq!(at(&[HasRouterAddress], 0, 119), wait(1));
        assert_eq!(at(&[HasRouterAddress], 0, 120), Verdict::Done);
    }

    #[test]
    fn all_that_the_command_line_says_must_be_there() {
        assert_eq!(at(&[Set, LeadsOut], 2, 5), wait(115));
        assert_eq!(at(&[Set, Set], 2, 0), Verdict::Done);
        assert_eq!(at(&[Set, Waiting], 2, 120), Verdict::Over);
    }

    #[test]
    fn routes_that_a_lease_names_replace_its_router() {
        let address = Ipv4Addr::new(192, 0, 2, 2);
        let router = Ipv4Addr::new(192, 0, 2, 1);
        let mut lease = Lease {
            address,
            prefix: 24,
            server: router,
            routers: vec![router],
            routes: Vec::new(),
            nameservers: Vec::new(),
            search: Vec::new(),
            hostname: None,
            mtu: None,
        };
        assert!(leads_out(&lease));
        lease.routes = vec![(router, 32, Ipv4Addr::UNSPECIFIED)];
        assert!(!leads_out(&lease));
        assert_eq!(routes(&lease), [(router, 32, None)]);
    }
}
