//! What a platform says of the machine, once it runs: attributes for units to use, its name, and
//! who may come in by SSH. What is asked is a table; what is made of the answers is pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fetch::{
    FetchError, Fetcher, Question,
    cloud::{METADATA, refused},
};

/// What a platform says of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Attributes, by names such as `AFTERBURN_AWS_REGION`.
    pub attributes: BTreeMap<String, String>,
    /// What the machine shall be called.
    pub hostname: Option<String>,
    /// Who may come in by SSH.
    pub ssh_keys: Vec<String>,
}

/// Answers by the path that was asked; what was not there is not in it.
pub type Answers = BTreeMap<&'static str, Vec<u8>>;

/// What is asked of a platform, and what it means.
struct Platform {
    names: &'static [&'static str],
    /// The middle of the names of its attributes.
    prefix: &'static str,
    headers: &'static [(&'static str, &'static str)],
    with_amazon_token: bool,
    /// Whether the name is written down (elsewhere DHCP says it).
    names_machine: bool,
    questions: &'static [&'static str],
    read: fn(&Answers, &mut Reading),
}

/// What is being read.
#[derive(Default)]
struct Reading {
    prefix: &'static str,
    metadata: Metadata,
}

const AMAZON: &str = "/2021-01-03/meta-data/";
const HETZNER: &str = "/hetzner/v1/metadata/";
const GOOGLE: &str = "/computeMetadata/v1/";

const PLATFORMS: &[Platform] = &[
    Platform {
        names: &["aws", "ec2"],
        prefix: "AWS",
        headers: &[],
        with_amazon_token: true,
        names_machine: false,
        questions: &[
            "/2021-01-03/meta-data/instance-id",
            "/2021-01-03/meta-data/instance-type",
            "/2021-01-03/meta-data/local-ipv4",
            "/2021-01-03/meta-data/public-ipv4",
            "/2021-01-03/meta-data/ipv6",
            "/2021-01-03/meta-data/placement/availability-zone",
            "/2021-01-03/meta-data/placement/region",
            "/2021-01-03/meta-data/hostname",
            "/2021-01-03/meta-data/public-hostname",
            "/2021-01-03/meta-data/public-keys/0/openssh-key",
        ],
        read: amazon,
    },
    Platform {
        names: &["gcp", "gce"],
        prefix: "GCP",
        headers: &[("Metadata-Flavor", "Google")],
        with_amazon_token: false,
        names_machine: false,
        questions: &[
            "/computeMetadata/v1/instance/hostname",
            "/computeMetadata/v1/instance/machine-type",
            "/computeMetadata/v1/instance/network-interfaces/0/ip",
            "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
            "/computeMetadata/v1/instance/attributes/ssh-keys",
            "/computeMetadata/v1/instance/attributes/block-project-ssh-keys",
            "/computeMetadata/v1/project/attributes/ssh-keys",
        ],
        read: google,
    },
    Platform {
        names: &["azure"],
        prefix: "AZURE",
        headers: &[("Metadata", "true")],
        with_amazon_token: false,
        names_machine: true,
        questions: &["/metadata/instance?api-version=2021-02-01"],
        read: azure,
    },
    Platform {
        names: &["openstack", "brightbox"],
        prefix: "OPENSTACK",
        headers: &[],
        with_amazon_token: false,
        names_machine: false,
        questions: &[
            "/openstack/latest/meta_data.json",
            "/latest/meta-data/instance-id",
            "/latest/meta-data/instance-type",
            "/latest/meta-data/local-ipv4",
            "/latest/meta-data/public-ipv4",
        ],
        read: openstack,
    },
    Platform {
        names: &["digitalocean"],
        prefix: "DIGITALOCEAN",
        headers: &[],
        with_amazon_token: false,
        names_machine: true,
        questions: &["/metadata/v1.json"],
        read: digitalocean,
    },
    Platform {
        names: &["hetzner"],
        prefix: "HETZNER",
        headers: &[],
        with_amazon_token: false,
        names_machine: true,
        questions: &[
            "/hetzner/v1/metadata/availability-zone",
            "/hetzner/v1/metadata/hostname",
            "/hetzner/v1/metadata/instance-id",
            "/hetzner/v1/metadata/public-ipv4",
            "/hetzner/v1/metadata/region",
            "/hetzner/v1/metadata/private-networks",
            "/hetzner/v1/metadata/public-keys",
        ],
        read: hetzner,
    },
    Platform {
        names: &["vultr"],
        prefix: "VULTR",
        headers: &[],
        with_amazon_token: false,
        names_machine: true,
        questions: &["/v1.json"],
        read: vultr,
    },
];

