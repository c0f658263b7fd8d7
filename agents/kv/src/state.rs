//! What the members of a cluster agree on: keys, leases and alarms, and how a command changes them.
//!
//! The same commands in the same order make the same state and the same answers, whoever applies
//! them. What only one member can know (the time, its own name, a random number, whether there is
//! room) is in the command, or stays out.

pub mod piece;
#[cfg(test)]
pub(crate) mod tests;
mod txn;

use bytes::Bytes;
use imbl::OrdSet;

use crate::{
    api::{
        AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest,
        CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseCheckpointRequest,
        LeaseCheckpointResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
        LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
        TxnRequest, TxnResponse,
    },
    lease::Leases,
    refusal::Refusal,
    request,
    store::{KeyRange, Store},
};
use txn::Txn;

/// A command, as members send it to each other and keep it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// The member that was asked.
    #[prost(uint64, tag = 1)]
    pub member: u64,
    /// Its number for the request.
    #[prost(uint64, tag = 2)]
    pub number: u64,
    /// What is to be done.
    #[prost(oneof(Ask), tags(3, 4, 5, 6, 7, 8, 9, 10))]
    pub ask: Option<Ask>,
}

/// What is to be done.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ask {
    /// Put a key.
    #[prost(message, tag = 3)]
    Put(PutRequest),
    /// Delete keys.
    #[prost(message, tag = 4)]
    DeleteRange(DeleteRangeRequest),
    /// A transaction.
    #[prost(message, tag = 5)]
    Txn(TxnRequest),
    /// Forget what was before a revision.
    #[prost(message, tag = 6)]
    Compaction(CompactionRequest),
    /// Make a lease.
    #[prost(message, tag = 7)]
    LeaseGrant(LeaseGrantRequest),
    /// End a lease.
    #[prost(message, tag = 8)]
    LeaseRevoke(LeaseRevokeRequest),
    /// Note how long leases have left.
    #[prost(message, tag = 9)]
    LeaseCheckpoint(LeaseCheckpointRequest),
    /// Ring an alarm, or end it.
    #[prost(message, tag = 10)]
    Alarm(AlarmRequest),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of a put.
    Put(PutResponse),
    /// Of a deletion.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a compaction.
    Compaction(CompactionResponse),
    /// Of a new lease.
    LeaseGrant(LeaseGrantResponse),
    /// Of the end of a lease.
    LeaseRevoke(LeaseRevokeResponse),
    /// Of a note about leases.
    LeaseCheckpoint(LeaseCheckpointResponse),
    /// Of an alarm.
    Alarm(AlarmResponse),
}

/// The state. A copy costs a few pointers.
#[derive(Clone, Debug, Default)]
pub struct State {
    store: Store,
    leases: Leases,
    alarms: OrdSet<(u64, AlarmType)>,
}

impl State {
    /// The keys.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The alarms that ring.
    pub fn alarms(&self) -> impl Iterator<Item = AlarmMember> {
        self.alarms
            .iter()
            .map(|(member_id, alarm)| AlarmMember { member_id: *member_id, alarm: *alarm as i32 })
    }

    /// What all counts against the quota.
    pub fn size_bytes(&self) -> u64 {
        self.store.size_bytes() + request::LEASE_BYTES * self.leases.len() as u64
    }

