//! Why a request is refused, in etcd's words: clients compare the text, to the byte.

use thiserror::Error;

/// The codes of gRPC that we use, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request can never be served.
    InvalidArgument = 3,
    /// What it names is not there.
    NotFound = 5,
    /// There is too much of something.
    ResourceExhausted = 8,
    /// The state forbids it.
    FailedPrecondition = 9,
    /// It names something before the beginning or behind the end.
    OutOfRange = 11,
    /// It can be served later, or by another member.
    Unavailable = 14,
    /// Data was lost.
    DataLoss = 15,
}

/// A refusal.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// A request without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// What a put was to keep is not there; also an operation of a transaction that is none.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A value beside `ignore_value`.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease beside `ignore_lease`.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction with too many of a kind.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction that writes a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// An order that there is not.
    #[error("etcdserver: invalid sort option")]
    InvalidSort,
    /// More bytes than a request may have.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// A revision before the compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// A revision that is not there yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// The quota is used up.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The lease is there.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A lease for longer than any may last.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// Too many wait already.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// Members differ.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// The member stops.
    #[error("etcdserver: server stopped")]
    Stopped,
}

impl Refusal {
    /// The code that goes with it.
    pub fn code(self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSort
            | Self::RequestTooLarge => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::NoSpace | Self::TooManyRequests => Code::ResourceExhausted,
            Self::LeaseNotFound => Code::NotFound,
            Self::LeaseExists => Code::FailedPrecondition,
            Self::Corrupt => Code::DataLoss,
            Self::Stopped => Code::Unavailable,
        }
    }
}
