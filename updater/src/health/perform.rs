//! Runs the checks until they pass or the deadline comes, and falls back where that is decided.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use layout::{RootHash, Version};

use super::{Boot, Folders, Outcome, Results, Then, Verdict, choose, judge, then};
use crate::{
    install::{
        self, Media,
        machine::{Directory, Machine, OpenError, running},
        media::Folder,
        proves, sha256_of, tidy,
    },
    records::{Bad, BadVersion, Installed, RecordError},
    slots::{Content, NoSlots, Slots, Uki},
};

/// How long to wait before checks that failed are run again.
const AGAIN: Duration = Duration::from_secs(5);
/// No UKI has more.
const UKI_BYTES_MAX: usize = 256 << 20;
/// The verdict on this boot.
const VERDICT: &str = "health.json";
const VERDICT_BYTES_MAX: usize = 1 << 20;
/// What a boot is over with, but for the judgement on it.
const BOOTED: &str = "multi-user.target";
/// Boot Loader Interface: the file that this system was booted from, if it has a counter.
const BOOT_COUNT_PATH: &str = "/sys/firmware/efi/efivars/\
                               LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// A variable starts with its attributes.
const ATTRIBUTES_BYTES: usize = 4;

/// Where things are, and how long they may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// The checks.
    pub folders: Folders,
    /// The records.
    pub state: PathBuf,
    /// Where the verdict is kept until the next boot.
    pub run: PathBuf,
    /// How long a version on trial may take to become healthy.
    pub deadline: Duration,
    /// How long a proven one may, until it is said.
    pub proven_deadline: Duration,
    /// Whether the deadline of the whole boot is over: what is not healthy now will not be.
    pub is_late: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folders: Folders::default(),
            state: "/var/lib/update-engine".into(),
            run: "/run/update-engine".into(),
            deadline: Duration::from_secs(5 * 60),
            proven_deadline: Duration::from_secs(60),
            is_late: false,
        }
    }
}

