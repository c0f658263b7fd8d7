//! Reading a range, with all that a request may ask of it.

use std::cmp::Ordering;

use super::{KeyRange, Store};
use crate::{
    api::{KeyValue, RangeRequest, RangeResponse, ResponseHeader, SortOrder, SortTarget},
    refusal::Refusal,
};

impl Store {
    /// Reads what a request asks for.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.range_at(request, self.current)
    }

    /// The same, where another revision is the current one: in the middle of a transaction.
    pub fn range_at(&self, ask: &RangeRequest, current: i64) -> Result<RangeResponse, Refusal> {
        let revision = self.readable(ask.revision, current)?;
        let order = order(ask)?;
        let range = KeyRange::new(ask.key.clone(), ask.range_end.clone());
        let mut response = RangeResponse {
            header: Some(ResponseHeader { revision: current, ..ResponseHeader::default() }),
            ..RangeResponse::default()
        };
        if ask.count_only {
            response.count = self.live(&range, revision).count() as i64;
            return Ok(response);
        }
        let limit = usize::try_from(ask.limit).ok().filter(|limit| *limit > 0);
        // What is in order already is not gathered beyond the limit, only counted. Nor is what is to
        // be sorted where no order is named and nothing left out: etcd sorts what is left then.
        let is_whole = ask.sort_order == SortOrder::None as i32 && !is_filtered(ask);
        let enough = limit.filter(|_| order.is_none() || is_whole);
        let enough = enough.map_or(usize::MAX, |limit| limit + 1);
        for record in self.live(&range, revision) {
            response.count += 1;
            if response.kvs.len() < enough
                && passes(ask, record.create_revision, record.revision.main)
            {
                response.kvs.push(record.key_value());
            }
        }
        if let Some((target, order)) = order {
            let by = |a: &KeyValue, b: &KeyValue| compare(target, a, b);
            match order {
                SortOrder::None | SortOrder::Ascend => response.kvs.sort_by(by),
                SortOrder::Descend => response.kvs.sort_by(|a, b| by(b, a)),
            }
        }
        if let Some(limit) = limit.filter(|limit| response.kvs.len() > *limit) {
            response.kvs.truncate(limit);
            response.more = true;
        }
        if ask.keys_only {
            response.kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(response)
    }
}

/// How the answer is to be sorted, if not as the keys are.
fn order(ask: &RangeRequest) -> Result<Option<(SortTarget, SortOrder)>, Refusal> {
    let target = SortTarget::try_from(ask.sort_target).map_err(|_| Refusal::InvalidSort)?;
    let order = SortOrder::try_from(ask.sort_order).map_err(|_| Refusal::InvalidSort)?;
    let natural = target == SortTarget::Key && order != SortOrder::Descend;
    Ok((!natural).then_some((target, order)))
}

fn is_filtered(ask: &RangeRequest) -> bool {
    let bounds = [
        ask.min_mod_revision,
        ask.max_mod_revision,
        ask.min_create_revision,
        ask.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

fn passes(ask: &RangeRequest, create: i64, modified: i64) -> bool {
    let within = |is: i64, min: i64, max: i64| (min == 0 || is >= min) && (max == 0 || is <= max);
    within(modified, ask.min_mod_revision, ask.max_mod_revision)
        && within(create, ask.min_create_revision, ask.max_create_revision)
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
