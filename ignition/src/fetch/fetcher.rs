//! The one who gets resources: tells the schemes apart, tries again where that can help, goes on
//! where a connection broke, and says what it does.

use std::{
    error::Error,
    io::{self, Read, Write},
    sync::OnceLock,
    time::{Duration, Instant},
};

use http_client::{
    Answer, Client, Clock, Headers, Names, Proxies, Request, Tries, Trust, Url, Wall, connection,
};

use super::{
    Fetch, FetchError, Shown, cloud::Cloud, content::Content, data::DataUrl, s3,
    sigv4::Credentials, tftp, unpack::Unpacking,
};
use crate::{
    causes::chain,
    document::config::{Ignition, Resource},
    journal::Journal,
};

/// How long a document and what it refers to are asked for, if the document does not say.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long to wait for the headers of an answer, if the document does not say.
const HEADERS: Duration = Duration::from_secs(10);
/// Something that began to come may take its time: it must go on, but is not cut off.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Who is asked for a state that will pass says one of these (or something from 500 on).
const PASSING: &[u16] = &[408, 429];

/// The one who gets resources.
#[derive(Clone)]
pub struct Fetcher<'a> {
    /// Without one there is no network.
    client: Option<Client>,
    /// From the document: for all of a resource, with every try.
    total: Option<Duration>,
    pub(super) cloud: Cloud,
    pub(super) role: OnceLock<Option<Credentials>>,
    pub(super) token: OnceLock<Option<String>>,
    places: Places,
    pub(super) journal: &'a dyn Journal,
    pub(super) clock: &'a dyn Clock,
}

/// Servers that stand in for those of the world, for tests.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// For the metadata services of clouds.
    pub metadata: Option<String>,
    /// For buckets.
    pub buckets: Option<String>,
}

/// A question to a service of a platform.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// `GET` or `PUT`.
    pub method: &'static str,
    /// Where.
    pub url: &'q str,
    /// With what.
    pub headers: &'q [(&'q str, &'q str)],
    /// Answers after which to ask again, besides those that always say so.
    pub passing: &'q [u16],
    /// For how long.
    pub patience: Duration,
}

/// What the service of a platform says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status: 200 and 204 are good.
    pub status: u16,
    /// The content.
    pub body: Vec<u8>,
}

/// Why one try came to nothing.
pub(super) enum Missed {
    /// It may pass.
    Passing(Box<dyn Error + Send + Sync>),
    /// It will not.
    Final(FetchError),
}

/// The largest answer of the service of a platform.
const REPLY_BYTES: u64 = 64 * 1024 * 1024;

impl<'a> Fetcher<'a> {
    /// Without a network: what is in the document itself.
    pub fn offline(journal: &'a dyn Journal) -> Self {
        Self {
            client: None,
            total: None,
            cloud: Cloud::None,
            role: OnceLock::new(),
            token: OnceLock::new(),
            places: Places::default(),
            journal,
            clock: &Wall,
        }
    }

    /// With a network on which `names` know the names.
    pub fn online(names: Names, journal: &'a dyn Journal) -> Self {
        let client = Some(Client { headers: HEADERS, ..Client::new(names) });
        Self { client, ..Self::offline(journal) }
    }

    /// On a platform whose services may be asked, for what lets us into its buckets.
    pub fn on(mut self, cloud: Cloud) -> Self {
        self.cloud = cloud;
        self
    }

    /// With all of a resource in this time.
    pub fn within(mut self, total: Duration) -> Self {
        self.total = Some(total);
        self
    }

    /// With stand-ins, and a clock of the test.
    pub fn with_places(mut self, places: Places, clock: &'a dyn Clock) -> Self {
        (self.places, self.clock) = (places, clock);
        self
    }

