//! Encrypted volumes (LUKS2), made by cryptsetup(8), their keys kept by clevis(1) where the
//! document asks for that.
//!
//! A volume says in its header (the subsystem) how far it is, for the case that the power fails:
//!
//! ```text
//! UNFINISHED --made, the key is in the document or with clevis--> no mark
//!     |
//!     +--made, with a key of its own--> UNKEPT --root, which has the key, has its name--> no mark
//! ```
//!
//! One that is unfinished holds nothing, and is made anew. So is one that is unkept where root has
//! to be made: the key went with the root that never was one. With the key in the document it is as
//! good as any other.

use super::{
    Refused,
    facts::{Contents, Facts},
    signature::{Kind, Signature},
    steps::{DEVICE, KEY, Program, Step},
};
use crate::document::{
    Config,
    config::{Clevis, Luks},
};

/// What a volume says of itself while it is being made.
pub const UNFINISHED: &str = "pithos-unfinished";
/// What a volume says of itself while its only key is on a root without a name.
pub const UNKEPT: &str = "pithos-unkept";
const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";
const CLEVIS: &str = "/usr/bin/clevis";

/// The steps for `storage.luks`.
pub fn plan(config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
    let mut steps = vec![];
    for (index, volume) in config.storage.luks.iter().enumerate() {
        steps.extend(one(&format!("$.storage.luks.{index}"), volume, facts)?);
    }
    Ok(steps)
}

/// The program that changes the mark of a volume; an empty one is none. The label has to be said once
/// more: what is not said is taken away with the mark.
pub fn mark(mark: &str, label: Option<&str>) -> Program {
    let program = Program::new(CRYPTSETUP, &["config", DEVICE, "--subsystem", mark]);
    match label {
        Some(label) => program.with(&["--label", label]),
        None => program,
    }
}

/// Whether the document has something else keep the key.
pub fn has_clevis(clevis: &Clevis) -> bool {
    clevis.custom.pin.as_deref().is_some_and(|pin| !pin.is_empty())
        || !clevis.tang.is_empty()
        || clevis.tpm2 == Some(true)
}

/// Whether who keeps the key must be asked while the volume is made.
pub fn asks_network(clevis: &Clevis) -> bool {
    let tang =
        clevis.tang.iter().any(|tang| tang.advertisement.as_deref().unwrap_or("").is_empty());
    tang || clevis.custom.pin.is_some() && clevis.custom.needs_network == Some(true)
}

fn one(at: &str, volume: &Luks, facts: &Facts) -> Result<Option<Step>, Refused> {
    let name = volume.device.as_deref().unwrap_or_default();
    let device = facts.device(name);
    if volume.cex.enabled == Some(true) {
        return Err(Refused::new(
            format!("{at}.cex"),
            "Crypto Express cards are in IBM Z only",
            "use a key file, or clevis",
        ));
    }
    if device.contents == Contents::Missing {
        return Err(Refused::new(
            format!("{at}.device"),
            format!("there is no device {name}"),
            "correct the name, attach the disk, or make the partition in storage.disks",
        ));
    }
    // The node exists when it is open.
    let is_open = super::facts::volume_names(&volume.name)
        .iter()
        .any(|name| facts.device(name).contents != Contents::Missing);
    if volume.wipe_volume != Some(true)
        && let Some(found) = device.contents.first()
        && (is_open || !is_lost(volume, found))
    {
        let differs = differs(volume, found, is_open)?;
        if !differs.is_empty() {
            return Err(Refused::new(
                at,
                format!("{name} cannot be kept: {}", differs.join("; ")),
                "set wipeVolume: true to make it anew (what is on it is lost), or correct the entry",
            ));
        }
        let step = Step::OpenVolume {
            at: at.to_owned(),
            name: volume.name.clone(),
            device: name.to_owned(),
            program: open_program(volume),
        };
        return Ok((!is_open && device.used_by.is_none()).then_some(step));
    }
    if let Some(user) = &device.used_by {
        return Err(Refused::new(
            format!("{at}.device"),
            format!("{name} is in use by {user}"),
            "choose another device",
        ));
    }
    Ok(Some(Step::MakeVolume {
        at: at.to_owned(),
        name: volume.name.clone(),
        device: name.to_owned(),
        label: volume.label.clone().filter(|label| !label.is_empty()),
        uuid: volume.uuid.clone().filter(|uuid| !uuid.is_empty()),
        generate_key: !has_key(volume),
        programs: make(at, volume)?,
    }))
}

fn has_key(volume: &Luks) -> bool {
    volume.key_file.source.as_deref().is_some_and(|source| !source.is_empty())
}

/// Whether nothing can be in it that somebody was told is there.
fn is_lost(volume: &Luks, found: &Signature) -> bool {
    match mark_of(found) {
        Some(UNFINISHED) => true,
        Some(UNKEPT) => !has_key(volume),
        _ => false,
    }
}

/// The mark of a volume.
pub fn mark_of(found: &Signature) -> Option<&str> {
    match &found.kind {
        Kind::Luks { subsystem, .. } => subsystem.as_deref(),
        _ => None,
    }
}

