//! The client that the suite starts: files and HTTP around `payload::tuf`.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use http_client::{Client as Http, Names, Request, Url};
use jiff::Timestamp;
use payload::tuf::{self, Answer, Change, Client, Next, Start, Step, quote};

/// A whole file, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where things are.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// What is trusted.
    #[arg(long, hide = true)]
    metadata_dir: Option<PathBuf>,
    /// The repository's metadata.
    #[arg(long, hide = true)]
    metadata_url: Option<String>,
    /// What to fetch.
    #[arg(long, hide = true)]
    target_name: Vec<String>,
    /// The repository's targets.
    #[arg(long, hide = true)]
    target_base_url: Option<String>,
    /// Where targets go.
    #[arg(long, hide = true)]
    target_dir: Option<PathBuf>,
}

impl Places {
    /// Trusts a root.
    pub(crate) fn init(&self, root: &Path) -> Result<()> {
        let bytes = fs::read(root).with_context(|| format!("reading {}", root.display()))?;
        put(given(&self.metadata_dir, "--metadata-dir")?, "root.json", &bytes)
    }

    /// Brings the metadata up to date.
    pub(crate) fn refresh(&self) -> Result<Client> {
        let start = Start {
            root: None,
            stored: stored(given(&self.metadata_dir, "--metadata-dir")?)?,
            clock: Timestamp::now(),
            built: Timestamp::UNIX_EPOCH,
            limits: tuf::Limits::default(),
        };
        let (mut client, step) = Client::begin(start).context("beginning")?;
        match self.follow(&mut client, step)? {
            Next::Ready => Ok(client),
            other => bail!("expected the metadata to be current, found {other:?}"),
        }
    }

    /// Fetches targets that are not there yet.
    pub(crate) fn download(&self) -> Result<()> {
        let mut client = self.refresh()?;
        let folder = given(&self.target_dir, "--target-dir")?;
        let base = given(&self.target_base_url, "--target-base-url")?;
        for path in &self.target_name {
            let step = client.find(path)?;
            let Next::Found(target) = self.follow(&mut client, step)? else {
                bail!("there is no target `{path}`");
            };
            let name = quote(path);
            if fs::read(folder.join(&name)).is_ok_and(|bytes| target.matches(&bytes)) {
                continue;
            }
            let location = client.location(path, &target);
            let bytes = get(base, &location, target.length)?
                .with_context(|| format!("the server has no {location}"))?;
            if !target.matches(&bytes) {
                bail!("{location} has not the length or the hash that was signed");
            }
            put(folder, &name, &bytes)?;
        }
        Ok(())
    }

    /// Goes on until the client wants no file any more.
    fn follow(&self, client: &mut Client, mut step: Step) -> Result<Next> {
        let folder = given(&self.metadata_dir, "--metadata-dir")?;
        let base = given(&self.metadata_url, "--metadata-url")?;
        loop {
            for change in &step.store {
                match change {
                    Change::Put { name, bytes } => put(folder, name, bytes)?,
                    Change::Remove { name } => fs::remove_file(folder.join(name))
                        .with_context(|| format!("removing {name}"))?,
                }
            }
            let Next::Fetch(fetch) = step.next else { return Ok(step.next) };
            let bytes = get(base, &fetch.location, fetch.max_bytes)?;
            let answer = bytes.as_deref().map_or(Answer::Missing, Answer::Bytes);
            step = client.answer(answer).with_context(|| format!("after {}", fetch.location))?;
        }
    }
}

/// Gets a file, or at most one byte more than it may have.
fn get(base: &str, location: &str, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let text = format!("{}/{location}", base.trim_end_matches('/'));
    let url = Url::parse(&text).with_context(|| format!("`{text}`"))?;
    let http = Http { headers: PATIENCE, ..Http::new(Names::System) };
    let asking = || format!("asking for {text}");
    let answer = http.ask(&Request::get(url), Instant::now() + PATIENCE).with_context(asking)?;
    match answer.status {
        200 => {
            let mut bytes = Vec::new();
            let read = answer.content.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
            read.with_context(asking)?;
            Ok(Some(bytes))
        }
        404 => Ok(None),
        status => bail!("{text}: the server says {status} {}", answer.reason),
    }
}

fn stored(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut stored = BTreeMap::new();
    let reading = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        stored.insert(name, fs::read(entry.path()).with_context(reading)?);
    }
    Ok(stored)
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn given<'a, T>(value: &'a Option<T>, name: &str) -> Result<&'a T> {
    value.as_ref().with_context(|| format!("missing: {name}"))
}
