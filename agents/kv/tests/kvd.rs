//! `kvd` as its clients see it: over gRPC and over JSON, started, killed and started again.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    task::{Context, Poll},
};

use hyper::{Request, Response, body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kv::api::{
    Event, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, WatchAsk, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, body::Body, client::Grpc, codegen::Service};
use tonic_prost::ProstCodec;

/// A kvd that runs, and is killed in the end.
struct Kvd {
    child: Child,
    address: String,
}

impl Drop for Kvd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvd"));
    command.env_clear().arg("--data-dir").arg(folder);
    command.args(["--listen-client-urls", "http://127.0.0.1:0"]).args(words);
    command.stderr(Stdio::piped());
    command
}

impl Kvd {
    fn start(folder: &Path, words: &[&str]) -> Self {
        let mut child = command(folder, words).spawn().expect("kvd starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let address = loop {
            let line = lines.next().expect("it gets ready").expect("text");
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if line["msg"] == "ready to serve client requests" {
                break line["address"].as_str().expect("an address").to_owned();
            }
        };
        // What it says later is to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn request(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: kvd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it takes a request");
        stream
    }

    /// A call of the gateway: its status, and its answer.
    fn post(&self, call: &str, ask: &Value) -> (u16, Value) {
        let mut response = String::new();
        let mut stream = self.request(&format!("POST /v3/{call}"), &ask.to_string());
        stream.read_to_string(&mut response).expect("it answers");
        let (head, body) = response.split_once("\r\n\r\n").expect("a response");
        let status = head.split(' ').nth(1).and_then(|is| is.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{response}")))
    }

    /// A call that is answered well, without its header.
    fn call(&self, call: &str, ask: &Value) -> Value {
        let (status, mut answer) = self.post(call, ask);
        assert_eq!(status, 200, "{call} {ask}: {answer}");
        answer.as_object_mut().expect("an object").remove("header");
        answer
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn put(key: &str, value: &str) -> Value {
    json!({"key": base64(key), "value": base64(value)})
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = folder();
    for life in 0..4 {
        let kvd = Kvd::start(folder.path(), &[]);
        let all = json!({"key": "AA==", "range_end": "AA==", "count_only": true});
        let count = if life == 0 { json!({}) } else { json!({"count": (life * 25).to_string()}) };
        assert_eq!(kvd.call("kv/range", &all), count);
        for key in 0..25 {
            kvd.call("kv/put", &put(&format!("{life} {key}"), "value"));
        }
    }
}

#[test]
fn a_long_log_gives_way_to_a_snapshot() {
    let folder = folder();
    let words = ["--segment-bytes", "65536"];
    for life in 1..4 {
        let kvd = Kvd::start(folder.path(), &words);
        for key in 0..120 {
            kvd.call("kv/put", &put(&format!("{life} {key}"), "value"));
        }
        let lease = kvd.call("lease/grant", &json!({"TTL": "100", "ID": life.to_string()}));
        assert_eq!(lease["TTL"], "100");
        drop(kvd);
        let log = std::fs::read_dir(folder.path().join("member/log")).expect("a folder").count();
        // Without snapshots there were one for fifteen puts.
        assert!(log < 8, "{log} files");
        let kvd = Kvd::start(folder.path(), &words);
        let all = json!({"key": "AA==", "range_end": "AA==", "count_only": true});
        assert_eq!(kvd.call("kv/range", &all), json!({"count": (life * 120).to_string()}));
        let leases = kvd.call("lease/leases", &json!({}));
        assert_eq!(leases["leases"].as_array().map(Vec::len), Some(life));
    }
}

#[test]
fn the_gateway_speaks_json() {
    let folder = folder();
    let kvd = Kvd::start(folder.path(), &[]);
    assert_eq!(kvd.call("kv/put", &put("foo", "bar")), json!({}));
    let key = json!({"key": base64("foo")});
    let bar = json!({
        "key": base64("foo"), "value": base64("bar"),
        "create_revision": "2", "mod_revision": "2", "version": "1",
    });
    assert_eq!(kvd.call("kv/range", &key), json!({"kvs": [bar], "count": "1"}));
    let txn = json!({
        "compare": [{"key": base64("foo"), "target": "VALUE", "value": base64("bar")}],
        "success": [{"request_delete_range": {"key": base64("foo"), "prev_kv": true}}],
    });
    let answer = kvd.call("kv/txn", &txn);
    assert_eq!(answer["succeeded"], true);
    assert_eq!(answer["responses"][0]["response_delete_range"]["prev_kvs"], json!([bar]));
    let too_far = json!({"key": base64("foo"), "revision": "99"});
    let error = "etcdserver: mvcc: required revision is a future revision";
    let expected = json!({"error": error, "message": error, "code": 11});
    assert_eq!(kvd.post("kv/range", &too_far), (400, expected));
    let (status, answer) = kvd.post("kv/range", &json!({"key": 5}));
    assert_eq!((status, &answer["error"]), (400, &json!("key: base64 was expected, not 5")));
}

#[test]
fn a_watch_over_json_is_a_line_for_each_response() {
    let folder = folder();
    let kvd = Kvd::start(folder.path(), &[]);
    let ask = json!({"create_request": {"key": base64("foo")}});
    let mut lines = BufReader::new(kvd.request("POST /v3/watch", &ask.to_string())).lines();
    let mut next = || loop {
        let line = lines.next().expect("it goes on").expect("text");
        if line.starts_with('{') {
            break serde_json::from_str::<Value>(&line).expect("JSON")["result"].take();
        }
    };
    assert_eq!(next()["created"], true);
    kvd.call("kv/put", &put("foo", "bar"));
    assert_eq!(next()["events"][0]["kv"]["value"], json!(base64("bar")));
}

#[test]
fn without_room_nothing_is_added_until_there_is_some() {
    let folder = folder();
    let kvd = Kvd::start(folder.path(), &["--quota-backend-bytes", "20000"]);
    let value = "x".repeat(1000);
    let refused = (0..100).find_map(|_| {
        let (status, answer) = kvd.post("kv/put", &put("foo", &value));
        (status != 200).then_some((status, answer["error"].clone()))
    });
    assert_eq!(refused, Some((429, json!("etcdserver: mvcc: database space exceeded"))));
    let status = kvd.call("maintenance/status", &json!({}));
    assert!(
        status["errors"][0].as_str().is_some_and(|is| is.contains("alarm:NOSPACE")),
        "{status}"
    );
    // The versions go, and the alarm ends by itself.
    let revision = kvd.post("kv/range", &json!({"key": "AA=="})).1["header"]["revision"].clone();
    kvd.call("kv/compaction", &json!({"revision": revision, "physical": true}));
    while kvd.post("kv/put", &put("foo", "small")).0 != 200 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_compaction_to_the_end_comes_back_when_the_versions_are_gone() {
    let folder = folder();
    let kvd = Kvd::start(folder.path(), &[]);
    let size = || kvd.call("maintenance/status", &json!({}))["dbSize"].clone();
    for value in ["one", "two", "three"] {
        kvd.call("kv/put", &put("foo", value));
    }
    assert_eq!(size(), json!((3 * (256 + 3) + 11).to_string()));
    kvd.call("kv/compaction", &json!({"revision": "4", "physical": true}));
    assert_eq!(size(), json!((256 + 3 + 5).to_string()));
}

#[test]
fn a_folder_is_for_one_at_a_time() {
    let folder = folder();
    let _kvd = Kvd::start(folder.path(), &[]);
    let output = command(folder.path(), &[]).output().expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another kvd works in this folder"), "{said}");
}

#[test]
fn what_cannot_be_listened_to_is_told() {
    let folder = folder();
    let output = command(folder.path(), &["--listen-client-urls", "https://127.0.0.1:1"]).output();
    let said = String::from_utf8_lossy(&output.expect("it runs").stderr).into_owned();
    assert!(said.contains("https://127.0.0.1:1: http://ADDRESS:PORT was expected"), "{said}");
}

/// A connection of HTTP/2, as a service.
#[derive(Clone)]
struct Connection {
    sender: SendRequest<Body>,
    authority: String,
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let uri = format!("http://{}{}", self.authority, request.uri().path());
        *request.uri_mut() = uri.parse().expect("a URI");
        Box::pin(self.sender.send_request(request))
    }
}

async fn connect(kvd: &Kvd) -> Grpc<Connection> {
    let stream = tokio::net::TcpStream::connect(&kvd.address).await.expect("it listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("it speaks HTTP/2");
    tokio::spawn(connection);
    Grpc::new(Connection { sender, authority: kvd.address.clone() })
}

async fn unary<A, B>(client: &mut Grpc<Connection>, path: &'static str, ask: A) -> Result<B, Status>
where
    A: Message + Default + Send + Sync + 'static,
    B: Message + Default + Send + Sync + 'static,
{
    client.ready().await.expect("it is there");
    let path = path.parse().expect("a path");
    let codec = ProstCodec::<A, B>::default();
    Ok(client.unary(tonic::Request::new(ask), path, codec).await?.into_inner())
}

#[test]
fn grpc_clients_put_watch_and_keep_leases() {
    let folder = folder();
    let kvd = Kvd::start(folder.path(), &[]);
    Runtime::new().expect("a runtime").block_on(async {
        let mut client = connect(&kvd).await;
        let grant = LeaseGrantRequest { ttl: 60, id: 7 };
        let granted: LeaseGrantResponse =
            unary(&mut client, "/etcdserverpb.Lease/LeaseGrant", grant).await.expect("a lease");
        assert_eq!((granted.id, granted.ttl), (7, 60));
        let put =
            PutRequest { key: "foo".into(), value: "bar".into(), lease: 7, ..Default::default() };
        let done: PutResponse =
            unary(&mut client, "/etcdserverpb.KV/Put", put.clone()).await.expect("it is put");
        assert_eq!(done.header.expect("a header").revision, 2);

        let (ask, asks) = tokio::sync::mpsc::channel(1);
        client.ready().await.expect("it is there");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let path = "/etcdserverpb.Watch/Watch".parse().expect("a path");
        let asks = tonic::Request::new(ReceiverStream::new(asks));
        let create =
            WatchCreateRequest { key: "foo".into(), start_revision: 2, ..Default::default() };
        let create = WatchRequest { request_union: Some(WatchAsk::Create(create)) };
        ask.send(create).await.expect("the client listens");
        let mut heard = client.streaming(asks, path, codec).await.expect("a stream").into_inner();
        let created = heard.message().await.expect("a response").expect("it goes on");
        assert!(created.created);
        let past = heard.message().await.expect("a response").expect("it goes on");
        assert_eq!(past.events.iter().filter_map(value).collect::<Vec<_>>(), ["bar"]);

        let (ask, asks) = tokio::sync::mpsc::channel(2);
        for id in [7, 8] {
            ask.send(LeaseKeepAliveRequest { id }).await.expect("the client listens");
        }
        client.ready().await.expect("it is there");
        let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default();
        let path = "/etcdserverpb.Lease/LeaseKeepAlive".parse().expect("a path");
        let asks = tonic::Request::new(ReceiverStream::new(asks));
        let mut alive = client.streaming(asks, path, codec).await.expect("a stream").into_inner();
        for ttl in [60, 0] {
            assert_eq!(alive.message().await.expect("an answer").expect("it goes on").ttl, ttl);
        }

        let nothing: Result<RangeResponse, Status> =
            unary(&mut client, "/etcdserverpb.KV/Range", RangeRequest::default()).await;
        let status = nothing.expect_err("there is no key");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "etcdserver: key is not provided");
        let large = PutRequest { value: vec![0; 1 << 21].into(), lease: 0, ..put };
        let refused: Result<PutResponse, Status> =
            unary(&mut client, "/etcdserverpb.KV/Put", large).await;
        assert!(refused.is_err());
        let nobody: Result<PutResponse, Status> =
            unary(&mut client, "/etcdserverpb.Auth/AuthEnable", PutRequest::default()).await;
        assert_eq!(nobody.expect_err("it is not there").code(), Code::Unimplemented);
    });
}

fn value(event: &Event) -> Option<String> {
    event.kv.as_ref().map(|is| String::from_utf8_lossy(&is.value).into_owned())
}
