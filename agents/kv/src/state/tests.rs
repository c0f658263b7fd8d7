use expect_test::{Expect, expect};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::api::{
    Comparand, Compare, CompareResult, CompareTarget, LeaseCheckpoint, Op, OpResponse, RequestOp,
};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

fn op(op: impl Into<Op>) -> RequestOp {
    RequestOp { request: Some(op.into()) }
}

macro_rules! op_of {
    ($($of:ident($request:ident)),*) => {
        $(impl From<$request> for Op { fn from(request: $request) -> Self { Self::$of(request) } })*
    };
}
op_of!(Put(PutRequest), DeleteRange(DeleteRangeRequest), Range(RangeRequest), Txn(TxnRequest));

fn if_value(key: &str, value: &str) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Value as i32,
        key: bytes(key),
        target_union: Some(Comparand::Value(bytes(value))),
        ..Compare::default()
    }
}

fn if_created(key: &str, end: &str, result: CompareResult, revision: i64) -> Compare {
    Compare {
        result: result as i32,
        target: CompareTarget::Create as i32,
        key: bytes(key),
        range_end: bytes(end),
        target_union: Some(Comparand::CreateRevision(revision)),
    }
}

fn lease(id: i64, ttl: i64) -> Ask {
    Ask::LeaseGrant(LeaseGrantRequest { id, ttl })
}

fn with_lease(key: &str, lease: i64) -> Ask {
    Ask::Put(PutRequest { lease, ..put(key, "") })
}

fn alarm(action: AlarmAction, alarm: AlarmType) -> Ask {
    Ask::Alarm(AlarmRequest { action: action as i32, member_id: 1, alarm: alarm as i32 })
}

/// What each command is answered, and what there is in the end.
fn check(asks: Vec<Ask>, expected: Expect) -> State {
    let mut state = State::default();
    let mut lines: Vec<String> = asks.into_iter().map(|ask| show(&state.apply(ask))).collect();
    lines.push(content(&state));
    expected.assert_eq(&lines.join("\n"));
    state
}