    /// Reads a range.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.check_whole()?;
        self.store.range(request)
    }

    /// A transaction that only reads.
    pub fn read(&self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        self.check_whole()?;
        // What a copy is changed by is nobody's.
        self.clone().txn(request)
    }

    /// Goes on with a compaction, record by record, and tells whether there is more to do. No answer
    /// depends on it but the size.
    pub fn sweep(&mut self, records: usize) -> bool {
        self.store.sweep(records)
    }

    /// Does what a command says. A command that is refused has changed nothing.
    pub fn apply(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        self.check_alarms(&ask)?;
        Ok(match ask {
            Ask::Put(request) => Answer::Put(self.put(&request)?),
            Ask::DeleteRange(request) => Answer::DeleteRange(self.delete_range(&request)),
            Ask::Txn(request) => Answer::Txn(self.txn(&request)?),
            Ask::Compaction(request) => {
                self.store.compact(request.revision)?;
                Answer::Compaction(CompactionResponse { header: self.header() })
            }
            Ask::LeaseGrant(request) => {
                self.leases.grant(request.id, request.ttl)?;
                let (header, id, ttl) = (self.header(), request.id, request.ttl);
                Answer::LeaseGrant(LeaseGrantResponse { header, id, ttl, error: String::new() })
            }
            Ask::LeaseRevoke(request) => {
                self.revoke(request.id)?;
                Answer::LeaseRevoke(LeaseRevokeResponse { header: self.header() })
            }
            Ask::LeaseCheckpoint(request) => {
                for note in request.checkpoints {
                    self.leases.checkpoint(note.id, note.remaining_ttl);
                }
                Answer::LeaseCheckpoint(LeaseCheckpointResponse { header: self.header() })
            }
            Ask::Alarm(request) => Answer::Alarm(self.alarm(&request)),
        })
    }

    /// While members differ, nothing is read or changed; while there is no room, nothing is added.
    fn check_alarms(&self, ask: &Ask) -> Result<(), Refusal> {
        let adds = match ask {
            Ask::Alarm(_) | Ask::LeaseCheckpoint(_) => return Ok(()),
            Ask::Put(_) | Ask::LeaseGrant(_) => true,
            Ask::Txn(txn) => request::txn_cost(txn) > 0,
            Ask::DeleteRange(_) | Ask::Compaction(_) | Ask::LeaseRevoke(_) => false,
        };
        self.check_whole()?;
        if adds && self.rings(AlarmType::NoSpace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), Refusal> {
        if self.rings(AlarmType::Corrupt) { Err(Refusal::Corrupt) } else { Ok(()) }
    }

    fn rings(&self, alarm: AlarmType) -> bool {
        self.alarms.iter().any(|(_, rings)| *rings == alarm)
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        self.check_lease(request)?;
        self.check_kept(request)?;
        let mut txn = Txn::begin(&mut self.store, &mut self.leases);
        let response = txn.put(request);
        txn.finish();
        Ok(response)
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut txn = Txn::begin(&mut self.store, &mut self.leases);
        let response = txn.delete_range(request);
        txn.finish();
        response
    }

    fn revoke(&mut self, id: i64) -> Result<(), Refusal> {
        let keys: OrdSet<Bytes> = self.leases.revoke(id)?;
        let mut writer = self.store.write();
        for key in keys {
            writer.delete(&KeyRange::One(key));
        }
        writer.finish();
        Ok(())
    }

    fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let mut response = AlarmResponse { header: self.header(), alarms: Vec::new() };
        let Ok(action) = AlarmAction::try_from(request.action) else { return response };
        let Ok(alarm) = AlarmType::try_from(request.alarm) else { return response };
        let one = (request.member_id, alarm);
        let changed = match action {
            AlarmAction::Get => {
                let asked = |of: &AlarmMember| alarm == AlarmType::None || of.alarm == alarm as i32;
                response.alarms = self.alarms().filter(asked).collect();
                false
            }
            AlarmAction::Activate if alarm == AlarmType::None => false,
            AlarmAction::Activate => {
                self.alarms.insert(one);
                true
            }
            AlarmAction::Deactivate => self.alarms.remove(&one).is_some(),
        };
        if changed {
            response.alarms.push(AlarmMember { member_id: one.0, alarm: request.alarm });
        }
        response
    }

    /// Whether the lease of a put is there.
    fn check_lease(&self, request: &PutRequest) -> Result<(), Refusal> {
        if request.lease != 0 && self.leases.get(request.lease).is_none() {
            return Err(Refusal::LeaseNotFound);
        }
        Ok(())
    }

    /// Whether what a put keeps of its key is there.
    fn check_kept(&self, request: &PutRequest) -> Result<(), Refusal> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.store.get(&request.key, self.store.revision()).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    fn header(&self) -> Option<ResponseHeader> {
        header(self.store.revision())
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}
