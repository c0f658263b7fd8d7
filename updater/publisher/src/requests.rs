//! What operators asked an update-server for: looked at, carried out here, where the keys are, and
//! told to the server. The server is not believed: a request goes by a name with the sum of its
//! content in it, and that sum is made here.

use std::{
    fs,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http_client::{Client, Names, Request as Question, Url};
use payload::request::{Fate, Request};

const PATIENCE: Duration = Duration::from_secs(60);
const MAX_BYTES: u64 = 4 << 20;

/// An update-server, as operators reach it.
pub(crate) struct Server {
    client: Client,
    url: Url,
}

impl Server {
    pub(crate) fn at(url: &str) -> Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("the server `{url}`"))?;
        ensure!(
            parsed.scheme == "http" || parsed.scheme == "https",
            "the server `{url}`: expected http://... or https://..."
        );
        Ok(Self { client: Client::new(Names::System), url: parsed })
    }

    /// What was asked for, the newest first.
    pub(crate) fn requests(&self) -> Result<Vec<Request>> {
        let text = self.ask(self.question("api/requests"))?;
        serde_json::from_slice(&text).with_context(|| {
            format!("{} does not answer as an update-server", self.url.authority())
        })
    }

    /// Those that wait and have these names.
    pub(crate) fn waiting(&self, names: &[String]) -> Result<Vec<Request>> {
        let all = self.requests()?;
        let find = |name: &String| {
            let found = all.iter().find(|request| request.name() == *name);
            let found = found.with_context(|| {
                format!(
                    "there is no request {name}, or it is another one by now: `update-publish \
                     requests` lists them"
                )
            })?;
            match &found.fate {
                Fate::Waiting => Ok(found.clone()),
                Fate::CarriedOut { said, .. } => bail!("{name} was carried out: {said}"),
                Fate::Refused { said, .. } => bail!("{name} was refused: {said}"),
            }
        };
        names.iter().map(find).collect()
    }

    /// Tells what became of a request.
    pub(crate) fn settle(&self, number: u64, fate: &Fate, token: &str) -> Result<()> {
        let mut question = self
            .question(&format!("api/requests/{number}"))
            .with("Authorization", &format!("Bearer {token}"))
            .with("Content-Type", "application/json");
        question.method = "POST";
        question.content = serde_json::to_vec(fate)?;
        self.ask(question).map(drop)
    }

    fn question(&self, path: &str) -> Question {
        let mut url = self.url.clone();
        url.target = format!("{}/{path}", url.path().trim_end_matches('/'));
        Question::get(url)
    }

    fn ask(&self, question: Question) -> Result<Vec<u8>> {
        let who = self.url.authority();
        let asking = || format!("asking {who}");
        let answer = self.client.ask(&question, Instant::now() + PATIENCE).with_context(asking)?;
        let mut text = Vec::new();
        answer.content.take(MAX_BYTES).read_to_end(&mut text).with_context(asking)?;
        ensure!(
            (200..300).contains(&answer.status),
            "{who} says {} {}: {}",
            answer.status,
            answer.reason,
            String::from_utf8_lossy(&text).trim()
        );
        Ok(text)
    }
}

/// The token that the server wants to hear.
pub(crate) fn token(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("reading the token {}", path.display()))?;
    Ok(text.trim().to_owned())
}
