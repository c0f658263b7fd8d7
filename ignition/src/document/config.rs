//! The configuration: specification 3.6.0 as types. Fields are named as the specification names
//! them; a list that is not there is empty, any other value is `None` (or the empty text where the
//! specification demands it).

use serde::Deserialize;

/// A whole configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// About the document itself.
    pub ignition: Ignition,
    /// Arguments that the kernel shall, and shall not, be given.
    pub kernel_arguments: KernelArguments,
    /// Users and groups.
    pub passwd: Passwd,
    /// From disks to files.
    pub storage: Storage,
    /// Units.
    pub systemd: Systemd,
}

/// About the document itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Ignition {
    /// The specification that it keeps to.
    pub version: String,
    /// Other documents.
    pub config: Documents,
    /// The proxy for what is fetched.
    pub proxy: Proxy,
    /// Who is trusted.
    pub security: Security,
    /// How long to wait.
    pub timeouts: Timeouts,
}

/// Other documents.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Documents {
    /// Those that are merged into this one.
    pub merge: Vec<Resource>,
    /// The one that takes the place of this one.
    pub replace: Resource,
}

/// Something to fetch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Resource {
    /// `gzip`, `zstd` (ours) or nothing.
    pub compression: Option<String>,
    /// Headers to send.
    pub http_headers: Vec<Header>,
    /// Where it is.
    pub source: Option<String>,
    /// What it must be.
    pub verification: Verification,
}

/// A header of HTTP; without a value, one that a parent shall not send.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// What something fetched must be.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Verification {
    /// `sha512-HEX` or `sha256-HEX`, of what is not compressed any more.
    pub hash: Option<String>,
}

/// The proxy for what is fetched.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// For `http:`.
    pub http_proxy: Option<String>,
    /// For `https:`.
    pub https_proxy: Option<String>,
    /// Hosts that are asked directly.
    pub no_proxy: Vec<String>,
}

/// Who is trusted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Security {
    /// By TLS.
    pub tls: Tls,
}

/// Who is trusted by TLS.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// Certificates, PEM.
    pub certificate_authorities: Vec<Resource>,
}

/// How long to wait, in seconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// For the headers of an answer; 10 if not said.
    pub http_response_headers: Option<i64>,
    /// For all of it; for ever if not said, or 0.
    pub http_total: Option<i64>,
}

/// Arguments that the kernel shall, and shall not, be given.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct KernelArguments {
    /// Shall.
    pub should_exist: Vec<String>,
    /// Shall not.
    pub should_not_exist: Vec<String>,
}

/// Users and groups.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Passwd {
    /// Groups.
    pub groups: Vec<Group>,
    /// Users.
    pub users: Vec<User>,
}

/// A group.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: Option<i64>,
    /// The hash of its password.
    pub password_hash: Option<String>,
    /// False to remove it.
    pub should_exist: Option<bool>,
    /// With a number of the range of the system.
    pub system: Option<bool>,
}

/// A user.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// Its name.
    pub name: String,
    /// The comment field.
    pub gecos: Option<String>,
    /// Other groups that it is in.
    pub groups: Vec<String>,
    /// Its home directory.
    pub home_dir: Option<String>,
    /// Not making the home directory.
    pub no_create_home: Option<bool>,
    /// Not adding it to lastlog and faillog.
    pub no_log_init: Option<bool>,
    /// Not making a group of its name.
    pub no_user_group: Option<bool>,
    /// The hash of its password.
    pub password_hash: Option<String>,
    /// Its first group.
    pub primary_group: Option<String>,
    /// False to remove it.
    pub should_exist: Option<bool>,
    /// Keys that may come in by SSH.
    pub ssh_authorized_keys: Vec<String>,
    /// Its shell.
    pub shell: Option<String>,
    /// With a number of the range of the system.
    pub system: Option<bool>,
    /// Its number.
    pub uid: Option<i64>,
}

/// From disks to files.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Storage {
    /// Directories.
    pub directories: Vec<Directory>,
    /// Disks and their partitions.
    pub disks: Vec<Disk>,
    /// Files.
    pub files: Vec<File>,
    /// File systems.
    pub filesystems: Vec<Filesystem>,
    /// Links, symbolic and hard.
    pub links: Vec<Link>,
    /// Encrypted volumes.
    pub luks: Vec<Luks>,
    /// Arrays of disks.
    pub raid: Vec<Raid>,
}

/// An owner, by number or by name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Owner {
    /// Its number.
    pub id: Option<i64>,
    /// Its name.
    pub name: Option<String>,
}

