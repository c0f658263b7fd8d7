//! Connections: so many, each with an end to every wait. What is asked is somebody else's matter.

mod patient;

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};

use self::patient::Patient;
use crate::{metrics::Metrics, tree::file::Content};

/// A question.
pub type Ask = Request<Incoming>;
/// What is answered.
pub type Answer = Response<Content>;

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// As many are open at once; the next one waits until one ends.
    pub connections: usize,
    /// A client that does not get a question through in that time goes; so does one that asks
    /// nothing more.
    pub head: Duration,
    /// A client that takes nothing for so long goes.
    pub stall: Duration,
    /// After that, a connection ends with the answer that is under way; after as much again, with
    /// nothing. A client that takes a byte now and then would stay for ever.
    pub age: Duration,
    /// When the server ends, answers that are under way may take so long.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            age: Duration::from_secs(60 * 60),
            farewell: Duration::from_secs(10),
        }
    }
}

/// Answers until `end` says so, and then what is under way.
pub async fn listen<H, F>(
    listener: TcpListener,
    handler: H,
    limits: Limits,
    metrics: Arc<Metrics>,
    mut end: watch::Receiver<bool>,
) where
    H: Fn(Ask) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let taken = async {
            let place = places.clone().acquire_owned().await.expect("it is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            taken = taken => taken,
            _ = end.wait_for(|end| *end) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of files, for example. It passes.
                eprintln!("taking a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (handler, metrics, end) = (handler.clone(), metrics.clone(), end.clone());
        tokio::spawn(async move {
            metrics.opened.add(1);
            // Whoever breaks off has reasons of his own.
            let _ = connection(stream, handler, limits, end).await;
            metrics.closed.add(1);
            drop(place);
        });
    }
    drop(listener);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(limits.farewell, places.acquire_many(all)).await;
}

async fn connection<H, F>(
    stream: TcpStream,
    handler: H,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) -> Result<(), hyper::Error>
where
    H: Fn(Ask) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    // What is answered is written whole: there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |ask| {
        let answer = handler(ask);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(64)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.stall)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        _ = end.wait_for(|end| *end) => {}
        () = tokio::time::sleep(limits.age) => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(limits.age, connection).await.unwrap_or(Ok(()))
}

/// A text that says how it went.
pub fn says(status: StatusCode, text: impl Into<String>) -> Answer {
    of(status, "text/plain; charset=utf-8", text.into() + "\n")
}

/// A text of some kind.
pub fn of(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Content::text(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// What a question brings along, if that is little and comes soon.
pub async fn content(ask: Ask, max_bytes: usize, limits: &Limits) -> Result<Bytes, Answer> {
    let content = Limited::new(ask.into_body(), max_bytes).collect();
    match timeout(limits.head, content).await {
        Ok(Ok(content)) => Ok(content.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let why = format!("at most {max_bytes} bytes are read");
            Err(says(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Ok(Err(error)) => Err(says(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => Err(says(StatusCode::REQUEST_TIMEOUT, "the content did not come")),
    }
}

/// As many files as the system allows: each connection is one.
pub fn raise_files() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}
