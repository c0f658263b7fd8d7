//! File systems: kept where they are as described, made where nothing is, refused where something
//! else is; and made anew, whatever is there, where the entry says `wipeFilesystem`.

use super::{
    Refused,
    facts::{Contents, Device, Facts},
    signature::{Kind, Signature},
    steps::{DEVICE, Program, Step},
};
use crate::document::{Config, config::Filesystem};

/// The steps for `storage.filesystems`.
pub fn plan(config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
    let mut steps = vec![];
    for (index, wanted) in config.storage.filesystems.iter().enumerate() {
        let device = facts.device(&wanted.device);
        steps.extend(one(&format!("$.storage.filesystems.{index}"), wanted, &device)?);
    }
    Ok(steps)
}

fn one(at: &str, wanted: &Filesystem, device: &Device) -> Result<Option<Step>, Refused> {
    let Some(format) = wanted.format.as_deref().filter(|format| !format.is_empty()) else {
        return Ok(None);
    };
    let wipe = wanted.wipe_filesystem == Some(true);
    let if_not_there = match &device.contents {
        Contents::Missing => {
            return Err(Refused::new(
                format!("{at}.device"),
                format!("there is no device {}", wanted.device),
                "correct the name, attach the disk, or make the partition in storage.disks",
            ));
        }
        Contents::Unknown => !wipe,
        Contents::Known(_) if wipe => false,
        Contents::Known(found) => {
            match wants(wanted, found).map_err(|found| refused(at, wanted, found))? {
                true => false,
                false => return Ok(None),
            }
        }
    };
    if let Some(user) = &device.used_by {
        return Err(Refused::new(
            format!("{at}.device"),
            format!("{} is in use by {user}", wanted.device),
            "choose another device",
        ));
    }
    Ok(Some(Step::MakeFilesystem {
        at: at.to_owned(),
        device: wanted.device.clone(),
        format: format.to_owned(),
        label: wanted.label.clone(),
        uuid: wanted.uuid.as_deref().map(|uuid| canonical(format, uuid)),
        wipe,
        program: program(at, format, wanted)?,
        if_not_there,
    }))
}

/// Whether it is to be made: yes where nothing is, no where it is as described; or what is in the
/// way. What `none` wants is that nothing is there.
fn wants<'a>(wanted: &Filesystem, found: &'a [Signature]) -> Result<bool, &'a Signature> {
    let format = wanted.format.as_deref().unwrap_or_default();
    let Some(first) = found.first() else { return Ok(format != "none") };
    let label = first.label.as_deref().unwrap_or_default();
    let uuid = canonical(format, first.uuid.as_deref().unwrap_or_default());
    let same = Some(&first.kind) == Kind::of_format(format).as_ref()
        && wanted.label.as_deref().is_none_or(|wanted| wanted == label)
        && wanted.uuid.as_deref().is_none_or(|wanted| canonical(format, wanted) == uuid);
    if same { Ok(false) } else { Err(first) }
}

fn refused(at: &str, wanted: &Filesystem, found: &Signature) -> Refused {
    let format = wanted.format.as_deref().unwrap_or_default();
    let wants = match format {
        "none" => "nothing".to_owned(),
        _ => {
            let part = |word: &str, text: &Option<String>| {
                text.as_ref().map(|text| format!(" {word} `{text}`")).unwrap_or_default()
            };
            let (label, uuid) = (part("label", &wanted.label), part("UUID", &wanted.uuid));
            format!("{format}{label}{uuid}")
        }
    };
    Refused::new(
        at,
        format!("{} holds {found}, but {wants} was wanted", wanted.device),
        "set wipeFilesystem: true to replace it (what is on it is lost), or describe it as it is",
    )
}

/// A UUID as tools take it and read it back: lower case, and the number of a FAT without its dash.
pub(crate) fn canonical(format: &str, uuid: &str) -> String {
    let uuid = uuid.to_lowercase();
    match uuid.split_once('-') {
        Some((high, low)) if format == "vfat" && high.len() == 4 => format!("{high}{low}"),
        _ => uuid,
    }
}

fn program(at: &str, format: &str, wanted: &Filesystem) -> Result<Option<Program>, Refused> {
    let (path, force, uuid, label): (_, &[&str], _, _) = match format {
        "ext4" => ("/usr/sbin/mkfs.ext4", &["-F"], "-U", "-L"),
        "xfs" => ("/usr/sbin/mkfs.xfs", &["-f"], "-m", "-L"),
        "btrfs" => ("/usr/sbin/mkfs.btrfs", &["--force"], "-U", "-L"),
        "swap" => ("/usr/sbin/mkswap", &["-f"], "-U", "-L"),
        "vfat" => ("/usr/sbin/mkfs.vfat", &[], "-i", "-n"),
        "none" => return Ok(None),
        _ => {
            return Err(Refused::new(
                format!("{at}.format"),
                format!("nothing here can make a file system `{format}`"),
                "use ext4, xfs, btrfs, vfat, swap or none",
            ));
        }
    };
    let mut program = Program { path, args: wanted.options.clone() }.with(force);
    if let Some(text) = &wanted.uuid {
        let text = canonical(format, text);
        let text = if format == "xfs" { format!("uuid={text}") } else { text };
        program = program.with(&[uuid, &text]);
    }
    if let Some(text) = &wanted.label {
        program = program.with(&[label, text]);
    }
    Ok(Some(program.with(&[DEVICE])))
}

/// Whether an entry is to be made now that its device can be looked into; or why not.
pub(crate) fn look_again(
    at: &str,
    wanted: &Filesystem,
    found: &[Signature],
) -> Result<bool, Refused> {
    wants(wanted, found).map_err(|found| refused(at, wanted, found))
}
