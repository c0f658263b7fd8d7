//! The files stage as a whole: facts are read, steps are planned and done, and what was done is told.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    Refused,
    accounts::{self, Accounts, Change, Defaults, FILES, Kind, Texts},
    nodes::{self, OVERWRITE},
    perform::{Failed, Outcome, perform},
    result,
    step::{Act, Step},
    tree::{Found, Last, Parents, Root, is_absence},
    units::{self, Known, UnitFacts},
};
use crate::{
    document::{Config, config::User, unit},
    fetch::Fetch,
    journal::Journal,
};

/// The file of keys of a document, beside that of the user.
const KEYS: &str = "ignition";

/// What the stage is told beside the document.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Today, in days since 1970; 0 if the clock is not set.
    pub day: u32,
    /// Directories that were made for mounts before, by their paths from the root: those in a home
    /// belong to who lives there.
    pub made_for_mounts: Vec<PathBuf>,
    /// What the result file says of this run; without it, none is written.
    pub run: Option<result::Run>,
}

/// What the root is like, as far as a document is about it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The files of users and groups.
    pub accounts: Texts,
    /// /etc/login.defs and /etc/default/useradd.
    pub defaults: [String; 2],
    /// Whether sshd reads a file of keys of our own in each home, beside that of the user.
    pub key_fragments: bool,
    /// For users who shall not be: the files that keep the image from making them again.
    pub masks: BTreeMap<String, Vec<String>>,
    /// What is at the paths of the document, and where these lead.
    pub nodes: BTreeMap<String, (PathBuf, Found)>,
    /// Today, in days since 1970.
    pub day: u32,
    /// Directories that were made for mounts.
    pub made_for_mounts: Vec<PathBuf>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Each step in words, and what came of it.
    pub steps: Vec<(String, Outcome)>,
    /// What is to be said of it.
    pub notes: Vec<String>,
}

/// Why a document could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It wants what cannot be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A step could not be done.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The root cannot be read or written.
    #[error("{doing}")]
    Root {
        /// What was done with it.
        doing: String,
        /// What happened.
        source: io::Error,
    },
}

impl ApplyError {
    /// The place in the document.
    pub fn at(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.at,
            Self::Failed(failed) => &failed.at,
            Self::Root { .. } => "$",
        }
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => refused.hint.as_deref(),
            Self::Failed(failed) => failed.hint.as_deref(),
            Self::Root { .. } => None,
        }
    }
}

fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> ApplyError {
    let doing = what.into();
    move |source| ApplyError::Root { doing, source }
}

/// Makes what is below a root what a document says.
pub fn apply(
    root: &Root,
    config: &Config,
    fetch: &dyn Fetch,
    options: &Options,
    journal: &dyn Journal,
) -> Result<Done, ApplyError> {
    let mut done = Done::default();
    let mut perform_all = |steps: &[Step]| -> Result<(), ApplyError> {
        for step in steps {
            let outcome = perform(root, step, fetch)?;
            journal.say(&match outcome {
                Outcome::Done => step.to_string(),
                Outcome::AsItWas => format!("{step}: it is so already"),
            });
            done.steps.push((step.to_string(), outcome));
        }
        Ok(())
    };
    let facts = Facts::read(root, config, options)?;
    perform_all(&plan(config, &facts)?)?;
    // Only now is there every text that says what enabling a unit means.
    let unit_facts = read_units(root, config)?;
    let (steps, notes) = units::plan_enabled(&config.systemd, &unit_facts);
    perform_all(&steps)?;
    if let Some(run) = &options.run {
        let old =
            root.read_text(Path::new(result::PATH)).map_err(doing("reading the last result"))?;
        let text = result::text(run, old.as_deref());
        let act = Act::Text { path: result::PATH.to_owned(), text, mode: 0o600 };
        perform_all(&[Step { at: "$".to_owned(), act }])?;
    }
    root.sync().map_err(doing("waiting until all is written"))?;
    done.notes = notes;
    done.notes.iter().for_each(|note| journal.say(note));
    Ok(done)
}

