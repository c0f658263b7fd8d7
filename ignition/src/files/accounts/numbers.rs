//! The numbers of users and groups: which are free, and which one is next.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::{Row, Table};
use crate::files::Refused;

/// Numbers that mean "nobody" to somebody.
pub(super) fn is_free(taken: &BTreeSet<u32>, id: u32) -> bool {
    id != u32::from(u16::MAX) && id != u32::MAX && !taken.contains(&id)
}

/// A number that nobody has: above all that are taken, for the system below all that are taken, so
/// that nobody gets the files of somebody who was removed; only then one from a gap.
pub(super) fn free(
    taken: &BTreeSet<u32>,
    range: &RangeInclusive<u32>,
    is_system: bool,
) -> Option<u32> {
    if range.is_empty() {
        return None;
    }
    let mut inside = taken.range(range.clone());
    let is_free = |id: &u32| is_free(taken, *id);
    if is_system {
        let lowest = inside.next().map_or(*range.end(), |id| id.saturating_sub(1));
        let mut below = (*range.start()..=lowest).rev();
        return below.find(is_free).or_else(|| range.clone().rev().find(is_free));
    }
    let highest = inside.next_back().map_or(*range.start(), |id| id.saturating_add(1));
    let mut above = highest..=*range.end();
    above.find(is_free).or_else(|| range.clone().find(is_free))
}

/// Gives a user a range of numbers behind all that are given, else in the first gap.
pub(super) fn add_range(table: &mut Table, name: &str, range: &RangeInclusive<u32>, count: u32) {
    if count == 0 || table.get(name).is_some() {
        return;
    }
    let mut given: Vec<(u64, u64)> = table
        .rows()
        .filter_map(|row| Some((row.number(1)?, row.number(2)?)))
        .map(|(first, count)| (first.into(), count.into()))
        .collect();
    given.sort_unstable();
    let mut first = u64::from(*range.start());
    for (start, length) in given {
        if first + u64::from(count) <= start {
            break;
        }
        first = first.max(start + length);
    }
    if first + u64::from(count) <= u64::from(*range.end()) + 1 {
        table.push(Row::new([name, &first.to_string(), &count.to_string()]));
    }
}

pub(super) fn id(at: &str, id: Option<i64>) -> Result<Option<u32>, Refused> {
    let Some(id) = id else { return Ok(None) };
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Refused::new(at, format!("{id} is not a number that a user or group can have"))
            .hint("numbers are from 0 to 4294967294")),
    }
}

pub(super) fn taken(at: &str, what: &str, holder: &str, id: u32) -> Refused {
    Refused::new(at, format!("the {what} `{holder}` has the number {id} already"))
}

pub(super) fn used_up(at: &str, what: &str, range: &RangeInclusive<u32>) -> Refused {
    let (first, last) = (range.start(), range.end());
    Refused::new(at, format!("no number is left for {what} from {first} to {last}"))
        .hint("give a number in the document, or a wider range in /etc/login.defs")
}
