//! What can be said of a request before it is put to anybody: whether it is one at all, and what it
//! would cost.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;

use crate::{
    api::{Compare, DeleteRangeRequest, Op, PutRequest, RangeRequest, RequestOp, TxnRequest},
    refusal::Refusal,
    store::{KeyRange, RECORD_BYTES},
};

/// How many operations a transaction may have, with those inside it.
pub const MAX_TXN_OPS: usize = 128;

/// What a lease counts against the quota.
pub const LEASE_BYTES: u64 = 64;

/// Whether a range can be read.
pub fn check_range(request: &RangeRequest) -> Result<(), Refusal> {
    check_key(&request.key)
}

/// Whether a key can be put.
pub fn check_put(request: &PutRequest) -> Result<(), Refusal> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Whether a range can be deleted.
pub fn check_delete(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    check_key(&request.key)
}

/// Whether a transaction can be tried: its operations, how many there are, and that no key is written
/// twice, whichever way it goes.
pub fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    check_ops(request, max_ops)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

fn check_key(key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

fn check_ops(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    let (compares, success, failure) =
        (request.compare.len(), request.success.len(), request.failure.len());
    let most = compares.max(success).max(failure);
    let left = max_ops.checked_sub(most).ok_or(Refusal::TooManyOps)?;
    let check_compare = |compare: &Compare| check_key(&compare.key);
    request.compare.iter().try_for_each(check_compare)?;
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::Range(range)) => check_range(range)?,
            Some(Op::Put(put)) => check_put(put)?,
            Some(Op::DeleteRange(delete)) => check_delete(delete)?,
            Some(Op::Txn(txn)) => check_ops(txn, left)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a branch of a transaction writes, with all that may happen inside it.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Spans,
}

impl Writes {
    /// The writes of some operations, if none of them meets another. A delete may meet a delete, and
    /// what a transaction inside puts may be put by either of its branches.
    fn of(ops: &[RequestOp]) -> Result<Self, Refusal> {
        let mut all = Self::default();
        for op in ops {
            if let Some(Op::DeleteRange(delete)) = &op.request {
                all.deletes.add(KeyRange::new(delete.key.clone(), delete.range_end.clone()));
            }
        }
        for op in ops {
            let Some(Op::Txn(txn)) = &op.request else { continue };
            let (then, other) = (Self::of(&txn.success)?, Self::of(&txn.failure)?);
            let puts: BTreeSet<Bytes> = then.puts.into_iter().chain(other.puts).collect();
            for key in puts {
                all.put(key)?;
            }
            all.deletes.merge(then.deletes);
            all.deletes.merge(other.deletes);
        }
        for op in ops {
            if let Some(Op::Put(put)) = &op.request {
                all.put(put.key.clone())?;
            }
        }
        Ok(all)
    }

    fn put(&mut self, key: Bytes) -> Result<(), Refusal> {
        if self.deletes.contains(&key) || !self.puts.insert(key) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}

/// Keys that are deleted: where each stretch begins, and where it ends. No two of them meet.
#[derive(Default)]
struct Spans(BTreeMap<Bytes, Bytes>);

impl Spans {
    fn add(&mut self, range: KeyRange) {
        match range {
            KeyRange::One(key) => {
                let behind = [&key[..], &[0]].concat();
                self.insert(key, behind.into());
            }
            KeyRange::Span(from, to) if from < to => self.insert(from, to),
            KeyRange::Span(..) => {}
            // etcd lets a put meet a delete that has no end; the one simply happens before the other.
            KeyRange::From(_) => {}
        }
    }

    fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(from, to)| self.insert(from, to));
    }

    fn insert(&mut self, mut from: Bytes, mut to: Bytes) {
        while let Some((start, end)) = self.0.range(..=to.clone()).next_back() {
            if end < &from {
                break;
            }
            let start = start.clone();
            to = self.0.remove(&start).expect("it was there").max(to);
            from = from.min(start);
        }
        self.0.insert(from, to);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        before.last().is_some_and(|(_, end)| key < &end[..])
    }
}

/// What a put counts against the quota.
pub fn put_cost(request: &PutRequest) -> u64 {
    RECORD_BYTES + (request.key.len() + request.value.len()) as u64
}

/// What a transaction may count against the quota.
pub fn txn_cost(request: &TxnRequest) -> u64 {
    let cost = |ops: &[RequestOp]| {
        let one = |op: &RequestOp| match &op.request {
            Some(Op::Put(put)) => put_cost(put),
            Some(Op::Txn(txn)) => txn_cost(txn),
            Some(Op::Range(_) | Op::DeleteRange(_)) | None => 0,
        };
        ops.iter().map(one).sum::<u64>()
    };
    cost(&request.success).max(cost(&request.failure))
}

/// Whether a transaction only reads, whichever way it goes.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| matches!(op.request, Some(Op::Range(_)));
    request.success.iter().chain(&request.failure).all(reads)
}

/// Whether a transaction that only reads can do with what this member has.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let may = |op: &RequestOp| matches!(&op.request, Some(Op::Range(range)) if range.serializable);
    request.success.iter().chain(&request.failure).all(may)
}