/// All steps but those that enable and disable units. A plan that is sure to fail is refused now,
/// before anything is done.
pub fn plan(config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
    let old = Accounts::parse(&facts.accounts);
    let mut new = old.clone();
    let defaults = Defaults::parse(&facts.defaults[0], &facts.defaults[1]);
    let people = accounts::change(&mut new, &config.passwd, &defaults, facts.day)?;
    let mut steps = Vec::new();
    for (_, kind) in FILES {
        let text = new.text(kind).filter(|text| Some(&**text) != old_text(facts, kind));
        if let Some(text) = text
            && new != old
        {
            steps.push(Step { at: "$.passwd".to_owned(), act: Act::Accounts { kind, text } });
        }
    }
    for (index, user) in config.passwd.users.iter().enumerate() {
        for path in facts.masks.get(&user.name).into_iter().flatten() {
            let act = Act::Mask { path: path.clone() };
            steps.push(Step { at: format!("$.passwd.users.{index}"), act });
        }
    }
    for person in &people {
        let at = person.at.clone();
        let (skeleton, mode) = (defaults.skeleton.clone(), defaults.home_mode);
        if person.change != Change::Keep {
            let act = Act::Home { person: person.clone(), skeleton: skeleton.clone(), mode };
            steps.push(Step { at: at.clone(), act });
        }
        for path in facts.made_for_mounts.iter().filter(|path| path.starts_with(&person.home)) {
            let path = path.to_string_lossy().into_owned();
            let ids = super::tree::Ids::both(person.user, person.group);
            let want = nodes::Want::Directory { mode: Some(0o700) };
            let node = nodes::Node { at: at.clone(), path, overwrite: false, ids, want };
            steps.push(Step { at: at.clone(), act: Act::Node(node) });
        }
        if !person.keys.is_empty() {
            let fragment = facts.key_fragments.then_some(KEYS);
            let act = Act::Keys { person: person.clone(), fragment };
            steps.push(Step { at, act });
        }
    }
    let resolved = facts.nodes.iter().map(|(path, (leads, _))| (path.clone(), leads.clone()));
    let nodes = nodes::plan(&config.storage, &new, &resolved.collect())?;
    for (index, node) in nodes.iter().enumerate() {
        let cleared =
            |other: &nodes::Node| other.overwrite && Path::new(&node.path).starts_with(&other.path);
        if let Some((_, found)) = facts.nodes.get(&node.path)
            && !nodes[..index].iter().any(cleared)
        {
            nodes::decide(node, found).map_err(|why| {
                Refused::new(&node.at, format!("{}: {why}", node.path)).hint(OVERWRITE)
            })?;
        }
    }
    steps.extend(nodes.into_iter().map(|node| Step { at: node.at.clone(), act: Act::Node(node) }));
    steps.extend(units::plan_files(&config.systemd)?);
    Ok(steps)
}

fn old_text(facts: &Facts, kind: Kind) -> Option<&str> {
    facts.accounts.get(&kind).and_then(Option::as_deref)
}

impl Facts {
    /// Reads what a document is about.
    pub fn read(root: &Root, config: &Config, options: &Options) -> Result<Self, ApplyError> {
        let text =
            |path: &str| root.read_text(Path::new(path)).map_err(doing(format!("reading {path}")));
        let has_passwd = !config.passwd.users.is_empty() || !config.passwd.groups.is_empty();
        let mut accounts = Texts::new();
        for (path, kind) in FILES {
            let bytes = root.read(Path::new(path)).map_err(doing(format!("reading {path}")))?;
            // What we could not write again as it was, we do not touch.
            let text = bytes.map(String::from_utf8).transpose().map_err(io::Error::other);
            accounts.insert(kind, text.map_err(doing(format!("reading {path}")))?);
        }
        let mut facts = Self {
            accounts,
            day: options.day,
            made_for_mounts: options.made_for_mounts.clone(),
            ..Self::default()
        };
        if has_passwd {
            for (default, path) in
                facts.defaults.iter_mut().zip(["/etc/login.defs", "/etc/default/useradd"])
            {
                *default = text(path)?.unwrap_or_default();
            }
            facts.key_fragments = reads_fragments(root, KEYS)?;
        }
        let goes = |user: &&User| user.should_exist == Some(false);
        for user in config.passwd.users.iter().filter(goes) {
            facts.masks.insert(user.name.clone(), read_masks(root, &user.name)?);
        }
        let storage = &config.storage;
        let paths = (storage.directories.iter().map(|one| &one.path).enumerate())
            .map(|(index, path)| (format!("$.storage.directories.{index}"), path))
            .chain(
                storage
                    .files
                    .iter()
                    .enumerate()
                    .map(|(index, one)| (format!("$.storage.files.{index}"), &one.path)),
            )
            .chain(
                storage
                    .links
                    .iter()
                    .enumerate()
                    .map(|(index, one)| (format!("$.storage.links.{index}"), &one.path)),
            );
        for (at, path) in paths {
            let found = match root.leads(Path::new(path)) {
                // Something other than a directory is on the way; its step will tell.
                Err(error) if is_absence(&error) => continue,
                Err(error) => return Err(Refused::new(at, format!("{path}: {error}")).into()),
                Ok(found) => found,
            };
            facts.nodes.insert(path.clone(), found);
        }
        Ok(facts)
    }
}

