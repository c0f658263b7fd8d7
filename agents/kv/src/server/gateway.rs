//! The same calls as JSON over HTTP, as etcd's gateway has them, and what tools look at: the version
//! and the health.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::body::Body;

use super::{CLUSTER_VERSION, OVERHEAD_BYTES, Server, VERSION};
use crate::{
    api::{
        AlarmType, LeaseKeepAliveRequest, WatchRequest,
        json::{Invalid, Json},
    },
    refusal::{Code, Refusal},
};

/// Why a call has no answer.
enum Failure {
    Refused(Refusal),
    Invalid(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid.to_string())
    }
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Invalid(_) => Code::InvalidArgument,
        }
    }

    fn status(&self) -> StatusCode {
        match self.code() {
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.to_string(),
            Self::Invalid(text) => text.clone(),
        }
    }
}

/// Answers a request.
pub(super) async fn answer(server: &Server, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    // Older clients have an older name for the same.
    let call = ["/v3/", "/v3beta/"].into_iter().find_map(|start| path.strip_prefix(start));
    let (allowed, name) =
        if call.is_some() { (Method::POST, "POST") } else { (Method::GET, "GET") };
    if *request.method() != allowed {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(name));
        return response;
    }
    let Some(call) = call else { return look(server, &path, request.uri().query().unwrap_or("")) };
    let most = server.options.max_request_bytes + OVERHEAD_BYTES;
    let Ok(body) = Limited::new(request.into_body(), most).collect().await else {
        return failed(&Refusal::RequestTooLarge.into());
    };
    let body = body.to_bytes();
    let asks: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_slice(&body).into_iter().collect();
    let asks = match asks {
        Ok(asks) => asks,
        Err(error) => return failed(&Failure::Invalid(error.to_string())),
    };
    match call {
        "watch" => watch(server.clone(), &asks),
        "lease/keepalive" => keep_alive(server, &asks).await,
        _ => match unary(server, call, asks.first().unwrap_or(&json!({}))).await {
            Some(Ok(response)) => reply(StatusCode::OK, &response),
            Some(Err(failure)) => failed(&failure),
            None => text(StatusCode::NOT_FOUND, "Not Found\n"),
        },
    }
}

/// A call with one answer, if there is one of that name.
async fn unary(server: &Server, call: &str, ask: &Value) -> Option<Result<Value, Failure>> {
    macro_rules! calls {
        ($($name:literal $(| $alias:literal)? => $method:ident,)*) => {
            Some(match call {
                $($name $(| $alias)? => match Json::from_json(ask) {
                    Ok(ask) => server.$method(ask).await.map(|is| is.to_json()).map_err(Failure::from),
                    Err(invalid) => Err(Failure::from(invalid)),
                },)*
                _ => return None,
            })
        };
    }
    calls! {
        "kv/range" => range,
        "kv/put" => put,
        "kv/deleterange" => delete_range,
        "kv/txn" => txn,
        "kv/compaction" => compact,
        "lease/grant" => lease_grant,
        "lease/revoke" | "kv/lease/revoke" => lease_revoke,
        "lease/timetolive" | "kv/lease/timetolive" => lease_time_to_live,
        "lease/leases" | "kv/lease/leases" => lease_leases,
        "cluster/member/list" => member_list,
        "maintenance/alarm" => alarm,
        "maintenance/status" => status,
        "maintenance/hashkv" => hash_kv,
        "maintenance/defragment" => defragment,
    }
}

async fn keep_alive(server: &Server, asks: &[Value]) -> Response<Body> {
    let mut lines = String::new();
    for ask in asks {
        let ask = match LeaseKeepAliveRequest::from_json(ask) {
            Ok(ask) => ask,
            Err(invalid) => return failed(&invalid.into()),
        };
        match server.lease_keep_alive(ask).await {
            Ok(response) => lines += &line(&response),
            Err(refusal) => return failed(&refusal.into()),
        }
    }
    with(StatusCode::OK, Body::new(Full::from(lines)))
}

/// Tells what a client watches, a line each, until it goes.
fn watch(server: Server, asks: &[Value]) -> Response<Body> {
    let asks: Result<Vec<WatchRequest>, Invalid> = asks.iter().map(Json::from_json).collect();
    let asks = match asks {
        Ok(asks) => asks,
        Err(invalid) => return failed(&invalid.into()),
    };
    let (ask, asked) = mpsc::channel(1);
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        let send = async move {
            for request in asks {
                if ask.send(request).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(server.watch(asked, tell), send);
    });
    let frame = |response| Ok::<_, Infallible>(Frame::data(Bytes::from(line(&response))));
    with(StatusCode::OK, Body::new(StreamBody::new(ReceiverStream::new(told).map(frame))))
}

/// What tools look at.
fn look(server: &Server, path: &str, query: &str) -> Response<Body> {
    match path {
        "/version" => {
            let version = json!({"etcdserver": VERSION, "etcdcluster": CLUSTER_VERSION});
            reply(StatusCode::OK, &version)
        }
        "/health" => {
            let excluded: Vec<&str> =
                query.split('&').filter_map(|is| is.strip_prefix("exclude=")).collect();
            let state = server.member.view().state;
            let ringing = state.alarms().find_map(|is| {
                let name = AlarmType::try_from(is.alarm).ok()?.name();
                (!excluded.contains(&name)).then_some(name)
            });
            match ringing {
                None => reply(StatusCode::OK, &json!({"health": "true", "reason": ""})),
                Some(name) => {
                    let health = json!({"health": "false", "reason": format!("ALARM {name}")});
                    reply(StatusCode::SERVICE_UNAVAILABLE, &health)
                }
            }
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn line(response: &impl Json) -> String {
    format!("{}\n", json!({"result": response.to_json()}))
}

fn failed(failure: &Failure) -> Response<Body> {
    let (code, message) = (failure.code() as i32, failure.text());
    reply(failure.status(), &json!({"error": message, "code": code, "message": message}))
}

fn reply(status: StatusCode, json: &Value) -> Response<Body> {
    with(status, Body::new(Full::from(json.to_string())))
}

fn with(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = with(status, Body::new(Full::from(text)));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
