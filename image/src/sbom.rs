//! What the image contains, for people who have to know: SPDX 2.3 as JSON.
//!
//! Debian packages with their licences as far as their copyright files say them in a way that
//! SPDX can name, and our programs with the crates that they are made of. Deterministic: the time
//! is the epoch, the namespace comes from the seed, lists are sorted.

pub mod crates;
mod license;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use layout::Version;
use serde::Serialize;
use uuid::Uuid;

use crate::{esp::date::Date, manifest};

/// Its name in the folder of an image.
pub const FILE: &str = "sbom.spdx.json";
const OUR_LICENSE: &str = "Apache-2.0 OR MIT";
const UNKNOWN: &str = "NOASSERTION";
/// More is no copyright file.
const COPYRIGHT_BYTES_MAX: u64 = 4 << 20;

/// What to describe.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Of the image.
    pub version: &'a Version,
    /// Of the image.
    pub flavor: &'a str,
    /// The one time of the build, in seconds since 1970.
    pub epoch: u64,
    /// Names the document: `seed.uuid("sbom")`.
    pub namespace: Uuid,
    /// Debian packages in the image.
    pub packages: &'a [manifest::Package],
    /// `/usr/share/doc` of the tree that mkosi assembled, from which nothing is cut.
    pub docs: &'a Path,
    /// Our programs.
    pub programs: &'a [Program<'a>],
    /// The text of Cargo.lock.
    pub cargo_lock: &'a str,
    /// The text of each member's Cargo.toml, by name: what is for tests only is left out.
    pub cargo_tomls: &'a BTreeMap<String, String>,
}

/// One of our programs.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The program.
    pub program: &'a manifest::Program,
    /// The member of the workspace that it is built from.
    pub package: &'a str,
}

/// Why there is no SBOM.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A copyright file cannot be read.
    #[error("reading the copyright file {}", path.display())]
    Copyright {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Cargo.lock is not as Cargo writes it.
    #[error("Cargo.lock: {0}")]
    Crates(crates::Error),
}

/// An SPDX document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    comment: &'static str,
    packages: Vec<Package>,
    relationships: Vec<Relationship>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<&'static str>,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    license_concluded: &'static str,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The text of the document.
pub fn make(request: &Request<'_>) -> Result<String, Error> {
    let image = "SPDXRef-image";
    let mut packages = vec![Package {
        license_declared: UNKNOWN.to_owned(),
        primary_package_purpose: Some("OPERATING-SYSTEM"),
        ..package(image.to_owned(), "pithos", request.version.as_str())
    }];
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", image)];
    let debian = request.packages.iter().map(|one| debian(request, one));
    for package in debian.collect::<Result<Vec<_>, _>>()? {
        relationships.push(relationship(image, "CONTAINS", &package.id));
        packages.push(package);
    }
    ours(request, &mut packages, &mut relationships)?;
    packages[1..].sort_by(|a, b| a.id.cmp(&b.id));
    relationships.sort();
    relationships.dedup();
    let document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: format!("pithos-{}-{}", request.version, request.flavor),
        document_namespace: format!("urn:uuid:{}", request.namespace),
        creation_info: CreationInfo {
            created: Date::of(request.epoch).to_string(),
            creators: vec![format!("Tool: pithos-image-{}", request.version)],
        },
        comment: "Licences of Debian packages are those that their copyright files declare for \
                  the whole of the source; others that they name are in licenseComments. Crates \
                  are those that Cargo.lock reaches without tests, on any platform: some may not \
                  be linked.",
        packages,
        relationships,
    };
    let mut text = serde_json::to_string_pretty(&document).expect("it has names and numbers only");
    text.push('\n');
    Ok(text)
}

fn debian(request: &Request<'_>, of: &manifest::Package) -> Result<Package, Error> {
    let path = request.docs.join(&of.name).join("copyright");
    let said = license::read(&copyright(&path)?);
    let all = (!said.names.is_empty())
        .then(|| format!("Named in its copyright file: {}", said.names.join(", ")));
    let purl = format!(
        "pkg:deb/debian/{}@{}?arch={}&distro=debian-13",
        escaped(&of.name),
        escaped(&of.version),
        of.architecture
    );
    Ok(Package {
        supplier: Some("Organization: Debian"),
        checksums: sha256(&of.sha256),
        license_declared: said.declared.unwrap_or_else(|| UNKNOWN.to_owned()),
        license_comments: all,
        external_refs: vec![reference(purl)],
        ..package(id("deb", &of.name, &of.version), &of.name, &of.version)
    })
}

/// The text of a copyright file; empty if there is none.
fn copyright(path: &Path) -> Result<String, Error> {
    let read = || -> io::Result<String> {
        if fs::metadata(path)?.len() > COPYRIGHT_BYTES_MAX {
            return Err(io::Error::other("it is too big for a copyright file"));
        }
        Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(|source| Error::Copyright { path: path.to_owned(), source }),
    }
}