/// Asks a platform; nothing if it has no such service.
pub fn ask(id: &str, fetcher: &Fetcher<'_>) -> Result<Option<Metadata>, FetchError> {
    let Some(platform) = platform(id) else { return Ok(None) };
    let token = if platform.with_amazon_token { fetcher.amazon_token()? } else { None };
    let mut headers = platform.headers.to_vec();
    headers.extend(token.as_deref().map(|token| ("X-aws-ec2-metadata-token", token)));
    let mut answers = Answers::new();
    for path in platform.questions {
        let url = format!("{}{path}", fetcher.metadata(METADATA));
        let patience = std::time::Duration::from_secs(60);
        let question =
            Question { method: "GET", url: &url, headers: &headers, passing: &[], patience };
        let reply = fetcher.ask(&question)?;
        match reply.status {
            200 => drop(answers.insert(path, reply.body)),
            204 | 404 => {}
            _ => return Err(refused(&url, &reply)),
        }
    }
    Ok(Some(read(platform, &answers)))
}

/// What answers of a platform mean; nothing if it is not known.
pub fn understand(id: &str, answers: &Answers) -> Option<Metadata> {
    platform(id).map(|platform| read(platform, answers))
}

impl Metadata {
    /// A file of `NAME=VALUE` for units: under the names of Afterburn, and under those that came
    /// before them.
    pub fn environment(&self) -> String {
        let mut lines = Vec::new();
        for (name, value) in &self.attributes {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            let value = quote(&value);
            lines.push(format!("{name}={value}\n"));
            let old = name.replacen("AFTERBURN_", "COREOS_", 1);
            let old = old.replacen("_AWS_", "_EC2_", 1).replacen("_GCP_", "_GCE_", 1);
            lines.push(format!("{old}={value}\n"));
        }
        lines.sort();
        lines.concat()
    }
}

/// A name for the machine that the kernel takes: cut at the first dot if it is too long, and then
/// anywhere.
pub fn fitting_hostname(name: &str) -> String {
    const LONGEST: usize = 64;
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let first = name.split('.').next().unwrap_or_default();
    first.chars().take(LONGEST).collect()
}

fn platform(id: &str) -> Option<&'static Platform> {
    PLATFORMS.iter().find(|platform| platform.names.contains(&id))
}

fn read(platform: &Platform, answers: &Answers) -> Metadata {
    let mut reading = Reading { prefix: platform.prefix, metadata: Metadata::default() };
    (platform.read)(answers, &mut reading);
    let mut metadata = reading.metadata;
    let hostname = metadata.attributes.get(&format!("AFTERBURN_{}_HOSTNAME", platform.prefix));
    if metadata.hostname.is_none() && platform.names_machine {
        metadata.hostname = hostname.cloned();
    }
    metadata.hostname = metadata.hostname.as_deref().map(fitting_hostname);
    metadata
}

impl Reading {
    fn set(&mut self, name: &str, value: Option<impl Into<String>>) {
        let Some(value) = value.map(Into::into).filter(|value| !value.is_empty()) else { return };
        let name = format!("AFTERBURN_{}_{name}", self.prefix);
        self.metadata.attributes.insert(name, value);
    }

    fn keys<'k>(&mut self, keys: impl IntoIterator<Item = &'k str>) {
        let keys = keys.into_iter().map(str::trim).filter(|key| !key.is_empty());
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        self.metadata.ssh_keys.append(&mut keys);
    }
}

