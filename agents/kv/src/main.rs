//! `kvd`: a member of the store, alone so far.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use kv::{
    consensus::{self, Alone},
    log::{self, Log, Owner, disk::Folder},
    member::{Limits, Member, Save, understand},
    request,
    server::{Options, Server},
    snapshot::{self, Snapshot},
};
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Keeps keys and values, as etcd does, in one member.
#[derive(Parser)]
#[command(version)]
struct Config {
    /// What this member is called
    #[arg(long, env = "ETCD_NAME", default_value = "default")]
    name: String,
    /// Where it keeps what it keeps [default: NAME.etcd]
    #[arg(long, env = "ETCD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens to clients
    #[arg(
        long,
        env = "ETCD_LISTEN_CLIENT_URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    listen_client_urls: Vec<String>,
    /// Where clients find it
    #[arg(
        long,
        env = "ETCD_ADVERTISE_CLIENT_URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    advertise_client_urls: Vec<String>,
    /// What tells its cluster from others, where there is none yet
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// How many bytes it keeps; 0 is the default of 2 GiB, and less than 0 is without an end
    #[arg(
        long,
        env = "ETCD_QUOTA_BACKEND_BYTES",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    quota_backend_bytes: i64,
    /// How large a file of the log is; when there are several, what is kept is written down instead
    #[arg(long, env = "KVD_SEGMENT_BYTES", default_value_t = log::SEGMENT_BYTES)]
    segment_bytes: u64,
    /// How large a request may be
    #[arg(long, env = "ETCD_MAX_REQUEST_BYTES", default_value_t = 1_572_864)]
    max_request_bytes: usize,
    /// How many operations a transaction may have
    #[arg(long, env = "ETCD_MAX_TXN_OPS", default_value_t = request::MAX_TXN_OPS)]
    max_txn_ops: usize,
}

const QUOTA_BYTES: i64 = 2 << 30;
/// How often a watch that wants to is told how far it is.
const PROGRESS: Duration = Duration::from_secs(10 * 60);
/// As long as etcd's, with its own times of elections.
const MIN_TTL: i64 = 2;

fn main() -> ExitCode {
    match run(Config::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<()> {
    let folder = config.data_dir.clone().unwrap_or_else(|| format!("{}.etcd", config.name).into());
    let addresses = addresses(&config.listen_client_urls)?;
    let disk = Folder::at(&folder.join("member/log")).context("making the folder of the log")?;
    let _alone_in_it = lock(&folder.join("member/lock"))?;
    let owner = match Log::owner(&disk)? {
        Some(owner) => owner,
        None => new_owner(&config.initial_cluster_token, &config.name),
    };
    let random = getrandom::u64().context("asking the kernel for a random number")?;
    let snapshots = folder.join("member/snap");
    let snapshots = Folder::at(&snapshots).context("making the folder of the snapshots")?;
    let Snapshot { place, mut state } = snapshot::load(&snapshots, owner)?;
    let mut unknown = None;
    let log = consensus::Options { segment_bytes: config.segment_bytes, salt: random };
    let redo = |committed| match understand(&committed) {
        // What was refused then is refused now.
        Ok((_, ask)) => drop(state.apply(ask)),
        Err(stopped) => unknown = unknown.take().or(Some(stopped)),
    };
    let (alone, opened) = Alone::open(disk, owner, log, place, redo)?;
    if let Some(stopped) = unknown {
        return Err(stopped.into());
    }
    if let Some(at) = opened.torn {
        say("warn", "cut the end of the log, which was not whole", json!({"offset": at}));
    }
    let quota =
        if config.quota_backend_bytes == 0 { QUOTA_BYTES } else { config.quota_backend_bytes };
    let save: Save = Arc::new(move |is| snapshot::save(&snapshots, owner, random, is));
    let limits = Limits {
        quota_bytes: quota,
        watch_bytes: config.max_request_bytes,
        progress_every: PROGRESS,
    };
    let (member, work) = Member::new(owner, state, alone, save, limits, random);
    let options = Options {
        name: config.name,
        client_urls: config.advertise_client_urls,
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        min_ttl: MIN_TTL,
    };
    let server = Server::new(member, options);
    let (stopped, has_stopped) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody listens any more when the program ends.
        let _ = stopped.send(work.run());
    });
    Runtime::new().context("starting")?.block_on(async {
        for (url, address) in config.listen_client_urls.iter().zip(addresses) {
            let listener = TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("listening at {url}"))?;
            let address = listener.local_addr()?.to_string();
            tokio::spawn(server.clone().serve(listener));
            say("info", "ready to serve client requests", json!({"address": address}));
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            stopped = has_stopped => stopped.context("the member is gone")?.context("the member stops"),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

/// Where to listen.
fn addresses(urls: &[String]) -> Result<Vec<SocketAddr>> {
    let address = |url: &String| {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url}: http://ADDRESS:PORT was expected; TLS is not there yet");
        };
        // The name stands for the machine itself; any other would have to be asked for.
        let rest = rest.trim_end_matches('/').replace("localhost:", "127.0.0.1:");
        rest.parse().with_context(|| format!("{url}: http://ADDRESS:PORT was expected"))
    };
    urls.iter().map(address).collect()
}

/// The folder is one member's, and one program's.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .with_context(|| format!("locking {}: another kvd works in this folder", path.display()))
}

/// Who a new member is: the same for the same words, so that nobody has to write it down.
fn new_owner(token: &str, name: &str) -> Owner {
    let number = |of: &str| {
        let hash = Sha256::digest(of.as_bytes());
        u64::from_be_bytes(hash[..8].try_into().expect("eight bytes")).max(1)
    };
    Owner {
        cluster: number(&format!("cluster {token}")),
        member: number(&format!("member {name} {token}")),
    }
}

/// A line for whoever reads the log, as etcd writes them.
fn say(level: &str, message: &str, fields: serde_json::Value) {
    let mut line = json!({"level": level, "msg": message});
    if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
        line.extend(fields.clone());
    }
    eprintln!("{line}");
}
