//! What is asked of each platform, and what its answers mean.

use serde_json::Value;

use super::{Answers, Platform, Reading};

const AMAZON: &str = "/2021-01-03/meta-data/";
const HETZNER: &str = "/hetzner/v1/metadata/";
const GOOGLE: &str = "/computeMetadata/v1/";

/// The platforms.
pub(super) const PLATFORMS: &[Platform] = &[
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