fn text(answers: &Answers, path: &str) -> Option<String> {
    let text = String::from_utf8_lossy(answers.get(path)?).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn json(answers: &Answers, path: &str) -> Value {
    answers.get(path).and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
}

/// A text, or a number, at a place of a document.
fn at(document: &Value, pointer: &str) -> Option<String> {
    match document.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn list<'v>(document: &'v Value, pointer: &str) -> &'v [Value] {
    document.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn amazon(answers: &Answers, reading: &mut Reading) {
    for (name, path) in [
        ("INSTANCE_ID", "instance-id"),
        ("INSTANCE_TYPE", "instance-type"),
        ("IPV4_LOCAL", "local-ipv4"),
        ("IPV4_PUBLIC", "public-ipv4"),
        ("IPV6", "ipv6"),
        ("AVAILABILITY_ZONE", "placement/availability-zone"),
        ("REGION", "placement/region"),
        ("HOSTNAME", "hostname"),
        ("PUBLIC_HOSTNAME", "public-hostname"),
    ] {
        reading.set(name, text(answers, &format!("{AMAZON}{path}")));
    }
    let keys = text(answers, &format!("{AMAZON}public-keys/0/openssh-key")).unwrap_or_default();
    reading.keys(keys.lines());
}

fn google(answers: &Answers, reading: &mut Reading) {
    let get = |path: &str| text(answers, &format!("{GOOGLE}{path}"));
    reading.set("HOSTNAME", get("instance/hostname"));
    reading.set("IP_LOCAL_0", get("instance/network-interfaces/0/ip"));
    let external = get("instance/network-interfaces/0/access-configs/0/external-ip");
    reading.set("IP_EXTERNAL_0", external);
    let kind = get("instance/machine-type");
    reading.set("MACHINE_TYPE", kind.as_deref().and_then(|kind| kind.rsplit('/').next()));
    let mut keys = get("instance/attributes/ssh-keys").unwrap_or_default();
    let blocked = get("instance/attributes/block-project-ssh-keys");
    if !blocked.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        keys.push('\n');
        keys.push_str(&get("project/attributes/ssh-keys").unwrap_or_default());
    }
    // `USER:KEY`
    reading.keys(keys.lines().filter_map(|line| Some(line.split_once(':')?.1)));
}

fn azure(answers: &Answers, reading: &mut Reading) {
    let all = json(answers, "/metadata/instance?api-version=2021-02-01");
    reading.set("VMSIZE", at(&all, "/compute/vmSize"));
    let address = "/network/interface/0/ipv4/ipAddress/0";
    reading.set("IPV4_DYNAMIC", at(&all, &format!("{address}/privateIpAddress")));
    reading.set("IPV4_VIRTUAL", at(&all, &format!("{address}/publicIpAddress")));
    reading.metadata.hostname =
        at(&all, "/compute/osProfile/computerName").filter(|name| !name.is_empty());
    let keys = list(&all, "/compute/publicKeys");
    reading.keys(keys.iter().filter_map(|key| key.get("keyData")?.as_str()));
}

fn openstack(answers: &Answers, reading: &mut Reading) {
    let all = json(answers, "/openstack/latest/meta_data.json");
    reading.set("HOSTNAME", at(&all, "/hostname"));
    reading.set("INSTANCE_UUID", at(&all, "/uuid"));
    for (name, path) in [
        ("INSTANCE_ID", "/latest/meta-data/instance-id"),
        ("INSTANCE_TYPE", "/latest/meta-data/instance-type"),
        ("IPV4_LOCAL", "/latest/meta-data/local-ipv4"),
        ("IPV4_PUBLIC", "/latest/meta-data/public-ipv4"),
    ] {
        reading.set(name, text(answers, path));
    }
    let keys = all.pointer("/public_keys").and_then(Value::as_object);
    let keys = keys.into_iter().flat_map(|keys| keys.values());
    reading.keys(keys.filter_map(Value::as_str));
}

fn digitalocean(answers: &Answers, reading: &mut Reading) {
    let all = json(answers, "/metadata/v1.json");
    reading.set("HOSTNAME", at(&all, "/hostname"));
    reading.set("REGION", at(&all, "/region"));
    for (kind, interfaces) in [("PUBLIC", "/interfaces/public"), ("PRIVATE", "/interfaces/private")]
    {
        for (index, interface) in list(&all, interfaces).iter().enumerate() {
            let v4 = at(interface, "/ipv4/ip_address");
            reading.set(&format!("IPV4_{kind}_{index}"), v4);
            let v6 = at(interface, "/ipv6/ip_address");
            reading.set(&format!("IPV6_{kind}_{index}"), v6);
            let anchor = at(interface, "/anchor_ipv4/ip_address");
            reading.set(&format!("IPV4_ANCHOR_{index}"), anchor);
        }
    }
    reading.keys(list(&all, "/public_keys").iter().filter_map(Value::as_str));
}

