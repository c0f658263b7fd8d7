//! The state in pieces, as it is written down and sent, and put together again.

use bytes::Bytes;
use thiserror::Error;

use super::State;
use crate::{
    api::{AlarmMember, AlarmType},
    store::{KeyRange, Record, Revision, Store},
};

/// A piece. They come in the order of their numbers, the records in that of history.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Piece {
    /// What it is.
    #[prost(oneof(Kind), tags(1, 2, 3, 4, 5))]
    pub kind: Option<Kind>,
}

/// What a piece is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// The first.
    #[prost(message, tag = 1)]
    Begin(Begin),
    /// A version of a key.
    #[prost(message, tag = 2)]
    Record(RecordPiece),
    /// A lease. Its keys are those of the records.
    #[prost(message, tag = 3)]
    Lease(LeasePiece),
    /// An alarm that rings.
    #[prost(message, tag = 4)]
    Alarm(AlarmMember),
    /// The last: how many came before.
    #[prost(uint64, tag = 5)]
    End(u64),
}

/// How far the keys are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Begin {
    /// The current revision.
    #[prost(int64, tag = 1)]
    pub revision: i64,
    /// The compacted one.
    #[prost(int64, tag = 2)]
    pub compacted: i64,
}

/// A version of a key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecordPiece {
    #[prost(bytes = "bytes", tag = 1)]
    key: Bytes,
    #[prost(bytes = "bytes", tag = 2)]
    value: Bytes,
    #[prost(int64, tag = 3)]
    create_revision: i64,
    #[prost(int64, tag = 4)]
    main: i64,
    #[prost(int64, tag = 5)]
    sub: i64,
    #[prost(int64, tag = 6)]
    version: i64,
    #[prost(int64, tag = 7)]
    lease: i64,
}

/// A lease.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeasePiece {
    #[prost(int64, tag = 1)]
    id: i64,
    #[prost(int64, tag = 2)]
    ttl: i64,
    #[prost(int64, tag = 3)]
    remaining_ttl: i64,
}

/// Why pieces are no state.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Incomplete {
    /// The first piece is not the first.
    #[error("it does not begin with how far the keys are")]
    Begin,
    /// The last piece is not the last, or some are missing.
    #[error("it does not end with how many pieces there are")]
    End,
    /// A piece is none that this version knows.
    #[error("a piece of it is of a later version")]
    Unknown,
}

impl State {
    /// All of it in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let (revision, compacted) = (self.store.revision(), self.store.compacted());
        let begin = Kind::Begin(Begin { revision, compacted });
        let records = self.store.history_from(Revision::default()).map(|record| {
            Kind::Record(RecordPiece {
                key: record.key.clone(),
                value: record.value.clone(),
                create_revision: record.create_revision,
                main: record.revision.main,
                sub: record.revision.sub,
                version: record.version,
                lease: record.lease,
            })
        });
        let leases = self.leases.iter().map(|(id, lease)| {
            let (ttl, remaining_ttl) = (lease.ttl, lease.remaining_ttl);
            Kind::Lease(LeasePiece { id, ttl, remaining_ttl })
        });
        let all = std::iter::once(begin).chain(records).chain(leases);
        let mut count = 0;
        let mut all = all.chain(self.alarms().map(Kind::Alarm));
        let mut is_over = false;
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let kind = all.next().unwrap_or_else(|| {
                is_over = true;
                Kind::End(count)
            });
            count += 1;
            Some(Piece { kind: Some(kind) })
        })
    }

    /// The state that some pieces are.
    pub fn from_pieces(pieces: impl IntoIterator<Item = Piece>) -> Result<Self, Incomplete> {
        let mut pieces = pieces.into_iter();
        let Some(Piece { kind: Some(Kind::Begin(begin)) }) = pieces.next() else {
            return Err(Incomplete::Begin);
        };
        let mut state =
            Self { store: Store::rebuild(begin.revision, begin.compacted), ..Self::default() };
        for (count, piece) in (1..).zip(pieces) {
            match piece.kind.ok_or(Incomplete::Unknown)? {
                Kind::Begin(_) => return Err(Incomplete::Begin),
                Kind::Record(record) => state.store.add(record.into()),
                Kind::Lease(lease) => {
                    let granted = state.leases.grant(lease.id, lease.ttl);
                    granted.map_err(|_| Incomplete::Unknown)?;
                    state.leases.checkpoint(lease.id, lease.remaining_ttl);
                }
                Kind::Alarm(is) => {
                    let alarm = AlarmType::try_from(is.alarm).map_err(|_| Incomplete::Unknown)?;
                    state.alarms.insert((is.member_id, alarm));
                }
                Kind::End(number) if number == count => return Ok(state.with_lease_keys()),
                Kind::End(_) => return Err(Incomplete::End),
            }
        }
        Err(Incomplete::End)
    }

    fn with_lease_keys(mut self) -> Self {
        let everything = KeyRange::From(Bytes::new());
        for record in self.store.live(&everything, self.store.revision()) {
            self.leases.attach(&record.key, 0, record.lease);
        }
        self
    }
}

impl From<RecordPiece> for Record {
    fn from(piece: RecordPiece) -> Self {
        Self::new(
            &piece.key,
            &piece.value,
            piece.create_revision,
            Revision { main: piece.main, sub: piece.sub },
            piece.version,
            piece.lease,
        )
    }
}
