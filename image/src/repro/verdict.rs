//! Whether two folders of artefacts are equal, and where not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::{
    differ::{self, Difference},
    progress::size,
    step::sha256_of,
};

/// What was found.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) artefacts: Vec<Artefact>,
}

/// One artefact of both builds.
#[derive(Debug, Serialize)]
pub(super) struct Artefact {
    file: String,
    equal: bool,
    a: Option<Facts>,
    b: Option<Facts>,
    differences: Vec<Difference>,
}

#[derive(Clone, Debug, Serialize)]
struct Facts {
    size_bytes: u64,
    sha256: String,
}

impl Verdict {
    /// Compares two folders, with up to `max` differences for each artefact.
    pub(super) fn of(a: &Path, b: &Path, max: usize) -> Result<Self> {
        let names = files(a)?.into_iter().chain(files(b)?).collect::<BTreeSet<_>>();
        ensure!(!names.is_empty(), "{} is empty: nothing was built", a.display());
        let mut artefacts = Vec::new();
        for file in names {
            let (one, other) = (a.join(&file), b.join(&file));
            let differences = if one.exists() && other.exists() {
                differ::compare_up_to(&one, &other, max)
                    .with_context(|| format!("comparing {}", one.display()))?
            } else {
                Vec::new()
            };
            let a = facts(&one)?;
            let equal = differences.is_empty() && one.exists() && other.exists();
            // Equal bytes are hashed once: there are gigabytes of them.
            let b = if equal { a.clone() } else { facts(&other)? };
            artefacts.push(Artefact { file, equal, a, b, differences });
        }
        Ok(Self { artefacts })
    }

    pub(super) fn equal(&self) -> bool {
        self.artefacts.iter().all(|artefact| artefact.equal)
    }

    /// A line for each artefact, then every difference.
    pub(super) fn table(&self) -> String {
        let width = self.artefacts.iter().map(|artefact| artefact.file.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Artefact { file, equal, a, b, .. } in &self.artefacts {
            let said = match (a, b) {
                (Some(a), Some(_)) if *equal => {
                    format!("equal    {:>9}  sha256 {}", size(a.size_bytes), a.sha256)
                }
                (Some(a), Some(b)) => format!(
                    "DIFFERS  {:>9}  sha256 {} / {}",
                    size(a.size_bytes),
                    &a.sha256[..16],
                    &b.sha256[..16]
                ),
                (Some(_), None) => "DIFFERS  only in the first build".into(),
                (None, _) => "DIFFERS  only in the second build".into(),
            };
            text += &format!("{file:width$}  {said}\n");
        }
        for difference in self.artefacts.iter().flat_map(|artefact| &artefact.differences) {
            text += &format!("  {difference}\n");
        }
        text
    }
}

fn facts(path: &Path) -> Result<Option<Facts>> {
    if !path.exists() {
        return Ok(None);
    }
    let data = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(Facts { size_bytes: data.len(), sha256: sha256_of(path)? }))
}

/// Files below a folder, by relative path.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let path = folder.join(&below);
        for entry in fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))? {
            let name = below.join(entry.context("reading a folder")?.file_name());
            if folder.join(&name).is_dir() {
                todo.push(name);
            } else {
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_artefact_has_a_line_and_every_difference_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for (side, text) in [(&a, "{\"salt\":1}"), (&b, "{\"salt\":2}")] {
            fs::create_dir(side).unwrap();
            fs::write(side.join("same.raw"), "same").unwrap();
            fs::write(side.join("manifest.json"), text).unwrap();
        }
        fs::write(a.join("more.efi"), "").unwrap();
        let verdict = Verdict::of(&a, &b, 5).unwrap();
        assert!(!verdict.equal());
        let table = verdict.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("manifest.json  DIFFERS       10 B  sha256 "), "{table}");
        assert_eq!(lines[1], "more.efi       DIFFERS  only in the first build");
        assert!(
            lines[2].starts_with("same.raw       equal          4 B  sha256 0967115f"),
            "{table}"
        );
        assert_eq!(lines[3], "  manifest.json: field salt: 1 != 2");

        fs::copy(a.join("manifest.json"), b.join("manifest.json")).unwrap();
        fs::write(b.join("more.efi"), "").unwrap();
        assert!(Verdict::of(&a, &b, 5).unwrap().equal());
    }

    #[test]
    fn two_empty_folders_are_no_success() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Verdict::of(folder.path(), folder.path(), 5).is_err());
    }
}
