//! A whole update: a signed repository on a real HTTP server, a disk in a file, and what is between
//! them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
};

use block::table::{Entry, Table};
use ed25519_dalek::{Signer, SigningKey};
use http_client::{Proxies, Url, Wall};
use layout::{Role, RootHash, Slot, Version, verity::Superblock};
use payload::{
    Channel, Digest, Release, Variant,
    channel::{self, State},
    release::{self, Form, Image, Object, Range, SEGMENT_BYTES, Segment, Source, Uki, Usr, Verity},
    tuf::json,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use updater::{
    attempt::Attempt,
    engine::{Code, End, Event, Failure, Found},
    fetch::Fetcher,
    identity::Identity,
    install::{
        Media,
        machine::{Directory, Machine},
        proves,
    },
    records::{Bad, BadVersion},
    repository::{Brought, Source as _, Trust},
};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const PARTITIONS: [(Role, u64, u64); 5] = [
    (Role::Esp, MIB, MIB),
    (Role::Usr(Slot::A), 2 * MIB, 16 * MIB),
    (Role::Verity(Slot::A), 18 * MIB, MIB),
    (Role::Usr(Slot::B), 19 * MIB, 16 * MIB),
    (Role::Verity(Slot::B), 35 * MIB, MIB),
];
const DISK_BYTES: u64 = 40 * MIB;

/// An image of a version.
struct Made {
    version: Version,
    usr: Vec<u8>,
    uki: Vec<u8>,
    root_hash: RootHash,
    superblock: Superblock,
}

/// Bytes that hardly any compression makes shorter.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

impl Made {
    fn new(version: &str, usr: Vec<u8>) -> Self {
        let data_blocks = usr.len() as u64 / 4096;
        let superblock = Superblock { uuid: Uuid::from_u128(7), data_blocks, salt: vec![3; 32] };
        let (hasher, mut hashes) = (superblock.hasher(), Vec::new());
        hasher.hash(&usr, &mut hashes);
        let root_hash = hasher.tree(hashes).unwrap().root_hash;
        let uki = format!("the kernel of {version}").into_bytes();
        Self { version: version.parse().unwrap(), usr, uki, root_hash, superblock }
    }

    fn old() -> Self {
        Self::new("1.0", noise(1, 2 * SEGMENT_BYTES as usize + 4096))
    }

    /// One block is another, the rest is as it was.
    fn new_one() -> Self {
        let mut usr = Self::old().usr;
        usr[8192..12288].copy_from_slice(&noise(2, 4096));
        let end = usr.len();
        usr[end - 4096..].fill(5);
        Self::new("1.1", usr)
    }
}

/// A repository: its files by path.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn object(&mut self, bytes: Vec<u8>) -> Object {
        let object = Object { sha256: Digest::of(&bytes), size_bytes: bytes.len() as u64 };
        self.0.insert(object.path(), bytes);
        object
    }

    fn full(&mut self, bytes: &[u8]) -> Segment {
        let frame = zstd::bulk::compress(bytes, 1).unwrap();
        let object = self.object(frame);
        Segment { sha256: Digest::of(bytes), forms: vec![Form::Full { object }] }
    }

    /// `new`, with `old` as what its patches refer to.
    fn release(&mut self, old: &Made, new: &Made) -> Release {
        let mut segments: Vec<Segment> =
            new.usr.chunks(SEGMENT_BYTES as usize).map(|bytes| self.full(bytes)).collect();
        let first = &new.usr[..SEGMENT_BYTES as usize];
        let range = Range { source: 0, offset_bytes: 0, length_bytes: SEGMENT_BYTES };
        let object = self.object(patch(&old.usr[..SEGMENT_BYTES as usize], first));
        segments[0].forms.push(Form::Patch { range, object });
        segments[1].forms.push(Form::Copy { source: 0, offset_bytes: SEGMENT_BYTES });
        Release {
            format: release::FORMAT,
            id: "pithos".to_owned(),
            version: new.version.clone(),
            variant: variant(),
            security_epoch: 1,
            built: "2026-11-21T00:00:00Z".parse().unwrap(),
            usr: Usr {
                root_hash: new.root_hash,
                verity: Verity {
                    salt: [3; 32],
                    uuid: new.superblock.uuid,
                    size_bytes: new.superblock.size_bytes(),
                },
                image: Image { size_bytes: new.usr.len() as u64, segments },
            },
            uki: Uki {
                sha256: Digest::of(&new.uki),
                image: Image {
                    size_bytes: new.uki.len() as u64,
                    segments: vec![self.full(&new.uki)],
                },
            },
            sources: vec![Source {
                version: old.version.clone(),
                usr_root_hash: old.root_hash,
                usr_size_bytes: old.usr.len() as u64,
                uki_sha256: Digest::of(&old.uki),
                uki_size_bytes: old.uki.len() as u64,
            }],
            rebuilders: None,
        }
    }

    /// Signs what there is to say. Returns the root that a machine trusts.
    fn publish(&mut self, channel: &Channel, release: &Release) -> Vec<u8> {
        let key = SigningKey::from_bytes(&[9; 32]);
        let expires = "2099-01-01T00:00:00Z";
        let mut targets = serde_json::Map::new();
        let path = Release::target(&release.version, &release.variant);
        for (path, text) in [(path, release.text()), (Channel::target("stable"), channel.text())] {
            let sha256 = Digest::of(text.as_bytes());
            let (folder, name) = path.rsplit_once('/').unwrap();
            self.0.insert(format!("targets/{folder}/{sha256}.{name}"), text.clone().into_bytes());
            targets.insert(
                path,
                json!({ "length": text.len(), "hashes": { "sha256": sha256.to_string() } }),
            );
        }
        let mut file = |name: &str, kind: &str, mut signed: Value| {
            signed["_type"] = kind.into();
            signed["spec_version"] = "1.0.33".into();
            signed["version"] = 1.into();
            signed["expires"] = expires.into();
            let sig = hex::encode(key.sign(&json::canonical(&signed)).to_bytes());
            let signatures = json!([{ "keyid": "key", "sig": sig }]);
            let text = json!({ "signed": signed, "signatures": signatures }).to_string();
            self.0.insert(format!("metadata/{name}"), text.clone().into_bytes());
            text.into_bytes()
        };
        let public = hex::encode(key.verifying_key().to_bytes());
        let role = json!({ "keyids": ["key"], "threshold": 1 });
        let root = file(
            "1.root.json",
            "root",
            json!({
                "consistent_snapshot": true,
                "keys": { "key": {
                    "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public },
                } },
                "roles": { "root": role, "timestamp": role, "snapshot": role, "targets": role },
            }),
        );
        let version = json!({ "version": 1 });
        file("timestamp.json", "timestamp", json!({ "meta": { "snapshot.json": version } }));
        file("1.snapshot.json", "snapshot", json!({ "meta": { "targets.json": version } }));
        file("1.targets.json", "targets", json!({ "targets": targets }));
        root
    }
}

