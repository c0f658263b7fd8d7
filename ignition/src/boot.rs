//! The first boot of a machine: all stages in one process, between `/init` and the disks.
//!
//! ```text
//! fetch     documents of the image and of whoever runs the machine, and what these lead to;
//!           the network comes up only if one of them needs it
//! kargs     arguments of the kernel; another boot, if they are new
//! disks     partitions, arrays, volumes, file systems
//!           --> /init makes root, and mounts it
//! mount     the file systems of the document, below root
//! files     users, files, units
//! umount    backwards
//!           --> /init gives root its name
//! finish    keys are kept now: volumes lose the mark that says otherwise, and are closed
//! ```

mod drivers;
mod esp;
mod failure;
mod given;
mod kargs;
mod lazy;
mod resolver;
mod root;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

pub use esp::Esp;
pub use failure::Failure;
pub use root::{BOOT_DISK, RootWish, take_wish};

use drivers::Drivers;
use given::Given;
use lazy::Lazy;

use crate::{
    causes::chain,
    disks::{self, Handover, Machine, Supplies, Trouble},
    document::{
        self, Config, Document, Format, Mark, Node, Nowhere, Report, Severity, Sources,
        config::{File, Luks, Resource},
    },
    files::{self, result::Run, tree::Root},
    journal::Journal,
    mount,
    platform::{self, Plan},
    render::{self, Access, RenderError},
};

/// How long to wait for a disk that the document names.
const DISKS: Duration = Duration::from_secs(60);

/// What a boot is about.
#[derive(Clone, Debug)]
pub struct Order {
    /// The disk that the machine boots from.
    pub disk: PathBuf,
    /// Where root will be mounted.
    pub root: PathBuf,
    /// A folder in memory, for what must not be on a disk yet.
    pub memory: PathBuf,
}

/// A document that says it all, and the texts that it came from.
#[derive(Debug, Default)]
pub struct Whole {
    /// What it says, once it is known.
    pub node: Option<Node>,
    /// The texts.
    pub sources: Sources,
    /// What was said of it.
    pub report: Report,
    /// Whether whoever runs the machine gave one, or only the image.
    pub is_users: bool,
}

/// How a first boot ended.
#[derive(Debug)]
pub enum Outcome {
    /// The machine is what the document says, once root has its name.
    Done(Rest),
    /// The kernel must be started with other arguments; then all begins anew.
    Reboot,
}

/// Somebody who makes root, and mounts it: `/init`. Says today's day, since 1970, and what to
/// write down about this run.
pub type MakeRoot<'a> = dyn FnMut(&RootWish) -> Result<(u32, Run), String> + 'a;

/// All stages. What is known of the document is in `whole`, also when this fails.
pub fn run(
    order: &Order,
    cmdline: &str,
    esp: Option<&Esp>,
    whole: &mut Whole,
    journal: &dyn Journal,
    make_root: &mut MakeRoot<'_>,
) -> Result<Outcome, Failure> {
    let plan =
        platform::plan(cmdline).map_err(|error| Failure::of("fetch", "$".to_owned(), &error))?;
    let drivers = Drivers::default();
    let network = Lazy::new(cmdline, plan.cloud(), &drivers, journal);
    let outcome = stages(order, cmdline, &plan, esp, &drivers, &network, whole, journal, make_root);
    network.down();
    outcome
}

#[expect(clippy::too_many_arguments, reason = "all that a boot has, once")]
fn stages(
    order: &Order,
    cmdline: &str,
    plan: &Plan,
    esp: Option<&Esp>,
    drivers: &Drivers,
    network: &Lazy<'_>,
    whole: &mut Whole,
    journal: &dyn Journal,
    make_root: &mut MakeRoot<'_>,
) -> Result<Outcome, Failure> {
    let given = given::find(plan, esp, &order.memory, drivers, network, journal)?;
    let mut node = get(given, plan, network, whole, journal)?;
    let wish = take_wish(&mut node, &order.disk);
    let config = Config::from_node(&node);
    whole.node = Some(node);
    if kargs::change(&config.kernel_arguments, cmdline, esp, &order.memory, journal)? {
        return Ok(Outcome::Reboot);
    }
    let wish = wish.map_err(|(at, why)| Failure::new("disks", at, why))?;
    let asks = |volume: &Luks| disks::volumes::asks_network(&volume.clevis);
    if let Some(index) = config.storage.luks.iter().position(asks) {
        let at = format!("$.storage.luks.{index}.clevis");
        network.online().map_err(|why| Failure::new("disks", at, why))?;
    }
    let prepared = prepare(order, config, network, journal)?;
    let (day, mut run) = make_root(&wish).map_err(|why| Failure::new("disks", "$", why))?;
    run.user_config_provided = whole.is_users;
    prepared.fill(order, network, Some(run), day, journal).map(Outcome::Done)
}

