//! Format 1 of everything that is published, kept in `tests/format-1` for ever: what was written
//! once is read by every later version, and gives the same images.
//!
//! The documents are also written anew and compared. The objects are not: another version of zstd
//! may write other frames, and has to read these. `UPDATE_EXPECT=1` writes all of it, which is right
//! only before a format was published.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use expect_test::expect_file;
use jiff::Timestamp as Time;
use layout::{RootHash, verity::Superblock};
use payload::{
    Channel, Digest, Release, Variant,
    channel::{self, DeadEnd, Downgrade, Entry, Offer, State, Wave},
    countersign,
    release::{self, Form, Image, Object, Range, Rebuilders, Segment, Source, Uki, Usr, Verity},
    segment,
    tuf::{
        Answer, Client, Key, Limits, Next, Start, Target,
        metadata::{Envelope, Meta, Role, RoleKeys, Root, Snapshot, Targets, Timestamp},
    },
};
use serde::Serialize;
use uuid::Uuid;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format-1")
}

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// Bytes that zstd cannot shorten, repeated: `/usr` of a segment and two blocks, and a UKI.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn usr(version: u64) -> Vec<u8> {
    let mut bytes = noise(1, 8192).repeat(512);
    bytes[..4096].copy_from_slice(&noise(version + 1, 4096));
    bytes.extend(noise(9, 8192));
    bytes
}

fn uki(version: u64) -> Vec<u8> {
    let mut bytes = noise(5, 3000);
    bytes.extend(format!("usrhash of {version}").as_bytes());
    bytes
}

fn put(frame: &[u8]) -> Object {
    let object = Object { sha256: Digest::of(frame), size_bytes: frame.len() as u64 };
    let path = folder().join(object.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, frame).unwrap();
    object
}

fn frame(part: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::with_ref_prefix(Vec::new(), 19, prefix).unwrap();
    encoder.set_pledged_src_size(Some(part.len() as u64)).unwrap();
    encoder.include_contentsize(true).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}

/// Each segment whole, and if there is something before it, as a patch or a copy.
fn image(bytes: &[u8], before: Option<&[u8]>) -> Image {
    let segments = bytes.chunks(4 << 20).enumerate().map(|(index, part)| {
        let mut forms = vec![Form::Full { object: put(&frame(part, &[])) }];
        if let Some(before) = before {
            let offset_bytes = (index as u64) << 22;
            let there = &before[offset_bytes as usize..];
            forms.push(if there.starts_with(part) {
                Form::Copy { source: 0, offset_bytes }
            } else {
                let length_bytes = there.len().min(4 << 20) as u64;
                let object = put(&frame(part, &there[..length_bytes as usize]));
                Form::Patch { range: Range { source: 0, offset_bytes, length_bytes }, object }
            });
        }
        Segment { sha256: Digest::of(part), forms }
    });
    Image { size_bytes: bytes.len() as u64, segments: segments.collect() }
}

fn root_hash(release: Option<&Release>, bytes: &[u8]) -> RootHash {
    let superblock = release.map_or_else(
        || Superblock {
            uuid: Uuid::from_u128(7),
            data_blocks: bytes.len() as u64 / 4096,
            salt: vec![0x5a; 32],
        },
        |release| release.usr.superblock(),
    );
    let (hasher, mut hashes) = (superblock.hasher(), Vec::new());
    hasher.hash(bytes, &mut hashes);
    hasher.tree(hashes).unwrap().root_hash
}

fn variant() -> Variant {
    Variant { flavor: "cloud".into(), architecture: "x86_64".into() }
}

