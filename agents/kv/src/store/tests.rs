use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::api::{RangeRequest, SortOrder, SortTarget};

fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let mut writer = store.write();
    writer.put(key.as_bytes(), value.as_bytes(), 0);
    writer.finish()
}

fn delete(store: &mut Store, key: &str, end: &str) -> i64 {
    let mut writer = store.write();
    writer.delete(&range(key, end));
    writer.finish()
}

fn range(key: &str, end: &str) -> KeyRange {
    KeyRange::new(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(end.as_bytes()))
}

fn all() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the keys of tests are text")
}

/// a at revisions 2 and 5, b at 3, c at 4 and gone at 6, d at 7.
fn example() -> Store {
    let mut store = Store::default();
    put(&mut store, "a", "z");
    put(&mut store, "b", "y");
    put(&mut store, "c", "x");
    put(&mut store, "a", "w");
    delete(&mut store, "c", "");
    put(&mut store, "d", "v");
    store
}

fn check(store: &Store, request: RangeRequest, expected: Expect) {
    let told = match store.range(&request) {
        Err(refusal) => refusal.to_string(),
        Ok(response) => {
            let mut lines: Vec<String> = response
                .kvs
                .iter()
                .map(|kv| {
                    let (created, modified) = (kv.create_revision, kv.mod_revision);
                    let (key, value) = (text(&kv.key), text(&kv.value));
                    format!(
                        "{key}={value} created {created} modified {modified} version {}",
                        kv.version
                    )
                })
                .collect();
            let more = if response.more { ", and more" } else { "" };
            let revision = response.header.expect("a header").revision;
            lines.push(format!("of {}{more}, at {revision}", response.count));
            lines.join("\n")
        }
    };
    expected.assert_eq(&told);
}