    /// For what a document refers to: with its timeouts, its proxies, and whom it trusts.
    pub fn for_document(&self, ignition: &Ignition) -> Result<Self, FetchError> {
        let mut new = self.clone();
        let seconds = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let total = seconds(ignition.timeouts.http_total).filter(|&value| value > 0);
        new.total = total.map(Duration::from_secs);
        let Some(client) = &mut new.client else { return Ok(new) };
        // 0 is "for ever" to the original; for us, nothing is.
        let headers = ignition.timeouts.http_response_headers;
        client.headers = match seconds(headers) {
            None => HEADERS,
            Some(0) => PATIENCE,
            Some(value) => Duration::from_secs(value),
        };
        let proxy = &ignition.proxy;
        let (http, https) = (proxy.http_proxy.as_deref(), proxy.https_proxy.as_deref());
        let proxies = Proxies::new(http, https, &proxy.no_proxy);
        client.proxies = proxies.map_err(|(text, error)| FetchError::Address {
            url: Shown::new(&text),
            why: format!("as a proxy: {error}"),
        })?;
        let mut trust = Trust::image();
        for authority in &ignition.security.tls.certificate_authorities {
            let mut pem = Vec::new();
            new.fetch(authority, &mut pem)?;
            let url = authority.source.as_deref().unwrap_or_default();
            trust = trust.and(&pem).map_err(|why| FetchError::Refused {
                url: Shown::new(url),
                why: format!("as certificates of authorities: {why}"),
            })?;
        }
        if let Some(client) = &mut new.client {
            client.trust = trust;
        }
        Ok(new)
    }

    /// Whether there is a network.
    pub fn is_online(&self) -> bool {
        self.client.is_some()
    }

    /// Where the metadata service is: at `usual`, but in tests.
    pub fn metadata<'s>(&'s self, usual: &'s str) -> &'s str {
        self.places.metadata.as_deref().unwrap_or(usual)
    }

    /// Asks the service of a platform. An answer with any status that will not pass is a reply;
    /// what it means is for the platform to say.
    pub fn ask(&self, question: &Question<'_>) -> Result<Reply, FetchError> {
        let shown = Shown::new(question.url);
        let url = parse(question.url)?;
        let mut request = Request { method: question.method, ..Request::get(url) };
        for (name, value) in question.headers {
            request = request.with(name, value);
        }
        let mut client = self.client(&shown)?.clone();
        // What is next to the machine is not asked through anybody.
        client.proxies = Proxies::default();
        let plain = usual_headers();
        for (name, value) in &plain.0 {
            if request.headers.get(name).is_none() {
                request.headers.set(name, value);
            }
        }
        self.persist(&shown, question.patience, |end| {
            let answer =
                client.follow(&request, &plain, end).map_err(|error| missed(&shown, error));
            let mut answer = answer?;
            if answer.status >= 500
                || PASSING.contains(&answer.status)
                || question.passing.contains(&answer.status)
            {
                return Err(Missed::Passing(status(&answer).into()));
            }
            let mut body = Vec::new();
            let read = answer.content.by_ref().take(REPLY_BYTES).read_to_end(&mut body);
            read.map_err(|error| missed(&shown, error))?;
            Ok(Reply { status: answer.status, body })
        })
    }

    fn client(&self, shown: &Shown) -> Result<&Client, FetchError> {
        self.client.as_ref().ok_or_else(|| FetchError::NeedsNetwork(shown.clone()))
    }

    /// Tries until it works, or cannot, or the time is over. Each try hears when that is.
    fn persist<T>(
        &self,
        shown: &Shown,
        patience: Duration,
        mut once: impl FnMut(Instant) -> Result<T, Missed>,
    ) -> Result<T, FetchError> {
        let mut tries = Tries::new(self.clock.now(), patience);
        loop {
            // A try itself waits by the clock of the machine, whatever clock the test has.
            let left = tries.end().saturating_duration_since(self.clock.now());
            let why = match once(Instant::now() + left) {
                Ok(value) => return Ok(value),
                Err(Missed::Final(error)) => return Err(error),
                Err(Missed::Passing(why)) => why,
            };
            let now = self.clock.now();
            let Some(wait) = tries.failed(now) else {
                return Err(FetchError::GivenUp {
                    url: shown.clone(),
                    tries: tries.count(),
                    seconds: tries.seconds(now),
                    source: why,
                });
            };
            let (count, wait_ms) = (tries.count(), wait.as_millis());
            self.journal.delay(&format!(
                "fetching {shown}, try {count}: {}; again in {wait_ms} ms",
                chain(why.as_ref())
            ));
            self.clock.sleep(wait);
        }
    }