/// What is left to do when root has its name.
#[derive(Debug)]
pub struct Rest {
    config: Config,
    handover: Handover,
}

impl Rest {
    /// Takes the marks of volumes away whose keys are kept now, and closes what was opened. The first
    /// boot is over: what fails is said, and no reason to stop.
    pub fn finish(&self, journal: &dyn Journal) {
        for done in [disks::finish(&self.handover), disks::close(&self.config)] {
            if let Err(trouble) = done {
                journal.say(&format!("disks: {}", chain(&trouble)));
            }
        }
    }
}

/// The stage that gets documents: those of the image below the one that was given, and all that
/// they lead to.
fn get(
    given: Vec<Given>,
    plan: &Plan,
    network: &Lazy<'_>,
    whole: &mut Whole,
    journal: &dyn Journal,
) -> Result<Node, Failure> {
    let mut nodes = Vec::new();
    if plan.id.as_deref().is_some_and(platform::metadata::is_served) {
        // First, so that every document has its word on it.
        nodes.push(enabled("metadata.service"));
    }
    for Given { name, bytes, is_users } in given {
        let Document { format, node, report } =
            document::read(&name, &bytes, &Nowhere, &mut whole.sources);
        whole.is_users |= is_users;
        if format == Format::CloudConfig {
            // It is for every boot of the running system, and stops none.
            journal.say(&format!("fetch: {name} is a cloud-config: it is applied later"));
            nodes.push(enabled("ignition-cloud-config.service"));
            continue;
        }
        let warnings = report.findings.iter().filter(|f| f.severity == Severity::Warning);
        warnings.for_each(|warning| journal.say(&format!("warning: {}", warning.message)));
        whole.report.append(report);
        let node = node.ok_or_else(|| Failure::of_document(whole.report.clone()))?;
        let Whole { sources, report, .. } = whole;
        let node = render::render(node, network, sources, report).map_err(|error| match error {
            RenderError::Wrong => Failure::of_document(report.clone()),
            RenderError::Fetch { ref at, .. } => Failure::of("fetch", at.clone(), &error),
            RenderError::TooDeep => Failure::of("fetch", "$.ignition.config".to_owned(), &error),
        })?;
        nodes.push(node);
    }
    let mut report = Report::default();
    let node = document::merged(nodes, &mut report);
    if report.has_errors() {
        return Err(Failure::of_document(report));
    }
    Ok(node.unwrap_or_else(|| Node::new(Mark::default(), document::Map::default())))
}

/// A machine whose disks are as the document says, and whose root is not there yet.
#[derive(Debug)]
struct Prepared {
    config: Config,
    handover: Handover,
    machine: Machine,
}

/// What makes a running system start a unit of the image, at this boot and at all later ones.
fn enabled(unit: &str) -> Node {
    document::butane::follows(
        Mark { source: u32::MAX, offset: 0 },
        serde_json::json!({"ignition": {"version": "3.6.0"}, "systemd": {"units": [
            {"name": unit, "enabled": true}]}}),
    )
}

/// The stage before root: the disks.
fn prepare(
    order: &Order,
    config: Config,
    access: &dyn Access,
    journal: &dyn Journal,
) -> Result<Prepared, Failure> {
    let machine = Machine { images: BTreeMap::new(), patience: DISKS };
    let storage = &config.storage;
    let has_disks = !(storage.disks.is_empty()
        && storage.raid.is_empty()
        && storage.luks.is_empty()
        && storage.filesystems.is_empty());
    let mut handover = Handover::default();
    if has_disks {
        let supplies = Supplies { keys: keys(&config, access)?, memory: order.memory.clone() };
        handover = disks::apply(&config, &machine, &supplies, journal)
            .map_err(|trouble| failed("disks", &trouble))?;
    }
    Ok(Prepared { config, handover, machine })
}

fn failed(stage: &'static str, trouble: &Trouble) -> Failure {
    let failure = Failure::of(stage, trouble.at().to_owned(), trouble);
    failure.hint(trouble.hint().map(str::to_owned))
}

