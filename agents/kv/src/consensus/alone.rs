//! A member that is alone agrees with itself: what is in its log is agreed on.

use std::mem;

use bytes::Bytes;
use prost::Message;

use super::{Committed, Consensus, Standing};
use crate::log::{self, Log, Opened, Owner, disk::Disk};

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

/// A member that is alone.
pub struct Alone<D: Disk> {
    log: Log<D>,
    standing: Standing,
    proposed: Vec<Bytes>,
}

impl<D: Disk> Alone<D> {
    /// Opens the log, and tells all that is agreed on already. Each start is a term.
    pub fn open(
        disk: D,
        owner: Owner,
        salt: u64,
        mut committed: impl FnMut(Committed),
    ) -> Result<(Self, Opened), log::Error> {
        let mut standing = Standing { leader: owner.member, ..Standing::default() };
        let mut unknown = None;
        let read = |record: &[u8]| match Entry::decode(record) {
            Ok(Entry { term, index, command }) => {
                (standing.term, standing.index) = (term, index);
                if !command.is_empty() {
                    committed(Committed { index, term, command });
                }
            }
            Err(error) => unknown = unknown.take().or(Some((standing.index, error))),
        };
        let (log, opened) = Log::open(disk, owner, log::SEGMENT_BYTES, salt, read)?;
        if let Some((after, error)) = unknown {
            return Err(log::Error::Unknown { after, error });
        }
        standing.term += 1;
        let mut alone = Self { log, standing, proposed: vec![Bytes::new()] };
        // The term is agreed on with a command that says nothing.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::Folder;

    #[test]
    fn what_is_agreed_on_is_so_after_a_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = Owner { cluster: 1, member: 2 };
        let mut all = Vec::new();
        for life in 0..3 {
            let disk = Folder::at(folder.path()).expect("the folder");
            let mut before = Vec::new();
            let (mut alone, _) =
                Alone::open(disk, owner, 7, |is| before.push(is)).expect("the log");
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
}
