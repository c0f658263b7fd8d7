//! Arguments of the kernel.
//!
//! The UKI carries a command line of its own, which is signed and not ours to change. What a
//! document adds goes into an addon, which systemd-stub appends to it:
//!
//! ```text
//! /proc/cmdline = what is baked into the UKI, and what the firmware was told
//!               + /loader/addons/*.addon.efi of the ESP   <- ours is one of these
//! ```
//!
//! That directory, and not the one beside a UKI (`NAME.efi.extra.d`): names of UKIs change with the
//! boot counter and with every update, and the arguments shall be those of the machine.

pub mod addon;

use std::{
    io::{self, Read, Write},
    path::Path,
};

use layout::cmdline::words;

use super::{
    Refused,
    tree::{Found, Last, Parents, Root},
};
use crate::document::config::KernelArguments;

/// Our addon, on the ESP.
pub const ADDON: &str = "/loader/addons/ignition.addon.efi";

/// What is known of the kernel's command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// /proc/cmdline.
    pub running: String,
    /// What our addon on the ESP adds; `None` if there is no such addon.
    pub addon: Option<String>,
    /// Whether the firmware refuses what is not signed.
    pub secure_boot: bool,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The kernel runs with what the document says.
    Nothing,
    /// Our addon says this from now on, and the machine starts once more; an empty one is removed.
    Restart {
        /// What it adds to the command line.
        addon: String,
    },
}

/// Plans.
pub fn plan(wanted: &KernelArguments, facts: &Facts) -> Result<Plan, Refused> {
    let running: Vec<&str> = words(&facts.running);
    let ours: Vec<&str> = facts.addon.as_deref().map(words).into_iter().flatten().collect();
    let mut next = ours.clone();
    for (index, argument) in wanted.should_not_exist.iter().enumerate() {
        let at = format!("$.kernelArguments.shouldNotExist.{index}");
        check(&at, argument)?;
        for word in words(argument) {
            next.retain(|one| *one != word);
            let count = |all: &[&str]| all.iter().filter(|one| **one == word).count();
            if count(&running) > count(&ours) {
                let why =
                    format!("`{word}` comes with the image, in the signed part of the kernel");
                return Err(Refused::new(at, why).hint(
                    "say its opposite in shouldExist, where there is one: what comes last counts",
                ));
            }
        }
    }
    for (index, argument) in wanted.should_exist.iter().enumerate() {
        let at = format!("$.kernelArguments.shouldExist.{index}");
        check(&at, argument)?;
        for word in words(argument) {
            // Otherwise it would be added and removed in turn, with a reboot each time.
            if wanted.should_not_exist.iter().any(|argument| words(argument).contains(&word)) {
                let why = format!("`{word}` shall exist, and it shall not (shouldNotExist)");
                return Err(Refused::new(at, why).hint("take it out of one of the two lists"));
            }
            // What is baked in is there for good; what only our addon says has to stay in it.
            if !running.contains(&word) && !next.contains(&word) {
                next.push(word);
            }
        }
    }
    let has_run = ours.iter().all(|word| running.contains(word));
    if next == ours && has_run {
        return Ok(Plan::Nothing);
    }
    if facts.secure_boot {
        let missing: Vec<&str> =
            next.iter().filter(|word| !running.contains(word)).copied().collect();
        let why = format!(
            "Secure Boot is on, and an addon that is not signed says nothing: `{}`",
            missing.join(" ")
        );
        return Err(Refused::new("$.kernelArguments", why).hint(
            "put an addon with these arguments into /loader/addons of the ESP, signed by a key of \
             the firmware (ukify build --cmdline ... --secureboot-private-key ...)",
        ));
    }
    if next == ours {
        let why = format!("the addon says `{}`, and the kernel was not told", ours.join(" "));
        return Err(Refused::new("$.kernelArguments", why).hint(
            "was it started by the boot loader of this ESP, with a UKI of systemd 254 or newer?",
        ));
    }
    Ok(Plan::Restart { addon: next.join(" ") })
}

/// Reads the addon on the ESP, whose mount point is the root here.
pub fn read_addon(esp: &Root) -> io::Result<Option<String>> {
    let place = match esp.place(Path::new(ADDON), Last::Itself, Parents::Need) {
        Err(error) if super::tree::is_absence(&error) => return Ok(None),
        place => place?,
    };
    if place.found()? == Found::Nothing {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    place.open()?.take(addon::MAX_BYTES).read_to_end(&mut bytes)?;
    // One that is damaged says nothing, and is made anew.
    Ok(addon::read(&bytes))
}

/// Writes the addon, safe from a loss of power when it returns: afterwards the machine is to start
/// once more.
pub fn write_addon(esp: &Root, cmdline: &str) -> io::Result<()> {
    let place = esp.place(Path::new(ADDON), Last::Itself, Parents::Make)?;
    if cmdline.is_empty() {
        place.remove()?;
    } else {
        let mut file = place.start_file()?;
        file.write_all(&addon::write(cmdline))?;
        file.finish_plain()?;
    }
    esp.sync()
}

fn check(at: &str, argument: &str) -> Result<(), Refused> {
    let is_balanced = argument.matches('"').count().is_multiple_of(2);
    if argument.trim().is_empty() || argument.contains(|c: char| c.is_control()) || !is_balanced {
        let why = format!("`{}` is no argument of the kernel", argument.escape_debug());
        return Err(Refused::new(at, why).hint("one line, with quotes in pairs"));
    }
    if !argument.is_ascii() {
        return Err(Refused::new(at, format!("`{argument}`: the boot loader knows ASCII only")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