fn patch(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut context = zstd::zstd_safe::CCtx::create();
    let mut frame = Vec::with_capacity(new.len() + 1024);
    context.set_parameter(zstd::zstd_safe::CParameter::WindowLog(24)).unwrap();
    context.ref_prefix(old).unwrap();
    context.compress2(&mut frame, new).unwrap();
    frame
}

fn variant() -> Variant {
    Variant { flavor: "cloud".to_owned(), architecture: "x86_64".to_owned() }
}

fn channel_of(version: &Version, state: State) -> Channel {
    Channel {
        format: channel::FORMAT,
        name: "stable".to_owned(),
        releases: vec![channel::Entry {
            version: version.clone(),
            security_epoch: 1,
            variants: vec![variant()],
            barrier: false,
            state,
            countersignatures: Vec::new(),
        }],
        downgrades: Vec::new(),
        dead_ends: Vec::new(),
    }
}

/// A server of files, until the test ends, and what it was asked for.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let path = lines.first().and_then(|line| line.split(' ').nth(1));
                let path = path.unwrap_or("/").trim_start_matches('/').to_owned();
                let (head, bytes) = match files.0.get(&path) {
                    Some(bytes) => ("200 OK", bytes.clone()),
                    None => ("404 No", Vec::new()),
                };
                log.lock().unwrap().push(path);
                let length = bytes.len();
                let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
            }
        });
        Self { address, asked }
    }

    fn objects(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|path| path.starts_with("objects/")).count()
    }
}

/// A machine that runs the old version.
struct Home {
    folder: TempDir,
    old: Made,
    root: Vec<u8>,
}

