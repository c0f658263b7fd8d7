//! Trees that were made to lead elsewhere: nothing outside of the root is read, written or removed.

use std::os::unix::fs::symlink;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::files::tree::{Found, Last, Parents};

#[test]
fn links_and_dots_lead_to_places_in_the_root() {
    let tree = Tree::new();
    tree.link("/a", "/").link("/b", "../../../..").link("/c/d", "../e").link("/f", "/no/where");
    tree.link("/g", "c/d/../x");
    let root = Root::open(tree.0.path()).unwrap();
    for (path, leads) in [
        ("/a/etc/x", "/etc/x"),
        ("/b/etc/x", "/etc/x"),
        ("/../../etc/x", "/etc/x"),
        ("/c/d/x", "/e/x"),
        ("/f/x", "/no/where/x"),
        ("/f", "/f"),
        ("/c/../y", "/y"),
        ("/", "/"),
        ("/a/a/b/a", "/a"),
    ] {
        let (found, _) = root.leads(Path::new(path)).unwrap();
        assert_eq!(found, Path::new(leads), "{path}");
    }
    let follow = |path| root.place(Path::new(path), Last::Follow, Parents::Need);
    assert_eq!(follow("/a").unwrap().path, Path::new("/"));
    assert!(follow("/f").is_err() || follow("/f").unwrap().found().unwrap() == Found::Nothing);
}

#[test]
fn a_loop_of_links_is_an_error() {
    let tree = Tree::new();
    tree.link("/a", "/b").link("/b", "/a");
    let config = json!({"storage": {"files": [{"path": "/a/x"}]}});
    check_refused(
        &tree,
        config,
        expect![[r#"
            $.storage.files.0: /a/x: Too many levels of symbolic links (os error 40)
        "#]],
    );
}

#[test]
fn files_are_written_through_links_only_to_places_in_the_root() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "alive").unwrap();
    let tree = Tree::new();
    symlink(outside.path(), tree.path("/out")).unwrap();
    let victim = outside.path().join("victim");
    symlink(&victim, tree.path("/direct")).unwrap();
    let config = json!({"storage": {
        "files": [
            {"path": "/out/victim", "overwrite": true, "contents": {"source": "data:,dead"}},
            {"path": "/direct", "overwrite": true, "contents": {"source": "data:,dead"}},
        ],
        "directories": [{"path": "/out/deep/er"}],
        "links": [{"path": "/out/link", "target": "/etc/passwd"}],
    }});
    tree.apply(config).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "alive");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    let inside = outside.path().strip_prefix("/").unwrap();
    assert_eq!(std::fs::read_to_string(tree.0.path().join(inside).join("victim")).unwrap(), "dead");
    assert_eq!(tree.text("/direct"), "dead");
}

#[test]
fn a_directory_is_removed_without_what_links_in_it_lead_to() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "alive").unwrap();
    let tree = Tree::new();
    tree.file("/d/e/f", "text");
    symlink(outside.path(), tree.path("/d/e/out")).unwrap();
    let config = json!({"storage": {"files": [{"path": "/d", "overwrite": true, "contents": {"source": ""}}]}});
    tree.apply(config).unwrap();
    assert_eq!(std::fs::read_to_string(outside.path().join("victim")).unwrap(), "alive");
    assert_eq!(tree.picture(), "/d 644 \"\"\n");
}

#[test]
fn the_root_itself_is_not_removed() {
    let tree = Tree::new();
    tree.file("/a", "text").link("/self", "/");
    for path in ["/", "/self/.."] {
        let config = json!({"storage": {"directories": [{"path": path, "overwrite": true}]}});
        let error = tree.apply(config).unwrap_err();
        assert!(story(&error).contains("the root itself cannot be removed"), "{}", story(&error));
    }
    assert_eq!(tree.text("/a"), "text");
}

#[test]
fn keys_are_not_written_through_links_of_their_user() {
    if !is_root() {
        return;
    }
    for link in [".ssh", ".ssh/authorized_keys.d", ".ssh/authorized_keys.d/ignition"] {
        let tree = Tree::new();
        tree.file("/etc/passwd", "ada:x:1000:1000::/home/ada:/bin/sh\n")
            .file("/etc/ssh/sshd_config", "AuthorizedKeysFile .ssh/authorized_keys.d/ignition\n")
            .file("/etc/target/ignition", "alive")
            .file("/etc/target/authorized_keys.d/ignition", "alive")
            .link(&format!("/home/ada/{link}"), "/etc/target");
        let config = json!({"passwd": {"users": [{"name": "ada", "sshAuthorizedKeys": ["key"]}]}});
        match (link, tree.apply(config)) {
            // A file takes the place of the link.
            (".ssh/authorized_keys.d/ignition", result) => assert!(result.is_ok()),
            (_, result) => {
                let story = story(&result.unwrap_err());
                assert!(story.contains("a symbolic link is there already"), "{story}");
            }
        }
        assert_eq!(tree.text("/etc/target/ignition"), "alive");
        assert_eq!(tree.text("/etc/target/authorized_keys.d/ignition"), "alive");
    }
}

#[test]
fn names_of_units_cannot_be_paths() {
    let tree = Tree::new();
    let config =
        json!({"systemd": {"units": [{"name": "../../../x.service", "contents": "[Unit]\n"}]}});
    check_refused(
        &tree,
        config,
        expect![[r#"
        $.systemd.units.0.name: `../../../x.service` is not the name of a file
          a name has no `/` in it
    "#]],
    );
    let dropins = json!([{"name": "../x.conf", "contents": "[Unit]\n"}]);
    let config = json!({"systemd": {"units": [{"name": "a.service", "dropins": dropins}]}});
    check_refused(
        &tree,
        config,
        expect![[r#"
        $.systemd.units.0.dropins.0.name: `../x.conf` is not the name of a file
          a name has no `/` in it
    "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_tree_of_links_leads_out(
        links in prop::collection::vec(("[ab]{1,2}(/[ab]){0,2}", "/?(\\.\\./){0,5}[ab./]{0,6}"), 1..8),
        path in "(/(\\.\\.|[ab]{1,2})){1,6}",
    ) {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("root");
        std::fs::create_dir(&inner).unwrap();
        for (name, target) in &links {
            let path = inner.join(name);
            if !target.is_empty() && std::fs::create_dir_all(path.parent().unwrap()).is_ok() {
                // Through links that lead out it may come to be elsewhere: those are none of ours.
                let real = path.parent().unwrap().canonicalize().unwrap();
                if real.starts_with(&inner) {
                    let _ = symlink(target, path);
                }
            }
        }
        let count = |path: &Path| std::fs::read_dir(path).map_or(0, Iterator::count);
        let beside = count(top.path());
        let root = Root::open(&inner).unwrap();
        if let Ok(place) = root.place(Path::new(&path), Last::Follow, Parents::Make)
            && place.found().unwrap() == Found::Nothing
        {
            let file = place.start_file().unwrap();
            file.finish(Default::default(), 0o644).unwrap();
            let real = inner.join(place.path.strip_prefix("/").unwrap());
            prop_assert!(real.symlink_metadata().unwrap().is_file());
            prop_assert!(real.canonicalize().unwrap().starts_with(inner.canonicalize().unwrap()));
        }
        prop_assert_eq!(count(top.path()), beside);
    }
}
