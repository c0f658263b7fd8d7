//! The table of specification 3.6.0, with what is newer than 3.0.0 marked.

use super::{Field, Key, Kind, List, Object};

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, since: 0, kind }
}

const fn text(name: &'static str) -> Field {
    field(name, Kind::Text)
}

const fn integer(name: &'static str) -> Field {
    field(name, Kind::Integer)
}

const fn flag(name: &'static str) -> Field {
    field(name, Kind::Flag)
}

const fn map(name: &'static str, object: &'static Object) -> Field {
    field(name, Kind::Map(object))
}

const fn list(name: &'static str, list: &'static List) -> Field {
    field(name, Kind::List(list))
}

impl Field {
    const fn since(self, minor: u8) -> Self {
        Self { since: minor, ..self }
    }
}

const fn object(fields: &'static [Field]) -> Object {
    Object { fields, shared: &[] }
}

const fn list_of(item: &'static Object, key: &'static str) -> List {
    List { item: Kind::Map(item), key: Key::Field(key) }
}

/// Texts that may be there once.
static NAMES: List = List { item: Kind::Text, key: Key::Itself };
/// Texts in order.
static OPTIONS: List = List { item: Kind::Text, key: Key::Nothing };

/// The whole configuration.
pub static ROOT: Object = object(&[
    map("ignition", &IGNITION),
    map("kernelArguments", &KERNEL_ARGUMENTS).since(3),
    map("passwd", &PASSWD),
    map("storage", &STORAGE),
    map("systemd", &SYSTEMD),
]);

static IGNITION: Object = object(&[
    text("version"),
    map("config", &DOCUMENTS),
    map("proxy", &PROXY).since(1),
    map("security", &SECURITY),
    map("timeouts", &TIMEOUTS),
]);

static DOCUMENTS: Object = object(&[list("merge", &RESOURCES), map("replace", &RESOURCE)]);

static RESOURCES: List = list_of(&RESOURCE, "source");

static RESOURCE: Object = object(&[
    text("compression").since(1),
    list("httpHeaders", &HEADERS).since(1),
    text("source"),
    map("verification", &VERIFICATION),
]);

/// In 3.0.0 only files could be compressed.
static CONTENTS: Object = object(&[
    text("compression"),
    list("httpHeaders", &HEADERS).since(1),
    text("source"),
    map("verification", &VERIFICATION),
]);

static HEADERS: List = list_of(&HEADER, "name");
static HEADER: Object = object(&[text("name"), text("value")]);
static VERIFICATION: Object = object(&[text("hash")]);
static PROXY: Object = object(&[text("httpProxy"), text("httpsProxy"), list("noProxy", &NAMES)]);
static SECURITY: Object = object(&[map("tls", &TLS)]);
static TLS: Object = object(&[list("certificateAuthorities", &RESOURCES)]);
static TIMEOUTS: Object = object(&[integer("httpResponseHeaders"), integer("httpTotal")]);

static KERNEL_ARGUMENTS: Object = Object {
    fields: &[list("shouldExist", &NAMES), list("shouldNotExist", &NAMES)],
    shared: &["shouldExist", "shouldNotExist"],
};

static PASSWD: Object = object(&[list("groups", &GROUPS), list("users", &USERS)]);

static GROUPS: List = list_of(&GROUP, "name");
static GROUP: Object = object(&[
    text("name"),
    integer("gid"),
    text("passwordHash"),
    flag("shouldExist").since(2),
    flag("system"),
]);

static USERS: List = list_of(&USER, "name");
static USER: Object = object(&[
    text("name"),
    text("gecos"),
    list("groups", &NAMES),
    text("homeDir"),
    flag("noCreateHome"),
    flag("noLogInit"),
    flag("noUserGroup"),
    text("passwordHash"),
    text("primaryGroup"),
    flag("shouldExist").since(2),
    list("sshAuthorizedKeys", &NAMES),
    text("shell"),
    flag("system"),
    integer("uid"),
]);