impl Home {
    fn new(root: Vec<u8>) -> Self {
        let (folder, old) = (TempDir::new().unwrap(), Made::old());
        let disk = fs::File::create(folder.path().join("disk")).unwrap();
        disk.set_len(DISK_BYTES).unwrap();
        let mut table = Table::new(DISK_BYTES, 512, Uuid::from_u128(1)).unwrap();
        for (role, start_bytes, size_bytes) in PARTITIONS {
            let (guid, name) = match role {
                Role::Usr(Slot::A) => (old.root_hash.usr_partuuid(), old.version.usr_label()),
                Role::Verity(Slot::A) => {
                    (old.root_hash.verity_partuuid(), old.version.verity_label())
                }
                Role::Esp | Role::Usr(Slot::B) | Role::Verity(Slot::B) | Role::Root => {
                    (Uuid::from_u128(100 + start_bytes as u128), "_empty".to_owned())
                }
            };
            let kind = role.type_guid();
            let entry = Entry { kind, guid, start_bytes, size_bytes, flags: 0, name };
            table.set(role.number(), Some(&entry)).unwrap();
        }
        table.write(&disk).unwrap();
        for name in ["esp", "state", "state/tuf"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("esp/pithos_1.0.efi"), &old.uki).unwrap();
        let home = Self { folder, old, root };
        let machine = home.machine();
        let usr = machine.partition(Role::Usr(Slot::A)).unwrap();
        usr.write_all_at(&home.old.usr, 0).unwrap();
        home
    }

    fn machine(&self) -> Machine {
        let at = |name: &str| self.folder.path().join(name);
        Machine::at(&at("disk"), &at("esp"), &at("state")).unwrap()
    }

    fn identity(&self) -> Identity {
        Identity {
            version: self.old.version.clone(),
            variant: variant(),
            root_hash: self.old.root_hash,
            seed: [4; 16],
            security_epoch: 1,
            built: "2026-01-01T00:00:00Z".parse().unwrap(),
            root: Some(self.root.clone()),
        }
    }

    fn ukis(&self) -> Vec<String> {
        let files = self.machine().esp().list().unwrap();
        files.into_iter().map(|file| file.name).collect()
    }

    /// An update from these mirrors: how it ends, and what it tells.
    fn update(&self, mirrors: &[&Server], bad: &Bad) -> (End, Vec<Event>) {
        let stop = AtomicBool::new(false);
        let url = |server: &&Server| Url::parse(&format!("http://{}", server.address)).unwrap();
        let mirrors = mirrors.iter().map(url).collect();
        let fetcher = Fetcher::new(mirrors, Proxies::default(), &Wall, &stop, &|_| {});
        self.attempt(&fetcher, bad)
    }

    fn attempt(&self, source: &dyn updater::repository::Source, bad: &Bad) -> (End, Vec<Event>) {
        let (stop, told) = (AtomicBool::new(false), RefCell::new(Vec::new()));
        let (identity, machine) = (self.identity(), self.machine());
        let store = Directory(self.folder.path().join("state/tuf"));
        let end = Attempt {
            identity: &identity,
            channel: "stable",
            trust: Trust { root: &self.root, built: identity.built, store: &store },
            security_epoch: 1,
            bad,
            failing: &BTreeSet::new(),
            source,
            media: &machine,
            clock: &Wall,
            stop: &stop,
            tell: &|event| told.borrow_mut().push(event),
        }
        .run();
        (end, told.into_inner())
    }
}

/// A repository with the new version in this state, and the root to trust.
fn published(state: State) -> (Files, Vec<u8>, Made) {
    let (mut files, old, new) = (Files::default(), Made::old(), Made::new_one());
    let release = files.release(&old, &new);
    let root = files.publish(&channel_of(&new.version, state), &release);
    (files, root, new)
}

fn open() -> State {
    State::Open { waves: Vec::new() }
}

fn installed(new: &Made) -> End {
    End::Installed { version: new.version.clone() }
}

#[test]
fn a_version_is_fetched_as_a_patch_and_boots_next() {
    let (files, root, new) = published(open());
    let (server, home) = (Server::new(files), Home::new(root));
    let (end, told) = home.update(&[&server], &Bad::default());
    assert_eq!(end, installed(&new));
    assert_eq!(home.ukis(), ["pithos_1.0.efi", "pithos_1.1+3.efi"]);
    assert!(proves(&home.machine(), Slot::B, &new.root_hash).unwrap());
    // The patch, the last segment and the UKI: what did not change is copied.
    assert_eq!(server.objects(), 3);
    let Event::Offered { size_bytes, .. } = told[0] else { panic!("{told:?}") };
    // Two full segments of noise are more.
    assert!(size_bytes < SEGMENT_BYTES, "{size_bytes}");
    assert!(told.contains(&Event::Verifying) && told.contains(&Event::Finalizing));
}