/// A directory.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Directory {
    /// Where.
    pub path: String,
    /// The group that owns it.
    pub group: Owner,
    /// Its permissions.
    pub mode: Option<i64>,
    /// Whether what is there may be removed.
    pub overwrite: Option<bool>,
    /// The user that owns it.
    pub user: Owner,
}

/// A file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct File {
    /// Where.
    pub path: String,
    /// What is put behind what is there.
    pub append: Vec<Resource>,
    /// What is in it.
    pub contents: Resource,
    /// The group that owns it.
    pub group: Owner,
    /// Its permissions.
    pub mode: Option<i64>,
    /// Whether what is there may be removed.
    pub overwrite: Option<bool>,
    /// The user that owns it.
    pub user: Owner,
}

/// A link.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Link {
    /// Where.
    pub path: String,
    /// The group that owns it.
    pub group: Owner,
    /// A hard one.
    pub hard: Option<bool>,
    /// Whether what is there may be removed.
    pub overwrite: Option<bool>,
    /// To where.
    pub target: Option<String>,
    /// The user that owns it.
    pub user: Owner,
}

/// A disk.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// Its device.
    pub device: String,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// Whether all that is there is to be forgotten.
    pub wipe_table: Option<bool>,
}

/// A partition.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Partition {
    /// Its own GUID.
    pub guid: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Its number; 0 is the next that is free.
    pub number: i64,
    /// Whether it may be made longer or shorter.
    pub resize: Option<bool>,
    /// False to remove it.
    pub should_exist: Option<bool>,
    /// Its length; 0 is to the end of the room.
    #[serde(rename = "sizeMiB")]
    pub size_mib: Option<i64>,
    /// Its start; 0 is the start of the largest room.
    #[serde(rename = "startMiB")]
    pub start_mib: Option<i64>,
    /// The GUID of its type.
    pub type_guid: Option<String>,
    /// Whether it may be removed and made anew.
    pub wipe_partition_entry: Option<bool>,
}

/// A file system.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Filesystem {
    /// On what.
    pub device: String,
    /// `ext4`, `btrfs`, `xfs`, `vfat`, `swap` or `none`.
    pub format: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Options for mounting it.
    pub mount_options: Vec<String>,
    /// Options for making it.
    pub options: Vec<String>,
    /// Where it is mounted while the document is applied.
    pub path: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Whether what is there may be removed.
    pub wipe_filesystem: Option<bool>,
}

/// An encrypted volume.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Luks {
    /// Its name below `/dev/disk/by-id/dm-name-`.
    pub name: String,
    /// A Crypto Express card (s390x only).
    pub cex: Cex,
    /// Keys that something else keeps.
    pub clevis: Clevis,
    /// On what.
    pub device: Option<String>,
    /// Whether freed blocks are told to the device.
    pub discard: Option<bool>,
    /// Its key.
    pub key_file: Resource,
    /// Its label.
    pub label: Option<String>,
    /// Options for opening it.
    pub open_options: Vec<String>,
    /// Options for making it.
    pub options: Vec<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Whether what is there may be removed.
    pub wipe_volume: Option<bool>,
}

/// A Crypto Express card.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Cex {
    /// Whether it keeps the key.
    pub enabled: Option<bool>,
}

/// Keys that something else keeps.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Clevis {
    /// A pin with its own configuration.
    pub custom: ClevisCustom,
    /// Servers.
    pub tang: Vec<Tang>,
    /// How many of all must answer; 1 if not said.
    pub threshold: Option<i64>,
    /// The TPM of the machine.
    pub tpm2: Option<bool>,
}

/// A pin with its own configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClevisCustom {
    /// What the pin is told.
    pub config: Option<String>,
    /// Whether it asks somebody on the network.
    pub needs_network: Option<bool>,
    /// Its name.
    pub pin: Option<String>,
}

/// A Tang server.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Tang {
    /// What it would advertise, so that it need not be asked.
    pub advertisement: Option<String>,
    /// The thumbprint of its key.
    pub thumbprint: Option<String>,
    /// Where it is.
    pub url: String,
}

/// An array of disks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Raid {
    /// Its name below `/dev/md`.
    pub name: String,
    /// On what.
    pub devices: Vec<String>,
    /// Its level.
    pub level: Option<String>,
    /// Options for mdadm.
    pub options: Vec<String>,
    /// How many of the devices wait for one to fail.
    pub spares: Option<i64>,
}

/// Units.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Systemd {
    /// The units.
    pub units: Vec<Unit>,
}

/// A unit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub contents: Option<String>,
    /// Files that change it.
    pub dropins: Vec<Dropin>,
    /// Whether it starts by itself.
    pub enabled: Option<bool>,
    /// Whether it cannot start at all.
    pub mask: Option<bool>,
}

/// A file that changes a unit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Dropin {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub contents: Option<String>,
}