    /// Gets something by HTTP: opens it, again and again if need be, and goes on where it broke.
    fn by_http(
        &self,
        shown: &Shown,
        unpacking: &Unpacking,
        to: &mut dyn Write,
        open: &dyn Fn(Instant) -> Result<Answer, Missed>,
    ) -> Result<u64, FetchError> {
        let start = self.clock.now();
        let reopen = || {
            let spent = self.clock.now().saturating_duration_since(start);
            let left = match self.total {
                Some(total) => total.saturating_sub(spent).max(Duration::from_millis(1)),
                None => PATIENCE,
            };
            let tail = match self.total {
                Some(_) => Duration::ZERO,
                None => LONGEST,
            };
            self.persist(shown, left, |end| open(end + tail))
        };
        let mut content = Content::new(reopen()?, &reopen, shown, self.journal);
        unpacking.pour(&mut content, to)
    }

    /// Opens an address by HTTP once, as the document wants it.
    fn open(
        &self,
        client: &Client,
        shown: &Shown,
        request: &Request,
        end: Instant,
    ) -> Result<Answer, Missed> {
        let answer = client.follow(request, &usual_headers(), end);
        judge(shown, answer.map_err(|error| missed(shown, error))?)
    }

    /// Opens an object of Amazon once: signed, if we are somebody there; and in the region where
    /// it really is, if we are told that it is not here.
    fn open_object(
        &self,
        client: &Client,
        shown: &Shown,
        object: &s3::Object,
        headers: &Headers,
        end: Instant,
    ) -> Result<Answer, Missed> {
        let role = self.amazon_role().map_err(Missed::Final)?;
        let place = self.bucket_place().map_err(Missed::Final)?;
        let mut region = object.first_region(self.cloud.region());
        for _ in 0..2 {
            let url = object.url(&region, place.as_ref());
            let mut request = Request { headers: headers.clone(), ..Request::get(url) };
            if let Some(role) = &role {
                let now = self.clock.date();
                request = super::sigv4::sign(request, role, &region, "s3", now);
            }
            let answer = client.ask(&request, end).map_err(|error| missed(shown, error))?;
            match answer.headers.get("x-amz-bucket-region") {
                Some(other)
                    if other != region && matches!(answer.status, 301 | 307 | 400 | 403) =>
                {
                    let line = format!("fetching {shown}: the bucket is in the region {other}");
                    self.journal.say(&line);
                    region = other.to_owned();
                }
                _ => return judge(shown, answer),
            }
        }
        let why = "each region says that the bucket is in another one".to_owned();
        Err(Missed::Final(FetchError::Refused { url: shown.clone(), why }))
    }

    fn bucket_place(&self) -> Result<Option<Url>, FetchError> {
        self.places.buckets.as_deref().map(parse).transpose()
    }

    fn by_tftp(
        &self,
        shown: &Shown,
        url: &Url,
        unpacking: &Unpacking,
        to: &mut dyn Write,
    ) -> Result<u64, FetchError> {
        let client = self.client(shown)?;
        let end = Instant::now() + self.total.unwrap_or(LONGEST);
        let mut file = self.persist(shown, self.total.unwrap_or(PATIENCE), |limit| {
            let found = connection::addresses(url, &client.names, limit);
            let server = found.map_err(|error| missed(shown, error))?.first().copied();
            let server = server.ok_or_else(|| Missed::Passing("it has no address".into()))?;
            tftp::File::open(url, server, end).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Missed::Final(FetchError::NotFound(shown.clone())),
                _ => missed(shown, error),
            })
        })?;
        unpacking.pour(&mut file, to)
    }
}

