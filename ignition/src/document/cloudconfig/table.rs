//! The keys of a cloud-config, and which variables the sections for services are made into.

use crate::document::schema::{Field, Key, Kind, List, Object};

const fn text(name: &'static str) -> Field {
    Field { name, since: 0, kind: Kind::Text }
}

const fn integer(name: &'static str) -> Field {
    Field { name, since: 0, kind: Kind::Integer }
}

const fn flag(name: &'static str) -> Field {
    Field { name, since: 0, kind: Kind::Flag }
}

const fn map(name: &'static str, object: &'static Object) -> Field {
    Field { name, since: 0, kind: Kind::Map(object) }
}

const fn list(name: &'static str, list: &'static List) -> Field {
    Field { name, since: 0, kind: Kind::List(list) }
}

const fn object(fields: &'static [Field]) -> Object {
    Object { fields, shared: &[] }
}

const fn list_of(item: &'static Object) -> List {
    List { item: Kind::Map(item), key: Key::Nothing }
}

static TEXTS: List = List { item: Kind::Text, key: Key::Nothing };

/// A whole cloud-config.
pub(super) static ROOT: Object = object(&[
    list("ssh_authorized_keys", &TEXTS),
    map("coreos", &COREOS),
    list("write_files", &FILES),
    text("hostname"),
    list("users", &USERS),
    text("manage_etc_hosts"),
]);

static COREOS: Object = object(&[
    map("etcd", &ETCD),
    map("etcd2", &ETCD2),
    map("flannel", &FLANNEL),
    map("fleet", &FLEET),
    map("locksmith", &LOCKSMITH),
    map("oem", &OEM),
    map("update", &UPDATE),
    list("units", &UNITS),
]);

static FILES: List = list_of(&FILE);
static FILE: Object =
    object(&[text("encoding"), text("content"), text("owner"), text("path"), text("permissions")]);

static USERS: List = list_of(&USER);
static USER: Object = object(&[
    text("name"),
    text("passwd"),
    list("ssh_authorized_keys", &TEXTS),
    text("coreos_ssh_import_github"),
    list("coreos_ssh_import_github_users", &TEXTS),
    text("coreos_ssh_import_url"),
    text("gecos"),
    text("homedir"),
    flag("no_create_home"),
    text("primary_group"),
    list("groups", &TEXTS),
    flag("no_user_group"),
    flag("system"),
    flag("no_log_init"),
    text("shell"),
]);

static UNITS: List = list_of(&UNIT);
static UNIT: Object = object(&[
    text("name"),
    flag("mask"),
    flag("enable"),
    flag("runtime"),
    text("content"),
    text("command"),
    list("drop_ins", &DROP_INS),
]);
static DROP_INS: List = list_of(&DROP_IN);
static DROP_IN: Object = object(&[text("name"), text("content")]);

static OEM: Object = object(&[
    text("id"),
    text("name"),
    text("version_id"),
    text("home_url"),
    text("bug_report_url"),
]);

static UPDATE: Object = object(&[text("reboot_strategy"), text("group"), text("server")]);

static ETCD: Object = object(&[
    text("addr"),
    text("advertise_client_urls"),
    text("bind_addr"),
    text("ca_file"),
    text("cert_file"),
    integer("cluster_active_size"),
    text("cluster_remove_delay"),
    text("cluster_sync_interval"),
    text("cors"),
    text("data_dir"),
    text("discovery"),
    text("discovery_fallback"),
    text("discovery_proxy"),
    text("discovery_srv"),
    integer("election_timeout"),
    flag("force_new_cluster"),
    text("graphite_host"),
    integer("heartbeat_interval"),
    text("http_read_timeout"),
    text("http_write_timeout"),
    text("initial_advertise_peer_urls"),
    text("initial_cluster"),
    text("initial_cluster_state"),
    text("initial_cluster_token"),
    text("key_file"),
    text("listen_client_urls"),
    text("listen_peer_urls"),
    integer("max_result_buffer"),
    integer("max_retry_attempts"),
    integer("max_snapshots"),
    integer("max_wals"),
    text("name"),
    text("peer_addr"),
    text("peer_bind_addr"),
    text("peer_ca_file"),
    text("peer_cert_file"),
    integer("peer_election_timeout"),
    integer("peer_heartbeat_interval"),
    text("peer_key_file"),
    text("peers"),
    text("peers_file"),
    text("proxy"),
    text("retry_interval"),
    flag("snapshot"),
    integer("snapshot_count"),
    text("trace"),
    flag("verbose"),
    flag("very_verbose"),
    flag("very_very_verbose"),
]);

