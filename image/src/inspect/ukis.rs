//! The UKIs on an ESP: their parts, and which slot each of them boots.

use layout::cmdline;
use serde::Serialize;

use super::slots::SlotReport;
use crate::{
    esp::fat::{Entry, Fat},
    manifest::Section,
    uki::Pe,
};

/// More than any UKI has.
const UKI_BYTES_MAX: u64 = 256 << 20;
const FOLDER: &str = "/EFI/Linux/";
const LOADER: &str = "/EFI/BOOT/BOOTX64.EFI";

/// A UKI.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct UkiReport {
    /// Its name in /EFI/Linux.
    pub file: String,
    /// Its size.
    pub size_bytes: u64,
    /// Boots that it has left to prove itself; none if it is proven.
    pub tries_left: Option<u32>,
    /// IMAGE_VERSION of the os-release in it.
    pub version: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Its command line.
    pub cmdline: Option<String>,
    /// The root hash of its command line.
    pub usrhash: Option<String>,
    /// The slot with that root hash.
    pub slot: Option<&'static str>,
    /// What it consists of.
    pub sections: Vec<Section>,
}

/// Looks at all of them.
pub(super) fn look(
    fat: &Fat<'_>,
    slots: &[SlotReport],
    problems: &mut Vec<String>,
) -> Vec<UkiReport> {
    let all = match fat.walk() {
        Ok(all) => all,
        Err(why) => {
            problems.push(format!("the EFI System Partition cannot be read: {why}"));
            return Vec::new();
        }
    };
    if !all.iter().any(|entry| entry.path.eq_ignore_ascii_case(LOADER)) {
        problems.push(format!("the ESP has no {LOADER}: firmware finds no loader"));
    }
    let is_uki = |entry: &&Entry| {
        let path = entry.path.to_ascii_lowercase();
        !entry.folder && path.starts_with(&FOLDER.to_ascii_lowercase()) && path.ends_with(".efi")
    };
    let mut ukis: Vec<&Entry> = all.iter().filter(is_uki).collect();
    ukis.sort_by(|a, b| a.path.cmp(&b.path));
    if ukis.is_empty() {
        problems.push("the ESP has no UKI in /EFI/Linux: the loader finds nothing".to_owned());
    }
    ukis.into_iter().map(|entry| uki(fat, entry, slots, problems)).collect()
}

fn uki(
    fat: &Fat<'_>,
    entry: &Entry,
    slots: &[SlotReport],
    problems: &mut Vec<String>,
) -> UkiReport {
    let file = entry.path[FOLDER.len()..].to_owned();
    let mut report = UkiReport {
        tries_left: tries_left(&file),
        file,
        size_bytes: entry.size_bytes,
        version: None,
        kernel: None,
        cmdline: None,
        usrhash: None,
        slot: None,
        sections: Vec::new(),
    };
    let bytes = match fat.read(entry, UKI_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(why) => {
            problems.push(format!("{} cannot be read: {why}", report.file));
            return report;
        }
    };
    let pe = match Pe::parse(&bytes) {
        Ok(pe) => pe,
        Err(why) => {
            problems.push(format!("{} is no UKI: {why}", report.file));
            return report;
        }
    };
    report.sections = pe.describe();
    report.kernel = pe.text(".uname");
    report.version = pe.text(".osrel").and_then(|text| image_version(&text));
    report.cmdline = pe.text(".cmdline");
    let line = report.cmdline.as_deref().unwrap_or_default();
    report.usrhash = cmdline::values(line, cmdline::USRHASH).last().map(|&hash| hash.to_owned());
    let boots = |slot: &&SlotReport| {
        slot.content.as_ref().map(|content| content.root_hash.as_str()) == report.usrhash.as_deref()
    };
    report.slot = match &report.usrhash {
        Some(_) => slots.iter().find(boots).map(|slot| slot.slot),
        None => None,
    };
    match (&report.usrhash, report.slot) {
        (None, _) => problems.push(format!("{} has no usrhash= to boot from", report.file)),
        (Some(hash), None) => problems.push(format!(
            "{} boots root hash {hash}, which no slot of this disk has",
            report.file
        )),
        (Some(_), Some(_)) => {}
    }
    if let Some(version) = &report.version
        && !named_after(&report.file, version)
    {
        problems.push(format!("{} says inside that it is version {version}", report.file));
    }
    report
}

/// `pithos_VERSION+LEFT-DONE.efi`: the counter of Automatic Boot Assessment.
fn tries_left(file: &str) -> Option<u32> {
    let (_, counter) = stem(file).rsplit_once('+')?;
    counter.split('-').next()?.parse().ok()
}

fn named_after(file: &str, version: &str) -> bool {
    let name = stem(file);
    let name = name.split_once('+').map_or(name, |(name, _)| name);
    name.strip_prefix("pithos_") == Some(version)
}

fn stem(file: &str) -> &str {
    file.len().checked_sub(4).and_then(|end| file.get(..end)).unwrap_or(file)
}

fn image_version(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_counter_is_read_off_the_name() {
        assert_eq!(tries_left("pithos_0.1.0-20+3.efi"), Some(3));
        assert_eq!(tries_left("pithos_0.1.0-20+2-1.efi"), Some(2));
        assert_eq!(tries_left("pithos_0.1.0-20.efi"), None);
        assert!(named_after("pithos_0.1.0-20+2-1.efi", "0.1.0-20"));
        assert!(!named_after("pithos_0.1.0-20+2-1.efi", "0.1.0-2"));
    }
}
