//! The services of clouds: where each has the user data, and what it wants to hear first.

use std::{net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Candidate, Found, PlatformError, Volume};
use crate::fetch::{
    FetchError, Fetcher, Question,
    cloud::{METADATA, refused},
};

/// How long a service is asked for: some come up after the machine.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The volume that cloud-init calls NoCloud.
pub const CIDATA: Volume = Volume { label: "cidata", files: &["user-data", "vendor-data"] };
/// The volume of OpenStack.
pub const CONFIG_2: Volume = Volume { label: "config-2", files: &["openstack/latest/user_data"] };
/// The volume of CloudStack.
const CLOUDSTACK: Volume =
    Volume { label: "config-2", files: &["cloudstack/userdata/user_data.txt"] };

/// The disc of Azure, which is of a kind whose label is nothing to us.
const AZURE: Volume = Volume { label: "", files: &["CustomData.bin"] };

/// A service that has the user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    name: &'static str,
    place: Place,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    key: Key,
    in_base64: bool,
    /// What is not said for good.
    passing: &'static [u16],
}

/// Where a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    At(&'static str),
    DhcpServer,
}

impl Place {
    fn address(self, dhcp_server: Option<IpAddr>) -> String {
        match (self, dhcp_server) {
            (Self::At(place), _) => place.to_owned(),
            (Self::DhcpServer, Some(server @ IpAddr::V6(_))) => format!("http://[{server}]"),
            (Self::DhcpServer, Some(server)) => format!("http://{server}"),
            (Self::DhcpServer, None) => METADATA.to_owned(),
        }
    }
}

/// What a service wants before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    None,
    Amazon,
    /// A word for the header, got by PUT.
    Word {
        path: &'static str,
        ttl: &'static str,
        header: &'static str,
    },
}

const PLAIN: Service = Service {
    name: "",
    place: Place::At(METADATA),
    path: "",
    headers: &[("Accept", "*/*")],
    key: Key::None,
    in_base64: false,
    passing: &[],
};

const SERVICES: &[(&[&str], Service)] = &[
    (
        &["aws", "ec2"],
        Service { name: "Amazon", path: "/2019-10-01/user-data", key: Key::Amazon, ..PLAIN },
    ),
    (
        &["gcp", "gce"],
        Service {
            name: "Google",
            path: "/computeMetadata/v1/instance/attributes/user-data",
            headers: &[("Metadata-Flavor", "Google")],
            ..PLAIN
        },
    ),
    (
        &["azure"],
        Service {
            name: "Azure",
            path: "/metadata/instance/compute/userData?api-version=2021-01-01&format=text",
            headers: &[("Metadata", "true")],
            in_base64: true,
            passing: &[404, 410, 429],
            ..PLAIN
        },
    ),
    (
        &["openstack", "brightbox"],
        Service { name: "OpenStack", path: "/openstack/latest/user_data", ..PLAIN },
    ),
    (
        &["cloudstack"],
        Service {
            name: "CloudStack",
            place: Place::DhcpServer,
            path: "/latest/user-data",
            ..PLAIN
        },
    ),
    (&["digitalocean"], Service { name: "DigitalOcean", path: "/metadata/v1/user-data", ..PLAIN }),
    (&["hetzner"], Service { name: "Hetzner", path: "/hetzner/v1/userdata", ..PLAIN }),
    (&["vultr"], Service { name: "Vultr", path: "/user-data/user-data", ..PLAIN }),
    (&["exoscale"], Service { name: "Exoscale", path: "/1.0/user-data", ..PLAIN }),
    (&["upcloud"], Service { name: "UpCloud", path: "/metadata/v1/user_data", ..PLAIN }),
    (
        &["aliyun"],
        Service {
            name: "Alibaba",
            place: Place::At("http://100.100.100.200"),
            path: "/latest/user-data",
            ..PLAIN
        },
    ),
    (
        &["oraclecloud"],
        Service {
            name: "Oracle",
            path: "/opc/v2/instance/metadata/user_data",
            headers: &[("Authorization", "Bearer Oracle")],
            in_base64: true,
            passing: &[429],
            ..PLAIN
        },
    ),
    (
        &["akamai"],
        Service {
            name: "Akamai",
            path: "/v1/user-data",
            key: Key::Word {
                path: "/v1/token",
                ttl: "Metadata-Token-Expiry-Seconds",
                header: "Metadata-Token",
            },
            in_base64: true,
            ..PLAIN
        },
    ),
    (
        &["packet"],
        Service {
            name: "Packet",
            place: Place::At("https://metadata.packet.net"),
            path: "/userdata",
            ..PLAIN
        },
    ),
];