/// Why nothing can be said about this boot, or done about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, the ESP or the state.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The slots.
    #[error(transparent)]
    Slots(#[from] NoSlots),
    /// The records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The ESP.
    #[error(transparent)]
    Install(#[from] install::Error),
    /// The system refused.
    #[error("{doing}")]
    Io {
        /// What we were doing.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The version is not healthy, and stays.
    #[error("version {version} is not healthy ({}); {why}", reasons.join(", "))]
    Unhealthy {
        /// Which one.
        version: Version,
        /// What failed.
        reasons: Vec<String>,
        /// Why nothing is done about it.
        why: String,
    },
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing: doing.into(), source }
}

/// The checks that this version fails now: a version that it installs may fail them, too.
pub fn failing(folders: &Folders) -> BTreeSet<String> {
    let results = check(folders);
    let failed = results.into_iter().filter(|(_, o)| o.is_required && o.failure.is_some());
    failed.map(|(name, _)| name).collect()
}

/// Judges this boot, and acts on it. Returns when the version is healthy, or as the machine goes
/// down to boot the other one.
pub fn run(options: &Options) -> Result<(), Error> {
    let (running, start) = (running()?, Instant::now());
    let end = start + options.deadline;
    let verdicts = Directory(options.run.clone());
    fs::create_dir_all(&options.run)
        .map_err(failed(format!("making {}", options.run.display())))?;
    if options.is_late && was_healthy(&verdicts) {
        return Ok(());
    }
    // An installation that is under way has the media; none begins while a version is on trial.
    let open = || loop {
        match Machine::open(&running, &options.state) {
            Err(OpenError::Busy { .. }) if Instant::now() < end => thread::sleep(AGAIN),
            other => return other,
        }
    };
    let machine = open()?;
    let (boot, of_disk) = look(&machine, &running, booted_from().as_deref())?;
    let end = if boot.trial.is_some() { end } else { start + options.proven_deadline };
    // Checks may take their time; an operator's commands need the media meanwhile.
    drop(machine);
    let reasons = loop {
        let mut results = check(&options.folders);
        results.extend(of_disk.clone());
        if options.is_late {
            results.extend(not_booted());
        }
        let verdict = judge(&boot, &results);
        keep(&verdicts, &verdict)?;
        match verdict {
            Verdict::Healthy { warnings } => {
                warnings.iter().for_each(|warning| println!("warning: {warning}"));
                println!("version {} is healthy", boot.version);
                return Ok(());
            }
            Verdict::Unhealthy { reasons } => {
                if options.is_late || Instant::now() + AGAIN > end {
                    break reasons;
                }
                println!("not healthy yet: {}", reasons.join(", "));
                thread::sleep(AGAIN);
            }
        }
    };
    let machine = open()?;
    match then(&boot, other(&machine, &running)?) {
        Then::Stay { why } => Err(Error::Unhealthy { version: boot.version.clone(), reasons, why }),
        Then::FallBack { to } => {
            println!("not healthy: {}; going back to version {to}", reasons.join(", "));
            give_up(&machine, &boot, &running, &reasons)?;
            reboot()
        }
    }
}

/// Puts the ESP in order, and reads what this boot is. What of the disk speaks against it is
/// looked at once, as it does not heal.
pub(crate) fn look(
    media: &dyn Media,
    running: &RootHash,
    booted: Option<&str>,
) -> Result<(Boot, Results), Error> {
    for done in tidy(media, &slots(media, running)?, booted)? {
        println!("{done}");
    }
    let slots = slots(media, running)?;
    let version = slots.version().clone();
    let uki = slots.content(slots.booted).ukis().first();
    let installed = Installed::load(media.state())?.filter(|i| i.version == version);
    let trial = uki.and_then(|uki| uki.trial);
    let mut results = Results::new();
    // A new machine has nothing to fall back to, and another way to find a damaged block: to read it.
    let has_other = matches!(slots.content(slots.passive()), Content::Version { .. });
    if trial.is_some() && has_other {
        let whole = proves(media, slots.booted, running).map_err(failed("reading the slot"))?;
        let failure = (!whole).then(|| "not what its root hash says".to_owned());
        results.insert("usr".to_owned(), Outcome { is_required: true, failure });
        if let (Some(uki), Some(installed)) = (uki, &installed) {
            let found = sha256_of(media.esp(), &uki.name());
            let (found, _) = found.map_err(failed("reading the UKI on the ESP"))?;
            let failure = (found != installed.uki_sha256).then(|| format!("SHA-256 is {found}"));
            results.insert("uki".to_owned(), Outcome { is_required: true, failure });
        }
    }
    let failing = installed.map(|installed| installed.failing).unwrap_or_default();
    Ok((Boot { version, root_hash: *running, trial, failing }, results))
}

fn slots(media: &dyn Media, running: &RootHash) -> Result<Slots, Error> {
    let files = media.esp().list().map_err(failed("listing /EFI/Linux of the ESP"))?;
    let entries = media.table().map_err(install::Error::from)?.entries();
    Ok(Slots::read(&entries, running, files.iter().map(|file| file.name.as_str()))?)
}

/// The version of the other slot if it would boot, or why it would not.
pub(crate) fn other(
    media: &dyn Media,
    running: &RootHash,
) -> Result<Result<Version, String>, Error> {
    let slots = slots(media, running)?;
    let slot = slots.passive();
    let (version, root_hash, ukis) = match slots.content(slot) {
        Content::Empty => return Ok(Err(format!("slot {slot:?} is empty"))),
        Content::Foreign { usr, .. } => return Ok(Err(format!("slot {slot:?} has `{usr}`"))),
        Content::Version { version, root_hash, ukis } => (version, root_hash, ukis),
    };
    // One that was left behind for this version is behind it, and still whole.
    let Some(uki) = ukis.iter().find(|uki| !uki.is_spent() || uki.is_retired()) else {
        return Ok(Err(format!("version {version} has no UKI on the ESP with tries left")));
    };
    let name = uki.name();
    let bytes = media.esp().load(&name, UKI_BYTES_MAX);
    let bytes = bytes.map_err(failed(format!("reading {name} on the ESP")))?.unwrap_or_default();
    let hash = root_hash.to_string();
    if !bytes.windows(hash.len()).any(|window| window == hash.as_bytes()) {
        return Ok(Err(format!("{name} on the ESP is damaged")));
    }
    match proves(media, slot, root_hash).map_err(failed(format!("reading slot {slot:?}")))? {
        true => Ok(Ok(version.clone())),
        false => Ok(Err(format!("slot {slot:?} is damaged"))),
    }
}

/// Remembers this version as bad, and spends its counter: the boot loader takes the other one.
pub(crate) fn give_up(
    media: &dyn Media,
    boot: &Boot,
    running: &RootHash,
    reasons: &[String],
) -> Result<(), Error> {
    let bad = BadVersion {
        version: boot.version.clone(),
        root_hash: boot.root_hash,
        reason: reasons.join(", "),
    };
    Bad::load(media.state())?.remember(bad, media.state())?;
    let slots = slots(media, running)?;
    for uki in slots.content(slots.booted).ukis() {
        let (from, to) = (uki.name(), uki.spent().name());
        if from != to {
            let doing = format!("naming {from} {to} on the ESP");
            media.esp().rename(&from, &to).map_err(failed(doing))?;
        }
    }
    media.esp().sync().map_err(failed("syncing the ESP"))
}

fn reboot() -> Result<(), Error> {
    let asked = |arguments: &[&str]| Command::new("systemctl").args(arguments).status();
    match asked(&["--no-block", "reboot"]) {
        Ok(status) if status.success() => Ok(()),
        // A system that cannot stop its services is what this is for.
        Ok(_) | Err(_) => asked(&["--force", "--force", "reboot"])
            .map(drop)
            .map_err(failed("starting systemctl, to reboot")),
    }
}

/// Runs all checks, and asks systemd which units failed.
fn check(folders: &Folders) -> Results {
    let mut results = Results::new();
    let mut insert = |name: String, is_required, failure| {
        results.insert(name, Outcome { is_required, failure });
    };
    match choose(folders) {
        Ok(checks) => checks.into_iter().for_each(|check| {
            let outcome = check.run();
            insert(check.name, outcome.is_required, outcome.failure);
        }),
        Err(error) => insert("health.d".to_owned(), true, Some(format!("cannot be read: {error}"))),
    }
    match failed_units() {
        Ok(units) => units.into_iter().for_each(|unit| {
            insert(format!("unit {unit}"), true, Some("failed".to_owned()));
        }),
        Err(error) => insert("units".to_owned(), true, Some(format!("systemctl: {error}"))),
    }
    results
}

fn failed_units() -> io::Result<Vec<String>> {
    systemctl(&["list-units", "--state=failed", "--plain"]).map(|list| units(&list))
}

/// What keeps a boot, which has had its time, from being over.
fn not_booted() -> Results {
    let failure = match systemctl(&["is-active", BOOTED]) {
        Ok(_) => return Results::new(),
        Err(_) => match systemctl(&["list-jobs"]) {
            Ok(list) => format!("{BOOTED} is not reached: {}", running_jobs(&list)),
            Err(error) => format!("systemctl: {error}"),
        },
    };
    Results::from([("boot".to_owned(), Outcome { is_required: true, failure: Some(failure) })])
}

/// Units that are being started or stopped, of a list of jobs (`ID UNIT TYPE STATE`): the others
/// wait for them.
fn running_jobs(list: &str) -> String {
    let units = list.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (unit, kind, state) = (words.nth(1)?, words.next()?, words.next()?);
        // Ours is the one that asks.
        (state == "running" && !unit.starts_with("update-engine"))
            .then(|| format!("{unit} ({kind})"))
    });
    let units: Vec<String> = units.collect();
    match units.is_empty() {
        true => "nothing is being started".to_owned(),
        false => format!("{} has no end", units.join(", ")),
    }
}