/// Our programs, and the crates that each is made of.
fn ours(
    request: &Request<'_>,
    packages: &mut Vec<Package>,
    relationships: &mut Vec<Relationship>,
) -> Result<(), Error> {
    let lock = crates::Lock::parse(request.cargo_lock).map_err(Error::Crates)?;
    let mut seen = std::collections::BTreeSet::new();
    for Program { program, package: member } in request.programs {
        let own = Package {
            checksums: sha256(&program.sha256),
            license_declared: OUR_LICENSE.to_owned(),
            primary_package_purpose: Some("APPLICATION"),
            ..package(
                id("program", &program.name, request.version.as_str()),
                &program.name,
                request.version.as_str(),
            )
        };
        relationships.push(relationship("SPDXRef-image", "CONTAINS", &own.id));
        for linked in lock.closure(member, request.cargo_tomls).map_err(Error::Crates)? {
            let id = id("crate", &linked.name, &linked.version);
            relationships.push(relationship(&own.id, "STATIC_LINK", &id));
            if seen.insert(id.clone()) {
                packages.push(krate(id, linked));
            }
        }
        packages.push(own);
    }
    Ok(())
}

fn krate(id: String, of: &crates::Crate) -> Package {
    let (license, purl) = match &of.checksum {
        // Cargo.lock does not say licences.
        Some(_) => {
            let purl = format!("pkg:cargo/{}@{}", escaped(&of.name), escaped(&of.version));
            (UNKNOWN, vec![reference(purl)])
        }
        None => (OUR_LICENSE, vec![]),
    };
    Package {
        checksums: of.checksum.as_deref().map(sha256).unwrap_or_default(),
        license_declared: license.to_owned(),
        external_refs: purl,
        primary_package_purpose: Some("LIBRARY"),
        ..package(id, &of.name, &of.version)
    }
}

fn package(id: String, name: &str, version: &str) -> Package {
    Package {
        id,
        name: name.to_owned(),
        version_info: version.to_owned(),
        supplier: None,
        download_location: UNKNOWN,
        files_analyzed: false,
        checksums: vec![],
        license_concluded: UNKNOWN,
        license_declared: UNKNOWN.to_owned(),
        license_comments: None,
        copyright_text: UNKNOWN,
        external_refs: vec![],
        primary_package_purpose: None,
    }
}

fn relationship(from: &str, kind: &'static str, to: &str) -> Relationship {
    Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    }
}

fn reference(locator: String) -> Reference {
    Reference {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: locator,
    }
}

fn sha256(of: &str) -> Vec<Checksum> {
    vec![Checksum { algorithm: "SHA256", checksum_value: of.to_owned() }]
}

/// An id of letters, digits, `.` and `-`: anything else is written as its number.
fn id(kind: &str, name: &str, version: &str) -> String {
    let mut id = format!("SPDXRef-{kind}-");
    for c in name.chars().chain(['-']).chain(version.chars()) {
        if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
            id.push(c);
        } else {
            id.push_str(&format!(".{:x}.", u32::from(c)));
        }
    }
    id
}

/// As in a package URL.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    const LOCK: &str = "\
version = 4

[[package]]
name = \"initramfs\"
version = \"0.1.0\"
dependencies = [
 \"nix\",
 \"proptest\",
]

[[package]]
name = \"nix\"
version = \"0.31.0\"
source = \"registry+https://example.org/index\"
checksum = \"ababababababababababababababababababababababababababababababab00\"

[[package]]
name = \"proptest\"
version = \"1.0.0\"
source = \"registry+https://example.org/index\"
checksum = \"ababababababababababababababababababababababababababababababab01\"
";

    #[test]
    fn the_document_is_as_spdx_has_it() {
        let docs = tempfile::tempdir().unwrap();
        fs::create_dir(docs.path().join("libstdc++6")).unwrap();
        fs::write(
            docs.path().join("libstdc++6/copyright"),
            "Format: https://example.org/1.0/\n\nFiles: *\nLicense: GPL-3+\n\nFiles: debian/*\n\
             License: GPL-2+ or Expat\n",
        )
        .unwrap();
        let sha256 = "cd".repeat(32);
        let packages = ["libstdc++6", "tzdata"].map(|name| manifest::Package {
            name: name.to_owned(),
            version: "1:14.2.0-19".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: sha256.clone(),
        });
        let init = manifest::Program { name: "init".to_owned(), sha256, size_bytes: 1 };
        let toml = "[dependencies]\nnix.workspace = true\n\n[dev-dependencies]\nproptest = \"1\"\n";
        let text = make(&Request {
            version: &"0.1.0-202611210930".parse().unwrap(),
            flavor: "cloud",
            epoch: 1_795_253_400,
            namespace: Uuid::from_u128(7),
            packages: &packages,
            docs: docs.path(),
            programs: &[Program { program: &init, package: "initramfs" }],
            cargo_lock: LOCK,
            cargo_tomls: &BTreeMap::from([("initramfs".to_owned(), toml.to_owned())]),
        });
        expect_file!["../tests/formats/sbom.spdx.json"].assert_eq(&text.unwrap());
    }

    #[test]
    fn ids_and_urls_take_any_name() {
        assert_eq!(id("deb", "libstdc++6", "1:2~rc"), "SPDXRef-deb-libstdc.2b..2b.6-1.3a.2.7e.rc");
        assert_eq!(escaped("libstdc++6@1:2~rc"), "libstdc%2B%2B6%401:2~rc");
    }
}
