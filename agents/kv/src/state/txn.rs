//! Transactions: which way they go, whether they can, and then all of it.

use std::cmp::Ordering;

use super::{State, header};
use crate::{
    api::{
        Comparand, Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse,
        KeyValue, Op, OpResponse, PutRequest, PutResponse, RangeRequest, RequestOp, ResponseHeader,
        ResponseOp, TxnRequest, TxnResponse,
    },
    lease::Leases,
    refusal::Refusal,
    store::{KeyRange, Record, Store, Writer},
};

impl State {
    /// A transaction.
    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        // Every comparison is with what there was before the transaction, also those inside.
        let path = Path::of(&self.store, request);
        self.check_taken(request, &path)?;
        let mut txn = Txn::begin(&mut self.store, &mut self.leases);
        let mut response = txn.run(request, &path);
        response.header = header(txn.finish());
        Ok(response)
    }

    /// Whether all that will be done can be done: first what is put, then what is read.
    fn check_taken(&self, request: &TxnRequest, path: &Path) -> Result<(), Refusal> {
        path.each(request, &mut |op| match op {
            Op::Put(put) => self.check_kept(put).and_then(|()| self.check_lease(put)),
            Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_) => Ok(()),
        })?;
        path.each(request, &mut |op| match op {
            Op::Range(range) => self.check_range(range),
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => Ok(()),
        })
    }

    fn check_range(&self, range: &RangeRequest) -> Result<(), Refusal> {
        // Reads of what is there, by the rules of the whole: only then does nothing fail halfway.
        let nothing =
            RangeRequest { count_only: true, range_end: Default::default(), ..range.clone() };
        if range.revision < 0 && range.revision < self.store.compacted() {
            return Err(Refusal::Compacted);
        }
        self.store.range(&nothing).map(drop)
    }
}

/// Which way a transaction goes, and those inside the branch that it takes, in order.
struct Path {
    succeeded: bool,
    inside: Vec<Path>,
}

impl Path {
    fn of(store: &Store, request: &TxnRequest) -> Self {
        let succeeded = request.compare.iter().all(|compare| holds(store, compare));
        let mut path = Self { succeeded, inside: Vec::new() };
        let inside = path.taken(request).iter().filter_map(|op| match &op.request {
            Some(Op::Txn(txn)) => Some(Self::of(store, txn)),
            Some(Op::Range(_) | Op::Put(_) | Op::DeleteRange(_)) | None => None,
        });
        path.inside = inside.collect();
        path
    }

    /// Looks at all operations that are taken, in order, as long as nothing is wrong with them.
    fn each(
        &self,
        request: &TxnRequest,
        look: &mut impl FnMut(&Op) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut inside = self.inside.iter();
        for op in self.taken(request).iter().filter_map(|op| op.request.as_ref()) {
            match op {
                Op::Txn(txn) => inside.next().expect("a path for each").each(txn, look)?,
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => look(op)?,
            }
        }
        Ok(())
    }

    fn taken<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeded { &request.success } else { &request.failure }
    }
}

/// Whether a comparison holds for all keys that it names. A key that is not there has zero for
/// everything but its value, which compares with nothing.
fn holds(store: &Store, compare: &Compare) -> bool {
    let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    let mut live = store.live(&range, store.revision()).peekable();
    if live.peek().is_none() {
        let value = compare.target == CompareTarget::Value as i32;
        return !value && matches(compare, &KeyValue::default());
    }
    live.all(|record| matches(compare, &Record::key_value(record)))
}

fn matches(compare: &Compare, is: &KeyValue) -> bool {
    let number = |is: i64, than: fn(&Comparand) -> Option<i64>| {
        is.cmp(&compare.target_union.as_ref().and_then(than).unwrap_or_default())
    };
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(is.version, |of| match of {
            Comparand::Version(version) => Some(*version),
            _ => None,
        }),
        Ok(CompareTarget::Create) => number(is.create_revision, |of| match of {
            Comparand::CreateRevision(revision) => Some(*revision),
            _ => None,
        }),
        Ok(CompareTarget::Mod) => number(is.mod_revision, |of| match of {
            Comparand::ModRevision(revision) => Some(*revision),
            _ => None,
        }),
        Ok(CompareTarget::Lease) => number(is.lease, |of| match of {
            Comparand::Lease(lease) => Some(*lease),
            _ => None,
        }),
        Ok(CompareTarget::Value) => match &compare.target_union {
            Some(Comparand::Value(value)) => is.value.cmp(value),
            _ => is.value[..].cmp(&[]),
        },
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Writes that are one.
pub(super) struct Txn<'a> {
    writer: Writer<'a>,
    leases: &'a mut Leases,
}

impl<'a> Txn<'a> {
    pub(super) fn begin(store: &'a mut Store, leases: &'a mut Leases) -> Self {
        Self { writer: store.write(), leases }
    }

    pub(super) fn finish(self) -> i64 {
        self.writer.finish()
    }

    /// Puts a key. What it leans on is there.
    pub(super) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let is = self.writer.store().get(&request.key, self.writer.revision()).cloned();
        let (mut value, mut lease) = (request.value.clone(), request.lease);
        if let Some(is) = &is {
            if request.ignore_value {
                value.clone_from(&is.value);
            }
            if request.ignore_lease {
                lease = is.lease;
            }
        }
        let before = self.writer.put(&request.key, &value, lease);
        let lease_before = before.as_ref().map_or(0, |before| before.lease);
        self.leases.attach(&request.key, lease_before, lease);
        let prev_kv = before.filter(|_| request.prev_kv).map(|before| before.key_value());
        PutResponse { header: header(self.writer.write_revision()), prev_kv }
    }

    /// Deletes keys.
    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let before = self.writer.delete(&range);
        for record in &before {
            self.leases.attach(&record.key, record.lease, 0);
        }
        let prev_kvs = before.iter().filter(|_| request.prev_kv).map(|is| is.key_value());
        DeleteRangeResponse {
            header: header(self.writer.revision()),
            deleted: before.len() as i64,
            prev_kvs: prev_kvs.collect(),
        }
    }

    fn run(&mut self, request: &TxnRequest, path: &Path) -> TxnResponse {
        let mut response = TxnResponse {
            // Only that of the whole tells a revision.
            header: Some(ResponseHeader::default()),
            succeeded: path.succeeded,
            responses: Vec::new(),
        };
        let mut inside = path.inside.iter();
        for op in path.taken(request) {
            let answer = match &op.request {
                Some(Op::Range(range)) => {
                    let read = self.writer.store().range_at(range, self.writer.revision());
                    Some(OpResponse::Range(read.expect("it was checked")))
                }
                Some(Op::Put(put)) => Some(OpResponse::Put(self.put(put))),
                Some(Op::DeleteRange(delete)) => {
                    Some(OpResponse::DeleteRange(self.delete_range(delete)))
                }
                Some(Op::Txn(txn)) => {
                    let path = inside.next().expect("a path for each");
                    Some(OpResponse::Txn(self.run(txn, path)))
                }
                None => None,
            };
            response.responses.push(ResponseOp { response: answer });
        }
        response
    }
}
