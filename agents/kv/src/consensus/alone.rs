//! A member that is alone agrees with itself: what is in its log is agreed on.

use std::mem;

use bytes::Bytes;
use prost::Message;

use super::{Committed, Consensus, Mark, Standing};
use crate::{
    log::{self, Log, Opened, Owner, disk::Disk},
    snapshot::Place,
};

/// A command in the log.
#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(uint64, tag = 1)]
    term: u64,
    #[prost(uint64, tag = 2)]
    index: u64,
    #[prost(bytes = "bytes", tag = 3)]
    command: Bytes,
}

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How large a segment is.
    pub segment_bytes: u64,
    /// A random number.
    pub salt: u64,
}

/// A member that is alone.
pub struct Alone<D: Disk> {
    log: Log<D>,
    standing: Standing,
    proposed: Vec<Bytes>,
    segment_bytes: u64,
}

impl<D: Disk> Alone<D> {
    /// Opens the log, and tells all that is agreed on behind a place. Each start is a term.
    pub fn open(
        disk: D,
        owner: Owner,
        options: Options,
        after: Place,
        mut committed: impl FnMut(Committed),
    ) -> Result<(Self, Opened), log::Error> {
        let Options { segment_bytes, salt } = options;
        let mut standing = Standing { leader: owner.member, term: after.term, index: after.index };
        let mut wrong = None;
        let read = |record: &[u8]| match Entry::decode(record) {
            Ok(Entry { index, .. }) if index <= after.index || wrong.is_some() => {}
            Ok(Entry { term, index, command }) if index == standing.index + 1 => {
                (standing.term, standing.index) = (term, index);
                if !command.is_empty() {
                    committed(Committed { index, term, command });
                }
            }
            Ok(Entry { index: first, .. }) => {
                wrong = Some(log::Error::Gap { first, last: standing.index });
            }
            Err(error) => {
                let unknown = || log::Error::Unknown { after: standing.index, error };
                wrong.get_or_insert_with(unknown);
            }
        };
        let (log, opened) = Log::open(disk, owner, segment_bytes, salt, read)?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        standing.term += 1;
        // The term is agreed on with a command that says nothing.
        let mut alone = Self { log, standing, proposed: vec![Bytes::new()], segment_bytes };
        alone.advance()?;
        Ok((alone, opened))
    }
}

impl<D: Disk> Consensus for Alone<D> {
    fn propose(&mut self, command: Bytes) {
        self.proposed.push(command);
    }

    fn advance(&mut self) -> Result<Vec<Committed>, log::Error> {
        let term = self.standing.term;
        let number = (self.standing.index + 1..).zip(mem::take(&mut self.proposed));
        let entries: Vec<Entry> =
            number.map(|(index, command)| Entry { term, index, command }).collect();
        let records: Vec<Vec<u8>> = entries.iter().map(Message::encode_to_vec).collect();
        self.log.append(&records)?;
        self.standing.index += entries.len() as u64;
        Ok(entries
            .into_iter()
            .map(|Entry { term, index, command }| Committed { index, term, command })
            .collect())
    }

    fn standing(&self) -> Standing {
        self.standing
    }

    fn is_long(&self, kept_bytes: u64) -> bool {
        self.log.segments() > 1 + kept_bytes / self.segment_bytes
    }

    fn mark(&self) -> Mark {
        let place = Place { index: self.standing.index, term: self.standing.term };
        Mark { place, segment: self.log.sequence() }
    }

    fn forget(&mut self, mark: Mark) -> Result<(), log::Error> {
        self.log.forget_before(mark.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{disk::Folder, simulated::Simulated};

    const OPTIONS: Options = Options { segment_bytes: 1 << 14, salt: 7 };

    #[test]
    fn what_is_agreed_on_is_so_after_a_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = Owner { cluster: 1, member: 2 };
        let mut all = Vec::new();
        for life in 0..3 {
            let disk = Folder::at(folder.path()).expect("the folder");
            let mut before = Vec::new();
            let (mut alone, _) =
                Alone::open(disk, owner, OPTIONS, Place::default(), |is| before.push(is))
                    .expect("the log");
            assert_eq!(before, all);
            for command in ["a", "b"] {
                alone.propose(Bytes::from(format!("{command}{life}")));
            }
            let committed = alone.advance().expect("it is agreed on");
            assert!(committed.iter().all(|is| is.term == life + 1));
            let indices: Vec<u64> = committed.iter().map(|is| is.index).collect();
            assert_eq!(indices, [life * 3 + 2, life * 3 + 3]);
            all.extend(committed);
            assert_eq!(
                alone.standing(),
                Standing { leader: 2, term: life + 1, index: life * 3 + 3 }
            );
        }
    }

    #[test]
    fn what_is_behind_a_snapshot_is_all_that_is_told_and_needed() {
        let owner = Owner { cluster: 1, member: 2 };
        let disk = Simulated::new();
        let open = |after, committed: &mut Vec<Committed>| {
            Alone::open(disk.clone(), owner, OPTIONS, after, |is| committed.push(is))
        };
        let (mut alone, _) = open(Place::default(), &mut Vec::new()).expect("a new log");
        let propose = |alone: &mut Alone<_>, times: usize| {
            for _ in 0..times {
                alone.propose(Bytes::from_static(b"command"));
                alone.advance().expect("it is agreed on");
            }
        };
        propose(&mut alone, 9);
        assert!(alone.is_long(0) && !alone.is_long(1 << 20));
        let mark = alone.mark();
        propose(&mut alone, 2);
        alone.forget(mark).expect("the log gets shorter");
        assert!(!alone.is_long(0));
        drop(alone);
        let mut told = Vec::new();
        open(mark.place, &mut told).expect("the log");
        assert_eq!(told.iter().map(|is| is.index).collect::<Vec<_>>(), [11, 12]);
        let error = open(Place::default(), &mut told).err().expect("a snapshot is missing");
        assert!(error.to_string().contains("ends with 0: a snapshot is missing"), "{error}");
    }
}
