//! The files of a repository: what their JSON means.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signer as _, SigningKey};
use jiff::Timestamp as Time;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Key, json, quote};

/// The version of the specification that we write.
pub const SPEC_VERSION: &str = "1.0.33";

/// A file: who signed it, and what it says.
#[derive(Clone, Debug)]
pub struct Signed<T> {
    /// What it says.
    pub signed: T,
    /// What was signed.
    canonical: Vec<u8>,
    signatures: Vec<Signature>,
}

/// A signature by one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signature {
    /// Name of the key.
    pub keyid: String,
    /// Hexadecimal.
    pub sig: String,
}

/// A file, before it is known what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// By different keys.
    pub signatures: Vec<Signature>,
    /// What it says.
    pub signed: Value,
}

/// One of the four roles, or a delegated one.
pub trait Role: DeserializeOwned {
    /// `_type` of its files.
    const TYPE: &'static str;
}

/// Which keys may speak for a role.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Their names.
    pub keyids: Vec<String>,
    /// How many of them have to sign.
    pub threshold: u64,
}

/// Which keys there are. Each of its versions is signed by the keys of the one before, too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Root {
    /// From 1, each one more.
    pub version: u64,
    /// When it has to be replaced.
    pub expires: Time,
    /// Whether files have their version or hash in their name.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// By name.
    pub keys: BTreeMap<String, Key>,
    /// `root`, `timestamp`, `snapshot`, `targets`.
    pub roles: BTreeMap<String, RoleKeys>,
}

/// Which snapshot is the newest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Timestamp {
    /// Never falls.
    pub version: u64,
    /// When it has to be replaced.
    pub expires: Time,
    /// When it was signed: it was not earlier then. Other tools do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Time>,
    /// `snapshot.json`.
    pub meta: BTreeMap<String, Meta>,
}

/// Which versions of the targets roles belong together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Never falls.
    pub version: u64,
    /// When it has to be replaced.
    pub expires: Time,
    /// `targets.json`, and those of delegated roles.
    pub meta: BTreeMap<String, Meta>,
}

/// What another file has to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// Its version.
    pub version: u64,
    /// Its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes, by algorithm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

/// Which files there are, and who else may say so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Targets {
    /// Never falls.
    pub version: u64,
    /// When it has to be replaced.
    pub expires: Time,
    /// By path.
    pub targets: BTreeMap<String, Target>,
    /// Who else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
}

/// A file that is not metadata.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Its length.
    pub length: u64,
    /// Its hashes, by algorithm.
    pub hashes: BTreeMap<String, String>,
}

/// Roles that another role lets speak.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Delegations {
    /// By name.
    pub keys: BTreeMap<String, Key>,
    /// The first that knows a path is right about it.
    #[serde(default)]
    pub roles: Vec<Delegation>,
}

/// A role that another role lets speak about some paths.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delegation {
    /// Its name.
    pub name: String,
    /// Who speaks for it.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Whether nobody else is asked about these paths.
    #[serde(default)]
    pub terminating: bool,
    /// Patterns of paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// First digits of the SHA-256 of paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_hash_prefixes: Vec<String>,
}

impl Role for Root {
    const TYPE: &'static str = "root";
}
impl Role for Timestamp {
    const TYPE: &'static str = "timestamp";
}
impl Role for Snapshot {
    const TYPE: &'static str = "snapshot";
}
impl Role for Targets {
    const TYPE: &'static str = "targets";
}

impl Envelope {
    /// A file that says `signed`, and that nobody has signed.
    ///
    /// # Panics
    /// Never: roles have names for keys, and no fractions.
    pub fn of<T: Role + Serialize>(signed: &T) -> Self {
        let mut value = serde_json::to_value(signed).expect("roles are JSON");
        value["_type"] = T::TYPE.into();
        value["spec_version"] = SPEC_VERSION.into();
        Self { signatures: Vec::new(), signed: value }
    }

    /// Reads a file, whatever role it is of.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(serde_json::from_value(json::parse(bytes)?)?)
    }

    /// `root`, `targets` and so on.
    pub fn role(&self) -> &str {
        self.signed["_type"].as_str().unwrap_or_default()
    }

    /// Signs it, in the place of an earlier signature by the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let keyid = Key::ed25519(&key.verifying_key()).id();
        let sig = hex::encode(key.sign(&json::canonical(&self.signed)).to_bytes());
        self.signatures.retain(|by| by.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it was JSON before");
        text.push('\n');
        text
    }
}

