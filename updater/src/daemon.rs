//! `update-engine`: the shell around the machines that decide. It knows the clock, the bus, the
//! files and the one thread that works, and does what it is told.

mod facts;
mod metrics;
mod reports;
mod work;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use zbus::{Connection, connection};

use self::reports::Reports;
use crate::{
    bus::{self, Call, Manager, Wish},
    clock::Now,
    config::{self, Config},
    engine::{self, Effect, End, Engine, Event, Means, Work},
    identity::Identity,
    install::machine::Directory,
    records::Installed,
    report,
    status::{Around, Status},
    strategy::{
        self, Policy, Rebooter, Strategy,
        lock::{Keeper, NoLock},
    },
};

const STATE: &str = "/var/lib/update-engine";
const RUN: &str = "/run/update-engine";
/// How the last update ended.
const LAST: &str = "last.json";
const LAST_BYTES: usize = 1 << 16;
const REBOOT_REQUIRED: &str = "/run/reboot-required";
/// How often it is looked whether the version that runs is proven, until it is.
const LOOK_AT_HEALTH: Duration = Duration::from_secs(5);

/// What somebody who works in another thread tells.
#[derive(Debug)]
enum Told {
    Engine(Event),
    Strategy(strategy::Event),
    Line(String),
}

/// What the configuration says, or what is wrong with it.
struct Settings {
    config: Option<Config>,
    means: Means,
    policy: Policy,
    warnings: Vec<String>,
}

struct Daemon {
    identity: Option<Identity>,
    settings: Settings,
    engine: Engine,
    rebooter: Rebooter,
    around: Around,
    connection: Connection,
    status: watch::Sender<Status>,
    told: mpsc::UnboundedSender<Told>,
    stop: Arc<AtomicBool>,
    began: Instant,
    look_at_health: Option<Duration>,
    reports: Reports,
    /// The version that was installed last.
    installed: Option<Installed>,
}

