//! A network that comes up when something is fetched by it for the first time, and not before.

use std::{
    cell::OnceCell,
    io::Write,
    sync::{Mutex, OnceLock},
};

use super::drivers;
use crate::{
    causes::chain,
    document::config::{Ignition, Resource},
    fetch::{Fetch, FetchError, Fetcher, Names, Shown, cloud::Cloud},
    journal::Journal,
    network::{self, Network, cmdline::Wish},
    render::Access,
};

/// The network of a first boot.
pub struct Lazy<'a> {
    cmdline: &'a str,
    journal: &'a dyn Journal,
    cloud: Cloud,
    names: OnceLock<Result<Names, String>>,
    network: Mutex<Option<Network>>,
}

impl std::fmt::Debug for Lazy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lazy").field("names", &self.names).finish_non_exhaustive()
    }
}

impl<'a> Lazy<'a> {
    /// None yet.
    pub fn new(cmdline: &'a str, cloud: Cloud, journal: &'a dyn Journal) -> Self {
        Self { cmdline, journal, cloud, names: OnceLock::new(), network: Mutex::new(None) }
    }

    /// Whoever fetches by the network. Brings it up, if it is not.
    pub fn fetcher(&self) -> Result<Fetcher<'a>, String> {
        let names = self.names.get_or_init(|| {
            drivers::load_all();
            let wish = Wish::parse(self.cmdline).map_err(|error| error.to_string())?;
            let network = network::up(&wish, self.journal).map_err(|error| chain(&error))?;
            let names = network.names.clone();
            *self.network.lock().expect("nobody panics with the lock") = Some(network);
            Ok(names)
        });
        let names = names.clone()?;
        Ok(Fetcher::online(names, self.journal).on(self.cloud.clone()))
    }

    /// Takes the network down, if it came up.
    pub fn down(&self) {
        if let Some(network) = self.network.lock().expect("nobody panics with the lock").take() {
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
            let online = self.lazy.fetcher().map_err(|why| FetchError::Failed {
                url: Shown::new(source),
                source: why.into(),
            })?;
            let _ = self.online.set(online.for_document(&self.ignition)?);
        }
        self.online.get().expect("it was just set").fetch(resource, to)
    }
}
