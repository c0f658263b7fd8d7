//! The calls of gRPC, by their paths.

use std::{
    future::{Future, Ready, ready},
    marker::PhantomData,
    pin::Pin,
};

use hyper::{Request, Response, body::Incoming};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    body::Body,
    server::{Grpc, StreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{OVERHEAD_BYTES, Server};
use crate::{
    api::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, WatchRequest, WatchResponse},
    refusal::Refusal,
};

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::from(refusal.code() as i32), refusal.to_string())
    }
}

/// Answers the call that a request is.
pub(super) async fn answer(server: &Server, request: Request<Incoming>) -> Response<Body> {
    macro_rules! unary {
        ($method:ident) => {
            unary(server, request, |server, ask| async move { server.$method(ask).await }).await
        };
    }
    match request.uri().path() {
        "/etcdserverpb.KV/Range" => unary!(range),
        "/etcdserverpb.KV/Put" => unary!(put),
        "/etcdserverpb.KV/DeleteRange" => unary!(delete_range),
        "/etcdserverpb.KV/Txn" => unary!(txn),
        "/etcdserverpb.KV/Compact" => unary!(compact),
        "/etcdserverpb.Lease/LeaseGrant" => unary!(lease_grant),
        "/etcdserverpb.Lease/LeaseRevoke" => unary!(lease_revoke),
        "/etcdserverpb.Lease/LeaseTimeToLive" => unary!(lease_time_to_live),
        "/etcdserverpb.Lease/LeaseLeases" => unary!(lease_leases),
        "/etcdserverpb.Cluster/MemberList" => unary!(member_list),
        "/etcdserverpb.Maintenance/Alarm" => unary!(alarm),
        "/etcdserverpb.Maintenance/Status" => unary!(status),
        "/etcdserverpb.Maintenance/HashKV" => unary!(hash_kv),
        "/etcdserverpb.Maintenance/Defragment" => unary!(defragment),
        "/etcdserverpb.Lease/LeaseKeepAlive" => streaming(server, request, keep_alive).await,
        "/etcdserverpb.Watch/Watch" => streaming(server, request, watch).await,
        path => Status::unimplemented(format!("unknown method {path}")).into_http(),
    }
}

type Hears<T> = mpsc::Sender<Result<T, Status>>;

async fn keep_alive(
    server: Server,
    mut asks: Streaming<LeaseKeepAliveRequest>,
    hears: Hears<LeaseKeepAliveResponse>,
) {
    while let Ok(Some(ask)) = asks.message().await {
        let answer = server.lease_keep_alive(ask).await.map_err(Status::from);
        let is_last = answer.is_err();
        if hears.send(answer).await.is_err() || is_last {
            return;
        }
    }
}

async fn watch(server: Server, mut asks: Streaming<WatchRequest>, hears: Hears<WatchResponse>) {
    let (ask, asked) = mpsc::channel(1);
    let (tell, mut told) = mpsc::channel(1);
    let listen = async {
        while let Ok(Some(request)) = asks.message().await {
            if ask.send(request).await.is_err() {
                return;
            }
        }
    };
    let speak = async {
        while let Some(response) = told.recv().await {
            if hears.send(Ok(response)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = server.watch(asked, tell) => {}
        () = speak => {}
        // A client that has said all is gone.
        () = listen => {}
    }
}

fn codec<A, B>(server: &Server) -> Grpc<ProstCodec<B, A>>
where
    A: Message + Default + Send + 'static,
    B: Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(server.options.max_request_bytes + OVERHEAD_BYTES)
        .max_encoding_message_size(usize::MAX)
}

/// A call with one answer.
async fn unary<A, B, F, R>(server: &Server, request: Request<Incoming>, call: F) -> Response<Body>
where
    A: Message + Default + Send + 'static,
    B: Message + Default + Send + 'static,
    F: Fn(Server, A) -> R + Send,
    R: Future<Output = Result<B, Refusal>> + Send + 'static,
{
    let call = Unary { server: server.clone(), call };
    codec(server).unary(call, request).await
}

struct Unary<F> {
    server: Server,
    call: F,
}

impl<A, B, F, R> UnaryService<A> for Unary<F>
where
    F: Fn(Server, A) -> R,
    R: Future<Output = Result<B, Refusal>> + Send + 'static,
{
    type Response = B;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<B>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<A>) -> Self::Future {
        let answer = (self.call)(self.server.clone(), request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answer.await?)) })
    }
}

/// A call that goes on in both directions.
async fn streaming<A, B, F, R>(
    server: &Server,
    request: Request<Incoming>,
    call: F,
) -> Response<Body>
where
    A: Message + Default + Send + 'static,
    B: Message + Default + Send + 'static,
    F: Fn(Server, Streaming<A>, Hears<B>) -> R + Send,
    R: Future<Output = ()> + Send + 'static,
{
    let call = Both { server: server.clone(), call, hears: PhantomData };
    codec(server).streaming(call, request).await
}

struct Both<F, B> {
    server: Server,
    call: F,
    hears: PhantomData<fn(B)>,
}

impl<A, B, F, R> StreamingService<A> for Both<F, B>
where
    B: Send + 'static,
    F: Fn(Server, Streaming<A>, Hears<B>) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    type Response = B;
    type ResponseStream = ReceiverStream<Result<B, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<A>>) -> Self::Future {
        // One answer waits at the most: the rest stays where it is until the client takes it.
        let (hears, heard) = mpsc::channel(1);
        tokio::spawn((self.call)(self.server.clone(), request.into_inner(), hears));
        ready(Ok(tonic::Response::new(ReceiverStream::new(heard))))
    }
}
