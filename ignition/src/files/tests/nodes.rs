//! Directories, files and links, and what is there already.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn storage(nodes: serde_json::Value) -> serde_json::Value {
    json!({ "storage": nodes })
}

#[test]
fn parents_are_made_and_permissions_are_what_is_said_or_the_usual() {
    let tree = Tree::new();
    tree.apply(storage(json!({
        "files": [
            {"path": "/a/b/plain", "contents": {"source": "data:,x"}},
            {"path": "/a/secret", "mode": 0o600, "contents": {"source": "data:,x"}},
            {"path": "/a/setuid", "mode": 0o4755},
        ],
        "directories": [{"path": "/d/e"}, {"path": "/sticky", "mode": 0o1777}],
    })))
    .unwrap();
    expect![[r#"
        /a/ 755
        /a/b/ 755
        /a/b/plain 644 "x"
        /a/secret 600 "x"
        /a/setuid 4755 ""
        /d/ 755
        /d/e/ 755
        /sticky/ 1777
    "#]]
    .assert_eq(&tree.picture());
}

#[test]
fn shallow_comes_before_deep_and_hard_links_come_last() {
    let tree = Tree::new();
    let done = tree
        .apply(storage(json!({
            "files": [{"path": "/a/b/c"}],
            "directories": [{"path": "/a/b", "mode": 0o700}, {"path": "/a", "mode": 0o711}],
            "links": [{"path": "/x", "target": "/a/b/c", "hard": true}, {"path": "/a/l", "target": "b"}],
        })))
        .unwrap();
    let steps: Vec<&str> = done.steps.iter().map(|(step, _)| &**step).collect();
    expect![[r#"
        make the directory /a
        make the directory /a/b
        make the link /a/l to b
        make the file /a/b/c
        make /x, another name of /a/b/c"#]]
    .assert_eq(&steps.join("\n"));
}

#[test]
fn what_is_in_the_way_is_named_with_what_to_do() {
    let tree = Tree::new();
    tree.file("/file", "old").file("/dir/x", "").link("/link", "/file");
    for (node, expected) in [
        (
            json!({"files": [{"path": "/file", "contents": {"source": "data:,new"}}]}),
            expect![[r#"
            $.storage.files.0: make the file /file: a file with another content is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"files": [{"path": "/dir"}]}),
            expect![[r#"
            $.storage.files.0: /dir: a directory is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"files": [{"path": "/link"}]}),
            expect![[r#"
            $.storage.files.0: /link: a symbolic link is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"files": [{"path": "/file/below"}]}),
            expect![[r#"
            $.storage.files.0: make the file /file/below: Not a directory (os error 20)
        "#]],
        ),
        (
            json!({"directories": [{"path": "/file"}]}),
            expect![[r#"
            $.storage.directories.0: /file: a file is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"directories": [{"path": "/link"}]}),
            expect![[r#"
            $.storage.directories.0: /link: a symbolic link is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"links": [{"path": "/file", "target": "/a"}]}),
            expect![[r#"
            $.storage.links.0: /file: a file is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"links": [{"path": "/link", "target": "/a"}]}),
            expect![[r#"
            $.storage.links.0: /link: a link to `/file` is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"links": [{"path": "/dir", "target": "/file", "hard": true}]}),
            expect![[r#"
            $.storage.links.0: make /dir, another name of /file: a directory is there already
              say "overwrite": true to have it removed
        "#]],
        ),
        (
            json!({"links": [{"path": "/new", "target": "/none", "hard": true}]}),
            expect![[r#"
            $.storage.links.0: make /new, another name of /none: /none is not there
        "#]],
        ),
        (
            json!({"files": [{"path": "/new", "user": {"name": "ada"}}]}),
            expect![[r#"
            $.storage.files.0.user.name: there is no user `ada`
              let passwd.users of the document make it, or say its id
        "#]],
        ),
        (
            json!({"files": [{"path": "/new", "contents": {"source": "data:,%"}}]}),
            expect![[r#"
            $.storage.files.0: make the file /new: fetching a data URL of 2 characters: invalid escape at byte 0 of the data: `%` stands before two hexadecimal digits
        "#]],
        ),
    ] {
        check_refused(&tree, storage(node), expected);
    }
    expect![[r#"
        /dir/ 755
        /dir/x 644 ""
        /file 644 "old"
        /link -> /file
    "#]]
    .assert_eq(&tree.picture());
}

#[test]
fn a_plan_that_is_sure_to_fail_is_refused_before_anything_is_done() {
    let tree = Tree::new();
    tree.file("/z", "old");
    let nodes = json!({"files": [{"path": "/a"}], "directories": [{"path": "/z"}]});
    tree.apply(storage(nodes)).unwrap_err();
    assert_eq!(tree.picture(), "/z 644 \"old\"\n");
}

#[test]
fn what_may_be_overwritten_is_replaced_whatever_it_is() {
    let tree = Tree::new();
    tree.file("/file", "old").file("/dir/x/y", "").link("/link", "/file").file("/d/gone", "");
    tree.apply(storage(json!({
        "files": [
            {"path": "/file", "overwrite": true, "contents": {"source": "data:,new"}},
            {"path": "/dir", "overwrite": true, "contents": {"source": "data:,new"}},
        ],
        "directories": [{"path": "/d", "overwrite": true}],
        "links": [{"path": "/link", "target": "elsewhere", "overwrite": true}],
    })))
    .unwrap();
    expect![[r#"
        /d/ 755
        /dir 644 "new"
        /file 644 "new"
        /link -> elsewhere
    "#]]
    .assert_eq(&tree.picture());
}

#[test]
fn a_file_of_the_same_content_is_kept_and_gets_its_permissions() {
    let tree = Tree::new();
    tree.file("/file", "same");
    let nodes = json!({"files": [{"path": "/file", "mode": 0o600, "contents": {"source": "data:,sa"},
        "append": [{"source": "data:,me"}]}]});
    tree.apply(storage(nodes)).unwrap();
    expect![[r#"
        /file 600 "same"
    "#]]
    .assert_eq(&tree.picture());
}

#[test]
fn pieces_are_appended_in_order_and_what_fails_leaves_nothing() {
    let tree = Tree::new();
    tree.file("/old", "1");
    let pieces = json!([{"source": "data:,2"}, {"source": "data:,3"}]);
    tree.apply(storage(json!({"files": [
        {"path": "/old", "append": pieces}, {"path": "/new", "append": pieces},
    ]})))
    .unwrap();
    let broken = json!([{"source": "data:,4"}, {"source": "data:,%"}]);
    tree.apply(storage(json!({"files": [{"path": "/never", "append": broken}]}))).unwrap_err();
    expect![[r#"
        /new 644 "23"
        /old 644 "123"
    "#]]
    .assert_eq(&tree.picture());
}

#[test]
fn two_paths_to_one_place_are_refused() {
    let tree = Tree::new();
    tree.link("/foo", "/");
    let nodes = json!({"files": [{"path": "/foo/bar/baz"}, {"path": "/bar/baz"}]});
    check_refused(
        &tree,
        storage(nodes),
        expect![[r#"
        $.storage.files.1.path: `/bar/baz` and `/foo/bar/baz` ($.storage.files.0) are one and the same: both lead to `/bar/baz`
          a link on the way is followed; say the path that it leads to, once
    "#]],
    );
}

#[test]
fn what_a_lost_run_left_is_removed() {
    let tree = Tree::new();
    tree.file("/d/.ignition-unfinished", "half of it");
    tree.apply(storage(json!({"files": [{"path": "/d/whole"}]}))).unwrap();
    assert_eq!(tree.picture(), "/d/ 755\n/d/whole 644 \"\"\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_was_applied_once_is_as_it_was_the_second_time(
        wishes in prop::collection::btree_map("(/[ab]{1,2}){1,3}", (0..4u8, any::<bool>(), "[xyz]{0,2}"), 1..6),
        there in prop::collection::vec("(/[ab]{1,2}){1,3}", 0..4),
    ) {
        let tree = Tree::new();
        for path in there {
            let path = tree.path(&path);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() {
                let _ = fs::write(path, "there");
            }
        }
        let (mut files, mut directories, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for (path, (kind, overwrite, text)) in &wishes {
            match kind {
                0 => files.push(json!({"path": path})),
                1 => {
                    let contents = json!({"source": format!("data:,{text}")});
                    files.push(json!({"path": path, "overwrite": overwrite, "contents": contents}));
                }
                2 => directories.push(json!({"path": path})),
                _ => links.push(json!({"path": path, "target": format!("/{text}"), "overwrite": overwrite})),
            }
        }
        let config = storage(json!({"files": files, "directories": directories, "links": links}));
        if tree.apply(config.clone()).is_ok() {
            let picture = tree.picture();
            // Only what comes below a link of the same document may find it other than it was: the
            // rules for documents refuse that.
            if links.is_empty() {
                let again = tree.apply(config).unwrap();
                prop_assert!(again.steps.iter().all(|(_, outcome)| *outcome == Outcome::AsItWas));
                prop_assert_eq!(tree.picture(), picture);
            }
        }
    }
}
