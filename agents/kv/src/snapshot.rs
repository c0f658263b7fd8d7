//! All that a member keeps, in one file: so that the log before it can go.
//!
//! A file has the form of a segment of the log, and its records are the pieces of the state. It gets
//! its name when it is whole and on the disk; the one before goes after that.

use prost::Message;
use thiserror::Error;

use crate::{
    log::{self, Owner, at, disk::Disk, frame},
    state::{
        State,
        piece::{Incomplete, Piece},
    },
};

const ENDING: &str = ".snap";
const UNFINISHED: &str = ".new";
/// How many bytes are written at once, roughly.
const BATCH_BYTES: usize = 1 << 20;

/// Which command a snapshot is the state after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its index; 0 is the beginning.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// A state, and where it was.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Where.
    pub place: Place,
    /// What was kept.
    pub state: State,
}

/// Why there is no snapshot to be had.
#[derive(Debug, Error)]
pub enum Error {
    /// The disk or the file is not as it should be.
    #[error(transparent)]
    File(#[from] log::Error),
    /// It is whole, and no state.
    #[error("{name}: {why}; let the member join again with an empty folder, or restore a backup")]
    Incomplete {
        /// The file.
        name: String,
        /// Why not.
        why: Incomplete,
    },
}

fn name(place: Place) -> String {
    format!("{:016x}-{:016x}{ENDING}", place.index, place.term)
}

fn place(name: &str) -> Option<Place> {
    let (index, term) = name.strip_suffix(ENDING)?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Place { index: number(index)?, term: number(term)? })
}

/// Writes a state down, and comes back when it is on the disk. `salt` is a random number.
pub fn save<D: Disk>(
    disk: &D,
    owner: Owner,
    salt: u64,
    snapshot: &Snapshot,
) -> Result<(), log::Error> {
    let name = name(snapshot.place);
    let unfinished = format!("{name}{UNFINISHED}");
    let header = frame::Header { owner, sequence: snapshot.place.index, salt, previous: 0 };
    let file = at("making", &unfinished, disk.create(&unfinished, frame::HEADER_BLOCK))?;
    at("writing", &unfinished, disk.write_at(&file, &header.write(), 0))?;
    let (mut offset, mut chain) = (frame::HEADER_BLOCK, header.previous);
    let mut pieces = snapshot.state.pieces().map(|piece| piece.encode_to_vec()).peekable();
    while pieces.peek().is_some() {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(piece) = pieces.next()
        {
            bytes += piece.len();
            batch.push(piece);
        }
        let (bytes, end) = frame::batch(&batch, offset, salt, chain);
        at("writing", &unfinished, disk.write_at(&file, &bytes, offset))?;
        (offset, chain) = (offset + bytes.len() as u64, end);
    }
    at("syncing", &unfinished, disk.sync(&file))?;
    at("renaming", &unfinished, disk.rename(&unfinished, &name))?;
    at("syncing", FOLDER, disk.sync_names())?;
    for older in places(disk)?.into_iter().filter(|is| is.index < snapshot.place.index) {
        let name = self::name(older);
        at("removing", &name, disk.remove(&name))?;
    }
    Ok(())
}

/// The last state that was written down; where there is none, the one that all begin with.
pub fn load<D: Disk>(disk: &D, owner: Owner) -> Result<Snapshot, Error> {
    let Some(place) = places(disk)?.into_iter().max_by_key(|place| place.index) else {
        return Ok(Snapshot::default());
    };
    let name = name(place);
    let bytes = at("reading", &name, disk.read(&name))?;
    let damaged = |damage| log::Error::Damaged { name: name.clone(), damage };
    let header = frame::Header::read(&bytes).map_err(damaged)?;
    if header.owner != owner {
        return Err(log::Error::Foreign { name, found: header.owner, owner }.into());
    }
    let read = frame::read(&bytes, &header);
    if frame::next_block(read.end) != bytes.len() as u64 {
        let damage = frame::Damage { offset: read.end, what: "what follows is not whole" };
        return Err(damaged(damage).into());
    }
    // What cannot be understood is an empty piece, which is none.
    let piece = |payload| Piece::decode(&bytes[payload]).unwrap_or_default();
    let state = State::from_pieces(read.payloads.into_iter().map(piece));
    let state = state.map_err(|why| Error::Incomplete { name, why })?;
    Ok(Snapshot { place, state })
}

const FOLDER: &str = "the folder of the snapshots";

/// The snapshots that there are. One that was not finished goes.
fn places<D: Disk>(disk: &D) -> Result<Vec<Place>, log::Error> {
    let mut places = Vec::new();
    for name in at("listing", FOLDER, disk.list())? {
        if name.ends_with(UNFINISHED) {
            at("removing", &name, disk.remove(&name))?;
        }
        places.extend(place(&name));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::PutRequest,
        log::simulated::{Fault, Simulated},
        state::Ask,
        store::Revision,
    };

    const OWNER: Owner = Owner { cluster: 1, member: 2 };

    fn after(index: u64, keys: u64) -> Snapshot {
        let mut state = State::default();
        for key in 0..keys {
            let (key, value) = (format!("key {key}").into(), vec![7; 300].into());
            let put = PutRequest { key, value, ..PutRequest::default() };
            state.apply(Ask::Put(put)).expect("it is put");
        }
        Snapshot { place: Place { index, term: 3 }, state }
    }

    fn same(one: &Snapshot, other: &Snapshot) -> bool {
        let all = |of: &Snapshot| -> Vec<_> {
            of.state.store().history_from(Revision::default()).cloned().collect()
        };
        one.place == other.place && all(one) == all(other)
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let disk = Simulated::new();
        assert_eq!(load(&disk, OWNER).expect("none is none").place, Place::default());
        for snapshot in [after(5, 10), after(20_000, 10_000)] {
            save(&disk, OWNER, 9, &snapshot).expect("it is written");
            assert!(same(&load(&disk, OWNER).expect("a snapshot"), &snapshot));
        }
        assert_eq!(disk.list().expect("names").len(), 1, "the one before is gone");
    }

    #[test]
    fn when_power_fails_there_is_the_one_or_the_other() {
        let (old, new) = (after(5, 3), after(9, 6));
        for step in 1..12 {
            for seed in 0..20 {
                let disk = Simulated::new();
                save(&disk, OWNER, 9, &old).expect("it is written");
                disk.fail_in(step, Fault::Power);
                let is_saved = save(&disk, OWNER, 9, &new).is_ok();
                disk.cut(seed);
                let found = load(&disk, OWNER).expect("a snapshot");
                assert!(same(&found, &new) || !is_saved && same(&found, &old), "{step} {seed}");
            }
        }
    }

    #[test]
    fn a_byte_that_goes_bad_is_found() {
        let whole = Simulated::new();
        save(&whole, OWNER, 9, &after(5, 20)).expect("it is written");
        let name = name(Place { index: 5, term: 3 });
        let bytes = whole.read(&name).expect("the file");
        for at in (0..bytes.len()).step_by(61) {
            let disk = whole.copy();
            disk.rot(&name, at);
            // What is between the blocks says nothing.
            let found = load(&disk, OWNER);
            assert!(found.is_err() || same(&found.expect("a snapshot"), &after(5, 20)), "{at}");
        }
    }

    #[test]
    fn the_snapshot_of_another_member_is_not_taken() {
        let disk = Simulated::new();
        save(&disk, Owner { cluster: 1, member: 9 }, 9, &after(5, 1)).expect("it is written");
        let error = load(&disk, OWNER).expect_err("it is another's").to_string();
        assert!(error.contains("of member 9 of cluster 1, not of member 2"), "{error}");
    }
}