/// Platforms whose document is next to the machine: nothing else is asked.
const LOCAL: &[&str] = &["qemu", "metal", "file"];
/// Platforms with a volume only.
const VOLUMES: &[(&str, &[Volume])] = &[
    ("azurestack", &[AZURE]),
    ("ibmcloud", &[CIDATA]),
    ("kubevirt", &[CIDATA, CONFIG_2]),
    ("nocloud", &[CIDATA]),
    ("nutanix", &[CONFIG_2]),
    ("powervs", &[CONFIG_2]),
    ("proxmoxve", &[CIDATA]),
];

/// Where a platform has the document, besides what every machine may have; nothing if it is not
/// known.
pub(super) fn candidates(id: &str) -> Option<Vec<Candidate>> {
    if LOCAL.contains(&id) {
        return Some(Vec::new());
    }
    match id {
        "vmware" => return Some(vec![Candidate::Vmware]),
        "virtualbox" => return Some(vec![Candidate::Virtualbox]),
        _ => {}
    }
    if let Some((_, volumes)) = VOLUMES.iter().find(|(name, _)| *name == id) {
        return Some(volumes.iter().copied().map(Candidate::Volume).collect());
    }
    let (_, service) = SERVICES.iter().find(|(names, _)| names.contains(&id))?;
    let mut candidates = Vec::new();
    match service.name {
        // A drive, if there is one, is the same and needs no network.
        "OpenStack" => candidates.push(Candidate::Volume(CONFIG_2)),
        "CloudStack" => candidates.push(Candidate::Volume(CLOUDSTACK)),
        _ => {}
    }
    candidates.push(Candidate::Service(*service));
    if service.name == "Azure" {
        candidates.push(Candidate::Volume(AZURE));
    }
    Some(candidates)
}

/// All platforms, for people.
pub(super) fn known() -> String {
    let services = SERVICES.iter().flat_map(|(names, _)| names.iter().copied());
    let volumes = VOLUMES.iter().map(|(name, _)| *name);
    let local = LOCAL.iter().copied().chain(["vmware", "virtualbox"]);
    let mut names: Vec<&str> = services.chain(volumes).chain(local).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Asks a service for the user data; there may be none.
pub(super) fn ask(
    service: &Service,
    fetcher: &Fetcher<'_>,
    dhcp_server: Option<IpAddr>,
) -> Result<Option<Found>, PlatformError> {
    let from = service.name.to_owned();
    let bytes = user_data(service, fetcher, dhcp_server)
        .map_err(|source| PlatformError::Fetch { from: from.clone(), source })?;
    let Some(mut bytes) = bytes else { return Ok(None) };
    if service.in_base64 {
        let text: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        bytes = STANDARD.decode(text).map_err(|error| PlatformError::Encoding {
            from: from.clone(),
            why: format!("it should be in base64, and is not: {error}"),
        })?;
    }
    Ok(Some(Found { from: format!("the metadata service of {from}"), bytes }))
}

fn user_data(
    service: &Service,
    fetcher: &Fetcher<'_>,
    dhcp_server: Option<IpAddr>,
) -> Result<Option<Vec<u8>>, FetchError> {
    let place = service.place.address(dhcp_server);
    let base = fetcher.metadata(&place);
    let mut headers = service.headers.to_vec();
    let word;
    match service.key {
        Key::None => {}
        Key::Amazon => {
            word = fetcher.amazon_token()?;
            headers.extend(word.as_deref().map(|word| ("X-aws-ec2-metadata-token", word)));
        }
        Key::Word { path, ttl, header } => {
            let url = format!("{base}{path}");
            let headers_of_word = [(ttl, "300"), ("Accept", "text/plain")];
            let reply = fetcher.ask(&Question {
                method: "PUT",
                url: &url,
                headers: &headers_of_word,
                passing: &[],
                patience: PATIENCE,
            })?;
            if reply.status != 200 {
                return Err(refused(&url, &reply));
            }
            word = Some(String::from_utf8_lossy(&reply.body).trim().to_owned());
            headers.extend(word.as_deref().map(|word| (header, word)));
        }
    }
    let url = format!("{base}{}", service.path);
    let reply = fetcher.ask(&Question {
        method: "GET",
        url: &url,
        headers: &headers,
        passing: service.passing,
        patience: PATIENCE,
    })?;
    match reply.status {
        200 => Ok(Some(reply.body)),
        204 | 404 => Ok(None),
        _ => Err(refused(&url, &reply)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_the_server_that_gave_the_address_is_asked_there() {
        let server = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(Place::DhcpServer.address(Some(server)), "http://192.0.2.1");
        let server = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        assert_eq!(Place::DhcpServer.address(Some(server)), "http://[2001:db8::1]");
        assert_eq!(Place::DhcpServer.address(None), METADATA);
        assert_eq!(PLAIN.place.address(Some(server)), METADATA);
    }
}