/// The keys of volumes that the document gives.
fn keys(config: &Config, access: &dyn Access) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut keys = BTreeMap::new();
    for (index, luks) in config.storage.luks.iter().enumerate() {
        let source = luks.key_file.source.as_deref().unwrap_or_default();
        if source.is_empty() {
            continue;
        }
        let mut key = Vec::new();
        access
            .of(&config.ignition)
            .and_then(|fetch| fetch.fetch(&luks.key_file, &mut key))
            .map_err(|error| {
                Failure::of("disks", format!("$.storage.luks.{index}.keyFile"), &error)
            })?;
        keys.insert(luks.name.clone(), key);
    }
    Ok(keys)
}

impl Prepared {
    /// The stages behind: root is mounted, with `/usr` and `/etc` in it.
    fn fill(
        mut self,
        order: &Order,
        access: &dyn Access,
        run: Option<Run>,
        day: u32,
        journal: &dyn Journal,
    ) -> Result<Rest, Failure> {
        hand_over(&mut self.config, &self.handover);
        let stopped = |stage| move |trouble: Trouble| failed(stage, &trouble);
        let mounted =
            mount::mount(&self.config, &self.machine, &order.root).map_err(stopped("mount"))?;
        let made = mounted.made.iter().filter_map(|made| made.strip_prefix(&order.root).ok());
        let made = made.map(|made| Path::new("/").join(made)).collect();
        let filled = self.files(order, access, made, run, day, journal);
        let unmounted = mounted.unmount().map_err(stopped("umount"));
        filled?;
        unmounted?;
        Ok(Rest { config: self.config, handover: self.handover })
    }

    fn files(
        &self,
        order: &Order,
        access: &dyn Access,
        made_for_mounts: Vec<PathBuf>,
        run: Option<Run>,
        day: u32,
        journal: &dyn Journal,
    ) -> Result<(), Failure> {
        let fail = |why: &dyn std::error::Error| Failure::of("files", "$".to_owned(), why);
        let root = Root::open(&order.root).map_err(|error| fail(&error))?;
        let fetch = access.of(&self.config.ignition).map_err(|error| fail(&error))?;
        let options = files::Options { day, made_for_mounts, run };
        files::apply(&root, &self.config, &*fetch, &options, journal).map(drop).map_err(|error| {
            let failure = Failure::of("files", error.at().to_owned(), &error);
            failure.hint(error.hint().map(str::to_owned))
        })
    }
}

/// What the disks stage leaves for the files of the machine, as files of the document.
fn hand_over(config: &mut Config, handover: &Handover) {
    let data = |bytes: &[u8]| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        Resource { source: Some(format!("data:;base64,{text}")), ..Resource::default() }
    };
    for (name, key) in &handover.keys {
        config.storage.files.push(File {
            path: format!("/etc/luks/{name}"),
            mode: Some(0o600),
            overwrite: Some(true),
            contents: data(key),
            ..File::default()
        });
    }
    if !handover.keys.is_empty() {
        config.storage.directories.push(crate::document::config::Directory {
            path: "/etc/luks".to_owned(),
            mode: Some(0o700),
            ..Default::default()
        });
    }
    if handover.crypttab.is_empty() {
        return;
    }
    let lines: String = handover.crypttab.iter().map(|line| format!("{line}\n")).collect();
    let path = "/etc/crypttab";
    match config.storage.files.iter_mut().find(|file| file.path == path) {
        Some(theirs) => theirs.append.push(data(lines.as_bytes())),
        None => config.storage.files.push(File {
            path: path.to_owned(),
            mode: Some(0o600),
            append: vec![data(lines.as_bytes())],
            ..File::default()
        }),
    }
}

/// Removes what was in memory only.
pub fn forget(memory: &Path) {
    let _ = fs::remove_dir_all(memory);
}

/// A time as RFC 3339 has it, from the seconds since 1970.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Years from March on, so that the leap day is the last of one (Hinnant, "chrono-compatible
    // low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_everybody_reads_it() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(rfc3339(1_795_262_400), "2026-11-21T12:00:00Z");
    }

    #[test]
    fn keys_of_volumes_become_files_that_only_root_reads() {
        let mut config = Config::default();
        let handover = Handover {
            crypttab: vec!["data UUID=1 /etc/luks/data luks".to_owned()],
            keys: [("data".to_owned(), b"key".to_vec())].into(),
            unkept: vec![],
        };
        hand_over(&mut config, &handover);
        let modes: Vec<_> =
            config.storage.files.iter().map(|file| (&*file.path, file.mode)).collect();
        assert_eq!(modes, [("/etc/luks/data", Some(0o600)), ("/etc/crypttab", Some(0o600))]);
        assert_eq!(config.storage.directories[0].mode, Some(0o700));
    }
}
