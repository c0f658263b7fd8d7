//! Whether a tree has exactly the packages that it should have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::lock::Package;

/// Compares dpkg's own record in a tree with the packages that it was made of.
pub(super) fn check(tree: &Path, packages: &[Package]) -> Result<()> {
    let path = tree.join("var/lib/dpkg/status");
    let status =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let differences = differences(&installed(&status), packages);
    if !differences.is_empty() {
        bail!("the tree is not what was asked for:\n  {}", differences.join("\n  "));
    }
    Ok(())
}

/// Name and `VERSION ARCHITECTURE` of each installed package; anything else that dpkg knows of a
/// package (half-configured, removed) stands in the place of the version.
fn installed(status: &str) -> BTreeMap<String, String> {
    let field = |stanza: &str, name: &str| {
        let mut lines = stanza.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    let stanzas = status.split("\n\n").filter(|stanza| !stanza.trim().is_empty());
    stanzas
        .map(|stanza| {
            let what = match field(stanza, "Status").as_str() {
                "install ok installed" => {
                    format!("{} {}", field(stanza, "Version"), field(stanza, "Architecture"))
                }
                other => other.to_owned(),
            };
            (field(stanza, "Package"), what)
        })
        .collect()
}

fn differences(installed: &BTreeMap<String, String>, packages: &[Package]) -> Vec<String> {
    let wanted: BTreeMap<&str, String> = packages
        .iter()
        .map(|p| (p.name.as_str(), format!("{} {}", p.version, p.architecture)))
        .collect();
    let names: BTreeSet<&str> =
        wanted.keys().copied().chain(installed.keys().map(String::as_str)).collect();
    names
        .into_iter()
        .filter_map(|name| match (wanted.get(name), installed.get(name)) {
            (Some(wanted), Some(is)) if wanted == is => None,
            (Some(wanted), Some(is)) => Some(format!("{name}: expected {wanted}, found {is}")),
            (Some(wanted), None) => Some(format!("{name}: expected {wanted}, not installed")),
            (None, Some(is)) => Some(format!("{name}: {is} is installed, and not in the lock")),
            (None, None) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "0".repeat(64),
            size_bytes: 1,
            file: "debian/pool/a.deb".to_owned(),
        }
    }

    #[test]
    fn a_tree_has_what_is_locked_and_nothing_else() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
                      Package: b\nStatus: install ok half-configured\nVersion: 1\n\n\
                      Package: d\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";
        let found = installed(status);
        assert_eq!(
            differences(&found, &[package("a", "1"), package("b", "1"), package("c", "1")]),
            [
                "b: expected 1 amd64, found install ok half-configured",
                "c: expected 1 amd64, not installed",
                "d: 1 all is installed, and not in the lock",
            ]
        );
        assert!(differences(&installed(&status[..70]), &[package("a", "1")]).is_empty());
    }
}
