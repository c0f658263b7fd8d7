//! What a platform says of the machine, once it runs: attributes for units to use, its name, and
//! who may come in by SSH. What is asked is a table; what is made of the answers is pure.

mod table;

use std::collections::BTreeMap;

use crate::fetch::{
    FetchError, Fetcher, Question,
    cloud::{METADATA, refused},
};

/// What a platform says of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Attributes, by names such as `AFTERBURN_AWS_REGION`.
    pub attributes: BTreeMap<String, String>,
    /// What the machine shall be called.
    pub hostname: Option<String>,
    /// Who may come in by SSH.
    pub ssh_keys: Vec<String>,
}

/// Answers by the path that was asked; what was not there is not in it.
pub type Answers = BTreeMap<&'static str, Vec<u8>>;

/// What is asked of a platform, and what it means.
struct Platform {
    names: &'static [&'static str],
    /// The middle of the names of its attributes.
    prefix: &'static str,
    headers: &'static [(&'static str, &'static str)],
    with_amazon_token: bool,
    /// Whether the name is written down (elsewhere DHCP says it).
    names_machine: bool,
    questions: &'static [&'static str],
    read: fn(&Answers, &mut Reading),
}

/// What is being read.
#[derive(Default)]
struct Reading {
    prefix: &'static str,
    metadata: Metadata,
}

/// Asks a platform; nothing if it has no such service.
pub fn ask(id: &str, fetcher: &Fetcher<'_>) -> Result<Option<Metadata>, FetchError> {
    let Some(platform) = platform(id) else { return Ok(None) };
    let token = if platform.with_amazon_token { fetcher.amazon_token()? } else { None };
    let mut headers = platform.headers.to_vec();
    headers.extend(token.as_deref().map(|token| ("X-aws-ec2-metadata-token", token)));
    let mut answers = Answers::new();
    for path in platform.questions {
        let url = format!("{}{path}", fetcher.metadata(METADATA));
        let patience = std::time::Duration::from_secs(60);
        let question =
            Question { method: "GET", url: &url, headers: &headers, passing: &[], patience };
        let reply = fetcher.ask(&question)?;
        match reply.status {
            200 => drop(answers.insert(path, reply.body)),
            204 | 404 => {}
            _ => return Err(refused(&url, &reply)),
        }
    }
    Ok(Some(read(platform, &answers)))
}

/// Whether a platform says anything of its machines.
pub fn is_served(id: &str) -> bool {
    platform(id).is_some()
}

/// What answers of a platform mean; nothing if it is not known.
pub fn understand(id: &str, answers: &Answers) -> Option<Metadata> {
    platform(id).map(|platform| read(platform, answers))
}

impl Metadata {
    /// A file of `NAME=VALUE` for units: under the names of Afterburn, and under those that came
    /// before them.
    pub fn environment(&self) -> String {
        let mut lines = Vec::new();
        for (name, value) in &self.attributes {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            let value = quote(&value);
            lines.push(format!("{name}={value}\n"));
            let old = name.replacen("AFTERBURN_", "COREOS_", 1);
            let old = old.replacen("_AWS_", "_EC2_", 1).replacen("_GCP_", "_GCE_", 1);
            lines.push(format!("{old}={value}\n"));
        }
        lines.sort();
        lines.concat()
    }
}

/// A name for the machine that the kernel takes: cut at the first dot if it is too long, and then
/// anywhere.
pub fn fitting_hostname(name: &str) -> String {
    const LONGEST: usize = 64;
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let first = name.split('.').next().unwrap_or_default();
    first.chars().take(LONGEST).collect()
}

fn platform(id: &str) -> Option<&'static Platform> {
    table::PLATFORMS.iter().find(|platform| platform.names.contains(&id))
}

fn read(platform: &Platform, answers: &Answers) -> Metadata {
    let mut reading = Reading { prefix: platform.prefix, metadata: Metadata::default() };
    (platform.read)(answers, &mut reading);
    let mut metadata = reading.metadata;
    let hostname = metadata.attributes.get(&format!("AFTERBURN_{}_HOSTNAME", platform.prefix));
    if metadata.hostname.is_none() && platform.names_machine {
        metadata.hostname = hostname.cloned();
    }
    metadata.hostname = metadata.hostname.as_deref().map(fitting_hostname);
    metadata
}

impl Reading {
    fn set(&mut self, name: &str, value: Option<impl Into<String>>) {
        let Some(value) = value.map(Into::into).filter(|value| !value.is_empty()) else { return };
        let name = format!("AFTERBURN_{}_{name}", self.prefix);
        self.metadata.attributes.insert(name, value);
    }

    fn keys<'k>(&mut self, keys: impl IntoIterator<Item = &'k str>) {
        let keys = keys.into_iter().map(str::trim).filter(|key| !key.is_empty());
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        self.metadata.ssh_keys.append(&mut keys);
    }
}

/// As systemd reads files of an environment: bare if it is plain, else in quotes.
fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@,+".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('$', "\\$").replace('`', "\\`"))
}

#[cfg(test)]
#[path = "metadata/tests.rs"]
mod tests;
