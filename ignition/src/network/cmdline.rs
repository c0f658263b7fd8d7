//! What the kernel's command line says of the network: `ip=`, `nameserver=`, `rd.route=` as dracut
//! knows them, and `pithos.network-timeout=`.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// How long to wait for a network, if the command line does not say.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What the network shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What is said of links; if it is nothing, each link finds out by itself.
    pub links: Vec<LinkWish>,
    /// Name servers, before those that the network names.
    pub nameservers: Vec<IpAddr>,
    /// Routes.
    pub routes: Vec<Route>,
    /// How long to wait.
    pub timeout: Duration,
}

/// What a link shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkWish {
    /// Its name, or its address as in `52-54-00-12-34-56`; without one, any link.
    pub link: Option<String>,
    /// How it gets its addresses.
    pub method: Method,
    /// The largest packet.
    pub mtu: Option<u32>,
}

/// How a link gets its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// By DHCP, and by what routers say of IPv6.
    Automatic,
    /// By DHCP alone.
    Dhcp,
    /// By what routers say of IPv6 alone.
    Routers,
    /// By this.
    Static(Static),
    /// Not at all.
    Off,
}

/// An address that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Static {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are of the network.
    pub prefix: u8,
    /// Who knows the way to everywhere else.
    pub gateway: Option<IpAddr>,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// To where.
    pub to: IpAddr,
    /// How many bits of it count; none for everywhere.
    pub prefix: u8,
    /// By whom; nobody if it is on the link itself.
    pub gateway: Option<IpAddr>,
    /// By which link.
    pub link: Option<String>,
}

/// An argument that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel argument `{argument}`: {why}")]
pub struct BadArgument {
    /// The argument.
    pub argument: String,
    /// What is wrong with it.
    pub why: String,
}

impl Default for Wish {
    fn default() -> Self {
        let (links, nameservers, routes) = Default::default();
        Self { links, nameservers, routes, timeout: TIMEOUT }
    }
}

impl Wish {
    /// Reads a command line.
    pub fn parse(cmdline: &str) -> Result<Self, BadArgument> {
        let mut wish = Self::default();
        for argument in cmdline.split_ascii_whitespace() {
            let Some((name, value)) = argument.split_once('=') else { continue };
            let bad = |why: String| BadArgument { argument: argument.to_owned(), why };
            match name {
                "ip" => {
                    let link = link(value).map_err(bad)?;
                    wish.links.push(link);
                }
                "nameserver" => wish.nameservers.push(address(value).map_err(bad)?),
                "rd.route" => wish.routes.push(route(value).map_err(bad)?),
                "pithos.network-timeout" => {
                    let seconds = value.parse().map_err(|_| bad("not a number of seconds".into()));
                    wish.timeout = Duration::from_secs(seconds?);
                }
                "vlan" | "bond" | "team" | "bridge" | "ifname" => {
                    return Err(bad("this network cannot be made before the root file system is \
                                    there; describe it in the document, which must then not need \
                                    a network itself"
                        .to_owned()));
                }
                _ => {}
            }
        }
        // `ip=` without a value is what the kernel itself takes for "find out".
        Ok(wish)
    }
}

