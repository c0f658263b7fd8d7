//! The messages of etcd's v3 API, as tables of fields: number, name, type.
//!
//! The numbers and names are etcd's, so that its clients can be used; `message!` makes of each table
//! a type that `prost` encodes. They are written by hand, not generated from `.proto` files: a build
//! needs no protoc and no generator, byte strings are slices of what was received, and the same table
//! serves whatever other form a message has.
#![allow(
    missing_docs,
    reason = "the names are those of etcd's documentation, which describes them"
)]

#[macro_use]
mod message;
pub mod json;

use bytes::Bytes;

pub use message::Unknown;

message!(ResponseHeader {
    1 cluster_id: uint64,
    2 member_id: uint64,
    3 revision: int64,
    4 raft_term: uint64,
});

message!(KeyValue {
    1 key: bytes,
    2 create_revision: int64,
    3 mod_revision: int64,
    4 version: int64,
    5 value: bytes,
    6 lease: int64,
});

choice!(EventType { 0 Put = "PUT", 1 Delete = "DELETE" });

message!(Event {
    1 r#type: choice(EventType),
    2 kv: message(KeyValue),
    3 prev_kv: message(KeyValue),
});

choice!(SortOrder { 0 None = "NONE", 1 Ascend = "ASCEND", 2 Descend = "DESCEND" });
choice!(SortTarget {
    0 Key = "KEY", 1 Version = "VERSION", 2 Create = "CREATE", 3 Mod = "MOD", 4 Value = "VALUE",
});

message!(RangeRequest {
    1 key: bytes,
    2 range_end: bytes,
    3 limit: int64,
    4 revision: int64,
    5 sort_order: choice(SortOrder),
    6 sort_target: choice(SortTarget),
    7 serializable: bool,
    8 keys_only: bool,
    9 count_only: bool,
    10 min_mod_revision: int64,
    11 max_mod_revision: int64,
    12 min_create_revision: int64,
    13 max_create_revision: int64,
});

message!(RangeResponse {
    1 header: message(ResponseHeader),
    2 kvs: messages(KeyValue),
    3 more: bool,
    4 count: int64,
});

message!(PutRequest {
    1 key: bytes,
    2 value: bytes,
    3 lease: int64,
    4 prev_kv: bool,
    5 ignore_value: bool,
    6 ignore_lease: bool,
});

message!(PutResponse {
    1 header: message(ResponseHeader),
    2 prev_kv: message(KeyValue),
});

message!(DeleteRangeRequest {
    1 key: bytes,
    2 range_end: bytes,
    3 prev_kv: bool,
});

message!(DeleteRangeResponse {
    1 header: message(ResponseHeader),
    2 deleted: int64,
    3 prev_kvs: messages(KeyValue),
});

one_of!(Op {
    1 Range = "request_range": RangeRequest,
    2 Put = "request_put": PutRequest,
    3 DeleteRange = "request_delete_range": DeleteRangeRequest,
    4 Txn = "request_txn": TxnRequest,
});

message!(RequestOp {
    oneof request: Op [1 2 3 4],
});

one_of!(OpResponse {
    1 Range = "response_range": RangeResponse,
    2 Put = "response_put": PutResponse,
    3 DeleteRange = "response_delete_range": DeleteRangeResponse,
    4 Txn = "response_txn": TxnResponse,
});

message!(ResponseOp {
    oneof response: OpResponse [1 2 3 4],
});

choice!(CompareResult { 0 Equal = "EQUAL", 1 Greater = "GREATER", 2 Less = "LESS", 3 NotEqual = "NOT_EQUAL" });
choice!(CompareTarget {
    0 Version = "VERSION", 1 Create = "CREATE", 2 Mod = "MOD", 3 Value = "VALUE", 4 Lease = "LEASE",
});

one_of!(Comparand {
    4 Version = "version": int64,
    5 CreateRevision = "create_revision": int64,
    6 ModRevision = "mod_revision": int64,
    7 Value = "value": bytes,
    8 Lease = "lease": int64,
});

message!(Compare {
    1 result: choice(CompareResult),
    2 target: choice(CompareTarget),
    3 key: bytes,
    oneof target_union: Comparand [4 5 6 7 8],
    64 range_end: bytes,
});

message!(TxnRequest {
    1 compare: messages(Compare),
    2 success: messages(RequestOp),
    3 failure: messages(RequestOp),
});

message!(TxnResponse {
    1 header: message(ResponseHeader),
    2 succeeded: bool,
    3 responses: messages(ResponseOp),
});

message!(CompactionRequest {
    1 revision: int64,
    2 physical: bool,
});

message!(CompactionResponse {
    1 header: message(ResponseHeader),
});

