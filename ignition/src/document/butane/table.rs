//! The keys that Butane adds to those of the specification, named as YAML names them. `since` is
//! the specification that the first version with a key maps to.

use crate::document::schema::{Field, Key, Kind, List, Object, ROOT};

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, since: 0, kind }
}

const fn since(minor: u8, name: &'static str, kind: Kind) -> Field {
    Field { name, since: minor, kind }
}

static TEXTS: List = List { item: Kind::Text, key: Key::Nothing };

static DOCUMENT: &[Field] = &[
    field("variant", Kind::Text),
    field("version", Kind::Text),
    field("boot_device", Kind::Map(&BOOT_DEVICE)),
    field("grub", Kind::Map(&GRUB)),
];

static BOOT_DEVICE: Object = Object {
    fields: &[
        field("layout", Kind::Text),
        field("luks", Kind::Map(&BOOT_LUKS)),
        field("mirror", Kind::Map(&BOOT_MIRROR)),
    ],
    shared: &[],
};
static BOOT_LUKS: Object = Object {
    fields: &[
        since(5, "cex", Kind::Map(&CEX)),
        since(5, "device", Kind::Text),
        since(4, "discard", Kind::Flag),
        field("tang", Kind::List(&TANGS)),
        field("threshold", Kind::Integer),
        field("tpm2", Kind::Flag),
    ],
    shared: &[],
};
static CEX: Object = Object { fields: &[field("enabled", Kind::Flag)], shared: &[] };
static TANGS: List = List { item: Kind::Map(&TANG), key: Key::Nothing };
static TANG: Object = Object {
    fields: &[
        since(4, "advertisement", Kind::Text),
        field("thumbprint", Kind::Text),
        field("url", Kind::Text),
    ],
    shared: &[],
};
static BOOT_MIRROR: Object =
    Object { fields: &[field("devices", Kind::List(&TEXTS))], shared: &[] };

static GRUB: Object = Object { fields: &[field("users", Kind::List(&GRUB_USERS))], shared: &[] };
static GRUB_USERS: List = List { item: Kind::Map(&GRUB_USER), key: Key::Nothing };
static GRUB_USER: Object = Object {
    fields: &[field("name", Kind::Text), field("password_hash", Kind::Text)],
    shared: &[],
};

static STORAGE: &[Field] = &[since(1, "trees", Kind::List(&TREES))];
static TREES: List = List { item: Kind::Map(&TREE), key: Key::Nothing };
static TREE: Object = Object {
    fields: &[
        field("local", Kind::Text),
        field("path", Kind::Text),
        since(6, "user", Kind::Map(&OWNER)),
        since(6, "group", Kind::Map(&OWNER)),
        since(6, "file_mode", Kind::Integer),
        since(6, "dir_mode", Kind::Integer),
    ],
    shared: &[],
};
static OWNER: Object =
    Object { fields: &[field("id", Kind::Integer), field("name", Kind::Text)], shared: &[] };

static FILESYSTEM: &[Field] = &[since(1, "with_mount_unit", Kind::Flag)];
static USER: &[Field] = &[since(4, "ssh_authorized_keys_local", Kind::List(&TEXTS))];
static UNIT: &[Field] = &[since(4, "contents_local", Kind::Text)];

static SYSTEMD: &[Field] = &[field("quadlets", Kind::List(&QUADLETS))];
static QUADLETS: List = List { item: Kind::Map(&QUADLET), key: Key::Nothing };
static QUADLET: Object = Object {
    fields: &[
        field("name", Kind::Text),
        field("rootful", Kind::Flag),
        field("contents", Kind::Text),
        field("contents_local", Kind::Text),
        field("dropins", Kind::List(&QUADLET_DROPINS)),
    ],
    shared: &[],
};
static QUADLET_DROPINS: List = List { item: Kind::Map(&QUADLET_DROPIN), key: Key::Nothing };
static QUADLET_DROPIN: Object = Object {
    fields: &[
        field("name", Kind::Text),
        field("contents", Kind::Text),
        field("contents_local", Kind::Text),
    ],
    shared: &[],
};

static RESOURCE: &[Field] = &[field("inline", Kind::Text), since(1, "local", Kind::Text)];
/// Other documents and certificates were only to be fetched at first.
static FETCHED: &[Field] = &[since(1, "inline", Kind::Text), since(1, "local", Kind::Text)];

/// What is added to an object of the table that is at `place`, as in `storage.files`.
pub(super) fn added(place: &str, object: &Object) -> &'static [Field] {
    match place {
        "" => DOCUMENT,
        "storage" => STORAGE,
        "storage.filesystems" => FILESYSTEM,
        "passwd.users" => USER,
        "systemd" => SYSTEMD,
        "systemd.units" | "systemd.units.dropins" => UNIT,
        _ if is_resource(object) && place.starts_with("ignition.") => FETCHED,
        _ if is_resource(object) => RESOURCE,
        _ => &[],
    }
}

/// Whether something can be fetched for it.
pub(super) fn is_resource(object: &Object) -> bool {
    object.field("verification").is_some()
}

/// The keys of an object at `place`, and how YAML spells them. The version is that of the whole
/// document, not of `ignition`.
pub(super) fn keys(
    place: &str,
    object: &'static Object,
) -> impl Iterator<Item = (String, &'static Field)> {
    let hidden = move |field: &&Field| !(place == "ignition" && field.name == "version");
    let added = added(place, object).iter();
    let fields = object.fields.iter().filter(hidden).chain(added);
    fields.map(|field| (field.snake(), field))
}

/// What a whole document is.
pub(super) const DOCUMENT_KIND: Kind = Kind::Map(&ROOT);