/// Why what is there cannot be kept. One that is open needs no key any more.
fn differs(volume: &Luks, found: &Signature, is_open: bool) -> Result<Vec<String>, Refused> {
    let Kind::Luks { version, flags, .. } = &found.kind else {
        return Ok(vec![format!("it holds {found}")]);
    };
    let mut all = vec![];
    if *version != 2 {
        all.push(format!("it is LUKS{version}, not LUKS2"));
    }
    if !is_open && has_clevis(&volume.clevis) {
        all.push("nobody can tell whether clevis keeps its key as described".to_owned());
    } else if !is_open && !has_key(volume) {
        all.push("its key is not in the document (keyFile)".to_owned());
    }
    let mut differ = |what: &str, is: &Option<String>, wanted: &Option<String>| {
        if let Some(wanted) = wanted
            && is.as_deref().unwrap_or_default() != wanted
        {
            let is = is.as_deref().unwrap_or_default();
            all.push(format!("its {what} is `{is}`, not `{wanted}`"));
        }
    };
    differ("label", &found.label, &volume.label);
    differ("UUID", &found.uuid, &volume.uuid);
    let (is, wanted) = (flags.iter().any(|f| f == "allow-discards"), volume.discard == Some(true));
    if *version == 2 && is != wanted {
        let word = |on| if on { "passed on" } else { "kept back" };
        all.push(format!("discards are {}, not {}", word(is), word(wanted)));
    }
    Ok(all)
}

fn open_program(volume: &Luks) -> Program {
    let program = Program::new(CRYPTSETUP, &["luksOpen", DEVICE, &volume.name, "--key-file", KEY])
        .with(&["--persistent"]);
    let discard: &[&str] = if volume.discard == Some(true) { &["--allow-discards"] } else { &[] };
    program.with(discard).with_all(&volume.open_options)
}

fn make(at: &str, volume: &Luks) -> Result<Vec<Program>, Refused> {
    let mut format = Program::new(CRYPTSETUP, &["luksFormat", "--batch-mode", "--type", "luks2"])
        .with(&["--key-file", KEY, "--subsystem", UNFINISHED]);
    for (option, value) in [("--label", &volume.label), ("--uuid", &volume.uuid)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            format = format.with(&[option, value]);
        }
    }
    let mut programs = vec![format.with_all(&volume.options).with(&[DEVICE]), open_program(volume)];
    let clevis = &volume.clevis;
    if has_clevis(clevis) {
        let (pin, config) = pin(at, clevis)?;
        let bind = ["luks", "bind", "-f", "-k", KEY, "-d", DEVICE, &pin, &config];
        programs.push(Program::new(CLEVIS, &bind));
        if can_prove(clevis) {
            // Only a lock that was seen to open is closed for good.
            programs.push(Program::new(CRYPTSETUP, &["luksClose", &volume.name]));
            let unlock = ["luks", "unlock", "-d", DEVICE, "-n", &volume.name];
            programs.push(Program::new(CLEVIS, &unlock));
        }
        if !has_key(volume) {
            programs.push(Program::new(CRYPTSETUP, &["luksRemoveKey", DEVICE, KEY]));
        }
    }
    Ok(programs)
}

/// Whether enough of those that keep the key can be asked now: servers that the document brings the
/// answer of may not be there yet.
fn can_prove(clevis: &Clevis) -> bool {
    let here =
        clevis.tang.iter().filter(|tang| tang.advertisement.as_deref().unwrap_or("").is_empty());
    let here = here.count() + usize::from(clevis.tpm2 == Some(true));
    here as i64 >= clevis.threshold.unwrap_or(1).max(1)
}

fn pin(at: &str, clevis: &Clevis) -> Result<(String, String), Refused> {
    if let Some(pin) = clevis.custom.pin.clone().filter(|pin| !pin.is_empty()) {
        return Ok((pin, clevis.custom.config.clone().unwrap_or_default()));
    }
    let mut pins = serde_json::Map::new();
    let mut servers = vec![];
    for (index, tang) in clevis.tang.iter().enumerate() {
        let mut server = serde_json::json!({ "url": tang.url, "thp": tang.thumbprint });
        if let Some(text) = tang.advertisement.as_deref().filter(|text| !text.is_empty()) {
            server["adv"] = serde_json::from_str(text).map_err(|error| {
                Refused::new(
                    format!("{at}.clevis.tang.{index}.advertisement"),
                    format!("it is no JSON: {error}"),
                    "copy what the server says at /adv",
                )
            })?;
        }
        servers.push(server);
    }
    if !servers.is_empty() {
        pins.insert("tang".to_owned(), servers.into());
    }
    if clevis.tpm2 == Some(true) {
        pins.insert("tpm2".to_owned(), serde_json::json!({}));
    }
    let config = serde_json::json!({ "pins": pins, "t": clevis.threshold.unwrap_or(1) });
    Ok(("sss".to_owned(), config.to_string()))
}