fn hetzner(answers: &Answers, reading: &mut Reading) {
    let get = |path: &str| text(answers, &format!("{HETZNER}{path}"));
    for (name, path) in [
        ("AVAILABILITY_ZONE", "availability-zone"),
        ("HOSTNAME", "hostname"),
        ("INSTANCE_ID", "instance-id"),
        ("PUBLIC_IPV4", "public-ipv4"),
        ("REGION", "region"),
    ] {
        reading.set(name, get(path));
    }
    // A list of maps in YAML, of which one key is asked for: `- ip: 10.0.0.2`.
    let networks = get("private-networks").unwrap_or_default();
    let addresses = networks.lines().filter_map(|line| {
        line.trim_start().trim_start_matches("- ").strip_prefix("ip:").map(str::trim)
    });
    for (index, address) in addresses.enumerate() {
        reading.set(&format!("PRIVATE_IPV4_{index}"), Some(address.trim_matches(['"', '\''])));
    }
    let keys = get("public-keys").unwrap_or_default();
    let all: Vec<String> = serde_json::from_str(&keys).unwrap_or_default();
    reading.keys(all.iter().map(String::as_str));
}

fn vultr(answers: &Answers, reading: &mut Reading) {
    let all = json(answers, "/v1.json");
    reading.set("HOSTNAME", at(&all, "/hostname"));
    let id = at(&all, "/instance-v2-id").or_else(|| at(&all, "/instanceid"));
    reading.set("INSTANCE_ID", id);
    reading.set("REGION_CODE", at(&all, "/region/regioncode"));
    reading.keys(list(&all, "/public-keys").iter().filter_map(Value::as_str));
}