fn systemctl(arguments: &[&str]) -> io::Result<String> {
    let mut systemctl = Command::new("systemctl");
    let output = systemctl.args(arguments).args(["--no-legend", "--no-pager"]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first word of each line. This program's own unit is not one of what it judges.
fn units(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split_ascii_whitespace().next());
    names.filter(|name| !name.starts_with("update-engine-health")).map(str::to_owned).collect()
}

fn keep(verdicts: &dyn Folder, verdict: &Verdict) -> Result<(), Error> {
    let text = serde_json::to_vec(verdict).expect("texts become JSON");
    verdicts.replace(VERDICT, &text).map_err(failed("keeping the verdict on this boot"))
}

fn was_healthy(verdicts: &dyn Folder) -> bool {
    let text = verdicts.load(VERDICT, VERDICT_BYTES_MAX).ok().flatten().unwrap_or_default();
    matches!(serde_json::from_slice(&text), Ok(Verdict::Healthy { .. }))
}

/// The file on the ESP that this system was booted from, if it is on trial.
fn booted_from() -> Option<String> {
    let value = fs::read(Path::new(BOOT_COUNT_PATH)).ok()?;
    let units = value.get(ATTRIBUTES_BYTES..)?.chunks_exact(2);
    let units: Vec<u16> = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    file_of(&String::from_utf16_lossy(&units))
}

/// `\EFI\Linux\NAME`, and a NUL.
fn file_of(path: &str) -> Option<String> {
    let name = path.trim_end_matches('\0').rsplit('\\').next()?;
    Uki::parse(name).map(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_this_boot_is_the_last_part_of_its_path() {
        let file = |path: &str| file_of(path);
        assert_eq!(file("\\EFI\\Linux\\pithos_1+2-1.efi\0").unwrap(), "pithos_1+2-1.efi");
        assert_eq!(file("\\EFI\\Linux\\other.efi\0"), None);
        assert_eq!(file(""), None);
    }

    #[test]
    fn what_a_boot_waits_for_is_what_runs_of_its_jobs() {
        let list = "112 boot-complete.target start waiting\n121 hangs.service start running\n\
                    130 update-engine-trial.service start running\n16 multi-user.target start waiting\n";
        assert_eq!(running_jobs(list), "hangs.service (start) has no end");
        assert_eq!(running_jobs(""), "nothing is being started");
    }

    #[test]
    fn failed_units_are_named_without_our_own() {
        let list = "kvd.service loaded failed failed The store\n\
                    update-engine-health.service loaded failed failed x\n\n";
        assert_eq!(units(list), ["kvd.service"]);
    }
}
