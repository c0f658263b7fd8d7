//! Licences out of Debian's copyright files (format 1.0), in the words of SPDX. What SPDX has no
//! certain word for is left out: a licence that we guess is worse than one that we do not say.

use std::collections::BTreeSet;

/// What a copyright file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Said {
    /// The licence of the whole (`Files: *`), as an SPDX expression.
    pub(super) declared: Option<String>,
    /// Every licence that it names, in Debian's words, sorted.
    pub(super) names: Vec<String>,
}

/// Reads a copyright file. One that is not machine-readable says nothing.
pub(super) fn read(text: &str) -> Said {
    if !text.trim_start().starts_with("Format:") {
        return Said::default();
    }
    let mut said = Said::default();
    let mut names = BTreeSet::new();
    for stanza in stanzas(text) {
        let field = |name: &str| stanza.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let Some((_, license)) = field("License") else { continue };
        if license.is_empty() {
            continue;
        }
        names.insert(license.clone());
        if field("Files").is_some_and(|(_, files)| files.trim() == "*") {
            said.declared = expression(license);
        }
    }
    said.names = names.into_iter().collect();
    said
}

/// Fields by stanza; of each the first line, or for `Files` all of them.
fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut stanzas = vec![vec![]];
    for line in text.lines() {
        let last: &mut Vec<(String, String)> = stanzas.last_mut().expect("one at least");
        if line.trim().is_empty() {
            stanzas.push(vec![]);
        } else if line.starts_with([' ', '\t']) {
            if let Some((key, value)) = last.last_mut()
                && key == "Files"
            {
                value.push_str(line);
            }
        } else if let Some((key, value)) = line.split_once(':') {
            last.push((key.to_owned(), value.trim().to_owned()));
        }
    }
    stanzas
}

/// An SPDX expression for `GPL-2+ or Expat`; none if any part of it has no certain name, or if it
/// mixes "and" and "or", which Debian binds in a way of its own.
fn expression(license: &str) -> Option<String> {
    let license = license.replace(", ", " ");
    let (word, joint) = match (license.contains(" or "), license.contains(" and ")) {
        (true, true) => return None,
        (true, false) => (" or ", " OR "),
        (false, _) => (" and ", " AND "),
    };
    let names: Option<Vec<String>> =
        license.split(word).map(|name| identifier(name.trim())).collect();
    Some(names?.join(joint))
}

/// One licence.
fn identifier(name: &str) -> Option<String> {
    if let Some(base) = name.strip_suffix(" with Linux-syscall-note exception") {
        return Some(format!("{} WITH Linux-syscall-note", identifier(base)?));
    }
    let known = match name.to_ascii_lowercase().as_str() {
        "expat" | "mit" => "MIT",
        "apache-2" | "apache-2.0" => "Apache-2.0",
        "artistic" => "Artistic-1.0-Perl",
        "bsd-2-clause" => "BSD-2-Clause",
        "bsd-3-clause" => "BSD-3-Clause",
        "bsd-4-clause" => "BSD-4-Clause",
        "0bsd" => "0BSD",
        "bsl-1.0" => "BSL-1.0",
        "cc0" | "cc0-1.0" => "CC0-1.0",
        "curl" => "curl",
        "isc" => "ISC",
        "mpl-2.0" => "MPL-2.0",
        "openldap-2.8" => "OLDAP-2.8",
        "x11" => "X11",
        "zlib" => "Zlib",
        _ => return gnu(name),
    };
    Some(known.to_owned())
}

/// `GPL-2+`, `LGPL-2.1`, `GPL-3.0-or-later`.
fn gnu(name: &str) -> Option<String> {
    let family = ["LGPL-", "GPL-", "AGPL-"].into_iter().find(|family| name.starts_with(family))?;
    let version = &name[family.len()..];
    let (version, how) = if let Some(version) = version.strip_suffix("-or-later") {
        (version, "or-later")
    } else if let Some(version) = version.strip_suffix('+') {
        (version, "or-later")
    } else {
        (version.strip_suffix("-only").unwrap_or(version), "only")
    };
    let version = match version {
        "1" | "1.0" => "1.0",
        "2" | "2.0" => "2.0",
        "2.1" => "2.1",
        "3" | "3.0" => "3.0",
        _ => return None,
    };
    let exists = match family {
        "GPL-" => version != "2.1",
        "LGPL-" => version != "1.0",
        _ => version == "3.0",
    };
    exists.then(|| format!("{family}{version}-{how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_spdx_has_are_translated_and_others_are_not() {
        for (debian, spdx) in [
            ("GPL-2+", Some("GPL-2.0-or-later")),
            ("LGPL-2.1", Some("LGPL-2.1-only")),
            ("GPL-3.0-or-later", Some("GPL-3.0-or-later")),
            ("LGPL-3+ or GPL-2+", Some("LGPL-3.0-or-later OR GPL-2.0-or-later")),
            ("Expat and BSD-3-clause", Some("MIT AND BSD-3-Clause")),
            (
                "GPL-2 with Linux-syscall-note exception",
                Some("GPL-2.0-only WITH Linux-syscall-note"),
            ),
            ("GPL-2+ with OpenSSL exception", None),
            ("GPL-2.1", None),
            ("permissive", None),
            ("A or B, and C", None),
            ("GPL", None),
        ] {
            assert_eq!(expression(debian).as_deref(), spdx, "{debian}");
        }
    }

    #[test]
    fn the_licence_of_the_whole_is_declared_and_the_others_are_named() {
        let said = read(
            "Format: https://example.org/\nUpstream-Name: x\n\nFiles: debian/*\nLicense: GPL-2+\n\n\
             Files:\n *\nCopyright: someone\nLicense: Expat\n Permission is hereby\n .\n granted\n\n\
             License: GPL-2+\n long text\n",
        );
        assert_eq!(said.declared.as_deref(), Some("MIT"));
        assert_eq!(said.names, ["Expat", "GPL-2+"]);
        assert_eq!(read("This package was debianized by"), Said::default());
    }
}
