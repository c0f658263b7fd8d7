//! Units: their files, their masks, and whether they start by themselves.
//!
//! A unit is enabled twice: by the links that its `[Install]` asks for, as `systemctl enable` makes
//! them, and by a preset, so that `systemctl preset` comes to the same. The links alone count at the
//! first boot: no id of the machine decides over them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Refused,
    step::{Act, Step},
};
use crate::document::{
    config::{Systemd, Unit},
    unit,
};

/// Where units of the machine are.
pub const DIRECTORY: &str = "/etc/systemd/system";
/// Where our presets are.
pub const PRESET: &str = "/etc/systemd/system-preset/20-ignition.preset";
/// Where units are looked for, the first that has one wins.
pub const SEARCHED: [&str; 4] =
    [DIRECTORY, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// Directories of links that start a unit with another: by option of `[Install]`.
pub const FOLLOWERS: [(&str, &str); 3] =
    [("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")];

/// What is known of the units of a root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFacts {
    /// Units by name, as far as a document is about them.
    pub known: BTreeMap<String, Known>,
    /// Links in [`DIRECTORY`] and in the directories of links below it, and what they say.
    pub links: Vec<(String, String)>,
    /// The text of [`PRESET`].
    pub preset: Option<String>,
}

/// A unit that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Where.
    pub path: String,
    /// Its text, and those of its drop-ins.
    pub texts: Vec<String>,
    /// Whether it is a link to nothing.
    pub is_masked: bool,
}

/// Steps for the files of units and for masks.
pub fn plan_files(systemd: &Systemd) -> Result<Vec<Step>, Refused> {
    let mut steps = Vec::new();
    for (index, unit) in systemd.units.iter().enumerate() {
        let at = format!("$.systemd.units.{index}");
        check_name(&at, &unit.name)?;
        let path = format!("{DIRECTORY}/{}", unit.name);
        for (index, dropin) in unit.dropins.iter().enumerate() {
            let at = format!("{at}.dropins.{index}");
            check_name(&at, &dropin.name)?;
            if let Some(text) = &dropin.contents {
                let path = format!("{path}.d/{}", dropin.name);
                steps.push(Step { at, act: Act::Text { path, text: text.clone(), mode: 0o644 } });
            }
        }
        let contents = unit.contents.as_ref().filter(|text| !text.is_empty());
        match (contents, unit.mask) {
            // Its link would replace the file in the next step.
            (_, Some(true)) => steps.push(Step { at, act: Act::Mask { path } }),
            (Some(text), _) => {
                steps.push(Step { at, act: Act::Text { path, text: text.clone(), mode: 0o644 } });
            }
            (None, Some(false)) => steps.push(Step { at, act: Act::Unmask { path } }),
            (None, None) => {}
        }
    }
    Ok(steps)
}

/// Steps for what starts by itself, when files are as they should be; and what is to be said of it.
pub fn plan_enabled(systemd: &Systemd, facts: &UnitFacts) -> (Vec<Step>, Vec<String>) {
    let mut planner = Planner { facts, steps: Vec::new(), notes: Vec::new() };
    let mut presets = Presets::default();
    for (index, unit) in systemd.units.iter().enumerate() {
        let at = format!("$.systemd.units.{index}");
        match unit.enabled {
            Some(true) => {
                planner.enable(&at, &unit.name);
                presets.enable(&unit.name);
            }
            Some(false) => {
                let is_there = planner.disable(&at, &unit.name);
                if is_there {
                    presets.disable(&unit.name);
                }
            }
            None => {}
        }
    }
    if let Some(text) = presets.text(facts.preset.as_deref().unwrap_or_default()) {
        let at = "$.systemd.units".to_owned();
        let act = Act::Text { path: PRESET.to_owned(), text, mode: 0o644 };
        planner.steps.push(Step { at, act });
    }
    (planner.steps, planner.notes)
}

