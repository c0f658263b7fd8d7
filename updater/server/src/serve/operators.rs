//! What operators ask: the page, what scripts read, and changes, which need the token.

#![expect(clippy::result_large_err, reason = "a refusal is an answer, and is made once")]

use std::{net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use jiff::Timestamp;
use payload::request::{Fate, Request, Wish};
use serde::Serialize;

use super::{Server, method_not_allowed, unavailable};
use crate::{
    form::{self, Fields},
    http::{self, Answer, Ask, content, says},
    overview::Asked,
    page::{self, Changes},
    store::{Busy, Reader, StoreError, Which},
};

/// A form has a reason in it, and a token.
const MAX_BYTES: usize = 16 << 10;
const LISTED: u32 = 1000;
/// Whoever says a wrong token waits so long, and all who do wait for each other.
const WRONG: Duration = Duration::from_secs(1);
/// Nothing but our own files, and nobody may put the page into his.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

pub(super) async fn answer(server: Arc<Server>, ask: Ask) -> Answer {
    let mut answer = match is_for_us(&server, ask.headers()) {
        Ok(()) => route(&server, ask).await.unwrap_or_else(|no| no),
        Err(no) => no,
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With none at all, a browser does not say whose form it sends, not even ours.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    server.metrics.answered("operators", answer.status().as_u16());
    answer
}

async fn route(server: &Arc<Server>, ask: Ask) -> Result<Answer, Answer> {
    let path = ask.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let query = Fields::read(ask.uri().query().unwrap_or_default().as_bytes());
    let post = match segments.as_slice() {
        ["requests"] | ["api", "requests", _] => true,
        ["api", "requests"] => *ask.method() == Method::POST,
        _ => false,
    };
    match (post, ask.method()) {
        (true, &Method::POST) => {}
        (true, _) => return Err(method_not_allowed("POST")),
        (false, &Method::GET | &Method::HEAD) => {}
        (false, _) => return Err(method_not_allowed("GET, HEAD")),
    }
    match segments.as_slice() {
        [""] => {
            let said = Some(query.get("asked")).filter(|name| is_name(name)).map(asked_for);
            html(
                read(server, |server| server.overview())
                    .await
                    .map(|overview| page::whole(&overview, server.changes(), said.as_deref())),
            )
        }
        ["live"] => {
            let overview = read(server, |server| server.overview()).await;
            html(overview.map(|overview| page::live(&overview, server.changes())))
        }
        ["machines"] => {
            let which = which(&query);
            let asked = which.clone();
            let found = reading(server, move |reader| reader.machines(&asked, page::LISTED)).await;
            html(found.map(|found| page::machines(&which, &found)))
        }
        ["machines", machine] => {
            let (name, machine) = ((*machine).to_owned(), (*machine).to_owned());
            let found = reading(server, move |reader| reader.events(&machine, LISTED)).await;
            html(found.map(|found| page::events(&name, &found)))
        }
        ["style.css"] => Ok(http::of(StatusCode::OK, "text/css; charset=utf-8", page::STYLE)),
        ["script.js"] => {
            Ok(http::of(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT))
        }
        ["metrics"] => {
            let overview = read(server, |server| server.overview()).await?;
            let text = server.metrics.text(&overview, server.writer.waiting());
            Ok(http::of(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
        }
        ["api", "fleet"] => json(&read(server, |server| server.overview()).await?),
        ["api", "machines"] => {
            let which = which(&query);
            json(&reading(server, move |reader| reader.machines(&which, LISTED)).await?)
        }
        ["api", "requests"] if !post => {
            let found = reading(server, |reader| reader.requests(LISTED)).await?;
            json(&found.into_iter().map(Asked::from).collect::<Vec<_>>())
        }
        ["requests"] => asked_by_form(server, ask).await,
        ["api", "requests"] => asked_by_program(server, ask).await,
        ["api", "requests", number] => {
            let number = number.parse().map_err(|_| nothing())?;
            settled(server, ask, number).await
        }
        _ => Err(nothing()),
    }
}

async fn asked_by_form(server: &Arc<Server>, ask: Ask) -> Result<Answer, Answer> {
    is_ours(ask.headers())?;
    let fields = Fields::read(&content(ask, MAX_BYTES, &server.limits).await?);
    server.check_token(fields.get("token")).await?;
    let catalog = server.catalog();
    let wish = match fields.wish(&catalog, Timestamp::now()) {
        Ok(wish) => wish,
        Err(why) => {
            let overview = read(server, |server| server.overview()).await?;
            let page = page::whole(&overview, server.changes(), Some(&why));
            return Ok(http::of(StatusCode::BAD_REQUEST, "text/html; charset=utf-8", page));
        }
    };
    let request = server.ask(wish).await?;
    let mut answer = says(StatusCode::SEE_OTHER, asked_for(&request.name()));
    let place = HeaderValue::from_str(&format!("/?asked={}", request.name()));
    answer.headers_mut().insert(header::LOCATION, place.expect("digits are good"));
    Ok(answer)
}

async fn asked_by_program(server: &Arc<Server>, ask: Ask) -> Result<Answer, Answer> {
    server.check_bearer(ask.headers()).await?;
    let text = content(ask, MAX_BYTES, &server.limits).await?;
    let bad = |why: String| says(StatusCode::BAD_REQUEST, why);
    let wish: Wish = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    form::check(&wish, &server.catalog()).map_err(bad)?;
    let request = server.ask(wish).await?;
    let mut answer = json(&Asked::from(request))?;
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

async fn settled(server: &Arc<Server>, ask: Ask, number: u64) -> Result<Answer, Answer> {
    server.check_bearer(ask.headers()).await?;
    let text = content(ask, MAX_BYTES, &server.limits).await?;
    let fate: Fate = serde_json::from_slice(&text)
        .map_err(|error| says(StatusCode::BAD_REQUEST, error.to_string()))?;
    if fate == Fate::Waiting {
        return Err(says(StatusCode::BAD_REQUEST, "it waits as it is"));
    }
    match server.writer.settle(number, fate).await {
        Ok(()) => Ok(says(StatusCode::OK, "kept")),
        Err(busy @ Busy::NotWaiting(_)) => Err(says(StatusCode::CONFLICT, busy.to_string())),
        Err(busy @ (Busy::Full | Busy::Failed(_) | Busy::Ending)) => Err(unavailable(busy)),
    }
}

impl Server {
    fn changes(&self) -> Changes {
        if self.token.is_some() { Changes::WithToken } else { Changes::Never }
    }

    async fn ask(&self, wish: Wish) -> Result<Request, Answer> {
        let request = self.writer.ask(Timestamp::now(), wish).await.map_err(unavailable)?;
        eprintln!("asked for: {} ({})", request.wish, request.name());
        Ok(request)
    }

    async fn check_bearer(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let word = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.check_token(word.and_then(|word| word.strip_prefix("Bearer ")).unwrap_or_default())
            .await
    }

    async fn check_token(&self, said: &str) -> Result<(), Answer> {
        let Some(token) = &self.token else {
            let why = "this server was started without --token: nothing can be asked for";
            return Err(says(StatusCode::FORBIDDEN, why));
        };
        if token.is(said) {
            return Ok(());
        }
        let _one_after_the_other = self.wrong_token.lock().await;
        tokio::time::sleep(WRONG).await;
        eprintln!("somebody said a wrong token");
        Err(says(StatusCode::FORBIDDEN, "the token is wrong"))
    }
}

/// A page elsewhere cannot send our form, and need not know the token to try.
fn is_ours(headers: &HeaderMap) -> Result<(), Answer> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = value("host").unwrap_or_default();
    let origin = value("origin").is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
    });
    let site = value("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    match origin && site {
        true => Ok(()),
        false => Err(says(StatusCode::FORBIDDEN, "the form was sent by another page")),
    }
}

/// A name of somebody else that leads here is how pages elsewhere would read ours.
fn is_for_us(server: &Server, headers: &HeaderMap) -> Result<(), Answer> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_known = server.options.name.iter().any(|known| known.eq_ignore_ascii_case(name));
    if is_address || is_known || name == "localhost" {
        return Ok(());
    }
    let why = "this server is not known by that name: start it with --name HOST";
    Err(says(StatusCode::MISDIRECTED_REQUEST, why))
}

fn which(query: &Fields) -> Which {
    let get = |name| query.get(name).to_owned();
    Which {
        channel: get("channel"),
        version: get("version"),
        phase: get("phase"),
        after: get("after"),
    }
}

fn asked_for(name: &str) -> String {
    format!("{name} is asked for, and waits for the publisher: update-publish carry-out")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn nothing() -> Answer {
    says(StatusCode::NOT_FOUND, "there is nothing here")
}

async fn reading<T: Send + 'static>(
    server: &Arc<Server>,
    ask: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Answer> {
    read(server, move |server| ask(&server.reader)).await
}

/// Reading the database takes a thread for as long as it takes.
async fn read<T: Send + 'static>(
    server: &Arc<Server>,
    ask: impl FnOnce(&Server) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Answer> {
    let server = server.clone();
    let found = tokio::task::spawn_blocking(move || ask(&server)).await;
    found
        .map_err(unavailable)?
        .map_err(|error| unavailable(format!("{:#}", anyhow::Error::new(error))))
}

fn html(page: Result<String, Answer>) -> Result<Answer, Answer> {
    page.map(|page| http::of(StatusCode::OK, "text/html; charset=utf-8", page))
}

fn json(value: &impl Serialize) -> Result<Answer, Answer> {
    let text = serde_json::to_string_pretty(value).map_err(unavailable)?;
    Ok(http::of(StatusCode::OK, "application/json", text + "\n"))
}