/// What a user comes back by: the image makes users and their homes by files of their names, which
/// files of the machine hide.
fn read_masks(root: &Root, user: &str) -> Result<Vec<String>, ApplyError> {
    let mut masks = Vec::new();
    for folder in ["sysusers.d", "tmpfiles.d"] {
        let shipped = PathBuf::from(format!("/usr/lib/{folder}"));
        let names = root.list(&shipped).map_err(doing(format!("listing {}", shipped.display())))?;
        let name = format!("{user}.conf");
        if names.iter().any(|one| *one == *name) {
            masks.push(format!("/etc/{folder}/{name}"));
        }
    }
    Ok(masks)
}

/// Whether sshd of this root is told of a file of keys beside that of the user.
pub(crate) fn reads_fragments(root: &Root, name: &str) -> Result<bool, ApplyError> {
    let file = format!("authorized_keys.d/{name}");
    let mut paths = vec![PathBuf::from("/etc/ssh/sshd_config")];
    let directory = Path::new("/etc/ssh/sshd_config.d");
    let names = root.list(directory).map_err(doing("listing /etc/ssh/sshd_config.d"))?;
    paths.extend(names.into_iter().map(|name| directory.join(name)));
    for path in paths {
        let text = root.read_text(&path).map_err(doing(format!("reading {}", path.display())))?;
        let text = text.unwrap_or_default();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        if lines.any(|line| line.contains(&file) || line.contains("ssh-key-dir")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads what enabling and disabling the units of a document depends on.
pub fn read_units(root: &Root, config: &Config) -> Result<UnitFacts, ApplyError> {
    let mut names: Vec<String> = units::named(&config.systemd.units).map(str::to_owned).collect();
    let mut facts = UnitFacts::default();
    if names.is_empty() {
        return Ok(facts);
    }
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        for name in [Some(name.clone()), unit::template_of(&name)].into_iter().flatten() {
            if facts.known.contains_key(&name) {
                continue;
            }
            if let Some(known) = read_unit(root, &name).map_err(doing(format!("reading {name}")))? {
                let also = units::also(&known, &name);
                names.extend(
                    also.into_iter().filter(|one| !names.contains(one)).collect::<Vec<_>>(),
                );
                facts.known.insert(name, known);
            }
        }
    }
    facts.links = read_links(root).map_err(doing("reading the links of /etc/systemd/system"))?;
    facts.preset = root
        .read_text(Path::new(units::PRESET))
        .map_err(doing(format!("reading {}", units::PRESET)))?;
    Ok(facts)
}

fn read_unit(root: &Root, name: &str) -> io::Result<Option<Known>> {
    if name.contains('/') {
        return Ok(None);
    }
    let mut known = None;
    for directory in units::SEARCHED {
        let path = format!("{directory}/{name}");
        let place = match root.place(Path::new(&path), Last::Itself, Parents::Need) {
            Err(error) if is_absence(&error) => continue,
            place => place?,
        };
        let is_masked = match place.found()? {
            Found::Nothing => continue,
            Found::Link(target) => target == Path::new("/dev/null"),
            _ => false,
        };
        let text =
            if is_masked { None } else { root.read_text(Path::new(&path)).unwrap_or_default() };
        known = Some(Known { path, texts: text.into_iter().collect(), is_masked });
        break;
    }
    let Some(mut known) = known else { return Ok(None) };
    for directory in units::SEARCHED {
        let directory = PathBuf::from(format!("{directory}/{name}.d"));
        for file in root.list(&directory)? {
            if file.to_string_lossy().ends_with(".conf") {
                known.texts.extend(root.read_text(&directory.join(file)).unwrap_or_default());
            }
        }
    }
    Ok(Some(known))
}

fn read_links(root: &Root) -> io::Result<Vec<(String, String)>> {
    let mut links = Vec::new();
    let mut directories = vec![units::DIRECTORY.to_owned()];
    for name in root.list(Path::new(units::DIRECTORY))? {
        let name = name.to_string_lossy().into_owned();
        if units::FOLLOWERS.iter().any(|(_, kind)| name.ends_with(&format!(".{kind}"))) {
            directories.push(format!("{}/{name}", units::DIRECTORY));
        }
    }
    for directory in directories {
        for name in root.list(Path::new(&directory))? {
            let path = format!("{directory}/{}", name.to_string_lossy());
            let place = root.place(Path::new(&path), Last::Itself, Parents::Need)?;
            if let Found::Link(target) = place.found()? {
                links.push((path, target.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(links)
}
