//! What the shell looks at for the machines that decide: slots and records, who is logged in, what
//! an operator has put in the way.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use layout::Version;
use sha2::{Digest, Sha256};
use zbus::Connection;

use super::{STATE, say, warn};
use crate::{
    identity::Identity,
    install::{
        Media,
        machine::{Directory, Machine},
        media::Folder,
    },
    records::{Bad, Installed, Outcome},
    slots::Slots,
    strategy::{Facts, Sessions},
};

const INHIBIT: [&str; 2] = ["/etc/pithos/update/inhibit", "/run/pithos/update/inhibit"];
const LOCK: &str = "reboot-lock";
const EPOCH: &str = "security-epoch";
const TOLD: &str = "told";
const LOGIND: &str = "org.freedesktop.login1";
const LOGIND_PATH: &str = "/org/freedesktop/login1";
const LOGIND_MANAGER: &str = "org.freedesktop.login1.Manager";

/// What a start of the engine finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A version that waits for a reboot.
    pub(super) waiting: Option<Version>,
    /// How the last reboot into a new version went.
    pub(super) boot: Option<String>,
    /// The version that was installed last.
    pub(super) installed: Option<Installed>,
    /// Why it is not the one that runs, if it was bad.
    pub(super) fell: Option<String>,
    /// Versions that failed here, and why.
    pub(super) bad: Vec<(String, String)>,
    /// What there is to say.
    pub(super) lines: Vec<String>,
}

/// Looks at slots and records, and remembers a version that did not come up.
pub(super) fn found(identity: Option<&Identity>) -> Found {
    let Some(identity) = identity else { return Found::default() };
    match look(identity) {
        Ok(found) => found,
        Err(error) => Found { lines: vec![format!("{error:#}")], ..Found::default() },
    }
}

fn look(identity: &Identity) -> Result<Found> {
    let machine = Machine::open(&identity.root_hash, Path::new(STATE))?;
    let slots = slots(&machine, identity)?;
    let state = machine.state();
    let mut bad = Bad::load(state)?;
    let mut found = Found::default();
    security_epoch(identity, state);
    if let Some(installed) = Installed::load(state)? {
        let Installed { version, from, .. } = &installed;
        found.installed = Some(installed.clone());
        let boot = match installed.outcome(&slots, &bad) {
            Outcome::Nothing | Outcome::Unfinished => None,
            Outcome::OnTrial(trial) => Some(format!(
                "It was updated from {from} and has to prove itself ({} boots left)",
                trial.left
            )),
            Outcome::Proven => Some(format!("It was updated from {from} and is proven")),
            Outcome::Waiting => {
                found.waiting = Some(version.clone());
                None
            }
            Outcome::Failed(failed) => {
                let boot =
                    format!("{} was installed and failed: {}", failed.version, failed.reason);
                bad.remember(failed, state)?;
                Some(boot)
            }
        };
        // The boot that judged itself may have remembered it.
        let fell = bad.reason(version, &installed.root_hash).map(str::to_owned);
        found.fell = fell.filter(|_| slots.version() != version);
        found.lines.extend(boot.clone());
        found.boot = boot;
    }
    let pair = |bad: &crate::records::BadVersion| (bad.version.to_string(), bad.reason.clone());
    found.bad = bad.versions.iter().map(pair).collect();
    Ok(found)
}

/// What is in the slots of this machine.
pub(super) fn slots(machine: &Machine, identity: &Identity) -> Result<Slots> {
    let files = machine.esp().list().context("listing /EFI/Linux of the ESP")?;
    let names = files.iter().map(|file| file.name.as_str());
    Ok(Slots::read(&machine.table()?.entries(), &identity.root_hash, names)?)
}

/// Whether the version that runs has nothing more to prove.
pub(super) fn is_proven(identity: Option<&Identity>) -> bool {
    let Some(identity) = identity else { return false };
    let Ok(machine) = Machine::open(&identity.root_hash, Path::new(STATE)) else { return false };
    let Ok(slots) = slots(&machine, identity) else { return false };
    slots.content(slots.booted).ukis().iter().all(|uki| uki.trial.is_none())
}