static ETCD2: Object = object(&[
    text("advertise_client_urls"),
    text("ca_file"),
    text("cert_file"),
    flag("client_cert_auth"),
    text("cors"),
    text("data_dir"),
    flag("debug"),
    text("discovery"),
    text("discovery_fallback"),
    text("discovery_proxy"),
    text("discovery_srv"),
    integer("election_timeout"),
    flag("enable_pprof"),
    flag("force_new_cluster"),
    integer("heartbeat_interval"),
    text("initial_advertise_peer_urls"),
    text("initial_cluster"),
    text("initial_cluster_state"),
    text("initial_cluster_token"),
    text("key_file"),
    text("listen_client_urls"),
    text("listen_peer_urls"),
    text("log_package_levels"),
    integer("max_snapshots"),
    integer("max_wals"),
    text("name"),
    text("peer_ca_file"),
    text("peer_cert_file"),
    flag("peer_client_cert_auth"),
    text("peer_key_file"),
    text("peer_trusted_ca_file"),
    text("proxy"),
    integer("proxy_dial_timeout"),
    integer("proxy_failure_wait"),
    integer("proxy_read_timeout"),
    integer("proxy_refresh_interval"),
    integer("proxy_write_timeout"),
    integer("snapshot_count"),
    flag("strict_reconfig_check"),
    text("trusted_ca_file"),
    text("wal_dir"),
]);

static FLANNEL: Object = object(&[
    text("etcd_cafile"),
    text("etcd_certfile"),
    text("etcd_endpoints"),
    text("etcd_keyfile"),
    text("etcd_password"),
    text("etcd_prefix"),
    text("etcd_username"),
    text("interface"),
    text("ip_masq"),
    text("public_ip"),
    text("subnet_file"),
]);

static FLEET: Object = object(&[
    text("agent_ttl"),
    text("authorized_keys_file"),
    flag("disable_engine"),
    text("engine_reconcile_interval"),
    text("etcd_cafile"),
    text("etcd_certfile"),
    text("etcd_key_prefix"),
    text("etcd_keyfile"),
    text("etcd_password"),
    text("etcd_request_timeout"),
    text("etcd_servers"),
    text("etcd_username"),
    text("metadata"),
    text("public_ip"),
    integer("token_limit"),
    integer("verbosity"),
    flag("verify_units"),
]);

static LOCKSMITH: Object = object(&[
    text("endpoint"),
    text("etcd_cafile"),
    text("etcd_certfile"),
    text("etcd_keyfile"),
    text("etcd_password"),
    text("etcd_username"),
    text("group"),
    text("window_length"),
    text("window_start"),
]);

/// The variable of a service that a key of its section is.
pub(super) fn variable(section: &str, key: &str) -> String {
    let prefix = match (section, key) {
        ("locksmith", "window_start" | "window_length") => "REBOOT",
        ("flannel", "interface") => return "FLANNELD_IFACE".to_owned(),
        ("etcd", "snapshot_count") => return "ETCD_SNAPSHOTCOUNT".to_owned(),
        ("etcd" | "etcd2", _) => "ETCD",
        ("flannel", _) => "FLANNELD",
        ("fleet", _) => "FLEET",
        ("locksmith", _) => "LOCKSMITHD",
        (other, _) => other,
    };
    format!("{prefix}_{}", key.to_ascii_uppercase())
}

/// Why a section or a key is not used any more.
pub(super) fn deprecated(place: &str) -> Option<&'static str> {
    match place {
        "coreos.etcd" | "coreos.etcd2" => Some("no such service is on the system any more"),
        "coreos.fleet" => Some("fleet is not on the system any more"),
        "users.coreos_ssh_import_github"
        | "users.coreos_ssh_import_github_users"
        | "users.coreos_ssh_import_url" => {
            Some("keys are not fetched here: whoever answers for that address could come in")
        }
        "coreos.etcd2.ca_file" => Some("trusted_ca_file and client_cert_auth do it"),
        "coreos.etcd2.peer_ca_file" => Some("peer_trusted_ca_file and peer_client_cert_auth do it"),
        _ => None,
    }
}
