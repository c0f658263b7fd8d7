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