fn link(value: &str) -> Result<LinkWish, String> {
    let fields = split(value)?;
    let field = |index: usize| fields.get(index).map_or("", String::as_str);
    if fields.len() == 1 {
        let method = method(field(0))?;
        return Ok(LinkWish { link: None, method, mtu: None });
    }
    // `ip=eth0:dhcp[:MTU[:MAC]]`; anything else begins with an address.
    let begins_with_address = field(0).parse::<IpAddr>().is_ok();
    if !begins_with_address && !field(0).is_empty() {
        if field(1).is_empty() || field(1).parse::<IpAddr>().is_ok() {
            return Err(format!("`{}` is no address", field(0)));
        }
        let (method, mtu) = (method(field(1))?, mtu(field(2))?);
        return Ok(LinkWish { link: Some(field(0).to_owned()), method, mtu });
    }
    // `ip=ADDRESS:PEER:GATEWAY:NETMASK:HOSTNAME:LINK:METHOD[:MTU:MAC | :DNS:DNS]`
    let link = Some(field(5)).filter(|link| !link.is_empty()).map(str::to_owned);
    let mut mtu_bytes = None;
    let mut nameservers = Vec::new();
    for index in [7, 8, 9] {
        match field(index) {
            "" => {}
            text if text.parse::<IpAddr>().is_ok() => nameservers.push(address(text)?),
            text if index == 7 => mtu_bytes = mtu(text)?,
            // An address to give to the card: nobody needs it to fetch something.
            _ => {}
        }
    }
    if !begins_with_address {
        let method = method(field(6))?;
        return Ok(LinkWish { link, method, mtu: mtu_bytes });
    }
    match field(6) {
        "" | "none" | "off" | "static" => {}
        other => return Err(format!("an address and `{other}` at once; write `none`")),
    }
    let address = address(field(0))?;
    let gateway = match field(2) {
        "" => None,
        text => Some(self::address(text)?),
    };
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) {
        return Err("address and gateway are not of one kind".to_owned());
    }
    let prefix = prefix(field(3), address)?;
    let method = Method::Static(Static { address, prefix, gateway, nameservers });
    Ok(LinkWish { link, method, mtu: mtu_bytes })
}

/// Splits at colons that are not within brackets, and takes the brackets off.
fn split(value: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    for c in value.chars() {
        let last = fields.last_mut().expect("there is one");
        match (c, inside) {
            ('[', false) => inside = true,
            (']', true) => inside = false,
            (':', false) => fields.push(String::new()),
            _ => last.push(c),
        }
    }
    if inside { Err("a `[` without its `]`".to_owned()) } else { Ok(fields) }
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        "" | "on" | "any" | "either6" => Ok(Method::Automatic),
        "dhcp" | "dhcp4" => Ok(Method::Dhcp),
        "auto6" | "auto" | "link6" => Ok(Method::Routers),
        "off" | "none" => Ok(Method::Off),
        "dhcp6" => Err("DHCP for IPv6 is not done here; write auto6 or any".to_owned()),
        other => Err(format!("`{other}` is none of on, any, dhcp, auto6, off, none")),
    }
}

fn mtu(text: &str) -> Result<Option<u32>, String> {
    match text {
        "" => Ok(None),
        text => match text.parse() {
            Ok(bytes @ 68..=65_535) => Ok(Some(bytes)),
            _ => Err(format!("`{text}` is no MTU between 68 and 65535")),
        },
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().map_err(|_| format!("`{text}` is no address"))
}

/// A netmask, or a number of bits. Without either, the network is as large as a link usually is.
fn prefix(text: &str, address: IpAddr) -> Result<u8, String> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    if text.is_empty() {
        return Ok(if address.is_ipv4() { 24 } else { 64 });
    }
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = mask.to_bits();
        return match bits.leading_ones() + bits.trailing_zeros() {
            32 => Ok(bits.leading_ones() as u8),
            _ if bits == 0 => Ok(0),
            _ => Err(format!("`{text}` is no netmask")),
        };
    }
    let bits = text.parse().ok().filter(|bits| *bits <= most);
    bits.ok_or_else(|| format!("`{text}` is neither a netmask nor a number of bits up to {most}"))
}

