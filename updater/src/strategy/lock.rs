//! Who keeps the reboot lock: a server of the protocol FleetLock, or whoever `locksmithctl` asks.

use std::{
    io::{self, Read},
    process::Command,
    time::{Duration, Instant},
};

use http_client::{Client, Request, Url};
use serde::Deserialize;

const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_BYTES: u64 = 64 * 1024;
const LOCKSMITHCTL: &str = "locksmithctl";

/// Somebody who keeps the lock.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// A server of the protocol FleetLock.
    Fleetlock {
        /// Who asks.
        client: Box<Client>,
        /// The server.
        url: Url,
        /// The group of machines.
        group: String,
    },
    /// The lock of the cluster.
    Cluster,
}

/// Why there is no lock, or why it is not given back.
#[derive(Debug, thiserror::Error)]
pub enum NoLock {
    /// Somebody else has it.
    #[error("{0}")]
    Taken(String),
    /// Nobody keeps one.
    #[error("{0}")]
    NoKeeper(String),
}

/// What a server says that does not give a lock.
#[derive(Deserialize)]
struct Refusal {
    kind: String,
    value: String,
}

impl Keeper {
    /// Gets the lock, as `id`. Whoever has it already has it still.
    pub fn lock(&self, id: &str) -> Result<(), NoLock> {
        match self {
            Self::Fleetlock { client, url, group } => ask(client, url, "v1/pre-reboot", id, group),
            Self::Cluster => locksmithctl("lock", id),
        }
    }

    /// Gives it back.
    pub fn unlock(&self, id: &str) -> Result<(), NoLock> {
        match self {
            Self::Fleetlock { client, url, group } => {
                ask(client, url, "v1/steady-state", id, group)
            }
            Self::Cluster => locksmithctl("unlock", id),
        }
    }
}

fn ask(client: &Client, url: &Url, path: &str, id: &str, group: &str) -> Result<(), NoLock> {
    let mut url = url.clone();
    url.target = format!("{}/{path}", url.path().trim_end_matches('/'));
    let body = serde_json::json!({ "client_params": { "id": id, "group": group } });
    let mut request = Request::get(url)
        .with("Content-Type", "application/json")
        .with("fleet-lock-protocol", "true");
    request.method = "POST";
    request.content = body.to_string().into_bytes();
    let nobody = |error: io::Error| NoLock::NoKeeper(format!("asking the server: {error}"));
    let answer = client.ask(&request, Instant::now() + PATIENCE).map_err(nobody)?;
    if answer.status == 200 {
        return Ok(());
    }
    let mut text = Vec::new();
    // What cannot be read is not shown.
    let _ = answer.content.take(ANSWER_BYTES).read_to_end(&mut text);
    Err(NoLock::Taken(match serde_json::from_slice::<Refusal>(&text) {
        Ok(Refusal { kind, value }) => format!("{value} ({kind})"),
        Err(_) => format!("the server says {} {}", answer.status, answer.reason),
    }))
}

fn locksmithctl(verb: &str, id: &str) -> Result<(), NoLock> {
    let output = Command::new(LOCKSMITHCTL).args([verb, id]).output();
    let output = output.map_err(|error| NoLock::NoKeeper(format!("{LOCKSMITHCTL}: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(NoLock::Taken(format!("{LOCKSMITHCTL} {verb}: {}", said.trim())))
        }
    }
}
