//! Documents that nobody would write: those of the guide, bent and broken, and what the parsers and
//! planners say of them ([`law`]). docs/first-boot.md says how to run it for longer.
//!
//! `FUZZ_DOCUMENTS` may name a folder with more documents to start from.

mod law;

use std::{env, fmt, fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use ignition::files::tree::Root;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{FileFailurePersistence, TestRunner},
};
use serde_json::Value;

/// What documents are made of, and what has been trouble to those who read them.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "'",
    "&a",
    "*a",
    "!!",
    "|",
    ">",
    "- ",
    "---",
    "\t",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "é",
    "\\ud800",
    "null",
    "~",
    "true",
    "-1",
    "0",
    "0777",
    "1e400",
    "1.5",
    "9223372036854775807",
    "18446744073709551616",
    "3.6.0",
    "2.0.0",
    "version",
    "variant: pithos\n",
    "#cloud-config\n",
    "#!/bin/sh\n",
    "data:,x",
    "data:;base64,!",
    "http://[",
    "s3://",
    "arn:",
    "/",
    "..",
    "//",
    "/dev/md/a",
    "/dev/mapper/a",
    "/dev/vda",
    "number",
    "label",
    "sizeMiB",
    "size_mib",
    "raid1",
    "swap",
    "none",
    "wipe_table",
    "contents",
    "inline: ",
    "merge",
    "[Unit]\n",
    "[Install]\n",
];

/// What takes the place of a part of a tree.
const VALUES: &[&str] = &[
    "null",
    "true",
    "\"\"",
    "\"/\"",
    "\"/a\"",
    "\"a\"",
    "\"root\"",
    "-1",
    "0",
    "1",
    "8",
    "4096",
    "1.5",
    "9223372036854775807",
    "[]",
    "{}",
    "[null]",
    "\"data:,a\"",
    "\"/dev/vda\"",
    "\"/dev/md/a\"",
    "\"/dev/mapper/a\"",
    "\"/dev/disk/by-partlabel/root\"",
    "\"raid1\"",
    "\"ext4\"",
    "\"a.service\"",
    "\"00000000-0000-0000-0000-000000000000\"",
];

/// A change to the bytes of a document.
#[derive(Clone, Debug)]
enum Bend {
    Byte(Index, u8),
    Insert(Index, usize),
    Remove(Index, usize),
    Repeat(Index, usize, u8),
    Splice(Index, Index, Index),
}

/// A change to the tree of a document.
#[derive(Clone, Debug)]
enum Graft {
    Replace(Index, usize),
    Remove(Index),
    Twice(Index),
    Take(Index, Index, Index),
}

fn bend() -> impl Strategy<Value = Bend> {
    let at = any::<Index>;
    prop_oneof![
        1 => (at(), any::<u8>()).prop_map(|(place, byte)| Bend::Byte(place, byte)),
        4 => (at(), 0..WORDS.len()).prop_map(|(place, word)| Bend::Insert(place, word)),
        2 => (at(), 1..40usize).prop_map(|(place, length)| Bend::Remove(place, length)),
        1 => (at(), 1..60usize, 1..5u8).prop_map(|(place, length, times)| Bend::Repeat(place, length, times)),
        1 => (at(), at(), at()).prop_map(|(place, other, from)| Bend::Splice(place, other, from)),
    ]
}

fn graft() -> impl Strategy<Value = Graft> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..VALUES.len()).prop_map(|(place, value)| Graft::Replace(place, value)),
        1 => at().prop_map(Graft::Remove),
        1 => at().prop_map(Graft::Twice),
        3 => (at(), at(), at()).prop_map(|(place, other, from)| Graft::Take(place, other, from)),
    ]
}

/// The documents to start from, those of the guide first.
fn documents() -> Vec<Vec<u8>> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/first-boot");
    let folders = [Some(guide), env::var_os("FUZZ_DOCUMENTS").map(Into::into)];
    let mut paths = Vec::new();
    for folder in folders.into_iter().flatten() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Those of them that are trees, as Ignition 3.6.0.
fn trees(documents: &[Vec<u8>]) -> Vec<Value> {
    use ignition::document::{Nowhere, Sources, read};
    let read = |bytes: &Vec<u8>| read("a document", bytes, &Nowhere, &mut Sources::default()).node;
    documents.iter().filter_map(read).map(|node| node.to_json()).collect()
}

