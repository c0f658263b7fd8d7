//! What takes its time, in a thread of its own.

use std::{path::Path, sync::atomic::AtomicBool};

use http_client::Wall;

use super::facts;
use crate::{
    attempt::Attempt,
    config::Config,
    engine::{Asked, Code, End, Event, Failure},
    fetch::Fetcher,
    health::{self, Folders},
    identity::Identity,
    install::{
        machine::{Directory, Machine},
        take_back,
    },
    records::Bad,
    repository::{Brought, Source, Trust},
};

/// An update.
pub(super) fn update(
    identity: &Identity,
    config: &Config,
    asked: Asked,
    state: &Path,
    stop: &AtomicBool,
    tell: &dyn Fn(Event),
    say: &dyn Fn(&str),
) -> End {
    let Some(root) = &identity.root else { return failed(Code::Metadata, "no trusted root key") };
    let machine = match Machine::open(&identity.root_hash, state) {
        Ok(machine) => machine,
        Err(error) => return failed(Code::Write, &format!("{:#}", anyhow::Error::new(error))),
    };
    let folder = Directory(state.to_owned());
    let bad = match Bad::load(&folder) {
        Ok(bad) => bad,
        Err(error) => return failed(Code::Error, &format!("{:#}", anyhow::Error::new(error))),
    };
    let (servers, proxies) = (config.servers.clone(), config.proxies.clone());
    let fetcher = Fetcher::new(servers, proxies, &Wall, stop, say)
        .limited(config.limit_bytes)
        .as_user(config.account.as_ref());
    let brought;
    let source: &dyn Source = match asked {
        Asked::Schedule | Asked::Operator => &fetcher,
        Asked::File(path) => {
            brought = match Brought::open(path.clone()) {
                Ok(brought) => brought,
                Err(error) => {
                    let error = anyhow::Error::new(error);
                    return failed(Code::Transfer, &format!("{}: {error:#}", path.display()));
                }
            };
            &brought
        }
    };
    let store = Directory(state.join("tuf"));
    let end = Attempt {
        identity,
        channel: &config.channel,
        trust: Trust { root, built: identity.built, store: &store },
        security_epoch: facts::security_epoch(identity, &folder),
        bad: &bad,
        failing: &health::failing(&Folders::default()),
        source,
        media: &machine,
        clock: &Wall,
        stop,
        tell,
    }
    .run();
    say(&format!("{} bytes were fetched", fetcher.fetched_bytes()));
    end
}

/// Makes what was installed unbootable.
pub(super) fn discard(identity: &Identity, state: &Path, say: &dyn Fn(&str)) -> End {
    let taken =
        Machine::open(&identity.root_hash, state).map_err(anyhow::Error::new).and_then(|machine| {
            let slots = facts::slots(&machine, identity)?;
            Ok(take_back(&machine, &slots)?)
        });
    match taken {
        Ok(files) => {
            files.iter().for_each(|file| say(&format!("{file} was removed")));
            End::Discarded
        }
        Err(error) => failed(Code::Write, &format!("{error:#}")),
    }
}

fn failed(code: Code, cause: &str) -> End {
    End::Failed(Failure { code, cause: cause.to_owned() })
}
