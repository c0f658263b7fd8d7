//! Arrays of disks, made by mdadm(8). Arrays have no word for keeping what is there, so one is made
//! whatever is on its members; but one that is there already, from the same members and as the
//! document says, is started.

use super::{
    Refused,
    facts::{Contents, Device, Facts, array_node},
    signature::Kind,
    steps::{Program, Step},
};
use crate::document::{Config, config::Raid};

const MDADM: &str = "/usr/sbin/mdadm";

/// The steps for `storage.raid`.
pub fn plan(config: &Config, facts: &Facts) -> Result<Vec<Step>, Refused> {
    let mut steps = vec![];
    for (index, array) in config.storage.raid.iter().enumerate() {
        steps.extend(one(&format!("$.storage.raid.{index}"), array, facts)?);
    }
    Ok(steps)
}

fn one(at: &str, array: &Raid, facts: &Facts) -> Result<Option<Step>, Refused> {
    let members: Vec<Device> = array.devices.iter().map(|name| facts.device(name)).collect();
    for (index, (name, member)) in array.devices.iter().zip(&members).enumerate() {
        if member.contents == Contents::Missing {
            return Err(Refused::new(
                format!("{at}.devices.{index}"),
                format!("there is no device {name}"),
                "correct the name, attach the disk, or make the partition in storage.disks",
            ));
        }
    }
    let spares = u32::try_from(array.spares.unwrap_or(0)).ok();
    let all = u32::try_from(array.devices.len()).unwrap_or(u32::MAX);
    let disks = spares.and_then(|spares| all.checked_sub(spares)).filter(|disks| *disks > 0);
    let Some(disks) = disks else {
        let (spares, all) = (array.spares.unwrap_or(0), array.devices.len());
        return Err(Refused::new(
            format!("{at}.spares"),
            format!("{spares} of {all} devices cannot be spare"),
            "at least one device must work",
        ));
    };
    let word = array.level.as_deref().unwrap_or_default();
    let Some(level) = level(word) else {
        return Err(Refused::new(
            format!("{at}.level"),
            format!("there is no level `{word}`"),
            "use linear, raid0, raid1, raid4, raid5, raid6 or raid10",
        ));
    };
    let node = array_node(&array.name);
    let (at, name, names) = (at.to_owned(), array.name.clone(), array.devices.clone());
    if is_there(&array.name, level, disks, &members) {
        let started = members.iter().any(|member| member.used_by.is_some())
            || !matches!(facts.device(&node).contents, Contents::Missing);
        let program = Program::new(MDADM, &["--assemble", &node, "--run"]);
        return Ok((!started).then_some(Step::AssembleArray { at, name, members: names, program }));
    }
    for (index, (device, member)) in array.devices.iter().zip(&members).enumerate() {
        if let Some(user) = &member.used_by {
            return Err(Refused::new(
                format!("{at}.devices.{index}"),
                format!("{device} is in use by {user}"),
                "choose another device",
            ));
        }
    }
    let count = disks.to_string();
    let mut program = Program::new(MDADM, &["--create", &node, "--force", "--run"]).with(&[
        "--homehost",
        "any",
        "--level",
        word,
        "--raid-devices",
        &count,
    ]);
    if all > disks {
        program = program.with(&["--spare-devices", &(all - disks).to_string()]);
    }
    let program = program.with_all(&array.options);
    Ok(Some(Step::MakeArray { at, name, members: names, level, disks, program }))
}

fn is_there(name: &str, level: i32, disks: u32, members: &[Device]) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let array = members.first().and_then(|member| member.contents.first());
    let Some(id) = array.and_then(|first| first.uuid.as_deref()) else { return false };
    members.iter().all(|member| {
        member.contents.first().is_some_and(|found| {
            let label = found.label.as_deref().unwrap_or_default();
            found.kind == Kind::Mdraid { level, disks }
                && found.uuid.as_deref() == Some(id)
                // Some write the name of the host before it; a name may have a colon, too.
                && label.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', ':']))
        })
    })
}

/// The level as superblocks have it.
fn level(word: &str) -> Option<i32> {
    match word {
        "linear" => Some(-1),
        "raid0" | "0" | "stripe" => Some(0),
        "raid1" | "1" | "mirror" => Some(1),
        "raid4" | "4" => Some(4),
        "raid5" | "5" => Some(5),
        "raid6" | "6" => Some(6),
        "raid10" | "10" => Some(10),
        _ => None,
    }
}
