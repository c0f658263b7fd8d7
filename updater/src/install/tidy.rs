//! Putting `/EFI/Linux` in order: after a power cut, and when an update is taken back.
//!
//! FAT has no journal. A rename that was cut short leaves a file under both names or under none,
//! and under both names it is the same clusters: the check before the ESP is mounted leaves them to
//! one of the two and empties the other. So what is whole is told by its hash, not by its name.

use std::collections::BTreeSet;

use super::{
    Error, Media,
    perform::{io_error, sha256_of},
    plan::is_unfinished,
};
use crate::{
    records::Installed,
    slots::{Slots, Uki},
};

/// Leaves one UKI to the version that runs, `booted` of the boot loader's names if it says one, and
/// removes what was not finished. Says what it did. To be called when no installation is under way
/// and before a boot is blessed.
pub fn tidy(media: &dyn Media, slots: &Slots, booted: Option<&str>) -> Result<Vec<String>, Error> {
    let esp = media.esp();
    let files = esp.list().map_err(io_error("listing /EFI/Linux of the ESP"))?;
    let installed = Installed::load(media.state())?.filter(|i| i.version == *slots.version());
    let is_whole = |name: &str| match &installed {
        Some(installed) => {
            sha256_of(esp, name).is_ok_and(|(sha256, _)| sha256 == installed.uki_sha256)
        }
        // It came with the disk: nothing says what it should be.
        None => files.iter().any(|file| file.name == name && file.size_bytes > 0),
    };
    let (mut own, mut unfinished) = (vec![], vec![]);
    for file in &files {
        match Uki::parse(&file.name) {
            Some(uki) if uki.version == *slots.version() => own.push(uki),
            Some(_) => {}
            None if is_unfinished(&file.name) => unfinished.push(file.name.clone()),
            None => {}
        }
    }
    own.sort_by(Uki::boot_order);
    let own: Vec<String> = own.iter().map(Uki::name).collect();
    let Some(keep) =
        booted.filter(|b| own.iter().any(|name| name == b)).or(own.first().map(|n| &**n))
    else {
        // An operator took it away, or another loader is in use.
        return Ok(vec![]);
    };
    let others = own.iter().chain(&unfinished).filter(|name| *name != keep);
    let mut others: BTreeSet<&str> = others.map(|name| &**name).collect();
    let mut done = vec![];
    if !is_whole(keep)
        && let Some(whole) = others.iter().copied().find(|name| is_whole(name))
    {
        esp.rename(whole, keep).map_err(io_error(format!("naming {keep} on the ESP")))?;
        others.remove(whole);
        done.push(format!("{keep} was damaged, and was replaced by {whole}"));
    }
    for name in others {
        esp.remove(name).map_err(io_error(format!("removing {name} from the ESP")))?;
        done.push(format!("{name} was left over, and was removed"));
    }
    if !done.is_empty() {
        esp.sync().map_err(io_error("syncing the ESP"))?;
    }
    Ok(done)
}

/// Takes an installed version back that is not proven, and what attempts have left on the ESP. A
/// version that has proven itself stays, and what runs is the first again. Says which files went.
pub fn take_back(media: &dyn Media, slots: &Slots) -> Result<Vec<String>, Error> {
    let esp = media.esp();
    if let Some(retired) = slots.content(slots.booted).ukis().iter().find(|uki| uki.is_retired()) {
        let (from, to) = (retired.name(), retired.version.uki_name(None));
        let doing = format!("naming {from} {to} on the ESP");
        esp.rename(&from, &to).and_then(|()| esp.sync()).map_err(io_error(doing))?;
    }
    let files = esp.list().map_err(io_error("listing /EFI/Linux of the ESP"))?;
    let goes = |name: &str| match Uki::parse(name) {
        Some(uki) => uki.version != *slots.version() && uki.trial.is_some(),
        None => is_unfinished(name),
    };
    let gone: Vec<String> = files.into_iter().map(|file| file.name).filter(|n| goes(n)).collect();
    for name in &gone {
        esp.remove(name).map_err(io_error(format!("removing {name} from the ESP")))?;
    }
    if !gone.is_empty() {
        esp.sync().map_err(io_error("syncing the ESP"))?;
    }
    Ok(gone)
}