#[test]
fn a_key_keeps_when_it_came_to_be_and_how_often_it_was_put() {
    check(
        &example(),
        all(),
        expect![[r#"
        a=w created 2 modified 5 version 2
        b=y created 3 modified 3 version 1
        d=v created 7 modified 7 version 1
        of 3, at 7"#]],
    );
}

#[test]
fn a_key_that_was_deleted_begins_anew() {
    let mut store = example();
    put(&mut store, "c", "again");
    let c = RangeRequest { key: Bytes::from_static(b"c"), ..RangeRequest::default() };
    check(
        &store,
        c,
        expect![[r#"
        c=again created 8 modified 8 version 1
        of 1, at 8"#]],
    );
}

#[test]
fn an_earlier_revision_can_be_read() {
    check(
        &example(),
        RangeRequest { revision: 4, ..all() },
        expect![[r#"
        a=z created 2 modified 2 version 1
        b=y created 3 modified 3 version 1
        c=x created 4 modified 4 version 1
        of 3, at 7"#]],
    );
}

#[test]
fn a_revision_that_is_not_there_yet_cannot_be_read() {
    check(
        &example(),
        RangeRequest { revision: 8, ..all() },
        expect!["etcdserver: mvcc: required revision is a future revision"],
    );
}

#[test]
fn the_count_takes_no_notice_of_the_limit() {
    check(
        &example(),
        RangeRequest { limit: 1, ..all() },
        expect![[r#"
        a=w created 2 modified 5 version 2
        of 3, and more, at 7"#]],
    );
}

#[test]
fn a_limit_that_is_just_met_leaves_no_more() {
    check(
        &example(),
        RangeRequest { limit: 3, keys_only: true, ..all() },
        expect![[r#"
        a= created 2 modified 5 version 2
        b= created 3 modified 3 version 1
        d= created 7 modified 7 version 1
        of 3, at 7"#]],
    );
}

#[test]
fn sorting_comes_before_the_limit() {
    let request = RangeRequest {
        limit: 2,
        sort_order: SortOrder::Descend as i32,
        sort_target: SortTarget::Value as i32,
        ..all()
    };
    check(
        &example(),
        request,
        expect![[r#"
        b=y created 3 modified 3 version 1
        a=w created 2 modified 5 version 2
        of 3, and more, at 7"#]],
    );
}

#[test]
fn what_is_sorted_by_something_without_an_order_ascends() {
    let request = RangeRequest { sort_target: SortTarget::Mod as i32, ..all() };
    check(
        &example(),
        request,
        expect![[r#"
        b=y created 3 modified 3 version 1
        a=w created 2 modified 5 version 2
        d=v created 7 modified 7 version 1
        of 3, at 7"#]],
    );
}

#[test]
fn where_no_order_is_named_the_limit_comes_before_the_sorting() {
    let value = RangeRequest { limit: 1, sort_target: SortTarget::Value as i32, ..all() };
    check(
        &example(),
        value.clone(),
        expect![[r#"
            a=w created 2 modified 5 version 2
            of 3, and more, at 7"#]],
    );
    check(
        &example(),
        RangeRequest { min_mod_revision: 1, ..value },
        expect![[r#"
            d=v created 7 modified 7 version 1
            of 3, and more, at 7"#]],
    );
}

#[test]
fn bounds_of_revisions_choose_but_do_not_change_the_count() {
    let request = RangeRequest { min_mod_revision: 4, max_create_revision: 6, limit: 1, ..all() };
    check(
        &example(),
        request,
        expect![[r#"
        a=w created 2 modified 5 version 2
        of 3, at 7"#]],
    );
}

#[test]
fn only_the_count() {
    check(
        &example(),
        RangeRequest { count_only: true, revision: 3, ..all() },
        expect!["of 2, at 7"],
    );
}

#[test]
fn an_order_that_there_is_not_is_refused() {
    check(
        &example(),
        RangeRequest { sort_target: 9, ..all() },
        expect!["etcdserver: invalid sort option"],
    );
}

#[test]
fn a_range_ends_in_front_of_its_end() {
    let request = |key: &'static str, end: &'static str| RangeRequest {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(end.as_bytes()),
        keys_only: true,
        ..RangeRequest::default()
    };
    check(
        &example(),
        request("a", "b"),
        expect![[r#"
        a= created 2 modified 5 version 2
        of 1, at 7"#]],
    );
    check(
        &example(),
        request("b", "\0"),
        expect![[r#"
        b= created 3 modified 3 version 1
        d= created 7 modified 7 version 1
        of 2, at 7"#]],
    );
    check(&example(), request("b", "a"), expect!["of 0, at 7"]);
}

#[test]
fn deleting_nothing_is_no_change() {
    let mut store = example();
    assert_eq!(delete(&mut store, "x", "y"), 7);
    assert_eq!(store.revision(), 7);
}

#[test]
fn the_compacted_revision_itself_can_be_read() {
    let mut store = example();
    store.compact(5).expect("5 can be compacted");
    check(
        &store,
        RangeRequest { revision: 4, ..all() },
        expect!["etcdserver: mvcc: required revision has been compacted"],
    );
    while store.sweep(1) {}
    check(
        &store,
        RangeRequest { revision: 5, ..all() },
        expect![[r#"
        a=w created 2 modified 5 version 2
        b=y created 3 modified 3 version 1
        c=x created 4 modified 4 version 1
        of 3, at 7"#]],
    );
    assert_eq!(store.compact(5), Err(Refusal::Compacted));
    assert_eq!(store.compact(8), Err(Refusal::FutureRevision));
}

#[test]
fn a_deletion_stays_where_it_happened_in_the_compacted_revision() {
    for (revision, expected) in
        [(6, vec!["a 5", "b 3", "c 6 gone", "d 7"]), (7, vec!["a 5", "b 3", "d 7"])]
    {
        let mut store = example();
        store.compact(revision).expect("it can be compacted");
        while store.sweep(2) {}
        let mut left: Vec<String> = store
            .history_from(Revision::default())
            .map(|is| {
                let gone = if is.is_tombstone() { " gone" } else { "" };
                format!("{} {}{gone}", text(&is.key), is.revision.main)
            })
            .collect();
        left.sort();
        assert_eq!(left, expected, "compacted at {revision}");
    }
}

#[test]
fn what_is_compacted_makes_room() {
    let mut store = example();
    assert_eq!(store.size_bytes(), 6 * RECORD_BYTES + 6 + 5);
    store.compact(7).expect("7 can be compacted");
    while store.sweep(1) {}
    assert_eq!(store.size_bytes(), 3 * RECORD_BYTES + 6);
}

/// The numbers are what Debian's etcd 3.4.23 answers after the same commands.
#[test]
fn the_hash_is_that_of_etcd() {
    let mut store = Store::default();
    let mut hashes = vec![store.hash(0)];
    put(&mut store, "foo", "bar");
    hashes.push(store.hash(0));
    put(&mut store, "a", "z");
    put(&mut store, "b", "y");
    put(&mut store, "a", "w");
    delete(&mut store, "b", "");
    put(&mut store, "c", "v");
    hashes.push(store.hash(0));
    for revision in [3, 5, 6] {
        store.compact(revision).expect("it can be compacted");
        hashes.push(store.hash(0));
    }
    let told: Vec<_> =
        hashes.into_iter().flatten().map(|is| (is.hash, is.compact_revision)).collect();
    let etcd = [
        (1_084_519_789, -1),
        (3_305_255_506, -1),
        (3_671_865_469, -1),
        (3_864_387_041, 3),
        (1_810_747_656, 5),
        (1_884_845_792, 6),
    ];
    assert_eq!(told, etcd);
}

/// What a store is to be, in the simplest way: all that was ever written, in order.
#[derive(Clone, Default)]
struct Model {
    writes: Vec<(i64, String, Option<String>)>,
    compacted: i64,
}

impl Model {
    fn at(&self, revision: i64) -> BTreeMap<&str, (&str, i64, i64, i64)> {
        let mut is = BTreeMap::new();
        for (at, key, value) in self.writes.iter().filter(|(at, ..)| *at <= revision) {
            match value {
                None => drop(is.remove(&key[..])),
                Some(value) => {
                    let (_, created, _, version) =
                        is.get(&key[..]).copied().unwrap_or(("", *at, 0, 0));
                    is.insert(&key[..], (&value[..], created, *at, version + 1));
                }
            }
        }
        is
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Puts and deletes of one transaction.
    Write(Vec<(String, Option<String>)>),
    Compact(u8),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let write = ("[a-d]{1,2}", proptest::option::weighted(0.7, "[x-z]{0,2}"));
    prop_oneof![
        8 => proptest::collection::vec(write, 1..4).prop_map(Step::Write),
        1 => any::<u8>().prop_map(Step::Compact),
        2 => (1_usize..6).prop_map(Step::Sweep),
    ]
}

fn take(store: &mut Store, model: &mut Model, step: Step) {
    match step {
        Step::Write(writes) => {
            let mut writer = store.write();
            for (key, value) in writes {
                let at = writer.write_revision();
                match &value {
                    Some(value) => drop(writer.put(key.as_bytes(), value.as_bytes(), 0)),
                    None if writer.delete(&range(&key, "")).is_empty() => continue,
                    None => {}
                }
                model.writes.push((at, key, value));
            }
            writer.finish();
        }
        Step::Compact(share) => {
            let revision = store.revision() * i64::from(share) / 255;
            if store.compact(revision).is_ok() {
                model.compacted = revision;
            }
        }
        Step::Sweep(records) => drop(store.sweep(records)),
    }
}

fn agrees(store: &Store, model: &Model) {
    let last = model.writes.last().map_or(1, |(at, ..)| *at);
    assert_eq!(store.revision(), last);
    let everything = KeyRange::From(Bytes::new());
    for revision in model.compacted.max(1)..=last {
        let is: BTreeMap<_, _> = store
            .live(&everything, revision)
            .map(|is| {
                let numbers = (is.create_revision, is.revision.main, is.version);
                (text(&is.key), (text(&is.value), numbers.0, numbers.1, numbers.2))
            })
            .collect();
        assert_eq!(is, model.at(revision), "at revision {revision}");
    }
    let size: u64 = store.history_from(Revision::default()).map(|is| is.size_bytes()).sum();
    assert_eq!(store.size_bytes(), size);
}

proptest! {
    #[test]
    fn a_store_is_what_was_written_whatever_was_compacted(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let (mut store, mut model) = (Store::default(), Model::default());
        let mut copies = Vec::new();
        for step in steps {
            copies.push((store.clone(), model.clone()));
            take(&mut store, &mut model, step);
            agrees(&store, &model);
        }
        for (store, model) in copies {
            agrees(&store, &model);
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_how_far_the_sweeping_is(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let (mut lazy, mut busy) = (Store::default(), Store::default());
        for step in steps {
            if !matches!(step, Step::Sweep(_)) {
                take(&mut lazy, &mut Model::default(), step.clone());
            }
            take(&mut busy, &mut Model::default(), step);
            while busy.sweep(3) {}
            for revision in lazy.compacted().max(1)..=lazy.revision() {
                prop_assert_eq!(lazy.hash(revision), busy.hash(revision));
            }
        }
        while lazy.sweep(7) {}
        let left = |store: &Store| store.history.values().cloned().collect::<Vec<_>>();
        prop_assert_eq!(left(&lazy), left(&busy));
    }
}