/// The highest security epoch that this machine has run. A higher one is kept.
pub(super) fn security_epoch(identity: &Identity, state: &dyn Folder) -> u32 {
    let kept = state.load(EPOCH, 16).ok().flatten();
    let kept = kept.and_then(|bytes| String::from_utf8(bytes).ok());
    let kept = kept.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if identity.security_epoch > kept {
        warn(state.replace(EPOCH, identity.security_epoch.to_string().as_bytes()), STATE);
    }
    kept.max(identity.security_epoch)
}

/// Whether a reboot lock was had, or may have been.
pub(super) fn holds_lock(state: &Path) -> bool {
    state.join(LOCK).exists()
}

/// Keeps whether the reboot lock is had.
pub(super) fn hold_lock(state: &Path, holds: bool) {
    let folder: &dyn Folder = &Directory(state.to_owned());
    let kept = match (holds, holds_lock(state)) {
        (true, _) => folder.replace(LOCK, b"held\n"),
        (false, true) => folder.remove(LOCK).and_then(|()| folder.sync()),
        (false, false) => Ok(()),
    };
    warn(kept, STATE);
}

/// Whether a server was told how an installed version went.
pub(super) fn is_told(state: &Path, installed: &Installed) -> bool {
    let told = fs::read_to_string(state.join(TOLD)).unwrap_or_default();
    told.trim() == installed.root_hash.to_string()
}

/// Keeps that a server was told.
pub(super) fn keep_told(state: &Path, installed: &Installed) {
    let folder: &dyn Folder = &Directory(state.to_owned());
    warn(folder.replace(TOLD, format!("{}\n", installed.root_hash).as_bytes()), STATE);
}

/// Who this machine is to who keeps the lock.
pub(super) fn lock_id() -> String {
    id("pithos reboot lock")
}

/// Who it is to who is told of its updates.
pub(super) fn report_id() -> String {
    id("pithos update report")
}

/// A name for a purpose: another one for each, and none of them says the machine id.
fn id(purpose: &str) -> String {
    let machine_id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::digest(format!("{purpose} {}", machine_id.trim()));
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in the way of a reboot.
pub(super) async fn in_the_way(connection: &Connection) -> Facts {
    let inhibited = INHIBIT.into_iter().find(|file| Path::new(file).exists());
    let sessions = match sessions(connection).await {
        Ok(users) if users.is_empty() => Sessions::None,
        Ok(users) => Sessions::Some(users),
        Err(error) => Sessions::Unknown(error.to_string()),
    };
    Facts { inhibited: inhibited.map(str::to_owned), sessions }
}

/// Who is logged in, as logind knows it.
async fn sessions(connection: &Connection) -> zbus::Result<Vec<String>> {
    type Session = (String, u32, String, String, zbus::OwnedObjectPath);
    let reply = connection
        .call_method(Some(LOGIND), LOGIND_PATH, Some(LOGIND_MANAGER), "ListSessions", &())
        .await?;
    let sessions: Vec<Session> = reply.body().deserialize()?;
    let mut users = Vec::new();
    for (_, _, user, _, path) in sessions {
        let properties = "org.freedesktop.DBus.Properties";
        let class = connection
            .call_method(
                Some(LOGIND),
                path.as_str(),
                Some(properties),
                "Get",
                &("org.freedesktop.login1.Session", "Class"),
            )
            .await;
        // A session that ended in the meantime is none.
        let Ok(class) = class else { continue };
        let class: zbus::OwnedVariant = class.body().deserialize()?;
        let class = String::try_from(class).unwrap_or_default();
        if class.starts_with("user") && !users.contains(&user) {
            users.push(user);
        }
    }
    Ok(users)
}

/// Tells those who are logged in.
pub(super) fn warn_people(text: &str) {
    say(text);
    if let Err(error) = Command::new("wall").arg(text).status() {
        say(&format!("wall: {error}"));
    }
}

/// Reboots as `systemctl reboot` does.
pub(super) async fn reboot(connection: &Connection) -> zbus::Result<()> {
    connection
        .call_method(Some(LOGIND), LOGIND_PATH, Some(LOGIND_MANAGER), "Reboot", &(false,))
        .await
        .map(drop)
}
