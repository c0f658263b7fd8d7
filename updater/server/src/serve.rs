//! The server: two doors, one for machines and one for operators, and what is behind each path.

mod machines;
mod operators;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::StatusCode;
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    catalog::Catalog,
    http::{self, Answer, Limits},
    metrics::Metrics,
    offers::Offers,
    overview::{Known, Overview},
    secret::Token,
    store::{self, Keep, Reader, StoreError, Writer},
    tree::file::Tree,
};

/// How often it is looked whether the repository is another one.
const LOOK: Duration = Duration::from_secs(5);
const PRUNE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What an operator says on the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The repository, as update-publish writes it
    pub repository: PathBuf,
    /// Where machines ask
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where operators look: the page, the API and the metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub operators: SocketAddr,
    /// The folder of the database
    #[arg(long, value_name = "DIR", default_value = "/var/lib/update-server")]
    pub state: PathBuf,
    /// What operators have to say to ask for a change; without it, nobody may
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// A name that operators' browsers know the server by, beside its addresses
    #[arg(long, value_name = "HOST")]
    pub name: Vec<String>,
    /// Payloads for machines of Flatcar: files CHANNEL.BOARD.json
    #[arg(long, value_name = "DIR")]
    pub offers: Option<PathBuf>,
    /// A machine that was not heard of for so long is silent
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub silent_hours: u32,
    /// Events are kept for so long
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub event_days: u32,
    /// Machines that are not heard of are kept for so long
    #[arg(long, value_name = "DAYS", default_value_t = 180)]
    pub machine_days: u32,
    /// As many machines are known at once
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub max_machines: u64,
    /// As many connections of machines are open at once
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub connections: usize,
    /// Clients that ask or take nothing for so long go
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub patience: u32,
}

/// What is behind both doors.
struct Server {
    tree: Tree,
    catalog: RwLock<Arc<Catalog>>,
    offers: RwLock<Arc<Offers>>,
    writer: Writer,
    reader: Reader,
    token: Option<Token>,
    metrics: Arc<Metrics>,
    /// Whoever says a wrong token waits here, one after the other.
    wrong_token: tokio::sync::Mutex<()>,
    limits: Limits,
    options: Options,
}

/// Serves until it is told to end.
pub async fn serve(options: Options) -> Result<()> {
    let token = options.token.as_deref().map(Token::read).transpose()?;
    let tree = Tree::open(&options.repository)
        .with_context(|| format!("opening the repository {}", options.repository.display()))?;
    fs::create_dir_all(&options.state)
        .with_context(|| format!("making {}", options.state.display()))?;
    let days = |days: u32| DAY * days;
    let keep = Keep {
        events: days(options.event_days),
        machines: days(options.machine_days),
        max_machines: options.max_machines,
    };
    let metrics = Arc::new(Metrics::default());
    let database = store::file(&options.state);
    let (writer, thread) = Writer::start(&database, keep, metrics.store.clone())?;
    let reader = Reader::open(&database)?;
    if let Err(error) = http::raise_files() {
        eprintln!("raising the limit of open files: {error}");
    }
    let patience = Duration::from_secs(options.patience.max(1).into());
    let limits = Limits {
        connections: options.connections,
        head: patience,
        stall: patience,
        ..Limits::default()
    };
    let server = Arc::new(Server {
        tree,
        catalog: RwLock::default(),
        offers: RwLock::default(),
        writer,
        reader,
        token,
        metrics,
        wrong_token: tokio::sync::Mutex::new(()),
        limits,
        options,
    });
    server.look();
    let result = server.clone().run().await;
    // The thread ends when nobody can give it more, and has written everything then.
    drop(server);
    let ended = tokio::task::spawn_blocking(move || thread.join());
    if ended.await.is_ok_and(|ended| ended.is_err()) {
        eprintln!("the thread of the database ended by itself");
    }
    result
}

impl Server {
    async fn run(self: Arc<Self>) -> Result<()> {
        let bind = |address: SocketAddr| async move {
            TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
        };
        let machines = bind(self.options.listen).await?;
        let operators = bind(self.options.operators).await?;
        let mut term = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut int = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        println!("machines: http://{}/", machines.local_addr()?);
        println!("operators: http://{}/", operators.local_addr()?);
        let (ends, end) = watch::channel(false);
        let few = Limits { connections: 256, ..self.limits };
        let (one, other) = (self.clone(), self.clone());
        let doors = [
            tokio::spawn(http::listen(
                machines,
                move |ask| machines::answer(one.clone(), ask),
                self.limits,
                self.metrics.clone(),
                end.clone(),
            )),
            tokio::spawn(http::listen(
                operators,
                move |ask| operators::answer(other.clone(), ask),
                few,
                self.metrics.clone(),
                end,
            )),
        ];
        let (mut look, mut prune) = (tokio::time::interval(LOOK), tokio::time::interval(PRUNE));
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = prune.tick() => self.writer.prune(Timestamp::now()),
                _ = look.tick() => {
                    let server = self.clone();
                    // It says what is wrong by itself.
                    let _ = tokio::task::spawn_blocking(move || server.look()).await;
                }
            }
        }
        eprintln!("ending: what is under way is answered");
        ends.send_replace(true);
        for door in doors {
            door.await.context("a door broke")?;
        }
        Ok(())
    }

    /// Reads what others write: the repository, and offers.
    fn look(&self) {
        let catalog = Catalog::read(&self.options.repository);
        let before = replace(&self.catalog, catalog);
        let now = self.catalog();
        if before.problem != now.problem
            && let Some(problem) = &now.problem
        {
            eprintln!("{problem}");
        }
        let Some(folder) = &self.options.offers else { return };
        match Offers::read(folder) {
            Ok((offers, problems)) => {
                if *replace(&self.offers, offers.clone()) != offers {
                    problems.iter().for_each(|problem| eprintln!("{problem}"));
                }
            }
            Err(error) => eprintln!("{error:#}"),
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().expect("nobody panics with it").clone()
    }

    fn overview(&self) -> Result<Overview, StoreError> {
        overview(&self.reader, &self.catalog(), self.options.silent_hours)
    }
}

/// The fleet, as the database and the repository show it now.
pub fn overview(
    reader: &Reader,
    catalog: &Catalog,
    silent_hours: u32,
) -> Result<Overview, StoreError> {
    let now = Timestamp::now();
    let since = now - Duration::from_secs(u64::from(silent_hours) * 3600);
    let known = Known {
        groups: reader.groups(since)?,
        silent: reader.silent(since)?,
        failures: reader.failures(since)?,
        requests: reader.requests(20)?,
    };
    Ok(Overview::of(catalog, known, now))
}

/// The fleet, for the command line: while a server runs, or not.
pub fn look(repository: Option<&Path>, state: &Path, silent_hours: u32) -> Result<Overview> {
    let catalog = repository.map(Catalog::read).unwrap_or_default();
    let reader = Reader::open(&store::file(state))?;
    Ok(overview(&reader, &catalog, silent_hours)?)
}

fn replace<T>(place: &RwLock<Arc<T>>, new: T) -> Arc<T> {
    std::mem::replace(&mut *place.write().expect("nobody panics with it"), Arc::new(new))
}

fn unavailable(error: impl std::fmt::Display) -> Answer {
    eprintln!("{error}");
    http::says(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = http::says(StatusCode::METHOD_NOT_ALLOWED, format!("expected {allowed}"));
    let allowed = hyper::header::HeaderValue::from_static(allowed);
    answer.headers_mut().insert(hyper::header::ALLOW, allowed);
    answer
}