/// `NETWORK/PREFIX:GATEWAY[:LINK]`
fn route(value: &str) -> Result<Route, String> {
    let fields = split(value)?;
    let field = |index: usize| fields.get(index).map_or("", String::as_str);
    let (to, bits) = field(0).split_once('/').unwrap_or((field(0), ""));
    let to = address(to)?;
    let prefix = match bits {
        "" if to.is_ipv4() => 32,
        "" => 128,
        bits => prefix(bits, to)?,
    };
    let gateway = match field(1) {
        "" => None,
        text => Some(address(text)?),
    };
    let link = Some(field(2)).filter(|link| !link.is_empty()).map(str::to_owned);
    Ok(Route { to, prefix, gateway, link })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(cmdline: &str, expect: Expect) {
        expect.assert_eq(&match Wish::parse(cmdline) {
            Ok(wish) => {
                let links = wish.links.iter().map(|link| format!("{link:?}\n"));
                let routes = wish.routes.iter().map(|route| format!("{route:?}\n"));
                let servers = wish.nameservers.iter().map(|server| format!("{server}\n"));
                links.chain(routes).chain(servers).collect()
            }
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn nothing_said_is_nothing_wished() {
        assert_eq!(Wish::parse("quiet usrhash=x ro").unwrap(), Wish::default());
        let wish = Wish::parse("pithos.network-timeout=7").unwrap();
        assert_eq!(wish.timeout, Duration::from_secs(7));
    }

    #[test]
    fn a_method_may_be_for_all_or_for_one() {
        check(
            "ip=dhcp ip=eth1:auto6:9000 ip=:::::eth2:off ip=52-54-00-12-34-56:any",
            expect![[r#"
                LinkWish { link: None, method: Dhcp, mtu: None }
                LinkWish { link: Some("eth1"), method: Routers, mtu: Some(9000) }
                LinkWish { link: Some("eth2"), method: Off, mtu: None }
                LinkWish { link: Some("52-54-00-12-34-56"), method: Automatic, mtu: None }
            "#]],
        );
    }

    #[test]
    fn an_address_may_be_said() {
        check(
            "ip=192.0.2.2::192.0.2.1:255.255.255.0:host:eth0:none:1400 \
             ip=[2001:db8::2]::[2001:db8::1]:64::eth0:none nameserver=[2001:db8::53]",
            expect![[r#"
                LinkWish { link: Some("eth0"), method: Static(Static { address: 192.0.2.2, prefix: 24, gateway: Some(192.0.2.1), nameservers: [] }), mtu: Some(1400) }
                LinkWish { link: Some("eth0"), method: Static(Static { address: 2001:db8::2, prefix: 64, gateway: Some(2001:db8::1), nameservers: [] }), mtu: None }
                2001:db8::53
            "#]],
        );
        check(
            "ip=192.0.2.2::192.0.2.1:28:::none:192.0.2.3:192.0.2.4 rd.route=198.51.100.0/24:192.0.2.9:eth0",
            expect![[r#"
                LinkWish { link: None, method: Static(Static { address: 192.0.2.2, prefix: 28, gateway: Some(192.0.2.1), nameservers: [192.0.2.3, 192.0.2.4] }), mtu: None }
                Route { to: 198.51.100.0, prefix: 24, gateway: Some(192.0.2.9), link: Some("eth0") }
            "#]],
        );
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        check(
            "ip=yes",
            expect![
                "the kernel argument `ip=yes`: `yes` is none of on, any, dhcp, auto6, off, none"
            ],
        );
        check(
            "ip=eth0:192.0.2.1",
            expect!["the kernel argument `ip=eth0:192.0.2.1`: `eth0` is no address"],
        );
        check(
            "ip=192.0.2.2:::255.0.255.0::eth0:none",
            expect![
                "the kernel argument `ip=192.0.2.2:::255.0.255.0::eth0:none`: `255.0.255.0` is no netmask"
            ],
        );
        check(
            "ip=192.0.2.2:::33::eth0:none",
            expect![
                "the kernel argument `ip=192.0.2.2:::33::eth0:none`: `33` is neither a netmask nor a number of bits up to 32"
            ],
        );
        check("ip=[::1", expect!["the kernel argument `ip=[::1`: a `[` without its `]`"]);
        check("nameserver=x", expect!["the kernel argument `nameserver=x`: `x` is no address"]);
        check(
            "bond=bond0",
            expect![
                "the kernel argument `bond=bond0`: this network cannot be made before the root file system is there; describe it in the document, which must then not need a network itself"
            ],
        );
    }

    proptest! {
        #[test]
        fn no_command_line_breaks_the_reader(a in "[\\[\\]:/.0-9a-f-]*", b in "\\PC*") {
            let _ = Wish::parse(&format!("ip={a} ip={b}"));
            let _ = Wish::parse(&format!("rd.route={a} nameserver={b}"));
            let _ = Wish::parse(&format!("nameserver={a} rd.route={b}"));
        }
    }
}
