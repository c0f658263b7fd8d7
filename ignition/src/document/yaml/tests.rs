use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::document::report::{Report, Sources};

fn check(text: &str, expected: Expect) {
    let mut sources = Sources::default();
    let source = sources.add("a.yaml", text);
    let mut picture = String::new();
    match parse(text, source) {
        Ok(node) => draw(&node, "", &sources, &mut picture),
        Err(error) => {
            let mut report = Report::default();
            report.error_at("$", error.mark, error.message);
            picture = report.display(&sources).to_string();
        }
    }
    expected.assert_eq(&picture);
}

/// A line for each value: its place, its path, and itself.
fn draw(node: &Node, path: &str, sources: &Sources, picture: &mut String) {
    let place = sources.place(node.mark).unwrap();
    let _ = write!(picture, "{}:{} ${path}", place.line, place.column);
    match &node.value {
        Value::Map(map) => {
            picture.push('\n');
            for entry in &map.0 {
                draw(&entry.node, &format!("{path}.{}", entry.key), sources, picture);
            }
        }
        Value::List(list) => {
            picture.push('\n');
            for (index, node) in list.iter().enumerate() {
                draw(node, &format!("{path}.{index}"), sources, picture);
            }
        }
        value => {
            let _ = writeln!(picture, " {value:?}");
        }
    }
}