fn content(state: &State) -> String {
    let everything = KeyRange::From(Bytes::new());
    let store = state.store();
    let keys = store.live(&everything, store.revision()).map(|is| {
        let lease = if is.lease == 0 { String::new() } else { format!(" lease {}", is.lease) };
        format!("{}={}@{}{lease}", text(&is.key), text(&is.value), is.revision.main)
    });
    format!("[{}] at {}", keys.collect::<Vec<_>>().join(", "), store.revision())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn show(answer: &Result<Answer, Refusal>) -> String {
    match answer {
        Err(refusal) => refusal.to_string(),
        Ok(Answer::Put(put)) => show_put(put),
        Ok(Answer::DeleteRange(delete)) => format!("deleted {}", delete.deleted),
        Ok(Answer::Txn(txn)) => show_txn(txn),
        Ok(Answer::Compaction(_)) => "compacted".to_owned(),
        Ok(Answer::LeaseGrant(grant)) => format!("lease {} for {} s", grant.id, grant.ttl),
        Ok(Answer::LeaseRevoke(revoke)) => format!("revoked at {}", revision(&revoke.header)),
        Ok(Answer::LeaseCheckpoint(_)) => "noted".to_owned(),
        Ok(Answer::Alarm(alarm)) => format!("{} alarms", alarm.alarms.len()),
    }
}

fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

fn show_put(put: &PutResponse) -> String {
    let before = put.prev_kv.as_ref().map(|is| format!(" (was {})", text(&is.value)));
    format!("put at {}{}", revision(&put.header), before.unwrap_or_default())
}

fn show_txn(txn: &TxnResponse) -> String {
    let one = |of: &crate::api::ResponseOp| match &of.response {
        Some(OpResponse::Put(put)) => show_put(put),
        Some(OpResponse::DeleteRange(is)) => format!("deleted {}", is.deleted),
        Some(OpResponse::Range(is)) => {
            let values = is.kvs.iter().map(|is| text(&is.value)).collect::<Vec<_>>();
            format!("got [{}] at {}", values.join(","), revision(&is.header))
        }
        Some(OpResponse::Txn(txn)) => format!("({})", show_txn(txn)),
        None => "nothing".to_owned(),
    };
    let all = txn.responses.iter().map(one).collect::<Vec<_>>().join(", ");
    format!("{} at {}: {all}", txn.succeeded, revision(&txn.header))
}

#[test]
fn a_put_keeps_what_it_is_told_to_keep() {
    let keep = |ignore_value, ignore_lease| {
        let (value, lease) =
            (if ignore_value { "" } else { "2" }, if ignore_lease { 0 } else { 4 });
        Ask::Put(PutRequest { ignore_value, ignore_lease, lease, prev_kv: true, ..put("a", value) })
    };
    check(
        vec![
            lease(3, 5),
            lease(4, 5),
            keep(true, true),
            with_lease("a", 3),
            keep(false, true),
            keep(true, false),
        ],
        expect![[r#"
            lease 3 for 5 s
            lease 4 for 5 s
            etcdserver: key not found
            put at 2
            put at 3 (was )
            put at 4 (was 2)
            [a=2@4 lease 4] at 4"#]],
    );
}

#[test]
fn the_operations_of_a_transaction_are_one_revision_and_see_each_other() {
    let txn = TxnRequest {
        success: vec![
            op(get("a")),
            op(put("a", "1")),
            op(get("a")),
            op(put("b", "2")),
            op(delete("c")),
            op(get("b")),
        ],
        ..TxnRequest::default()
    };
    check(
        vec![Ask::Put(put("c", "0")), Ask::Txn(txn)],
        expect![[r#"
        put at 2
        true at 3: got [] at 2, put at 3, got [1] at 3, put at 3, deleted 1, got [2] at 3
        [a=1@3, b=2@3] at 3"#]],
    );
}

#[test]
fn a_transaction_that_writes_nothing_takes_no_revision() {
    let txn = TxnRequest { success: vec![op(get("a")), op(delete("x"))], ..TxnRequest::default() };
    check(
        vec![Ask::Put(put("a", "0")), Ask::Txn(txn)],
        expect![[r#"
        put at 2
        true at 2: got [0] at 2, deleted 0
        [a=0@2] at 2"#]],
    );
}

#[test]
fn comparisons_inside_are_with_what_was_before_the_transaction() {
    let inner = TxnRequest {
        compare: vec![if_value("a", "old")],
        success: vec![op(put("b", "saw old"))],
        failure: vec![op(put("b", "saw new"))],
    };
    let txn = TxnRequest { success: vec![op(put("a", "new")), op(inner)], ..TxnRequest::default() };
    check(
        vec![Ask::Put(put("a", "old")), Ask::Txn(txn)],
        expect![[r#"
        put at 2
        true at 3: put at 3, (true at 0: put at 3)
        [a=new@3, b=saw old@3] at 3"#]],
    );
}

#[test]
fn a_transaction_that_cannot_be_done_changes_nothing() {
    let with = |last: RequestOp| {
        Ask::Txn(TxnRequest { success: vec![op(put("a", "1")), last], ..TxnRequest::default() })
    };
    check(
        vec![
            with(op(PutRequest { lease: 9, ..put("b", "") })),
            with(op(PutRequest { ignore_value: true, ..put("b", "") })),
            with(op(RangeRequest { revision: 2, ..get("a") })),
            with(op(RangeRequest { sort_target: 7, ..get("a") })),
            with(op(TxnRequest {
                success: vec![op(PutRequest { lease: 9, ..put("b", "") })],
                ..TxnRequest::default()
            })),
        ],
        expect![[r#"
            etcdserver: requested lease not found
            etcdserver: key not found
            etcdserver: mvcc: required revision is a future revision
            etcdserver: invalid sort option
            etcdserver: requested lease not found
            [] at 1"#]],
    );
}

#[test]
fn of_several_things_that_are_wrong_the_one_is_told_that_etcd_tells() {
    let both = PutRequest { lease: 9, ignore_value: true, ..put("a", "") };
    let compacted = RangeRequest { revision: -2, ..get("a") };
    let txn = |ops: Vec<RequestOp>| Ask::Txn(TxnRequest { success: ops, ..TxnRequest::default() });
    check(
        vec![
            Ask::Put(both.clone()),
            txn(vec![op(both.clone())]),
            txn(vec![op(compacted.clone()), op(both)]),
            txn(vec![op(compacted)]),
        ],
        expect![[r#"
            etcdserver: requested lease not found
            etcdserver: key not found
            etcdserver: key not found
            etcdserver: mvcc: required revision has been compacted
            [] at 1"#]],
    );
}

#[test]
fn what_is_not_there_compares_as_zero_and_its_value_with_nothing() {
    let (equal, less) = (CompareResult::Equal, CompareResult::Less);
    for (compare, holds) in [
        (if_created("x", "", equal, 0), true),
        (if_created("x", "", less, 1), true),
        (if_created("x", "", equal, 1), false),
        (if_value("x", ""), false),
        (Compare { result: CompareResult::NotEqual as i32, ..if_value("x", "y") }, false),
        (if_value("a", "1"), true),
        (if_created("a", "c", less, 4), true),
        (if_created("a", "c", less, 3), false),
        (if_created("c", "z", equal, 0), true),
    ] {
        let mut state = State::default();
        for key in ["a", "b"] {
            state.apply(Ask::Put(put(key, "1"))).expect("it is put");
        }
        let txn = TxnRequest { compare: vec![compare.clone()], ..TxnRequest::default() };
        assert_eq!(state.read(&txn).expect("it reads").succeeded, holds, "{compare:?}");
    }
}

#[test]
fn the_end_of_a_lease_takes_its_keys_in_one_revision() {
    check(
        vec![
            lease(1, 60),
            lease(2, 60),
            with_lease("b", 1),
            with_lease("a", 1),
            with_lease("c", 1),
            with_lease("c", 2),
            with_lease("a", 0),
            Ask::LeaseRevoke(LeaseRevokeRequest { id: 1 }),
            Ask::LeaseRevoke(LeaseRevokeRequest { id: 1 }),
        ],
        expect![[r#"
            lease 1 for 60 s
            lease 2 for 60 s
            put at 2
            put at 3
            put at 4
            put at 5
            put at 6
            revoked at 7
            etcdserver: requested lease not found
            [a=@6, c=@5 lease 2] at 7"#]],
    );
}

#[test]
fn leases_that_there_cannot_be() {
    check(
        vec![lease(1, 60), lease(1, 60), lease(2, 9_000_000_001), lease(0, 1), with_lease("a", 5)],
        expect![[r#"
        lease 1 for 60 s
        etcdserver: lease already exists
        etcdserver: too large lease TTL
        etcdserver: requested lease not found
        etcdserver: requested lease not found
        [] at 1"#]],
    );
}

#[test]
fn a_key_that_is_deleted_leaves_its_lease() {
    let state = check(
        vec![lease(1, 60), with_lease("a", 1), Ask::DeleteRange(delete("a"))],
        expect![[r#"
        lease 1 for 60 s
        put at 2
        deleted 1
        [] at 3"#]],
    );
    assert!(state.leases().get(1).expect("the lease").keys.is_empty());
}

#[test]
fn while_there_is_no_room_only_what_makes_room_is_done() {
    let reads =
        TxnRequest { success: vec![op(get("a")), op(delete("a"))], ..TxnRequest::default() };
    let writes = TxnRequest { failure: vec![op(put("a", ""))], ..TxnRequest::default() };
    check(
        vec![
            Ask::Put(put("a", "")),
            alarm(AlarmAction::Activate, AlarmType::NoSpace),
            Ask::Put(put("b", "")),
            lease(1, 60),
            Ask::Txn(writes),
            Ask::Txn(reads),
            Ask::Compaction(CompactionRequest { revision: 3, physical: false }),
            alarm(AlarmAction::Get, AlarmType::None),
            alarm(AlarmAction::Deactivate, AlarmType::NoSpace),
            alarm(AlarmAction::Deactivate, AlarmType::NoSpace),
            Ask::Put(put("b", "")),
        ],
        expect![[r#"
            put at 2
            1 alarms
            etcdserver: mvcc: database space exceeded
            etcdserver: mvcc: database space exceeded
            etcdserver: mvcc: database space exceeded
            true at 3: got [] at 2, deleted 1
            compacted
            1 alarms
            1 alarms
            0 alarms
            put at 4
            [b=@4] at 4"#]],
    );
}

#[test]
fn while_members_differ_nothing_is_read_or_changed() {
    let state = check(
        vec![
            alarm(AlarmAction::Activate, AlarmType::Corrupt),
            Ask::Put(put("a", "")),
            Ask::DeleteRange(delete("a")),
        ],
        expect![[r#"
            1 alarms
            etcdserver: corrupt cluster
            etcdserver: corrupt cluster
            [] at 1"#]],
    );
    assert_eq!(state.range(&get("a")), Err(Refusal::Corrupt));
}

fn check_ops(success: Vec<RequestOp>, refused: Option<Refusal>) {
    let failure = success.clone();
    for txn in [
        TxnRequest { success, ..TxnRequest::default() },
        TxnRequest { failure, ..TxnRequest::default() },
    ] {
        assert_eq!(request::check_txn(&txn, request::MAX_TXN_OPS).err(), refused, "{txn:?}");
    }
}

#[test]
fn no_key_is_written_twice_in_a_transaction() {
    let branches = |then: Vec<RequestOp>, other: Vec<RequestOp>| {
        op(TxnRequest { compare: vec![], success: then, failure: other })
    };
    let span =
        |key: &str, end: &str| op(DeleteRangeRequest { range_end: bytes(end), ..delete(key) });
    let twice = Some(Refusal::DuplicateKey);
    check_ops(vec![op(put("a", "")), op(put("b", ""))], None);
    check_ops(vec![op(put("a", "")), op(put("a", ""))], twice);
    check_ops(vec![op(put("a", "")), op(delete("a"))], twice);
    check_ops(vec![op(put("b", "")), span("a", "c")], twice);
    check_ops(vec![op(put("c", "")), span("a", "c")], None);
    check_ops(vec![span("a", "c"), span("b", "d"), op(put("c", ""))], twice);
    check_ops(vec![span("a", "c"), span("b", "d"), op(put("d", ""))], None);
    check_ops(vec![op(delete("a")), op(delete("a"))], None);
    // The branches of a transaction inside do not happen both, but either may with what is beside it.
    check_ops(vec![branches(vec![op(put("a", ""))], vec![op(put("a", ""))])], None);
    check_ops(vec![branches(vec![op(put("a", ""))], vec![op(delete("a"))])], None);
    check_ops(vec![branches(vec![], vec![op(put("a", ""))]), op(put("a", ""))], twice);
    check_ops(vec![branches(vec![op(delete("a"))], vec![]), op(put("a", ""))], twice);
    check_ops(
        vec![branches(vec![op(put("a", ""))], vec![]), branches(vec![op(put("a", ""))], vec![])],
        twice,
    );
}

#[test]
fn what_is_no_request_is_refused() {
    check_ops(vec![RequestOp { request: None }], Some(Refusal::KeyNotFound));
    check_ops(vec![op(get(""))], Some(Refusal::EmptyKey));
    check_ops(vec![op(delete(""))], Some(Refusal::EmptyKey));
    check_ops(
        vec![op(PutRequest { ignore_value: true, ..put("a", "1") })],
        Some(Refusal::ValueProvided),
    );
    check_ops(
        vec![op(PutRequest { ignore_lease: true, lease: 1, ..put("a", "1") })],
        Some(Refusal::LeaseProvided),
    );
    let some = |n: usize| (0..n).map(|_| op(get("a"))).collect::<Vec<_>>();
    let nested = |inside: usize| {
        let mut ops = some(99);
        ops.push(op(TxnRequest { success: some(inside), ..TxnRequest::default() }));
        ops
    };
    check_ops(some(128), None);
    check_ops(some(129), Some(Refusal::TooManyOps));
    check_ops(nested(28), None);
    check_ops(nested(29), Some(Refusal::TooManyOps));
}

fn key() -> impl Strategy<Value = String> {
    "[a-d]"
}

fn one_op(depth: u32) -> BoxedStrategy<RequestOp> {
    let leaf = prop_oneof![
        (key(), 0_i64..3).prop_map(|(key, lease)| op(PutRequest {
            lease,
            prev_kv: true,
            ..put(&key, "v")
        })),
        (key(), key()).prop_map(|(key, end)| op(DeleteRangeRequest {
            range_end: bytes(&end),
            ..delete(&key)
        })),
        key().prop_map(|key| op(get(&key))),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    prop_oneof![4 => leaf, 1 => txn(depth - 1).prop_map(op)].boxed()
}

fn txn(depth: u32) -> BoxedStrategy<TxnRequest> {
    let ops = || proptest::collection::vec(one_op(depth), 0..4);
    let compare =
        (key(), 0_i64..6).prop_map(|(key, at)| if_created(&key, "", CompareResult::Less, at));
    (proptest::collection::vec(compare, 0..2), ops(), ops())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

/// Something that can be asked.
pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let any = prop_oneof![
        6 => txn(2).prop_map(Ask::Txn),
        2 => (key(), 0_i64..3).prop_map(|(key, lease)| with_lease(&key, lease)),
        1 => (1_i64..3).prop_map(|id| lease(id, 60)),
        1 => (1_i64..3).prop_map(|id| Ask::LeaseRevoke(LeaseRevokeRequest { id })),
        1 => (1_i64..20).prop_map(|revision| Ask::Compaction(CompactionRequest { revision, physical: false })),
        1 => (1_i64..3, 1_i64..60).prop_map(|(id, remaining_ttl)| {
            let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }];
            Ask::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
        }),
    ];
    any.prop_filter("a transaction that can be tried", |ask| match ask {
        Ask::Txn(txn) => request::check_txn(txn, request::MAX_TXN_OPS).is_ok(),
        _ => true,
    })
}

proptest! {
    /// Members that take the same commands, as they are sent, agree on everything; a command that is
    /// refused changes nothing; and the leases know their keys.
    #[test]
    fn the_same_commands_make_the_same_state(asks in proptest::collection::vec(ask(), 0..40)) {
        let (mut one, mut other) = (State::default(), State::default());
        for (number, ask) in (0..).zip(asks) {
            let sent = Command { member: 1, number, ask: Some(ask) }.encode_to_vec();
            let received = Command::decode(&sent[..]).expect("what was encoded can be decoded");
            prop_assert_eq!(received.encode_to_vec(), sent);
            let ask = received.ask.expect("something to do");
            let before = (one.store().revision(), one.store().hash(0));
            let answer = one.apply(ask.clone());
            if answer.is_err() {
                prop_assert_eq!((one.store().revision(), one.store().hash(0)), before);
            }
            prop_assert_eq!(answer, other.apply(ask));
            other.sweep(3);
            prop_assert_eq!(one.store().hash(0), other.store().hash(0));
            for (id, lease) in one.leases().iter() {
                let everything = KeyRange::From(Bytes::new());
                let keys = one.store().live(&everything, one.store().revision());
                let keys: Vec<_> = keys.filter(|is| is.lease == id).map(|is| &is.key).collect();
                prop_assert_eq!(lease.keys.iter().collect::<Vec<_>>(), keys);
            }
            // A member that is sent the state in pieces is one of them.
            if number % 8 == 7 {
                let pieces: Vec<_> = one.pieces().collect();
                let again = State::from_pieces(pieces.clone()).expect("they are all there");
                prop_assert_eq!(again.pieces().collect::<Vec<_>>(), pieces.clone());
                prop_assert_eq!(again.size_bytes(), one.size_bytes());
                let short = State::from_pieces(pieces[..pieces.len() - 1].to_vec());
                prop_assert_eq!(short.err(), Some(piece::Incomplete::End));
                one = again;
            }
        }
    }
}
