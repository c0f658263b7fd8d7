//! What clients can ask of a member: each call checked, done, and answered with who answers.

mod gateway;
mod grpc;

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc};
use tonic::body::Body;

use crate::{
    api::{
        self, AlarmAction, AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse,
        DefragmentRequest, DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse,
        HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse,
        LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
        LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, MemberListRequest, MemberListResponse, PutRequest, PutResponse,
        RangeRequest, RangeResponse, ResponseHeader, StatusRequest, StatusResponse, TxnRequest,
        TxnResponse, WatchRequest, WatchResponse,
    },
    member::{Member, View},
    refusal::Refusal,
    request,
    state::{Answer, Ask},
    watch::Next,
};

/// The version of etcd that a client finds: what it may expect, not what this is.
pub const VERSION: &str = "3.5.16";
const CLUSTER_VERSION: &str = "3.5.0";

/// What a message may have beside the request in it.
const OVERHEAD_BYTES: usize = 512 << 10;

/// What a server is told about itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the member is called.
    pub name: String,
    /// Where clients find it.
    pub client_urls: Vec<String>,
    /// How large a request may be.
    pub max_request_bytes: usize,
    /// How many operations a transaction may have.
    pub max_txn_ops: usize,
    /// How short a lease may be, in seconds.
    pub min_ttl: i64,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    member: Member,
    options: Arc<Options>,
}

/// The answer of a command is of the kind of the command.
macro_rules! done {
    ($self:ident, $kind:ident($request:expr)) => {{
        let mut response = match $self.ask(Ask::$kind($request)).await? {
            Answer::$kind(response) => response,
            other => panic!("{other:?} is no answer to this"),
        };
        $self.sign(&mut response.header, &$self.member.view());
        response
    }};
}

impl Server {
    /// A server for a member.
    pub fn new(member: Member, options: Options) -> Self {
        Self { member, options: Arc::new(options) }
    }

    /// Serves whoever connects, in both protocols, for ever.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many files are open, say: what is open goes on, and some of it ends.
                    eprintln!("kvd: accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Small answers are not to wait for more.
            let _ = stream.set_nodelay(true);
            let server = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let connection = auto::Builder::new(TokioExecutor::new());
                // A client that goes is no event.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let kind = request.headers().get(hyper::header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc {
            grpc::answer(self, request).await
        } else {
            gateway::answer(self, request).await
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Refusal> {
        let size = match &ask {
            Ask::Put(request) => request.encoded_len(),
            Ask::Txn(request) => request.encoded_len(),
            Ask::DeleteRange(request) => request.encoded_len(),
            _ => 0,
        };
        if size > self.options.max_request_bytes {
            return Err(Refusal::RequestTooLarge);
        }
        self.member.ask(ask).await
    }

    /// Says who answers, and at what revision if the answer has not said it.
    fn sign(&self, header: &mut Option<ResponseHeader>, view: &View) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.member.owner().cluster;
        header.member_id = self.member.owner().member;
        header.raft_term = view.standing.term;
        if header.revision == 0 {
            header.revision = view.state.store().revision();
        }
    }