one_of!(WatchAsk {
    1 Create = "create_request": WatchCreateRequest,
    2 Cancel = "cancel_request": WatchCancelRequest,
    3 Progress = "progress_request": WatchProgressRequest,
});

message!(WatchRequest {
    oneof request_union: WatchAsk [1 2 3],
});

choice!(FilterType { 0 NoPut = "NOPUT", 1 NoDelete = "NODELETE" });

message!(WatchCreateRequest {
    1 key: bytes,
    2 range_end: bytes,
    3 start_revision: int64,
    4 progress_notify: bool,
    5 filters: choices(FilterType),
    6 prev_kv: bool,
    7 watch_id: int64,
    8 fragment: bool,
});

message!(WatchCancelRequest {
    1 watch_id: int64,
});

message!(WatchProgressRequest {});

message!(WatchResponse {
    1 header: message(ResponseHeader),
    2 watch_id: int64,
    3 created: bool,
    4 canceled: bool,
    5 compact_revision: int64,
    6 cancel_reason: string,
    7 fragment: bool,
    11 events: messages(Event),
});

message!(LeaseGrantRequest {
    1 ttl = "TTL": int64,
    2 id = "ID": int64,
});

message!(LeaseGrantResponse {
    1 header: message(ResponseHeader),
    2 id = "ID": int64,
    3 ttl = "TTL": int64,
    4 error: string,
});

message!(LeaseRevokeRequest {
    1 id = "ID": int64,
});

message!(LeaseRevokeResponse {
    1 header: message(ResponseHeader),
});

message!(LeaseCheckpoint {
    1 id = "ID": int64,
    2 remaining_ttl = "remaining_TTL": int64,
});

message!(LeaseCheckpointRequest {
    1 checkpoints: messages(LeaseCheckpoint),
});

message!(LeaseCheckpointResponse {
    1 header: message(ResponseHeader),
});

message!(LeaseKeepAliveRequest {
    1 id = "ID": int64,
});

message!(LeaseKeepAliveResponse {
    1 header: message(ResponseHeader),
    2 id = "ID": int64,
    3 ttl = "TTL": int64,
});

message!(LeaseTimeToLiveRequest {
    1 id = "ID": int64,
    2 keys: bool,
});

message!(LeaseTimeToLiveResponse {
    1 header: message(ResponseHeader),
    2 id = "ID": int64,
    3 ttl = "TTL": int64,
    4 granted_ttl = "grantedTTL": int64,
    5 keys: byte_strings,
});

message!(LeaseLeasesRequest {});

message!(LeaseStatus {
    1 id = "ID": int64,
});

message!(LeaseLeasesResponse {
    1 header: message(ResponseHeader),
    2 leases: messages(LeaseStatus),
});

choice!(AlarmType { 0 None = "NONE", 1 NoSpace = "NOSPACE", 2 Corrupt = "CORRUPT" });
choice!(AlarmAction { 0 Get = "GET", 1 Activate = "ACTIVATE", 2 Deactivate = "DEACTIVATE" });

message!(AlarmRequest {
    1 action: choice(AlarmAction),
    2 member_id = "memberID": uint64,
    3 alarm: choice(AlarmType),
});

message!(AlarmMember {
    1 member_id = "memberID": uint64,
    2 alarm: choice(AlarmType),
});

message!(AlarmResponse {
    1 header: message(ResponseHeader),
    2 alarms: messages(AlarmMember),
});

message!(HashKvRequest {
    1 revision: int64,
});

message!(HashKvResponse {
    1 header: message(ResponseHeader),
    2 hash: uint32,
    3 compact_revision: int64,
    4 hash_revision: int64,
});

message!(DefragmentRequest {});

message!(DefragmentResponse {
    1 header: message(ResponseHeader),
});

message!(StatusRequest {});

message!(StatusResponse {
    1 header: message(ResponseHeader),
    2 version: string,
    3 db_size = "dbSize": int64,
    4 leader: uint64,
    5 raft_index = "raftIndex": uint64,
    6 raft_term = "raftTerm": uint64,
    7 raft_applied_index = "raftAppliedIndex": uint64,
    8 errors: strings,
    9 db_size_in_use = "dbSizeInUse": int64,
    10 is_learner = "isLearner": bool,
    12 db_size_quota = "dbSizeQuota": int64,
});

message!(Member {
    1 id = "ID": uint64,
    2 name: string,
    3 peer_urls = "peerURLs": strings,
    4 client_urls = "clientURLs": strings,
    5 is_learner = "isLearner": bool,
});

message!(MemberListRequest {
    1 linearizable: bool,
});

message!(MemberListResponse {
    1 header: message(ResponseHeader),
    2 members: messages(Member),
});
