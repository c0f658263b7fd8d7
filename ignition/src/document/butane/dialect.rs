//! Which Butane a document is written in, and what of it there is.

use crate::document::{
    node::{At, Node},
    report::Report,
    yaml,
};

/// A variant and a version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The variant.
    pub variant: Variant,
    /// Its version: 1.`version`.0.
    pub version: u8,
    /// The specification that it maps to: 3.`minor`.0.
    pub minor: u8,
}

/// For which system a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Fedora CoreOS.
    Fcos,
    /// Flatcar.
    Flatcar,
    /// This one: all that the newest of the others have, but for what cannot be here.
    Pithos,
}

/// For each version of a variant, from 1.0.0, the minor version of the specification.
const FCOS: &[u8] = &[0, 1, 2, 2, 3, 4, 5, 6];
const FLATCAR: &[u8] = &[3, 4];
const PITHOS: &[u8] = &[6];

impl Variant {
    fn named(name: &str) -> Option<Self> {
        [Self::Fcos, Self::Flatcar, Self::Pithos].into_iter().find(|variant| variant.name() == name)
    }

    /// How a document names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fcos => "fcos",
            Self::Flatcar => "flatcar",
            Self::Pithos => "pithos",
        }
    }

    fn minors(self) -> &'static [u8] {
        match self {
            Self::Fcos => FCOS,
            Self::Flatcar => FLATCAR,
            Self::Pithos => PITHOS,
        }
    }

    /// The first version of it that maps to 3.`minor`.0, or to a newer one.
    pub fn since(self, minor: u8) -> Option<String> {
        let version = self.minors().iter().position(|has| *has >= minor)?;
        Some(format!("{} 1.{version}.0", self.name()))
    }
}

impl Dialect {
    /// Whether it has a key of the top that is not of Ignition.
    pub fn has(self, key: &str) -> bool {
        match key {
            "boot_device" => self.variant == Variant::Fcos && self.version >= 3,
            "grub" => self.variant == Variant::Fcos && self.version >= 5,
            "quadlets" => self.variant == Variant::Pithos,
            _ => true,
        }
    }

    /// Why it does not, and never will, have a key that other variants have.
    pub fn refuses(self, key: &str) -> Option<&'static str> {
        match (self.variant, key) {
            (Variant::Flatcar | Variant::Pithos, "boot_device") => Some(
                "the boot disk of this system is not laid out as `boot_device` does it; \
                 write disks, raid, luks and filesystems out under `storage`",
            ),
            (Variant::Flatcar | Variant::Pithos, "grub") => {
                Some("this system is not booted by the GRUB that `grub` would configure")
            }
            _ => None,
        }
    }
}

fn looks_like_cloud_config(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first.starts_with('#') && first.to_lowercase().replace([' ', '_'], "").contains("cloud-config")
}

/// The dialect that a document says it is written in; what is wrong is reported.
pub(super) fn of(node: &Node, text: &str, report: &mut Report) -> Option<Dialect> {
    let root = At::root(node);
    let (variant_at, version_at) = (root.key("variant"), root.key("version"));
    let text_of = |at: &At<'_>| at.node().and_then(|node| yaml::written(node, text));
    let Some(name) = text_of(&variant_at) else {
        let message = "expected a text as the variant: for which system this is written";
        let hint = match node.map() {
            _ if looks_like_cloud_config(text) => {
                "if this is a cloud-config: its first line is `#cloud-config`, without a blank"
            }
            Some(_) => "one of fcos, flatcar, pithos",
            None => {
                "Ignition begins with `{`, Butane is YAML with `variant: pithos` and `version: 1.0.0`, \
                 a cloud-config begins with the line `#cloud-config`, a script with `#!`"
            }
        };
        report.error(&variant_at, message).hint(hint);
        return None;
    };
    let Some(variant) = Variant::named(&name) else {
        let message = format!("the variant `{name}` is not known here");
        report.error(&variant_at, message).hint("one of fcos, flatcar, pithos");
        return None;
    };
    let minors = variant.minors();
    let newest = format!("1.{}.0", minors.len() - 1);
    let Some(declared) = text_of(&version_at) else {
        let message = format!("expected the version of {name} as a text");
        report.error(&version_at, message).hint(format!("the newest is {newest}"));
        return None;
    };
    let version = (0u8..).zip(minors).find(|(version, _)| declared == format!("1.{version}.0"));
    let Some((version, minor)) = version else {
        let message = if declared.ends_with("-experimental") {
            format!("{name} {declared} is not stable: what it means may change any day")
        } else {
            format!("there is no version {declared} of {name} here")
        };
        report.error(&version_at, message).hint(match minors.len() {
            1 => format!("only {newest} is known"),
            _ => format!("1.0.0 to {newest} are known"),
        });
        return None;
    };
    Some(Dialect { variant, version, minor: *minor })
}
