//! What machines ask: files of the repository, and Omaha.

use std::sync::Arc;

use hyper::{
    Method, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use jiff::{Timestamp, tz::TimeZone};
use omaha::{AppAnswer, Known, Request};

use super::{Server, method_not_allowed, unavailable};
use crate::{
    fleet::{Family, Report},
    http::{self, Answer, Ask, content, says},
    store::Busy,
    tree::{
        self, Conditions, Part,
        file::{Content, Open},
    },
};

/// Where clients of CoreOS and Flatcar ask, below the SERVER of their configuration.
const OMAHA: [&str; 2] = ["/v1/update", "/v1/update/"];

pub(super) async fn answer(server: Arc<Server>, ask: Ask) -> Answer {
    let (what, answer) = match ask.uri().path() {
        path if OMAHA.contains(&path) => {
            ("omaha", omaha(&server, ask).await.unwrap_or_else(|no| no))
        }
        _ => ("file", file(&server, &ask).await),
    };
    server.metrics.answered(what, answer.status().as_u16());
    answer
}

async fn omaha(server: &Server, ask: Ask) -> Result<Answer, Answer> {
    if ask.method() != Method::POST {
        return Err(method_not_allowed("POST"));
    }
    let text = content(ask, omaha::MAX_BYTES, &server.limits).await?;
    let request =
        Request::parse(&text).map_err(|wrong| says(StatusCode::BAD_REQUEST, wrong.to_string()))?;
    let now = Timestamp::now();
    let reports: Vec<Report> = request.apps.iter().filter_map(|app| Report::of(app, now)).collect();
    for event in reports.iter().flat_map(|report| &report.events) {
        server.metrics.event(event.kind.number(), event.result.number());
    }
    // Only what is on the disk is acknowledged.
    if !reports.is_empty() {
        server.writer.report(reports).await.map_err(|busy: Busy| {
            let mut answer = unavailable(busy);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            answer
        })?;
    }
    let offers = server.offers.read().expect("nobody panics with it").clone();
    let apps = request.apps.iter().map(|app| AppAnswer {
        id: app.id.clone(),
        known: Family::of(app).map(|_| Known {
            ping: app.ping,
            check: app.check.then(|| offers.check(app)),
            events: app.events.len(),
        }),
    });
    let time = now.to_zoned(TimeZone::UTC).time();
    let day_seconds =
        i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60 + i32::from(time.second());
    let response =
        omaha::Response { day_seconds: day_seconds.unsigned_abs(), apps: apps.collect() };
    Ok(http::of(StatusCode::OK, "text/xml; charset=utf-8", response.text()))
}

async fn file(server: &Arc<Server>, ask: &Ask) -> Answer {
    if ask.method() != Method::GET && ask.method() != Method::HEAD {
        return method_not_allowed("GET, HEAD");
    }
    let Some(path) = tree::path(ask.uri().path()) else {
        return says(StatusCode::NOT_FOUND, "there is no such file");
    };
    let (path, server) = (path.to_owned(), server.clone());
    let (headers, is_head) = (ask.headers().clone(), ask.method() == Method::HEAD);
    let read = move || match server.tree.file(&path)? {
        None => Ok(says(StatusCode::NOT_FOUND, "there is no such file")),
        Some(open) => part(open, &path, &headers, is_head),
    };
    match tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other).flatten() {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("reading a file of the repository: {error}");
            says(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read")
        }
    }
}

fn part(open: Open, path: &str, asked: &HeaderMap, is_head: bool) -> std::io::Result<Answer> {
    let header = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    let conditions = Conditions {
        if_none_match: header(header::IF_NONE_MATCH),
        if_modified_since: header(header::IF_MODIFIED_SINCE),
        if_range: header(header::IF_RANGE),
        // The protocol knows ranges of GET alone.
        range: header(header::RANGE).filter(|_| !is_head),
    };
    let facts = open.facts;
    let size = facts.size_bytes;
    let part = facts.part(&conditions);
    let (status, from, length) = match part {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Range { from, length } => (StatusCode::PARTIAL_CONTENT, from, length),
        Part::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
        Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let content = if is_head { Content::none() } else { open.content(from, length)? };
    let mut answer = Response::new(content);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value).expect("numbers, dates and words are good");
        headers.insert(name, value);
    };
    set(header::ETAG, &facts.etag());
    set(header::LAST_MODIFIED, &facts.last_modified());
    set(header::CACHE_CONTROL, tree::cache_control(path));
    set(header::ACCEPT_RANGES, "bytes");
    match part {
        Part::Whole | Part::Range { .. } => {
            let json = if path.ends_with(".json") {
                "application/json"
            } else {
                "application/octet-stream"
            };
            set(header::CONTENT_TYPE, json);
            set(header::CONTENT_LENGTH, &length.to_string());
            if let Part::Range { .. } = part {
                let last = from + length - 1;
                set(header::CONTENT_RANGE, &format!("bytes {from}-{last}/{size}"));
            }
        }
        Part::Unsatisfiable => set(header::CONTENT_RANGE, &format!("bytes */{size}")),
        Part::NotModified => {}
    }
    Ok(answer)
}
