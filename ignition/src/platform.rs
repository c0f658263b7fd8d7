//! Where the document comes from: the first of the places that has one.
//!
//! [`plan`] says in which order to look, from the kernel's command line alone; [`find`] looks. What
//! is next to the machine is always looked at; a cloud is asked only by name, for anybody on the
//! network may answer in its place.

pub mod base;
pub mod clouds;
pub mod credential;
pub mod label;
pub mod metadata;
pub mod vmware;
mod volumes;

use std::{
    fs::{self, File},
    io::{self, Read},
    net::IpAddr,
    path::Path,
};

pub use self::volumes::{Mounted, Volumes};
use crate::{
    document::config::Resource,
    fetch::{Fetch, FetchError, Fetcher, cloud::Cloud},
    journal::Journal,
};

/// Names of the firmware's files, ours first.
const FW_CFG: &[&str] =
    &["opt/org.pithos/config", "opt/com.coreos/config", "opt/org.flatcar-linux/config"];
/// Files of the ESP, in order.
const ESP: &[&str] = &["pithos/config.ign", "pithos/config.bu", "pithos/config.yaml"];
/// No document is larger.
const DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// A place where the document may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// An address of the command line.
    Url(String),
    /// A file that QEMU's firmware hands over.
    Firmware(&'static str),
    /// A credential that the hypervisor hands over in its description of the machine.
    Credential,
    /// A file of the ESP.
    Esp(&'static str),
    /// A file of a small volume.
    Volume(Volume),
    /// The service of a cloud.
    Service(clouds::Service),
    /// What VMware's hypervisor is told of the machine.
    Vmware,
    /// What VirtualBox is told of the machine.
    Virtualbox,
}

/// A small volume with files for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its label; case does not count.
    pub label: &'static str,
    /// Its files, in order; an empty one counts as none.
    pub files: &'static [&'static str],
}

/// In which order to look, and on what platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The platform, if it is said.
    pub id: Option<String>,
    /// The places.
    pub candidates: Vec<Candidate>,
}

/// A document, yet unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it was, for people.
    pub from: String,
    /// What it is.
    pub bytes: Vec<u8>,
}

/// This machine, as far as documents may be in it.
pub struct Machine<'m> {
    /// Where sysfs is.
    pub sys: &'m Path,
    /// Where the ESP is mounted, if it is.
    pub esp: Option<&'m Path>,
    /// Who reads small volumes.
    pub volumes: &'m dyn Volumes,
    /// Who asks VMware's hypervisor.
    pub guestinfo: &'m dyn vmware::Guestinfo,
    /// The tool that asks VirtualBox, if it is there.
    pub vboxcontrol: &'m Path,
}

/// A network that is up.
#[derive(Clone)]
pub struct Online<'f> {
    /// Who fetches by it.
    pub fetcher: Fetcher<'f>,
    /// Who gave an address by DHCP: one cloud has its service there.
    pub dhcp_server: Option<IpAddr>,
}

/// Why a document was not got, though there should be one.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// Nobody knows this platform.
    #[error("the platform `{0}` is not known; known are {list}", list = clouds::known())]
    Unknown(String),
    /// It was asked for and did not come.
    #[error("getting the document of {from}")]
    Fetch {
        /// From where.
        from: String,
        /// Why not.
        source: FetchError,
    },
    /// It is there, and cannot be read.
    #[error("reading the document of {from}")]
    Read {
        /// From where.
        from: String,
        /// Why not.
        source: io::Error,
    },
    /// It is there, and is not what it should be.
    #[error("the document of {from}: {why}")]
    Encoding {
        /// From where.
        from: String,
        /// What it is instead.
        why: String,
    },
}

/// Says in which order to look.
pub fn plan(cmdline: &str) -> Result<Plan, PlatformError> {
    let last = |names: &[&str]| {
        let pairs = cmdline.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        let mut of_us = pairs.filter(|(name, value)| names.contains(name) && !value.is_empty());
        of_us.next_back().map(|(_, value)| value.to_owned())
    };
    let id = last(&["ignition.platform.id"])
        .or_else(|| last(&["flatcar.oem.id"]))
        .or_else(|| last(&["coreos.oem.id"]));
    let mut candidates = Vec::new();
    candidates.extend(last(&["ignition.config.url"]).map(Candidate::Url));
    candidates.extend(last(&["cloud-config-url"]).map(Candidate::Url));
    candidates.extend(FW_CFG.iter().copied().map(Candidate::Firmware));
    candidates.push(Candidate::Credential);
    candidates.extend(ESP.iter().copied().map(Candidate::Esp));
    match &id {
        Some(id) => {
            let of_id = clouds::candidates(id);
            candidates.extend(of_id.ok_or_else(|| PlatformError::Unknown(id.clone()))?);
        }
        None => candidates.extend([clouds::CIDATA, clouds::CONFIG_2].map(Candidate::Volume)),
    }
    Ok(Plan { id, candidates })
}

impl Plan {
    /// Whose buckets the machine may have a role for.
    pub fn cloud(&self) -> Cloud {
        match self.id.as_deref() {
            Some("aws" | "ec2") => Cloud::Amazon { region: None },
            Some("gcp" | "gce") => Cloud::Google,
            _ => Cloud::None,
        }
    }
}

impl Candidate {
    /// Whether the network must be up to look there.
    pub fn needs_network(&self) -> bool {
        match self {
            Self::Url(url) => !url.starts_with("data:"),
            Self::Service(_) => true,
            Self::Firmware(_)
            | Self::Credential
            | Self::Esp(_)
            | Self::Volume(_)
            | Self::Vmware
            | Self::Virtualbox => false,
        }
    }
}