/// Runs until it is told to end.
pub async fn run() -> Result<()> {
    for folder in [STATE, RUN, &format!("{STATE}/tuf")] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
    }
    let (identity, unknown) = match Identity::read(Path::new("/")) {
        Ok(identity) => (Some(identity), None),
        Err(error) => (None, Some(format!("{:#}", anyhow::Error::new(error)))),
    };
    let settings = Settings::read(identity.as_ref(), unknown);
    let (wish, mut wishes) = mpsc::unbounded_channel();
    let (told, mut tidings) = mpsc::unbounded_channel();
    let began = Instant::now();
    let now = now(began);
    let found = facts::found(identity.as_ref());
    found.lines.iter().for_each(|line| say(line));
    let seed = u64::from_ne_bytes(
        identity.as_ref().map_or([0; 8], |identity| identity.seed[..8].try_into().expect("16")),
    );
    let engine = Engine::new(settings.means.clone(), found.waiting.clone(), seed, now);
    let rebooter = Rebooter::new(settings.policy.clone(), facts::holds_lock(Path::new(STATE)));
    let around = Around {
        version: identity.as_ref().map_or_else(String::new, |i| i.version.to_string()),
        channel: settings.config.as_ref().map_or_else(String::new, |c| c.channel.clone()),
        reboot_waits_for: None,
        boot: found.boot,
        bad: found.bad,
        last_before: last_before(),
        warnings: settings.warnings.clone(),
    };
    let (status, seen) = watch::channel(Status::of(&engine, &around, now));
    match metrics::listen(&Path::new(RUN).join("metrics.sock")) {
        Ok(listener) => drop(tokio::spawn(metrics::serve(listener, seen.clone()))),
        Err(error) => say(&format!("listening for collectors of metrics in {RUN}: {error}")),
    }
    let connection = connection::Builder::system()
        .serve_at(bus::PATH, Manager::new(wish, seen))
        .name(bus::NAME)
        .build()
        .await
        .context("taking com.coreos.update1 on the system bus")?;
    let mut daemon = Daemon {
        identity,
        settings,
        engine,
        rebooter,
        around,
        connection,
        status,
        told,
        stop: Arc::new(AtomicBool::new(false)),
        began,
        look_at_health: Some(now.up),
        reports: Reports::default(),
        installed: found.installed,
    };
    if let Means::Files { why } | Means::Nothing { why } = daemon.engine.means() {
        say(&format!("updates are off: {why}"));
    }
    if let Some(reason) = found.fell {
        daemon.report_installed(|installed| report::went_back(&installed.version, &reason));
    }
    if found.waiting.is_some() {
        daemon.strategy(strategy::Event::Needed).await;
    }
    daemon.publish().await;
    let mut hangup = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let mut end = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    loop {
        let wake = daemon.wake();
        tokio::select! {
            Some(wish) = wishes.recv() => daemon.wish(wish).await,
            Some(told) = tidings.recv() => match told {
                Told::Engine(event) => drop(daemon.step(event).await),
                Told::Strategy(event) => daemon.strategy(event).await,
                Told::Line(line) => say(&line),
            },
            () = tokio::time::sleep(wake) => daemon.tick().await,
            _ = hangup.recv() => daemon.reload().await,
            _ = end.recv() => {
                // What is under way loses one segment at most.
                daemon.stop.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
    }
}

fn now(began: Instant) -> Now {
    Now { up: began.elapsed(), wall: Timestamp::now() }
}

/// To the journal, by standard error.
fn say(line: &str) {
    eprintln!("{line}");
}

impl Settings {
    fn read(identity: Option<&Identity>, unknown: Option<String>) -> Self {
        let off =
            Policy { strategy: Strategy::Off, windows: Vec::new(), login_delay: Duration::ZERO };
        let nothing = |why: String| Self {
            config: None,
            means: Means::Nothing { why },
            policy: off,
            warnings: Vec::new(),
        };
        let files = match config::read(&config::PLACES) {
            Ok(files) => files,
            Err(error) => return nothing(format!("reading the configuration: {error}")),
        };
        let zones = |name: &str| TimeZone::get(name).ok();
        let config = match config::parse(&files, &TimeZone::system(), &zones) {
            Ok(config) => config,
            Err(wrong) => return nothing(wrong.to_string()),
        };
        let means = match (identity, unknown) {
            (_, Some(why)) => Means::Nothing { why },
            (None | Some(Identity { root: None, .. }), None) => Means::Nothing {
                why: "the image has no trusted root key \
                      (/usr/share/pithos/update/root.json): nothing could be verified"
                    .to_owned(),
            },
            (Some(_), None) if config.servers.is_empty() => {
                Means::Files { why: "no SERVER in update.conf".to_owned() }
            }
            (Some(_), None) => Means::All,
        };
        let (policy, warnings) = (config.reboot.clone(), config.unknown.clone());
        Self { config: Some(config), means, policy, warnings }
    }
}

impl Daemon {
    fn now(&self) -> Now {
        now(self.began)
    }

    /// How long nothing has to be done, if nobody says anything.
    fn wake(&self) -> Duration {
        let wakes = [self.engine.wake(), self.rebooter.wake(), self.look_at_health];
        let first = wakes.into_iter().flatten().min().unwrap_or(Duration::MAX);
        first.saturating_sub(self.began.elapsed()).min(Duration::from_secs(24 * 60 * 60))
    }

    async fn tick(&mut self) {
        self.look_at_health().await;
        // Nobody asked, so nobody is refused.
        let _ = self.step(Event::Tick).await;
        self.strategy(strategy::Event::Tick).await;
    }

    async fn wish(&mut self, wish: Wish) {
        let event = match wish.call {
            Call::Attempt(asked) => Event::Attempt(asked),
            Call::Reset => Event::Reset,
        };
        say(&format!("asked for: {event:?}"));
        let answer = self.step(event).await;
        // Whoever asked may be gone.
        let _ = wish.answer.send(answer);
    }

    async fn reload(&mut self) {
        let unknown = self.identity.is_none().then(|| "the machine is not known".to_owned());
        self.settings = Settings::read(self.identity.as_ref(), unknown);
        self.around.warnings = self.settings.warnings.clone();
        if let Some(config) = &self.settings.config {
            self.around.channel = config.channel.clone();
        }
        let _ = self.step(Event::Configured(self.settings.means.clone())).await;
        self.strategy(strategy::Event::Configured(self.settings.policy.clone())).await;
        self.publish().await;
    }

    /// Tells the engine what happened, and does what it says. An error is for who asked.
    async fn step(&mut self, event: Event) -> Result<(), String> {
        let mut events = vec![event];
        let mut answer = Ok(());
        while let Some(event) = events.pop() {
            if let Some(told) = report::of(self.engine.state(), &event) {
                self.report(told);
            }
            for effect in self.engine.step(event, self.now()) {
                match effect {
                    Effect::Work(work) => self.work(work),
                    Effect::Stop => self.stop.store(true, Ordering::Relaxed),
                    Effect::Record(end) => {
                        record(&end);
                        events.push(Event::Recorded);
                    }
                    Effect::NeedReboot(version) => {
                        warn(fs::write(REBOOT_REQUIRED, format!("{version}\n")), REBOOT_REQUIRED);
                        Box::pin(self.strategy(strategy::Event::Needed)).await;
                    }
                    Effect::NoReboot => {
                        // It may not be there.
                        let _ = fs::remove_file(REBOOT_REQUIRED);
                        Box::pin(self.strategy(strategy::Event::NotNeeded)).await;
                    }
                    Effect::Refuse(why) => answer = Err(why),
                    Effect::Publish => self.publish().await,
                }
            }
        }
        answer
    }

    /// Tells the strategy what happened, and does what it says.
    async fn strategy(&mut self, event: strategy::Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.rebooter.step(event, self.now()) {
                match effect {
                    strategy::Effect::Look => {
                        events.push(strategy::Event::Looked(
                            facts::in_the_way(&self.connection).await,
                        ));
                    }
                    strategy::Effect::Warn { text } => facts::warn_people(&text),
                    strategy::Effect::Lock => self.lock(true),
                    strategy::Effect::Unlock => self.lock(false),
                    strategy::Effect::Reboot => {
                        say("rebooting into the new version");
                        if let Err(error) = facts::reboot(&self.connection).await {
                            say(&format!("the machine does not reboot: {error}"));
                        }
                    }
                }
            }
        }
        let waits = self.rebooter.waiting();
        if waits != self.around.reboot_waits_for {
            if let Some(waits) = &waits {
                say(&format!("the reboot waits for {waits}"));
            }
            self.around.reboot_waits_for = waits;
            self.publish().await;
        }
    }

    fn work(&mut self, work: Work) {
        let stop = Arc::new(AtomicBool::new(false));
        self.stop = stop.clone();
        let told = self.told.clone();
        let (Some(identity), Some(config)) = (self.identity.clone(), self.settings.config.clone())
        else {
            let failure = engine::Failure {
                code: engine::Code::Error,
                cause: "the machine or its configuration is not known".to_owned(),
            };
            // The loop reads it: there is a receiver while it runs.
            let _ = told.send(Told::Engine(Event::Ended(End::Failed(failure))));
            return;
        };
        std::thread::spawn(move || {
            let tell = |event| drop(told.send(Told::Engine(event)));
            let line = |line: &str| drop(told.send(Told::Line(line.to_owned())));
            let end = match work {
                Work::Update(asked) => {
                    work::update(&identity, &config, asked, Path::new(STATE), &stop, &tell, &line)
                }
                Work::Discard => work::discard(&identity, Path::new(STATE), &line),
            };
            line(&end.sentence());
            tell(Event::Ended(end));
        });
    }

    /// Gets the reboot lock, or gives it back.
    fn lock(&self, get: bool) {
        let (told, state) = (self.told.clone(), Path::new(STATE));
        let strategy = self.settings.policy.strategy;
        let keeper =
            self.settings.config.as_ref().ok_or("there is no configuration").and_then(|config| {
                match (strategy, &config.lock.url) {
                    (Strategy::Fleetlock, Some(url)) => Ok(Keeper::Fleetlock {
                        client: Box::new(http_client::Client {
                            proxies: config.proxies.clone(),
                            ..http_client::Client::new(http_client::Names::System)
                        }),
                        url: url.clone(),
                        group: config.lock.group.clone(),
                    }),
                    (Strategy::Fleetlock, None) => Err("FLEET_LOCK_BASE_URL is not configured"),
                    (
                        Strategy::Reboot
                        | Strategy::Off
                        | Strategy::BestEffort
                        | Strategy::EtcdLock,
                        _,
                    ) => Ok(Keeper::Cluster),
                }
            });
        std::thread::spawn(move || {
            let id = facts::lock_id();
            // Kept first: whoever asks and dies has to give back what he may have got.
            let event = match (get, keeper) {
                (true, Ok(keeper)) => {
                    facts::hold_lock(state, true);
                    match keeper.lock(&id) {
                        Ok(()) => strategy::Event::LockHad,
                        Err(why) => {
                            facts::hold_lock(state, false);
                            let keeper = matches!(why, NoLock::Taken(_));
                            strategy::Event::LockRefused { why: why.to_string(), keeper }
                        }
                    }
                }
                (false, Ok(keeper)) => match keeper.unlock(&id) {
                    Ok(()) => {
                        facts::hold_lock(state, false);
                        strategy::Event::Released
                    }
                    Err(why) => strategy::Event::NotReleased(why.to_string()),
                },
                (true, Err(why)) => {
                    strategy::Event::LockRefused { why: why.to_owned(), keeper: false }
                }
                (false, Err(why)) => strategy::Event::NotReleased(why.to_owned()),
            };
            let _ = told.send(Told::Strategy(event));
        });
    }

    /// Whether the version that runs is proven by now.
    async fn look_at_health(&mut self) {
        let now = self.now();
        let Some(at) = self.look_at_health.filter(|at| *at <= now.up) else { return };
        if facts::is_proven(self.identity.as_ref()) {
            self.look_at_health = None;
            let boot = facts::found(self.identity.as_ref()).boot;
            if boot != self.around.boot {
                boot.iter().for_each(|line| say(line));
                self.around.boot = boot;
                self.publish().await;
            }
            self.report_proven();
            self.strategy(strategy::Event::Healthy).await;
        } else {
            self.look_at_health = Some(at.max(now.up) + LOOK_AT_HEALTH);
        }
    }

    /// Tells a server, if the configuration names one.
    fn report(&mut self, events: Vec<omaha::Event>) {
        self.report_and(events, || {});
    }

    fn report_and(&mut self, events: Vec<omaha::Event>, taken: impl FnOnce() + Send + 'static) {
        let (Some(identity), Some(config)) = (&self.identity, &self.settings.config) else {
            return;
        };
        let Some(url) = &config.report else { return };
        let text = report::text(identity, &config.channel, &facts::report_id(), events);
        self.reports.send(url, &config.proxies, text, taken);
    }

    /// Tells it that the update into what runs went well.
    fn report_proven(&mut self) {
        let Some(running) = self.identity.as_ref().map(|identity| identity.version.clone()) else {
            return;
        };
        if self.installed.as_ref().is_some_and(|installed| installed.version == running) {
            self.report_installed(|installed| report::updated(&installed.from));
        }
    }

    /// Tells it once how the version went that was installed last.
    fn report_installed(&mut self, event: impl FnOnce(&Installed) -> omaha::Event) {
        let state = Path::new(STATE);
        let Some(installed) = self.installed.clone() else { return };
        if !facts::is_told(state, &installed) {
            let event = event(&installed);
            self.report_and(vec![event], move || facts::keep_told(state, &installed));
        }
    }

    async fn publish(&mut self) {
        let status = Status::of(&self.engine, &self.around, self.now());
        let metrics = PathBuf::from(RUN).join("update-engine.prom");
        let unfinished = metrics.with_extension("prom.new");
        let written = fs::write(&unfinished, status.metrics())
            .and_then(|()| fs::rename(&unfinished, &metrics));
        warn(written, RUN);
        if let Err(error) = bus::publish(&self.connection, &status).await {
            say(&format!("telling the bus: {error}"));
        }
        self.status.send_replace(status);
    }
}

/// How the last update of an engine before this one ended, where somebody still can tell.
fn last_before() -> Option<End> {
    let state: &dyn crate::install::media::Folder = &Directory(STATE.into());
    let text = state.load(LAST, LAST_BYTES).ok().flatten()?;
    serde_json::from_slice(&text).ok()
}

/// Keeps how an update ended, for whoever asks after a restart.
fn record(end: &End) {
    let state: &dyn crate::install::media::Folder = &Directory(STATE.into());
    match serde_json::to_vec_pretty(end) {
        Ok(bytes) => warn(state.replace(LAST, &bytes), STATE),
        Err(error) => say(&format!("keeping how the update ended: {error}")),
    }
}

fn warn(result: io::Result<()>, place: &str) {
    if let Err(error) = result {
        say(&format!("writing {place}: {error}"));
    }
}