/// As systemd reads files of an environment: bare if it is plain, else in quotes.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@,+".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('$', "\\$").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(id: &str, answers: &[(&'static str, &str)], expect: Expect) {
        let answers = answers.iter().map(|(path, text)| (*path, text.as_bytes().to_vec()));
        let metadata = understand(id, &answers.collect()).unwrap();
        let mut text = metadata.environment();
        text.push_str(&format!("{:?} {:?}\n", metadata.hostname, metadata.ssh_keys));
        expect.assert_eq(&text);
    }

    #[test]
    fn amazon_goes_by_two_names() {
        check(
            "aws",
            &[
                ("/2021-01-03/meta-data/hostname", "ip-10-0-0-1.ec2.internal"),
                ("/2021-01-03/meta-data/placement/region", "eu-west-1"),
                ("/2021-01-03/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA me\n"),
            ],
            expect![[r#"
                AFTERBURN_AWS_HOSTNAME=ip-10-0-0-1.ec2.internal
                AFTERBURN_AWS_REGION=eu-west-1
                COREOS_EC2_HOSTNAME=ip-10-0-0-1.ec2.internal
                COREOS_EC2_REGION=eu-west-1
                None ["ssh-ed25519 AAAA me"]
            "#]],
        );
    }

    #[test]
    fn google_has_keys_of_users() {
        check(
            "gcp",
            &[
                ("/computeMetadata/v1/instance/machine-type", "projects/1/machineTypes/n1"),
                ("/computeMetadata/v1/instance/attributes/ssh-keys", "me:ssh-rsa A me\n"),
                ("/computeMetadata/v1/project/attributes/ssh-keys", "you:ssh-rsa B you"),
            ],
            expect![[r#"
                AFTERBURN_GCP_MACHINE_TYPE=n1
                COREOS_GCE_MACHINE_TYPE=n1
                None ["ssh-rsa A me", "ssh-rsa B you"]
            "#]],
        );
    }

    #[test]
    fn documents_of_json_are_taken_apart() {
        check(
            "azure",
            &[(
                "/metadata/instance?api-version=2021-02-01",
                r#"{"compute": {"vmSize": "A 1", "osProfile": {"computerName": "node"},
                "publicKeys": [{"keyData": "ssh-rsa A", "path": "x"}]}, "network": {"interface":
                [{"ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4", "publicIpAddress": ""}]}}]}}"#,
            )],
            expect![[r#"
                AFTERBURN_AZURE_IPV4_DYNAMIC=10.0.0.4
                AFTERBURN_AZURE_VMSIZE="A 1"
                COREOS_AZURE_IPV4_DYNAMIC=10.0.0.4
                COREOS_AZURE_VMSIZE="A 1"
                Some("node") ["ssh-rsa A"]
            "#]],
        );
        check(
            "digitalocean",
            &[(
                "/metadata/v1.json",
                r#"{"hostname": "node", "region": "nyc3", "public_keys": ["k"], "interfaces":
                {"public": [{"ipv4": {"ip_address": "192.0.2.1"}, "anchor_ipv4": {"ip_address":
                "10.1.0.1"}}], "private": [{"ipv4": {"ip_address": "10.0.0.1"}}]}}"#,
            )],
            expect![[r#"
                AFTERBURN_DIGITALOCEAN_HOSTNAME=node
                AFTERBURN_DIGITALOCEAN_IPV4_ANCHOR_0=10.1.0.1
                AFTERBURN_DIGITALOCEAN_IPV4_PRIVATE_0=10.0.0.1
                AFTERBURN_DIGITALOCEAN_IPV4_PUBLIC_0=192.0.2.1
                AFTERBURN_DIGITALOCEAN_REGION=nyc3
                COREOS_DIGITALOCEAN_HOSTNAME=node
                COREOS_DIGITALOCEAN_IPV4_ANCHOR_0=10.1.0.1
                COREOS_DIGITALOCEAN_IPV4_PRIVATE_0=10.0.0.1
                COREOS_DIGITALOCEAN_IPV4_PUBLIC_0=192.0.2.1
                COREOS_DIGITALOCEAN_REGION=nyc3
                Some("node") ["k"]
            "#]],
        );
        check(
            "vultr",
            &[(
                "/v1.json",
                r#"{"hostname": "node", "instanceid": 7, "region": {"regioncode": "EWR"}}"#,
            )],
            expect![[r#"
                AFTERBURN_VULTR_HOSTNAME=node
                AFTERBURN_VULTR_INSTANCE_ID=7
                AFTERBURN_VULTR_REGION_CODE=EWR
                COREOS_VULTR_HOSTNAME=node
                COREOS_VULTR_INSTANCE_ID=7
                COREOS_VULTR_REGION_CODE=EWR
                Some("node") []
            "#]],
        );
    }

    #[test]
    fn hetzner_has_networks_in_yaml_and_keys_in_json() {
        check(
            "hetzner",
            &[
                ("/hetzner/v1/metadata/private-networks", "- ip: 10.0.0.2\n  network_id: 1\n"),
                ("/hetzner/v1/metadata/public-keys", r#"["ssh-rsa A"]"#),
            ],
            expect![[r#"
                AFTERBURN_HETZNER_PRIVATE_IPV4_0=10.0.0.2
                COREOS_HETZNER_PRIVATE_IPV4_0=10.0.0.2
                None ["ssh-rsa A"]
            "#]],
        );
    }

    #[test]
    fn openstack_has_documents_of_two_kinds() {
        check(
            "openstack",
            &[
                (
                    "/openstack/latest/meta_data.json",
                    r#"{"uuid": "u", "hostname": "h", "public_keys": {"a": "k\n"}}"#,
                ),
                ("/latest/meta-data/local-ipv4", "10.0.0.3"),
            ],
            expect![[r#"
                AFTERBURN_OPENSTACK_HOSTNAME=h
                AFTERBURN_OPENSTACK_INSTANCE_UUID=u
                AFTERBURN_OPENSTACK_IPV4_LOCAL=10.0.0.3
                COREOS_OPENSTACK_HOSTNAME=h
                COREOS_OPENSTACK_INSTANCE_UUID=u
                COREOS_OPENSTACK_IPV4_LOCAL=10.0.0.3
                None ["k"]
            "#]],
        );
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_at_its_first_dot() {
        let long = format!("node.{}", "a".repeat(80));
        assert_eq!(fitting_hostname(&long), "node");
        assert_eq!(fitting_hostname(&"a".repeat(80)).len(), 64);
        assert_eq!(fitting_hostname("node.example"), "node.example");
    }
}
