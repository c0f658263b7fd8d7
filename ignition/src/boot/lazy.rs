//! A network that comes up when something is fetched by it for the first time, and not before.

use std::{
    cell::OnceCell,
    io::Write,
    net::IpAddr,
    sync::{Mutex, OnceLock},
};

use super::{drivers::Drivers, resolver::Resolver};
use crate::{
    causes::chain,
    document::config::{Ignition, Resource},
    fetch::{Fetch, FetchError, Fetcher, Names, Shown, cloud::Cloud},
    journal::Journal,
    network::{self, Network, cmdline::Wish},
    platform::Online,
    render::Access,
};

/// The network of a first boot.
pub(super) struct Lazy<'a> {
    cmdline: &'a str,
    journal: &'a dyn Journal,
    cloud: Cloud,
    drivers: &'a Drivers,
    reached: OnceLock<Result<Reached, String>>,
    network: Mutex<Option<(Network, Resolver)>>,
}

/// What is known where the network is up.
#[derive(Clone, Debug)]
struct Reached {
    names: Names,
    /// Who gave an address.
    server: Option<IpAddr>,
}

impl std::fmt::Debug for Lazy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lazy").field("reached", &self.reached).finish_non_exhaustive()
    }
}

impl<'a> Lazy<'a> {
    /// None yet.
    pub(super) fn new(
        cmdline: &'a str,
        cloud: Cloud,
        drivers: &'a Drivers,
        journal: &'a dyn Journal,
    ) -> Self {
        let (reached, network) = Default::default();
        Self { cmdline, journal, cloud, drivers, reached, network }
    }

    /// Brings the network up, if it is not.
    pub(super) fn online(&self) -> Result<Online<'a>, String> {
        let reached = self.reached.get_or_init(|| {
            self.drivers.load_all();
            let wish = Wish::parse(self.cmdline).map_err(|error| error.to_string())?;
            let network = network::up(&wish, self.journal).map_err(|error| chain(&error))?;
            let reached = Reached { names: network.names.clone(), server: network.server };
            let resolver = Resolver::write(&network.resolv_conf(), self.journal);
            *self.network.lock().expect("nobody panics with the lock") = Some((network, resolver));
            Ok(reached)
        });
        let Reached { names, server } = reached.clone()?;
        let fetcher = Fetcher::online(names, self.journal).on(self.cloud.clone());
        Ok(Online { fetcher, dhcp_server: server })
    }

    /// Takes the network down, if it came up.
    pub(super) fn down(&self) {
        let up = self.network.lock().expect("nobody panics with the lock").take();
        if let Some((network, resolver)) = up {
            resolver.remove();
            network.down(self.journal);
        }
    }
}

impl Access for Lazy<'_> {
    fn of(&self, ignition: &Ignition) -> Result<Box<dyn Fetch + '_>, FetchError> {
        let offline = Fetcher::offline(self.journal);
        Ok(Box::new(OfDocument {
            lazy: self,
            ignition: ignition.clone(),
            offline,
            online: OnceCell::new(),
        }))
    }
}

struct OfDocument<'a> {
    lazy: &'a Lazy<'a>,
    ignition: Ignition,
    offline: Fetcher<'a>,
    online: OnceCell<Fetcher<'a>>,
}

impl Fetch for OfDocument<'_> {
    fn fetch(&self, resource: &Resource, to: &mut dyn Write) -> Result<(), FetchError> {
        let source = resource.source.as_deref().unwrap_or_default();
        if source.is_empty() || source.starts_with("data:") {
            return self.offline.fetch(resource, to);
        }
        if self.online.get().is_none() {
            let online = self.lazy.online().map_err(|why| FetchError::Failed {
                url: Shown::new(source),
                source: why.into(),
            })?;
            let _ = self.online.set(online.fetcher.for_document(&self.ignition)?);
        }
        self.online.get().expect("it was just set").fetch(resource, to)
    }
}