/// Why bytes are not the metadata that was expected.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// They are no JSON, or not of the form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// They are another role's.
    #[error("expected metadata of type `{expected}`, found `{found}`")]
    Type {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// They follow another specification.
    #[error("it follows version `{0}` of the specification, and we know versions 1")]
    Spec(String),
    /// One key signed twice.
    #[error("the key {0} has signed it twice")]
    Twice(String),
    /// A number that may not be.
    #[error("{0}")]
    Number(&'static str),
}

impl<T: Role> Signed<T> {
    /// Reads a file. Whether its signatures are valid is another question: [`Signed::valid`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        /// What every role has.
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "_type")]
            kind: String,
            spec_version: String,
            version: u64,
        }
        let envelope: Envelope = serde_json::from_value(json::parse(bytes)?)?;
        let head = Head::deserialize(&envelope.signed)?;
        if head.kind != T::TYPE {
            return Err(Malformed::Type { expected: T::TYPE, found: head.kind });
        }
        if head.spec_version.split('.').next() != Some("1") {
            return Err(Malformed::Spec(head.spec_version));
        }
        if head.version == 0 {
            return Err(Malformed::Number("versions start at 1, and this is 0"));
        }
        let mut keys = BTreeSet::new();
        if let Some(twice) = envelope.signatures.iter().find(|by| !keys.insert(&by.keyid)) {
            return Err(Malformed::Twice(twice.keyid.clone()));
        }
        let canonical = json::canonical(&envelope.signed);
        let signed = T::deserialize(envelope.signed)?;
        Ok(Self { signed, canonical, signatures: envelope.signatures })
    }

    /// How many keys of `role` have signed it. A key that goes by two names counts once.
    pub fn valid(&self, keys: &BTreeMap<String, Key>, role: &RoleKeys) -> u64 {
        let by: BTreeSet<&str> = self
            .signatures
            .iter()
            .filter(|by| role.keyids.contains(&by.keyid))
            .filter_map(|by| Some((keys.get(&by.keyid)?, by)))
            .filter(|(key, by)| key.verify(&self.canonical, &by.sig))
            .map(|(key, _)| key.keyval.public.trim())
            .collect();
        by.len() as u64
    }
}

impl Root {
    /// Who speaks for a role.
    pub fn role(&self, name: &str) -> Result<&RoleKeys, Malformed> {
        let missing = "the root names no keys for one of root, timestamp, snapshot and targets";
        self.roles.get(name).ok_or(Malformed::Number(missing))
    }
}

impl Meta {
    /// What `bytes` are, in `version`.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let Target { length, hashes } = Target::of(bytes);
        Self { version, length: Some(length), hashes }
    }

    /// Whether `bytes` are what it says, as far as it says anything.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        self.length.is_none_or(|length| length == bytes.len() as u64)
            && (self.hashes.is_empty() || hashes_match(&self.hashes, bytes))
    }
}

impl Target {
    /// The target that `bytes` are.
    pub fn of(bytes: &[u8]) -> Self {
        let sha256 = hex::encode(Sha256::digest(bytes));
        Self { length: bytes.len() as u64, hashes: BTreeMap::from([("sha256".to_owned(), sha256)]) }
    }

    /// Whether `bytes` are it.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64 && hashes_match(&self.hashes, bytes)
    }

    /// Where it is on a server, relative to the targets, ready for a URL.
    pub fn location(&self, path: &str, consistent_snapshot: bool) -> String {
        let (folder, name) =
            path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let mut location: Vec<String> =
            folder.split('/').filter(|part| !part.is_empty()).map(quote).collect();
        let hash = self.hashes.get("sha256").or_else(|| self.hashes.values().next());
        location.push(match hash {
            Some(hash) if consistent_snapshot => format!("{}.{}", quote(hash), quote(name)),
            _ => quote(name),
        });
        location.join("/")
    }
}

/// Whether every hash that we can compute is right, and there is one.
fn hashes_match(hashes: &BTreeMap<String, String>, bytes: &[u8]) -> bool {
    let mut known = 0;
    for (algorithm, expected) in hashes {
        let found = match algorithm.as_str() {
            "sha256" => hex::encode(Sha256::digest(bytes)),
            "sha512" => hex::encode(Sha512::digest(bytes)),
            _ => continue,
        };
        if found != *expected {
            return false;
        }
        known += 1;
    }
    known > 0
}
