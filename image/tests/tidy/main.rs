//! The rules of the house that a program can check: who leans on whom, which lints hold, what
//! does not belong in the repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Who may depend on whom inside the workspace (ARCHITECTURE.md). Arrows go down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("layout", &[]),
    ("block", &[]),
    ("http-client", &[]),
    ("kv", &[]),
    ("initramfs", &["layout", "block"]),
    ("ignition", &["layout", "block", "http-client"]),
    ("updater", &["omaha", "payload", "layout", "block", "http-client"]),
    ("omaha", &[]),
    ("payload", &["layout"]),
    ("tuf-conformance", &["payload", "http-client"]),
    ("image", &["layout", "payload"]),
    // Its tests alone start a server.
    ("publisher", &["image", "payload", "layout", "http-client", "update-server"]),
    ("update-server", &["omaha", "payload", "layout"]),
    ("qemu", &[]),
];

/// Crates that never get into a room, whatever drags them in.
const BANNED: &[(&str, &[&str])] = &[
    ("initramfs", &["tokio", "rustls", "openssl", "reqwest", "regex"]),
    ("ignition", &["tokio", "openssl", "reqwest", "regex"]),
    ("kv", &["openssl", "reqwest", "regex"]),
    ("layout", &["nix"]),
    ("omaha", &["nix", "tokio", "rustls"]),
    ("payload", &["nix", "tokio", "rustls", "reqwest"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("image/ is in the workspace").into()
}

fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).current_dir(root()).output().expect(program);
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let text = output(
        &cargo,
        &[
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ],
    );
    serde_json::from_str(&text).expect("cargo metadata is JSON")
}

/// The members of the workspace, by name.
fn members(metadata: &Value) -> BTreeMap<String, Value> {
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| (package["name"].as_str().expect("name").to_owned(), package.clone()))
        .collect()
}

/// Every package that `id` is built from, itself included, tests left out.
fn closure(metadata: &Value, id: &str) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| (node["id"].as_str().expect("id"), node))
        .collect();
    let mut seen = BTreeSet::new();
    let mut todo = vec![id.to_owned()];
    while let Some(id) = todo.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dep in nodes[id.as_str()]["deps"].as_array().expect("deps") {
            let kinds = dep["dep_kinds"].as_array().expect("kinds");
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                todo.push(dep["pkg"].as_str().expect("pkg").to_owned());
            }
        }
    }
    seen
}

#[test]
fn arrows_go_down_only() {
    let members = members(&metadata());
    let rooms: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(rooms, known, "a crate without a place in LAYERS, or a place without a crate");
    for (name, allowed) in LAYERS {
        for dep in members[*name]["dependencies"].as_array().expect("dependencies") {
            let dep = dep["name"].as_str().expect("name");
            assert!(
                !rooms.contains(dep) || allowed.contains(&dep),
                "{name} must not depend on {dep}"
            );
        }
    }
}

#[test]
fn what_is_banned_from_a_room_is_not_dragged_in() {
    let metadata = metadata();
    let members = members(&metadata);
    for (name, banned) in BANNED {
        let id = members[*name]["id"].as_str().expect("id");
        for package in closure(&metadata, id) {
            for crate_name in *banned {
                assert!(
                    !package.contains(&format!("#{crate_name}@")),
                    "{name} drags in {crate_name}: {package}"
                );
            }
        }
    }
}

#[test]
fn every_crate_takes_its_lints_from_the_workspace() {
    for (name, package) in members(&metadata()) {
        let manifest = package["manifest_path"].as_str().expect("path");
        let text = std::fs::read_to_string(manifest).expect(manifest);
        assert!(text.contains("[lints]\nworkspace = true"), "{name} does not inherit the lints");
    }
}

#[test]
fn only_block_says_unsafe() {
    for file in tracked(".rs") {
        let text = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
        let allows = text.contains(concat!("allow(", "unsafe_code)"));
        assert!(!allows || file.starts_with("agents/block/"), "{file} allows unsafe code");
    }
}

#[test]
fn nothing_is_left_unfinished_or_named_after_a_machine() {
    // Put together here, so that this file does not find itself.
    let words = [
        concat!("FIX", "ME"),
        concat!("/work/", "main"),
        concat!("deb.", "debian.org"),
        concat!("static.", "crates.io"),
    ];
    for file in tracked("") {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for word in words {
            let line = text.lines().position(|line| line.contains(word));
            assert!(line.is_none(), "{file}:{}: `{word}`", line.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn no_bulk_is_in_the_repository() {
    for file in tracked("") {
        let size = std::fs::symlink_metadata(root().join(&file)).map_or(0, |file| file.len());
        assert!(size <= 512 << 10, "{file} has {size} bytes");
    }
}

/// Files that git knows, ending in `suffix`.
fn tracked(suffix: &str) -> Vec<String> {
    let list = output("git", &["ls-files"]);
    list.lines().filter(|file| file.ends_with(suffix)).map(str::to_owned).collect()
}