/// The units that have to be looked at before what starts by itself is planned.
pub fn named(units: &[Unit]) -> impl Iterator<Item = &str> {
    units.iter().filter(|unit| unit.enabled.is_some()).map(|unit| &*unit.name)
}

/// What an instance is an instance for.
fn instance_of(name: &str) -> Option<&str> {
    let (stem, _) = name.rsplit_once('.')?;
    let (_, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then_some(instance)
}

/// The units that are enabled and disabled together with one.
pub fn also(known: &Known, name: &str) -> Vec<String> {
    words(&install(known), "Also", name)
}

/// A name that is one name of a file, not a path.
fn check_name(at: &str, name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 255 {
        let why = format!("`{}` is not the name of a file", name.escape_debug());
        return Err(Refused::new(format!("{at}.name"), why).hint("a name has no `/` in it"));
    }
    Ok(())
}

struct Planner<'a> {
    facts: &'a UnitFacts,
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl Planner<'_> {
    fn known(&self, name: &str) -> Option<&Known> {
        let known = &self.facts.known;
        known.get(name).or_else(|| known.get(&unit::template_of(name)?))
    }

    /// The unit and those that go with it.
    fn with_also(&self, name: &str) -> Vec<String> {
        let mut all = vec![name.to_owned()];
        let mut at = 0;
        while let Some(name) = all.get(at) {
            let more = self.known(name).map(|known| also(known, name)).unwrap_or_default();
            let more: Vec<String> = more.into_iter().filter(|one| !all.contains(one)).collect();
            all.extend(more);
            at += 1;
        }
        all
    }

    fn enable(&mut self, at: &str, name: &str) {
        for name in self.with_also(name) {
            let links = match self.known(&name) {
                None => Err("is not there: only its preset says that it shall start".to_owned()),
                Some(known) if known.is_masked => Err("is masked: it cannot start".to_owned()),
                Some(known) => links(known, &name),
            };
            match links {
                Ok(links) => self.steps.extend(links.into_iter().map(|(link, target)| Step {
                    at: at.to_owned(),
                    act: Act::Enable { link, target },
                })),
                Err(why) => self.notes.push(format!("{at}: `{name}` {why}")),
            }
        }
    }

    /// Says whether there was anything to disable.
    fn disable(&mut self, at: &str, name: &str) -> bool {
        let mut is_there = false;
        for name in self.with_also(name) {
            is_there |= self.known(&name).is_some();
            for (link, target) in &self.facts.links {
                if enables(link, target, &name) {
                    is_there = true;
                    let act = Act::Disable { link: link.clone() };
                    self.steps.push(Step { at: at.to_owned(), act });
                }
            }
        }
        is_there
    }
}

/// Whether a link is one by which a unit, or an instance of a template, starts by itself.
fn enables(link: &str, target: &str, name: &str) -> bool {
    let Some((directory, link_name)) = link.rsplit_once('/') else { return false };
    let is_it = |one: &str| one == name || unit::template_of(one).as_deref() == Some(name);
    if FOLLOWERS.iter().any(|(_, kind)| directory.ends_with(&format!(".{kind}"))) {
        return is_it(link_name);
    }
    // An alias: it has another name than what it leads to, and the same instance.
    let target_name = target.rsplit('/').next().unwrap_or_default();
    let instance = instance_of(link_name).filter(|_| target_name.contains("@."));
    let leads_to = match instance {
        Some(instance) => target_name.replacen("@.", &format!("@{instance}."), 1),
        None => target_name.to_owned(),
    };
    is_it(&leads_to) && leads_to != link_name
}

/// What `[Install]` of a unit says, its drop-ins included.
fn install(known: &Known) -> unit::Unit {
    let parsed = known.texts.iter().filter_map(|text| unit::parse(text).ok());
    unit::Unit { sections: parsed.flat_map(|unit| unit.sections).collect() }
}

