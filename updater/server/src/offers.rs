//! Payloads for machines of Container Linux and Flatcar that ask this server: a file for each channel
//! and board, which an operator writes. PithOS machines take what is signed and ask for none.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use layout::Version;
use omaha::{App, Check, Offer};
use serde::Deserialize;

/// A file `CHANNEL.BOARD.json`, such as `stable.amd64-usr.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    codebases: Vec<String>,
    package: String,
    size_bytes: u64,
    /// Base64, as all of Omaha has it.
    sha1: String,
    sha256: String,
}

/// What is offered, by channel and board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers(BTreeMap<(String, String), Offer>);

impl Offers {
    /// Reads the files of a folder. One that is wrong is said, and offers nothing.
    pub fn read(folder: &Path) -> Result<(Self, Vec<String>)> {
        let (mut offers, mut problems) = (BTreeMap::new(), Vec::new());
        let entries =
            fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(stem) = name.strip_suffix(".json") else { continue };
            let read = || -> Result<_> {
                let key = stem.split_once('.').context("expected the name CHANNEL.BOARD.json")?;
                Ok(((key.0.to_owned(), key.1.to_owned()), parse(&fs::read(&path)?)?))
            };
            match read() {
                Ok((key, offer)) => drop(offers.insert(key, offer)),
                Err(error) => problems.push(format!("{}: {error:#}", path.display())),
            }
        }
        problems.sort();
        Ok((Self(offers), problems))
    }

    /// What a machine is answered.
    pub fn check(&self, app: &App) -> Check {
        let found = self.0.get(&(app.channel.clone(), app.board.clone()));
        let is_newer = |offer: &&Offer| match (offer.version.parse(), app.version.parse()) {
            (Ok(offered), Ok(running)) => Version::gt(&offered, &running),
            (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => offer.version != app.version,
        };
        let found = found.filter(|_| app.is(omaha::COREOS)).filter(is_newer);
        found.map_or(Check::NoUpdate, |offer| Check::Update(offer.clone()))
    }
}

fn parse(text: &[u8]) -> Result<Offer> {
    let File { version, codebases, package, size_bytes, sha1, sha256 } =
        serde_json::from_slice(text).context("not an offer")?;
    ensure!(!codebases.is_empty(), "codebases is empty: expected where the package is");
    for base in &codebases {
        let is_url = base.starts_with("http://") || base.starts_with("https://");
        ensure!(
            is_url && base.ends_with('/'),
            "`{base}`: expected http:// or https://, ending in /"
        );
    }
    let base64 = |text: &str, length| text.len() == length && text.ends_with('=');
    ensure!(base64(&sha1, 28), "sha1 is `{sha1}`: expected 28 characters of base64");
    ensure!(base64(&sha256, 44), "sha256 is `{sha256}`: expected 44 characters of base64");
    Ok(Offer { version, codebases, package, size_bytes, sha1, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
        "version": "3815.2.1", "codebases": ["https://one.example/a/"],
        "package": "update.gz", "size_bytes": 458234665,
        "sha1": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        "sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    }"#;

    fn app(version: &str) -> App {
        App {
            id: omaha::COREOS.to_owned(),
            version: version.to_owned(),
            channel: "stable".to_owned(),
            board: "amd64-usr".to_owned(),
            ..App::default()
        }
    }

    #[test]
    fn what_is_newer_is_offered_to_whom_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stable.amd64-usr.json"), GOOD).unwrap();
        fs::write(folder.path().join("beta.amd64-usr.json"), "{}").unwrap();
        fs::write(folder.path().join("alpha.json"), GOOD).unwrap();
        fs::write(folder.path().join("README"), "").unwrap();
        let (offers, problems) = Offers::read(folder.path()).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(matches!(offers.check(&app("3815.2.0")), Check::Update(_)));
        // As a number, not as a text.
        assert!(matches!(offers.check(&app("999.0.0")), Check::Update(_)));
        assert_eq!(offers.check(&app("3815.2.1")), Check::NoUpdate);
        assert_eq!(offers.check(&app("3900.0.0")), Check::NoUpdate);
        let ours = App { id: omaha::PITHOS.to_owned(), ..app("3815.2.0") };
        assert_eq!(offers.check(&ours), Check::NoUpdate);
        let elsewhere = App { board: "arm64-usr".to_owned(), ..app("3815.2.0") };
        assert_eq!(offers.check(&elsewhere), Check::NoUpdate);
    }

    #[test]
    fn an_offer_that_no_machine_could_use_is_refused() {
        for (good, bad, says) in [
            ("https://one.example/a/", "ftp://one.example/", "expected http:// or https://"),
            ("https://one.example/a/", "https://one.example", "ending in /"),
            ("2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "da39a3ee", "28 characters of base64"),
            ("\"size_bytes\": 458234665", "\"size_bytes\": -1", "not an offer"),
        ] {
            let error = format!("{:#}", parse(GOOD.replace(good, bad).as_bytes()).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