fn bent(mut bytes: Vec<u8>, bends: &[Bend], documents: &[Vec<u8>]) -> Vec<u8> {
    for bend in bends {
        let at = |place: &Index| place.index(bytes.len() + 1);
        match bend {
            Bend::Byte(place, byte) => {
                let at = at(place);
                if let Some(there) = bytes.get_mut(at) {
                    *there = *byte;
                }
            }
            Bend::Insert(place, word) => {
                let at = at(place);
                bytes.splice(at..at, WORDS[*word].bytes());
            }
            Bend::Remove(place, length) => {
                let (start, end) = (at(place), bytes.len());
                bytes.drain(start..(start + length).min(end));
            }
            Bend::Repeat(place, length, times) => {
                let (start, end) = (at(place), bytes.len());
                let part = bytes[start..(start + length).min(end)].repeat(usize::from(*times));
                bytes.splice(start..start, part);
            }
            Bend::Splice(place, other, from) => {
                let other = other.get(documents);
                let from = from.index(other.len() + 1);
                bytes.truncate(at(place));
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes
}

fn grafted(mut tree: Value, grafts: &[Graft], trees: &[Value]) -> Value {
    for graft in grafts {
        let (Graft::Replace(place, _)
        | Graft::Remove(place)
        | Graft::Twice(place)
        | Graft::Take(place, ..)) = graft;
        let places = places(&tree);
        let place = place.get(&places);
        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
        match graft {
            Graft::Replace(_, value) => {
                let value = serde_json::from_str(VALUES[*value]).unwrap();
                *tree.pointer_mut(place).unwrap() = value;
            }
            Graft::Take(_, other, from) => {
                let other = other.get(trees);
                let all = self::places(other);
                // From a place of the same name, if there is one: it may even be right there.
                let same = all.iter().filter(|path| path.rsplit('/').next() == Some(name));
                let same: Vec<&String> = same.collect();
                let path = if same.is_empty() { from.get(&all) } else { from.get(&same) };
                *tree.pointer_mut(place).unwrap() = other.pointer(path).unwrap().clone();
            }
            Graft::Remove(_) | Graft::Twice(_) => match tree.pointer_mut(parent) {
                Some(Value::Array(list)) if !list.is_empty() => {
                    let index: usize = name.parse().unwrap_or_default();
                    match graft {
                        Graft::Twice(_) => list.insert(index, list[index].clone()),
                        _ => drop(list.remove(index)),
                    }
                }
                Some(Value::Object(map)) => drop(map.remove(name)),
                _ => {}
            },
        }
    }
    tree
}

/// The paths of all values, as JSON pointers.
fn places(tree: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let below: Vec<(String, &Value)> = match tree {
        Value::Array(list) => {
            (0..).zip(list).map(|(i, v): (usize, _)| (i.to_string(), v)).collect()
        }
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in below {
        let name = name.replace('~', "~0").replace('/', "~1");
        all.extend(places(value).into_iter().map(|path| format!("/{name}{path}")));
    }
    all
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An empty root, and what stands for it.
fn root() -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path()).unwrap();
    (folder, root)
}

/// A document, and what decides of the machine that it meets.
struct Input {
    bytes: Vec<u8>,
    luck: u64,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        write!(f, "a machine of luck {}, and the document\n{text}\n{text:?}", self.luck)
    }
}

#[test]
fn no_bytes_break_what_reads_documents() {
    let documents = documents();
    let bends = prop::collection::vec(bend(), 0..8);
    let input = (any::<Index>(), bends, prop::bool::weighted(0.02), any::<u64>());
    check(input.prop_map(|(start, bends, pack, luck)| {
        let start = start.get(&documents).clone();
        let bytes = match pack {
            true => bent(packed(&start), &bends[..bends.len().min(1)], &documents),
            false => bent(start, &bends, &documents),
        };
        Input { bytes, luck }
    }));
}

#[test]
fn no_tree_breaks_what_plans_by_it() {
    let trees = trees(&documents());
    let grafts = prop::collection::vec(graft(), 0..8);
    check((any::<Index>(), grafts, any::<u64>()).prop_map(|(start, grafts, luck)| {
        let mut tree = grafted(start.get(&trees).clone(), &grafts, &trees);
        if let Some(Value::Object(ignition)) = tree.get_mut("ignition") {
            ignition.entry("version").or_insert_with(|| "3.6.0".into());
        }
        Input { bytes: tree.to_string().into_bytes(), luck }
    }));
}

/// As many cases as `PROPTEST_CASES` says; what fails is kept beside this file.
fn check(inputs: impl Strategy<Value = Input>) {
    let config = ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let (_folder, root) = root();
    let outcome = TestRunner::new(config).run(&inputs, |input| {
        law::holds(&input.bytes, input.luck, &root);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