fn release(version: u64, before: Option<&Release>) -> Release {
    let bytes = (usr(version), uki(version));
    let old = before.map(|_| (usr(version - 1), uki(version - 1)));
    let old = old.as_ref();
    Release {
        format: release::FORMAT,
        id: "pithos".into(),
        version: format!("{version}.0").parse().unwrap(),
        variant: variant(),
        security_epoch: 1,
        built: time("2026-11-21T09:30:00Z"),
        usr: Usr {
            root_hash: root_hash(None, &bytes.0),
            verity: Verity { salt: [0x5a; 32], uuid: Uuid::from_u128(7), size_bytes: 45056 },
            image: image(&bytes.0, old.map(|old| &old.0[..])),
        },
        uki: Uki {
            sha256: Digest::of(&bytes.1),
            image: image(&bytes.1, old.map(|old| &old.1[..])),
        },
        sources: before
            .map(|before| Source {
                version: before.version.clone(),
                usr_root_hash: before.usr.root_hash,
                usr_size_bytes: before.usr.image.size_bytes,
                uki_sha256: before.uki.sha256,
                uki_size_bytes: before.uki.image.size_bytes,
            })
            .into_iter()
            .collect(),
        rebuilders: before.map(|_| Rebuilders {
            threshold: 1,
            keys: vec![hex::encode(key(8).verifying_key().to_bytes())],
        }),
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn channel(releases: &[Release; 2]) -> Channel {
    let entry = |release: &Release, state| Entry {
        version: release.version.clone(),
        security_epoch: release.security_epoch,
        variants: vec![release.variant.clone()],
        barrier: release.version.as_str() == "1.0",
        state,
        countersignatures: match &release.rebuilders {
            Some(_) => vec![release.built().countersign(&key(8))],
            None => vec![],
        },
    };
    let wave = |from, percent| Wave { from: time(from), percent };
    let waves = vec![wave("2026-11-22T00:00:00Z", 10), wave("2026-11-23T00:00:00Z", 100)];
    Channel {
        format: channel::FORMAT,
        name: "stable".into(),
        releases: vec![
            entry(&releases[0], State::Open { waves: vec![] }),
            entry(&releases[1], State::Open { waves }),
            Entry {
                version: "3.0".parse().unwrap(),
                ..entry(&releases[1], State::Withdrawn { reason: "eats disks".into() })
            },
            Entry {
                version: "4.0".parse().unwrap(),
                ..entry(&releases[1], State::Paused { reason: "look".into(), waves: vec![] })
            },
        ],
        downgrades: vec![Downgrade { from: "3.0".parse().unwrap(), to: "2.0".parse().unwrap() }],
        dead_ends: vec![DeadEnd {
            version: "0.9".parse().unwrap(),
            reason: "its ESP is too small: install anew".into(),
        }],
    }
}

fn sign<T: Role + Serialize>(signed: &T) -> String {
    let mut envelope = Envelope::of(signed);
    envelope.sign(&key(1));
    envelope.text()
}

/// The metadata over some targets, by location.
fn metadata(targets: &[(String, String)]) -> BTreeMap<&'static str, String> {
    let expires = time("2036-11-21T00:00:00Z");
    let all = Key::ed25519(&key(1).verifying_key());
    let role = RoleKeys { keyids: vec![all.id()], threshold: 1 };
    let roles = ["root", "targets", "snapshot", "timestamp"];
    let root = sign(&Root {
        version: 1,
        expires,
        consistent_snapshot: true,
        keys: BTreeMap::from([(all.id(), all)]),
        roles: roles.into_iter().map(|name| (name.to_owned(), role.clone())).collect(),
    });
    let listed = targets.iter().map(|(name, text)| (name.clone(), Target::of(text.as_bytes())));
    let targets =
        sign(&Targets { version: 1, expires, targets: listed.collect(), delegations: None });
    let meta =
        |name: &str, text: &str| BTreeMap::from([(name.to_owned(), Meta::of(1, text.as_bytes()))]);
    let snapshot = sign(&Snapshot { version: 1, expires, meta: meta("targets.json", &targets) });
    let timestamp = sign(&Timestamp {
        version: 1,
        expires,
        issued: Some(time("2026-11-21T12:00:00Z")),
        meta: meta("snapshot.json", &snapshot),
    });
    BTreeMap::from([
        ("1.root.json", root),
        ("1.targets.json", targets),
        ("1.snapshot.json", snapshot),
        ("timestamp.json", timestamp),
    ])
}

fn read(path: &str) -> Vec<u8> {
    let path = folder().join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn documents_of_format_1_are_written_as_they_were() {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let old = release(1, None);
        let new = release(2, Some(&old));
        let texts = [
            (Release::target(&old.version, &variant()), old.text()),
            (Release::target(&new.version, &variant()), new.text()),
            (Channel::target("stable"), channel(&[old, new]).text()),
        ];
        for (name, text) in &texts {
            let path = folder().join("targets").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let text = |name: &str| {
        (name.to_owned(), String::from_utf8(read(&format!("targets/{name}"))).unwrap())
    };
    let names = [
        "releases/1.0/cloud-x86_64.json",
        "releases/2.0/cloud-x86_64.json",
        "channels/stable.json",
    ];
    let texts = names.map(text);
    let releases = [0, 1].map(|of: usize| Release::parse(texts[of].1.as_bytes()).unwrap());
    for (release, (_, text)) in releases.iter().zip(&texts) {
        assert_eq!(release.text(), *text);
    }
    assert_eq!(channel(&releases).text(), texts[2].1);
    for (name, text) in metadata(&texts) {
        expect_file![folder().join("metadata").join(name)].assert_eq(&text);
    }
}

#[test]
fn a_machine_reads_format_1_from_the_root_down_to_the_last_block() {
    let root = read("metadata/1.root.json");
    let (mut client, mut step) = Client::begin(Start {
        root: Some(&root),
        stored: BTreeMap::new(),
        clock: time("2026-11-22T12:00:00Z"),
        built: time("2026-11-21T09:30:00Z"),
        limits: Limits::default(),
    })
    .unwrap();
    while let Next::Fetch(fetch) = step.next {
        let bytes = fs::read(folder().join("metadata").join(&fetch.location)).ok();
        let answer = bytes.as_deref().map_or(Answer::Missing, Answer::Bytes);
        step = client.answer(answer).unwrap();
    }
    let now = client.now();
    let mut target = |name: &str| {
        let Next::Found(target) = client.find(name).unwrap().next else { panic!("{name}") };
        let bytes = read(&format!("targets/{name}"));
        assert!(target.matches(&bytes), "{name}");
        bytes
    };
    let channel = Channel::parse("stable", &target("channels/stable.json")).unwrap();
    let machine = channel::Machine {
        version: "0.5".parse().unwrap(),
        variant: variant(),
        security_epoch: 1,
        seed: [0; 16],
        bad: vec![],
    };
    // 1.0 is a barrier; 2.0 comes in waves behind it.
    let Offer::Take(first) = channel.offer(&machine, now) else { panic!("a barrier") };
    assert_eq!(first.version.as_str(), "1.0");
    let old = Release::parse(&target("releases/1.0/cloud-x86_64.json")).unwrap();
    channel.permits(&machine, first, &old).unwrap();
    let new = Release::parse(&target("releases/2.0/cloud-x86_64.json")).unwrap();
    let demand = new.rebuilders.as_ref().unwrap();
    countersign::check(&new, demand, &channel.releases[1].countersignatures).unwrap();

    let (usr_1, uki_1) = (put_together(&old.usr.image, &[]), put_together(&old.uki.image, &[]));
    assert_eq!(root_hash(Some(&old), &usr_1), old.usr.root_hash);
    assert_eq!(Digest::of(&uki_1), old.uki.sha256);
    let (usr_2, uki_2) =
        (put_together(&new.usr.image, &usr_1), put_together(&new.uki.image, &uki_1));
    assert_eq!(root_hash(Some(&new), &usr_2), new.usr.root_hash);
    assert_eq!(Digest::of(&uki_2), new.uki.sha256);
}

/// An image by every form of each of its segments, which all give the same.
fn put_together(image: &Image, before: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let source = (!before.is_empty()).then_some(0);
    for index in 0..image.segments.len() {
        let choices = image.choices(index, source);
        assert_eq!(choices.len(), if source.is_some() { 2 } else { 1 });
        let mut made = choices.iter().map(|choice| {
            let object = choice.object.map(|object| read(&object.path())).unwrap_or_default();
            let range =
                choice.source.map_or(0..0, |(at, length)| at as usize..(at + length) as usize);
            segment::make(image, index, choice, &object, &before[range]).unwrap()
        });
        let first = made.next().unwrap();
        assert!(made.all(|other| other == first));
        bytes.extend(first);
    }
    bytes
}