static STORAGE: Object = Object {
    fields: &[
        list("directories", &DIRECTORIES),
        list("disks", &DISKS),
        list("files", &FILES),
        list("filesystems", &FILESYSTEMS),
        list("links", &LINKS),
        list("luks", &LUKS_VOLUMES).since(2),
        list("raid", &RAIDS),
    ],
    shared: &["directories", "files", "links"],
};

static OWNER: Object = object(&[integer("id"), text("name")]);

static DIRECTORIES: List = list_of(&DIRECTORY, "path");
static DIRECTORY: Object = object(&[
    text("path"),
    map("group", &OWNER),
    integer("mode"),
    flag("overwrite"),
    map("user", &OWNER),
]);

static FILES: List = list_of(&FILE, "path");
static FILE: Object = object(&[
    text("path"),
    list("append", &APPENDED),
    map("contents", &CONTENTS),
    map("group", &OWNER),
    integer("mode"),
    flag("overwrite"),
    map("user", &OWNER),
]);
static APPENDED: List = List { item: Kind::Map(&CONTENTS), key: Key::Nothing };

static LINKS: List = list_of(&LINK, "path");
static LINK: Object = object(&[
    text("path"),
    map("group", &OWNER),
    flag("hard"),
    flag("overwrite"),
    text("target"),
    map("user", &OWNER),
]);

static DISKS: List = list_of(&DISK, "device");
static DISK: Object = object(&[text("device"), list("partitions", &PARTITIONS), flag("wipeTable")]);

static PARTITIONS: List = List { item: Kind::Map(&PARTITION), key: Key::Partition };
static PARTITION: Object = object(&[
    text("guid"),
    text("label"),
    integer("number"),
    flag("resize").since(2),
    flag("shouldExist"),
    integer("sizeMiB"),
    integer("startMiB"),
    text("typeGuid"),
    flag("wipePartitionEntry"),
]);

static FILESYSTEMS: List = list_of(&FILESYSTEM, "device");
static FILESYSTEM: Object = object(&[
    text("device"),
    text("format"),
    text("label"),
    list("mountOptions", &OPTIONS).since(1),
    list("options", &OPTIONS),
    text("path"),
    text("uuid"),
    flag("wipeFilesystem"),
]);

static LUKS_VOLUMES: List = list_of(&LUKS, "name");
static LUKS: Object = object(&[
    text("name"),
    map("cex", &CEX).since(5),
    map("clevis", &CLEVIS),
    text("device"),
    flag("discard").since(4),
    map("keyFile", &RESOURCE),
    text("label"),
    list("openOptions", &NAMES).since(4),
    list("options", &OPTIONS),
    text("uuid"),
    flag("wipeVolume"),
]);
static CEX: Object = object(&[flag("enabled")]);
static CLEVIS: Object = object(&[
    map("custom", &CLEVIS_CUSTOM),
    list("tang", &TANGS),
    integer("threshold"),
    flag("tpm2"),
]);
static CLEVIS_CUSTOM: Object = object(&[text("config"), flag("needsNetwork"), text("pin")]);
static TANGS: List = list_of(&TANG, "url");
static TANG: Object = object(&[text("advertisement").since(4), text("thumbprint"), text("url")]);

static RAIDS: List = list_of(&RAID, "name");
static RAID: Object = object(&[
    text("name"),
    list("devices", &NAMES),
    text("level"),
    list("options", &OPTIONS),
    integer("spares"),
]);

static SYSTEMD: Object = object(&[list("units", &UNITS)]);
static UNITS: List = list_of(&UNIT, "name");
static UNIT: Object = object(&[
    text("name"),
    text("contents"),
    list("dropins", &DROPINS),
    flag("enabled"),
    flag("mask"),
]);
static DROPINS: List = list_of(&DROPIN, "name");
static DROPIN: Object = object(&[text("name"), text("contents")]);