/// Looks at one place. Nothing, or an empty document, is no document.
fn look(
    candidate: &Candidate,
    machine: &Machine<'_>,
    Online { fetcher, dhcp_server }: &Online<'_>,
) -> Result<Option<Found>, PlatformError> {
    let found = match candidate {
        Candidate::Url(url) => {
            let mut bytes = Vec::new();
            let resource = Resource { source: Some(url.clone()), ..Resource::default() };
            let from = "the kernel's command line".to_owned();
            let fetched = fetcher.fetch(&resource, &mut bytes);
            fetched.map_err(|source| PlatformError::Fetch { from: from.clone(), source })?;
            Some(Found { from, bytes })
        }
        Candidate::Firmware(name) => {
            let folder = machine.sys.join("firmware/qemu_fw_cfg/by_name").join(name);
            read_firmware(&folder, format!("fw_cfg {name}"))?
        }
        Candidate::Credential => credential::find(machine.sys, "ignition.config").map(|bytes| {
            let from = "the credential ignition.config".to_owned();
            Found { from, bytes }
        }),
        Candidate::Esp(name) => match machine.esp {
            None => None,
            Some(esp) => read(&esp.join(name), format!("{name} of the ESP"))?,
        },
        Candidate::Volume(volume) => {
            let from = format!("the volume {}", volume.label);
            let found = machine.volumes.find(volume);
            found.map_err(|source| PlatformError::Read { from, source })?
        }
        Candidate::Service(service) => clouds::ask(service, fetcher, *dhcp_server)?,
        Candidate::Vmware => vmware::find(machine.guestinfo, fetcher)?,
        Candidate::Virtualbox => vmware::virtualbox(machine.vboxcontrol)?,
    };
    Ok(found.filter(|found| !found.bytes.is_empty()))
}

/// Looks at all places in order. The network is asked for when it is first needed.
pub fn find<'f>(
    plan: &Plan,
    machine: &Machine<'_>,
    offline: &Fetcher<'f>,
    connect: &mut dyn FnMut() -> Result<Online<'f>, PlatformError>,
    journal: &dyn Journal,
) -> Result<Option<Found>, PlatformError> {
    let offline = &Online { fetcher: offline.clone(), dhcp_server: None };
    let mut online = None;
    for candidate in &plan.candidates {
        let network = match (candidate.needs_network(), &online) {
            (false, _) => offline,
            (true, Some(online)) => online,
            (true, None) => online.insert(connect()?),
        };
        if let Some(found) = look(candidate, machine, network)? {
            journal.say(&format!("document: {} bytes from {}", found.bytes.len(), found.from));
            return Ok(Some(found));
        }
    }
    let on = plan.id.as_deref().map_or(String::new(), |id| format!(" on the platform {id}"));
    journal.say(&format!("document: none{on}"));
    Ok(None)
}

/// Reads a file of the firmware in one big read: the kernel starts over at the front for each. Its
/// length is in a file beside it; that of the file itself is 0.
fn read_firmware(folder: &Path, from: String) -> Result<Option<Found>, PlatformError> {
    let size = match fs::read_to_string(folder.join("size")) {
        Ok(size) => size.trim().parse().unwrap_or(DOCUMENT_BYTES),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PlatformError::Read { from, source }),
    };
    let wrong = |source| PlatformError::Read { from: from.clone(), source };
    let mut file = File::open(folder.join("raw")).map_err(wrong)?;
    let mut bytes = vec![0; usize::try_from(size.min(DOCUMENT_BYTES)).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]).map_err(wrong)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(Some(Found { from, bytes }))
}

/// Reads a file, if it is there.
fn read(path: &Path, from: String) -> Result<Option<Found>, PlatformError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Found { from, bytes })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PlatformError::Read { from, source }),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn names(cmdline: &str) -> String {
        let plan = plan(cmdline).unwrap();
        let list: Vec<String> =
            plan.candidates.iter().map(|candidate| format!("{candidate:?}")).collect();
        list.join("\n")
    }

    #[test]
    fn without_a_platform_nothing_of_the_network_is_asked() {
        let plan = plan("quiet ignition.platform.id=").unwrap();
        assert!(plan.candidates.iter().all(|candidate| !candidate.needs_network()));
        expect![[r#"
            Firmware("opt/org.pithos/config")
            Firmware("opt/com.coreos/config")
            Firmware("opt/org.flatcar-linux/config")
            Credential
            Esp("pithos/config.ign")
            Esp("pithos/config.bu")
            Esp("pithos/config.yaml")
            Volume(Volume { label: "cidata", files: ["user-data", "vendor-data"] })
            Volume(Volume { label: "config-2", files: ["openstack/latest/user_data"] })"#]]
        .assert_eq(&names("quiet"));
    }

    #[test]
    fn the_command_line_comes_first_and_the_last_of_it_counts() {
        let plan = plan(
            "ignition.config.url=http://a/ ignition.config.url=http://b/ coreos.oem.id=qemu \
             flatcar.oem.id=gce ignition.platform.id=aws",
        );
        let plan = plan.unwrap();
        assert_eq!(plan.id.as_deref(), Some("aws"));
        assert_eq!(plan.cloud(), Cloud::Amazon { region: None });
        assert_eq!(plan.candidates[0], Candidate::Url("http://b/".to_owned()));
        assert!(matches!(plan.candidates.last(), Some(Candidate::Service(_))));
    }

    #[test]
    fn a_platform_that_nobody_knows_is_refused() {
        let error = plan("ignition.platform.id=awz").unwrap_err().to_string();
        assert!(
            error.starts_with("the platform `awz` is not known; known are akamai, aliyun, "),
            "{error}"
        );
    }
}