#[test]
fn a_patch_that_is_damaged_on_every_mirror_is_made_up_for_by_the_full_segment() {
    let (mut files, root, new) = published(open());
    let old = Made::old();
    let damaged = patch(&old.usr[..SEGMENT_BYTES as usize], &new.usr[..SEGMENT_BYTES as usize]);
    let path = Object { sha256: Digest::of(&damaged), size_bytes: damaged.len() as u64 }.path();
    files.0.remove(&path).unwrap();
    let (server, home) = (Server::new(files), Home::new(root));
    assert_eq!(home.update(&[&server], &Bad::default()).0, installed(&new));
}

#[test]
fn a_folder_or_a_bundle_with_the_same_files_is_as_good_as_a_server() {
    let (files, root, new) = published(open());
    let (stick, home) = (TempDir::new().unwrap(), Home::new(root));
    for (path, bytes) in &files.0 {
        let path = stick.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let brought = Brought::open(stick.path().to_owned()).unwrap();
    assert_eq!(brought.turn(), 1);
    assert_eq!(home.attempt(&brought, &Bad::default()).0, installed(&new));

    let (bundle, home) = (stick.path().join("bundle.tar"), Home::new(home.root));
    let mut archive = tar::Builder::new(fs::File::create(&bundle).unwrap());
    for part in ["metadata", "targets", "objects"] {
        archive.append_dir_all(part, stick.path().join(part)).unwrap();
    }
    archive.finish().unwrap();
    let brought = Brought::open(bundle).unwrap();
    assert_eq!(home.attempt(&brought, &Bad::default()).0, installed(&new));
}

#[test]
fn a_mirror_that_is_not_believed_is_passed_over() {
    let (files, root, new) = published(open());
    let mut forged = files.clone();
    let text = forged.0.get_mut("metadata/timestamp.json").unwrap();
    *text = String::from_utf8(text.clone()).unwrap().replace("2099", "2098").into_bytes();
    let (bad, good, home) = (Server::new(forged), Server::new(files), Home::new(root));
    assert_eq!(home.update(&[&bad, &good], &Bad::default()).0, installed(&new));
    let home = Home::new(home.root);
    let (end, _) = home.update(&[&bad], &Bad::default());
    assert!(matches!(&end, End::Failed(Failure { code: Code::Metadata, .. })), "{end:?}");
    assert_eq!(home.ukis(), ["pithos_1.0.efi"]);
}

#[test]
fn a_version_that_was_bad_here_is_left_alone() {
    let (files, root, new) = published(open());
    let (server, home) = (Server::new(files), Home::new(root));
    let version = BadVersion {
        version: new.version.clone(),
        root_hash: new.root_hash,
        reason: "it hangs".to_owned(),
    };
    let (end, _) = home.update(&[&server], &Bad { versions: vec![version] });
    let found = Found::KnownBad { version: "1.1".to_owned(), reason: "it hangs".to_owned() };
    assert_eq!((end, server.objects()), (End::Nothing(found), 0));
}

#[test]
fn a_release_that_is_paused_is_not_for_this_machine_yet() {
    let reason = "it is slow".to_owned();
    let (files, root, _) = published(State::Paused { reason, waves: Vec::new() });
    let (server, home) = (Server::new(files), Home::new(root));
    let found = Found::Later { version: "1.1".to_owned(), from: None };
    assert_eq!(home.update(&[&server], &Bad::default()).0, End::Nothing(found));
}

#[test]
fn a_machine_of_another_root_believes_nothing() {
    let (files, _, _) = published(open());
    let mut other = Files::default();
    let (old, new) = (Made::old(), Made::new_one());
    let release = other.release(&old, &new);
    let mut root = other.publish(&channel_of(&new.version, open()), &release);
    let text = String::from_utf8(root).unwrap().replace("2099-01-01", "2099-01-02");
    root = text.into_bytes();
    let (server, home) = (Server::new(files), Home::new(root));
    let (end, _) = home.update(&[&server], &Bad::default());
    assert!(matches!(&end, End::Failed(Failure { code: Code::Metadata, .. })), "{end:?}");
}