impl Fetch for Fetcher<'_> {
    fn fetch(&self, resource: &Resource, to: &mut dyn Write) -> Result<(), FetchError> {
        let source = resource.source.as_deref().unwrap_or_default();
        if source.is_empty() {
            return Ok(());
        }
        let shown = Shown::new(source);
        let unpacking = Unpacking::of(resource, shown.clone())?;
        let bad = |why: String| FetchError::Address { url: shown.clone(), why };
        if source.starts_with("data:") {
            let data = DataUrl::parse(source).map_err(|error| bad(error.to_string()))?;
            return unpacking.pour(&mut data.decode().as_slice(), to).map(drop);
        }
        let headers = headers_of(resource);
        let bytes = if source.starts_with("arn:") {
            let object = s3::Object::from_arn(source).map_err(bad)?;
            let client = self.client(&shown)?;
            let open = |end| self.open_object(client, &shown, &object, &usual_headers(), end);
            self.by_http(&shown, &unpacking, to, &open)?
        } else {
            let url = parse(source)?;
            match url.scheme.as_str() {
                "http" | "https" => {
                    let client = self.client(&shown)?;
                    let request = Request { headers, ..Request::get(url) };
                    let open = |end| self.open(client, &shown, &request, end);
                    self.by_http(&shown, &unpacking, to, &open)?
                }
                "tftp" => self.by_tftp(&shown, &url, &unpacking, to)?,
                "s3" => {
                    let object = s3::Object::from_url(&url).map_err(bad)?;
                    let client = self.client(&shown)?;
                    let open =
                        |end| self.open_object(client, &shown, &object, &usual_headers(), end);
                    self.by_http(&shown, &unpacking, to, &open)?
                }
                "gs" => {
                    let url = s3::google_url(&url, self.bucket_place()?.as_ref()).map_err(bad)?;
                    let client = self.client(&shown)?;
                    let mut request = Request { headers: usual_headers(), ..Request::get(url) };
                    if let Some(token) = self.google_token()? {
                        request = request.with("Authorization", &format!("Bearer {token}"));
                    }
                    let open = |end| self.open(client, &shown, &request, end);
                    self.by_http(&shown, &unpacking, to, &open)?
                }
                other => {
                    let known = "data, http, https, tftp, s3, gs and arn";
                    return Err(bad(format!("the scheme {other} is not known; {known} are")));
                }
            }
        };
        self.journal.say(&format!("fetched {shown}, {bytes} bytes"));
        Ok(())
    }
}

/// What an answer means, by its status.
fn judge(shown: &Shown, answer: Answer) -> Result<Answer, Missed> {
    match answer.status {
        200 | 204 => Ok(answer),
        404 => Err(Missed::Final(FetchError::NotFound(shown.clone()))),
        code if code >= 500 || PASSING.contains(&code) => {
            Err(Missed::Passing(status(&answer).into()))
        }
        _ => {
            let why = status(&answer);
            Err(Missed::Final(FetchError::Refused { url: shown.clone(), why }))
        }
    }
}

fn status(answer: &Answer) -> String {
    let reason: String = answer.reason.chars().filter(|c| !c.is_control()).take(80).collect();
    format!("the server says {} {reason}", answer.status).trim_end().to_owned()
}

fn missed(shown: &Shown, error: io::Error) -> Missed {
    match connection::is_final(&error) {
        true => Missed::Final(FetchError::Failed { url: shown.clone(), source: error.into() }),
        false => Missed::Passing(error.into()),
    }
}

fn parse(text: &str) -> Result<Url, FetchError> {
    let bad = |why: String| FetchError::Address { url: Shown::new(text), why };
    Url::parse(text).map_err(|error| bad(error.to_string()))
}

fn usual_headers() -> Headers {
    let pairs = [
        ("Accept", "application/vnd.coreos.ignition+json;version=3.6.0, */*;q=0.1"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", concat!("Ignition/", env!("CARGO_PKG_VERSION"), " (PithOS)")),
    ];
    Headers(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
}

/// The usual headers, and those of the document in their place. One without a value is one that a
/// parent shall not send.
fn headers_of(resource: &Resource) -> Headers {
    let mut headers = usual_headers();
    for header in &resource.http_headers {
        if let Some(value) = &header.value {
            headers.set(&header.name, value);
        }
    }
    headers
}