    fn header(&self, view: &View) -> Option<ResponseHeader> {
        let mut header = None;
        self.sign(&mut header, view);
        header
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Refusal> {
        request::check_range(&request)?;
        let view = self.member.view();
        let mut response = view.state.range(&request)?;
        self.sign(&mut response.header, &view);
        Ok(response)
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, Refusal> {
        request::check_put(&request)?;
        self.member.check_room(request::put_cost(&request)).await?;
        Ok(done!(self, Put(request)))
    }

    async fn delete_range(&self, ask: DeleteRangeRequest) -> Result<DeleteRangeResponse, Refusal> {
        request::check_delete(&ask)?;
        Ok(done!(self, DeleteRange(ask)))
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Refusal> {
        request::check_txn(&request, self.options.max_txn_ops)?;
        if request::is_read_only(&request) {
            let view = self.member.view();
            let mut response = view.state.read(&request)?;
            self.sign(&mut response.header, &view);
            return Ok(response);
        }
        self.member.check_room(request::txn_cost(&request)).await?;
        Ok(done!(self, Txn(request)))
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Refusal> {
        let is_physical = request.physical;
        let response = done!(self, Compaction(request));
        while is_physical && self.member.view().state.store().is_sweeping() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(response)
    }

    async fn lease_grant(&self, mut ask: LeaseGrantRequest) -> Result<LeaseGrantResponse, Refusal> {
        self.member.check_room(request::LEASE_BYTES).await?;
        if ask.id == 0 {
            ask.id = self.member.new_lease();
        }
        ask.ttl = ask.ttl.max(self.options.min_ttl);
        Ok(done!(self, LeaseGrant(ask)))
    }

    async fn lease_revoke(&self, ask: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Refusal> {
        Ok(done!(self, LeaseRevoke(ask)))
    }

    async fn lease_keep_alive(
        &self,
        ask: LeaseKeepAliveRequest,
    ) -> Result<LeaseKeepAliveResponse, Refusal> {
        // The revision is one of before, so that the lease was there then.
        let header = self.header(&self.member.view());
        let ttl = self.member.renew(ask.id).await?;
        Ok(LeaseKeepAliveResponse { header, id: ask.id, ttl })
    }

    async fn lease_time_to_live(
        &self,
        ask: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Refusal> {
        let view = self.member.view();
        let mut response = LeaseTimeToLiveResponse {
            header: self.header(&view),
            id: ask.id,
            ttl: -1,
            ..LeaseTimeToLiveResponse::default()
        };
        let left = self.member.remaining(ask.id);
        if let (Some(lease), Some(left)) = (view.state.leases().get(ask.id), left) {
            response.ttl = left.as_secs() as i64;
            response.granted_ttl = lease.ttl;
            response.keys = lease.keys.iter().filter(|_| ask.keys).cloned().collect();
        }
        Ok(response)
    }

    async fn lease_leases(&self, _: LeaseLeasesRequest) -> Result<LeaseLeasesResponse, Refusal> {
        let view = self.member.view();
        let leases = view.state.leases().iter().map(|(id, _)| LeaseStatus { id }).collect();
        Ok(LeaseLeasesResponse { header: self.header(&view), leases })
    }

    async fn member_list(&self, _: MemberListRequest) -> Result<MemberListResponse, Refusal> {
        let member = api::Member {
            id: self.member.owner().member,
            name: self.options.name.clone(),
            client_urls: self.options.client_urls.clone(),
            ..api::Member::default()
        };
        let header = self.header(&self.member.view());
        Ok(MemberListResponse { header, members: vec![member] })
    }

    async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Refusal> {
        if request.action == AlarmAction::Get as i32 {
            let view = self.member.view();
            let Answer::Alarm(mut response) = view.state.clone().apply(Ask::Alarm(request))? else {
                panic!("the answer is about alarms");
            };
            self.sign(&mut response.header, &view);
            return Ok(response);
        }
        Ok(done!(self, Alarm(request)))
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse, Refusal> {
        let view = self.member.view();
        let size = view.state.size_bytes() as i64;
        let alarms = view.state.alarms().map(|is| {
            let name = api::AlarmType::try_from(is.alarm).map_or("", |alarm| alarm.name());
            format!("memberID:{} alarm:{name} ", is.member_id)
        });
        Ok(StatusResponse {
            header: self.header(&view),
            version: VERSION.to_owned(),
            db_size: size,
            leader: view.standing.leader,
            raft_index: view.standing.index,
            raft_term: view.standing.term,
            raft_applied_index: view.standing.index,
            errors: alarms.collect(),
            db_size_in_use: size,
            is_learner: false,
            db_size_quota: self.member.limits().quota_bytes,
        })
    }

    async fn hash_kv(&self, request: HashKvRequest) -> Result<HashKvResponse, Refusal> {
        let view = self.member.view();
        let hash = view.state.store().hash(request.revision)?;
        Ok(HashKvResponse {
            header: self.header(&view),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.revision,
        })
    }

    /// There is no file with holes in it, so there is nothing to do.
    async fn defragment(&self, _: DefragmentRequest) -> Result<DefragmentResponse, Refusal> {
        Ok(DefragmentResponse { header: self.header(&self.member.view()) })
    }

    /// Serves the watches of a client: what it asks comes in, what it is to hear goes out, one at a
    /// time, as it takes it.
    async fn watch(
        &self,
        mut asks: mpsc::Receiver<WatchRequest>,
        hears: mpsc::Sender<WatchResponse>,
    ) {
        let jitter = self.member.limits().progress_every / 10;
        let jitter = jitter.mul_f64(f64::from(random_share()));
        let stream = self.member.open_stream(jitter);
        let mut asks_on = true;
        loop {
            match stream.poll() {
                Next::Response(mut response) => {
                    self.sign(&mut response.header, &self.member.view());
                    if hears.send(response).await.is_err() {
                        return;
                    }
                }
                Next::Further => tokio::task::yield_now().await,
                Next::Nothing => tokio::select! {
                    () = stream.changed() => {}
                    () = hears.closed() => return,
                    ask = asks.recv(), if asks_on => match ask {
                        Some(ask) => stream.ask(ask),
                        // It may still want to hear.
                        None => asks_on = false,
                    },
                },
            }
        }
    }
}

/// A share of something, by chance.
fn random_share() -> f32 {
    let number = getrandom::u32().unwrap_or_default();
    (number >> 8) as f32 / (1 << 24) as f32
}