#[test]
fn every_value_has_the_place_where_it_was_written() {
    check(
        "a: 1\nb:\n  - {c: é, d: [2, \"x\"]}\n  - e: |\n      text\n    f: !!str &x  >-  # why\n\n      folded\n      text\ng:\n",
        expect![[r#"
            1:1 $
            1:4 $.a Integer(1)
            3:3 $.b
            3:5 $.b.0
            3:9 $.b.0.c String("é")
            3:15 $.b.0.d
            3:16 $.b.0.d.0 Integer(2)
            3:19 $.b.0.d.1 String("x")
            4:5 $.b.1
            4:8 $.b.1.e String("text\n")
            6:18 $.b.1.f String("\nfolded text")
            10:2 $.g Null
        "#]],
    );
}

#[test]
fn scalars_are_what_users_of_butane_expect() {
    for (text, value) in [
        ("0644", Value::Integer(420)),
        ("0o644", Value::Integer(420)),
        ("0x1f", Value::Integer(31)),
        ("0b11", Value::Integer(3)),
        ("-1_000", Value::Integer(-1000)),
        ("+1", Value::Integer(1)),
        ("0", Value::Integer(0)),
        ("9223372036854775807", Value::Integer(i64::MAX)),
        ("-9223372036854775808", Value::Integer(i64::MIN)),
        ("0899", "0899".into()),
        ("0x", "0x".into()),
        ("--1", "--1".into()),
        ("1.50", Value::Float(1.5)),
        ("-1e3", Value::Float(-1000.0)),
        ("1.2.3", "1.2.3".into()),
        ("3.0-beta", "3.0-beta".into()),
        (".inf", ".inf".into()),
        ("12:30", "12:30".into()),
        ("2026-01-01", "2026-01-01".into()),
        ("true", Value::Bool(true)),
        ("False", Value::Bool(false)),
        ("yes", "yes".into()),
        ("~", Value::Null),
        ("null", Value::Null),
        ("", Value::Null),
        ("'0644'", "0644".into()),
        ("\"true\"", "true".into()),
        ("!!str 0644", "0644".into()),
        ("! 0644", "0644".into()),
        ("!!int \"5\"", Value::Integer(5)),
        ("!!float 5", Value::Float(5.0)),
        ("!!binary aGVs\n bG8=", "hello".into()),
    ] {
        assert_eq!(parse(text, 0).unwrap().value, value, "{text}");
    }
}

#[test]
fn a_value_where_a_text_is_wanted_is_what_was_written() {
    for (text, expected) in [
        ("0644", Some("0644")),
        ("[1.50, 2]", Some("1.50")),
        ("[{a: TRUE}]", Some("TRUE")),
        ("!!int \"5\"", Some("5")),
        ("'0644'", Some("0644")),
        ("~", None),
    ] {
        let mut node = &parse(text, 0).unwrap();
        loop {
            node = match &node.value {
                Value::List(list) => &list[0],
                Value::Map(map) => &map.0[0].node,
                _ => break,
            };
        }
        assert_eq!(written(node, text).as_deref(), expected, "{text}");
    }
}

#[test]
fn yes_is_a_truth_where_one_is_wanted() {
    let truth = |text| truth(&parse(text, 0).unwrap());
    assert_eq!([truth("yes"), truth("On"), truth("true")], [Some(true); 3]);
    assert_eq!([truth("no"), truth("OFF"), truth("n")], [Some(false); 3]);
    assert_eq!([truth("1"), truth("ja"), truth("~")], [None; 3]);
}

#[test]
fn aliases_and_merge_keys_have_the_place_of_the_value_itself() {
    check(
        "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc:\n  <<: [{x: 4}, *a]\nd: *a\n",
        expect![[r#"
            1:1 $
            1:7 $.a
            1:11 $.a.x Integer(1)
            1:17 $.a.y Integer(2)
            3:3 $.b
            4:6 $.b.y Integer(3)
            1:11 $.b.x Integer(1)
            6:3 $.c
            6:12 $.c.x Integer(4)
            1:17 $.c.y Integer(2)
            1:7 $.d
            1:11 $.d.x Integer(1)
            1:17 $.d.y Integer(2)
        "#]],
    );
    check(
        "a: &k name\n\"<<\": 1\n*k : 2\n",
        expect![[r#"
            1:1 $
            1:7 $.a String("name")
            2:7 $.<< Integer(1)
            3:6 $.name Integer(2)
        "#]],
    );
}

#[test]
fn what_hides_a_mistake_is_refused_with_its_place() {
    check(
        "a: 1\nb: 2\na: 3\n",
        expect![[r#"
            error: the key "a" is here a second time; which one counts?
              at a.yaml:3:1, $
                3 | a: 3
                  | ^
        "#]],
    );
    check(
        "a: 1\n---\na: 2\n",
        expect![[r#"
            error: a second document begins here; there can be only one in a text
              at a.yaml:2:1, $
                2 | ---
                  | ^
        "#]],
    );
    check(
        "a: !mine 1\n",
        expect![[r#"
            error: the tag `!mine` has no meaning here
              at a.yaml:1:10, $
                1 | a: !mine 1
                  |          ^
        "#]],
    );
    check(
        "a: !!int x\n",
        expect![[r#"
            error: this is not what its tag `tag:yaml.org,2002:int` says
              at a.yaml:1:10, $
                1 | a: !!int x
                  |          ^
        "#]],
    );
    check(
        "<<: 1\n",
        expect![[r#"
            error: expected a map, or a list of maps, to be merged
              at a.yaml:1:1, $
                1 | <<: 1
                  | ^
        "#]],
    );
    check(
        "? [a]\n: 1\n",
        expect![[r#"
            error: expected a text as a key
              at a.yaml:1:3, $
                1 | ? [a]
                  |   ^
        "#]],
    );
    check(
        ": 1\n",
        expect![[r#"
            error: there is no key before the `:`
              at a.yaml:1:1, $
                1 | : 1
                  | ^
        "#]],
    );
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    check(
        "a:\n\tb: 1\n",
        expect![[r#"
            error: this is not YAML: tabs disallowed within this context (block indentation)
              at a.yaml:2:2, $
                2 |  b: 1
                  |  ^
        "#]],
    );
    check(
        "a: [1, 2\nb: 3\n",
        expect![[r#"
            error: this is not YAML: illegal placement of ':' indicator
              at a.yaml:2:2, $
                2 | b: 3
                  |  ^
        "#]],
    );
    check(
        "a: *b\n",
        expect![[r#"
            error: this is not YAML: while parsing node, found unknown anchor
              at a.yaml:1:4, $
                1 | a: *b
                  |    ^
        "#]],
    );
    check(
        "a: b: c\n",
        expect![[r#"
            error: this is not YAML: mapping values are not allowed in this context
              at a.yaml:1:5, $
                1 | a: b: c
                  |     ^
        "#]],
    );
}

#[test]
fn aliases_cannot_fill_the_memory_nor_the_stack() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{aliases}]");
    }
    let error = parse(&bomb, 0).unwrap_err();
    assert!(error.message.contains("aliases make more than 8 MiB"), "{error}");

    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(100));
    assert!(parse(&long, 0).unwrap_err().message.contains("8 MiB"));

    let mut deep = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        let _ = writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1);
    }
    assert!(parse(&deep, 0).unwrap_err().message.contains("inside each other"));

    let within = parse("a: &a [*a]\n", 0).unwrap_err();
    assert!(within.message.contains("within what it stands for"), "{within}");
    assert!(parse(&"[".repeat(100_000), 0).is_err());
    assert!(parse(&"- ".repeat(100_000), 0).is_err());
}

#[test]
fn nothing_is_a_null() {
    check(
        "# a comment\n",
        expect![[r#"
            1:1 $ Null
        "#]],
    );
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in r#"[\[\]{}:,"'&*!|>%@<\-#?a~0é \t\n]{0,60}"#) {
        if let Ok(node) = parse(&text, 0) {
            visit(&node, &text);
        }
    }

    #[test]
    fn json_is_yaml(text in r#"[\[\]{}:,"a0-9. ]{0,24}"#) {
        if let (Ok(json), Ok(yaml)) = (crate::document::json::parse(&text, 0), parse(&text, 0)) {
            prop_assert_eq!(json.to_json(), yaml.to_json());
        }
    }
}

fn visit(node: &Node, text: &str) {
    assert!(node.mark.offset as usize <= text.len());
    let _ = (written(node, text), truth(node));
    match &node.value {
        Value::List(list) => list.iter().for_each(|node| visit(node, text)),
        Value::Map(map) => map.0.iter().for_each(|entry| visit(&entry.node, text)),
        _ => {}
    }
}
