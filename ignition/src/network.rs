//! A network, for as long as the document needs one: addresses by DHCP, by what routers say, or as
//! the kernel's command line says; on all links at once, until one of them leads somewhere.
//!
//! What is made here is taken away again by [`Network::down`]: the system that starts afterwards
//! finds the links as the kernel made them, as on every other boot. Addresses that were left would
//! be nobody's: no one renews their leases, and networkd keeps its hands off links that it does not
//! know.

pub mod cmdline;
pub mod dhcp;
mod leases;
mod maker;
mod names;
mod rtnetlink;
mod sockets;
mod way;

use std::{fmt, io, net::IpAddr};

pub use self::leases::{LEASES, lease_server};
use self::{
    cmdline::{LinkWish, Method, Wish},
    maker::Maker,
    rtnetlink::Kernel,
    sockets::Overheard,
};
use crate::{fetch::Names, journal::Journal};

/// A network that is up.
pub struct Network {
    /// Who knows names there.
    pub names: Names,
    /// What this machine is called there.
    pub hostname: Option<String>,
    /// The server that gave an address: some clouds have their metadata there.
    pub server: Option<IpAddr>,
    made: Vec<Made>,
}

/// Something that is to be taken away again.
#[derive(Clone, Debug)]
enum Made {
    Up(u32),
    Mtu { link: u32, before: u32 },
    Address { link: u32, address: IpAddr, prefix: u8 },
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel does not do it.
    #[error("{what}")]
    Kernel {
        /// What it does not do.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Nothing that was tried led anywhere.
    #[error("no network within {seconds} s; {found}")]
    Nothing {
        /// For how long it was tried.
        seconds: u64,
        /// What there was: the links, what was sent on them and what was heard.
        found: String,
    },
}

/// Makes a network, as the command line wishes it.
pub fn up(wish: &Wish, journal: &dyn Journal) -> Result<Network, NetworkError> {
    let kernel = Kernel::open().map_err(kernel("asking the kernel for the network"))?;
    let overheard = Overheard::open();
    if let Err(error) = &overheard {
        journal.say(&format!("network: only what is sent to everybody can be heard: {error}"));
    }
    let mut maker = Maker::new(wish, journal, kernel, overheard.ok());
    let made = maker.make();
    if made.is_err() {
        let (mut kernel, made) = maker.undo();
        take_away(&mut kernel, &made, journal);
    }
    made
}

impl Network {
    /// Takes everything away that was made.
    pub fn down(self, journal: &dyn Journal) {
        match Kernel::open() {
            Ok(mut kernel) => take_away(&mut kernel, &self.made, journal),
            Err(error) => journal.say(&format!("network: not taken away: {error}")),
        }
    }

    /// A `resolv.conf` for the tools that are run while the network is up.
    pub fn resolv_conf(&self) -> String {
        let Names::Servers { servers, search } = &self.names else { return String::new() };
        let mut text: String =
            servers.iter().map(|server| format!("nameserver {}\n", server.ip())).collect();
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        text
    }
}

fn take_away(kernel: &mut Kernel, made: &[Made], journal: &dyn Journal) {
    for made in made.iter().rev() {
        let done = match made {
            Made::Address { link, address, prefix } => {
                kernel.remove_address(*link, *address, *prefix)
            }
            Made::Up(link) => kernel.set_link(*link, false),
            Made::Mtu { link, before } => kernel.set_mtu(*link, *before),
        };
        if let Err(error) = done {
            journal.say(&format!("network: {made:?} stays: {error}"));
        }
    }
}

impl LinkWish {
    fn is_static(&self) -> bool {
        matches!(self.method, Method::Static(_))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => f.write_str("by DHCP and routers"),
            Self::Dhcp => f.write_str("by DHCP"),
            Self::Routers => f.write_str("by routers"),
            Self::Static(wanted) => write!(f, "{}/{}", wanted.address, wanted.prefix),
            Self::Off => f.write_str("off"),
        }
    }
}

fn kernel(what: &str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel { what: what.to_owned(), source }
}