/// The words of an option of `[Install]`, for a unit of this name.
fn words(unit: &unit::Unit, option: &str, name: &str) -> Vec<String> {
    let values = unit.values("Install", option);
    let words = values.iter().flat_map(|value| value.split_whitespace());
    words.filter_map(|word| expand(word.trim_matches('"'), name)).collect()
}

/// The links by which a unit is enabled, and what they say.
fn links(known: &Known, name: &str) -> Result<Vec<(String, String)>, String> {
    let unit = install(known);
    let mut name = name.to_owned();
    if let Some(at) = name.find("@.")
        && let Some(instance) = words(&unit, "DefaultInstance", &name).pop()
    {
        name.insert_str(at + 1, &instance);
    }
    let is_template = name.contains("@.");
    let mut links = BTreeSet::new();
    let mut left_out = Vec::new();
    for (option, kind) in FOLLOWERS {
        for leader in words(&unit, option, &name) {
            if leader.contains('/') || !leader.contains('.') {
                left_out.push(leader);
            } else if is_template && !leader.contains("@.") {
                return Err("is a template: name the instance that shall start".to_owned());
            } else {
                links.insert((format!("{DIRECTORY}/{leader}.{kind}/{name}"), known.path.clone()));
            }
        }
    }
    for mut alias in words(&unit, "Alias", &name) {
        if let (Some(at), Some(instance)) = (alias.find("@."), instance_of(&name)) {
            alias.insert_str(at + 1, instance);
        }
        if alias.contains('/') || alias.rsplit('.').next() != name.rsplit('.').next() {
            left_out.push(alias);
        } else if alias != name {
            links.insert((format!("{DIRECTORY}/{alias}"), known.path.clone()));
        }
    }
    if !left_out.is_empty() {
        return Err(format!("wants links that cannot be: {}", left_out.join(", ")));
    }
    if links.is_empty() && unit.values("Install", "Also").is_empty() {
        return Err("has nothing in [Install]: enabling it does nothing".to_owned());
    }
    Ok(links.into_iter().collect())
}

/// Replaces the specifiers of systemd.unit(5) that follow from the name; a word with one that does
/// not is left to systemd and its presets.
fn expand(word: &str, name: &str) -> Option<String> {
    let (stem, _) = name.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut expanded = String::new();
    let mut characters = word.chars();
    while let Some(c) = characters.next() {
        match c {
            '%' => match characters.next()? {
                'i' => expanded.push_str(instance),
                'n' => expanded.push_str(name),
                'N' => expanded.push_str(stem),
                'p' => expanded.push_str(prefix),
                '%' => expanded.push('%'),
                _ => return None,
            },
            c => expanded.push(c),
        }
    }
    Some(expanded)
}

/// Lines of a preset: one for each unit, and one for all enabled instances of a template.
#[derive(Default)]
struct Presets {
    /// By unit, and whether it is disabled; each with its instances.
    lines: BTreeMap<(String, bool), Vec<String>>,
}

impl Presets {
    fn enable(&mut self, name: &str) {
        let template = unit::template_of(name).unwrap_or(name.to_owned());
        let instances = self.lines.entry((template, false)).or_default();
        instances.extend(instance_of(name).map(str::to_owned));
    }

    fn disable(&mut self, name: &str) {
        // What follows the name in such a line would be taken for more of the name.
        self.lines.entry((name.to_owned(), true)).or_default();
    }

    /// Our lines before those that are there: the first that speaks of a unit is what counts.
    fn text(&self, old: &str) -> Option<String> {
        if self.lines.is_empty() {
            return None;
        }
        let mut text = String::new();
        for ((unit, is_disabled), instances) in &self.lines {
            text.push_str(if *is_disabled { "disable " } else { "enable " });
            text.push_str(unit);
            for instance in instances {
                text.push(' ');
                text.push_str(instance);
            }
            text.push('\n');
        }
        let ours: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        for line in old.lines().filter(|line| !ours.contains(*line)) {
            text.push_str(line);
            text.push('\n');
        }
        Some(text)
    }
}
