//! The lock as text.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use super::{Lock, Package, Set};

const FORMAT: &str = "format 1";
const COLUMNS: &str = "SET NAME VERSION ARCHITECTURE SHA256 BYTES FILE";

/// Where and why a text is no lock.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{line}:{column}: {problem}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in bytes.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a lock or with a package of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Problem {
    /// The file is of another format, or no lock at all.
    #[error("expected `{FORMAT}`, found `{0}`: this version reads format 1 only")]
    Format(String),
    /// The date of the index is not one.
    #[error("expected `resolved` and a date like 20261121T081653Z, found `{0}`")]
    Resolved(String),
    /// The hash of the lists is not one.
    #[error("expected `asked` and 16 digits of 0-9 a-f, found `{0}`")]
    Asked(String),
    /// A line has too few or too many words.
    #[error("expected 7 columns ({COLUMNS}), found {0}")]
    Columns(usize),
    /// The first word names no set.
    #[error(
        "`{0}` is no set: expected browser, build, image, image.cloud, image.generic, stock or tools"
    )]
    Set(String),
    /// A package's name, version or architecture has characters that none has.
    #[error("`{0}` cannot be a package's {1}")]
    Word(String, &'static str),
    /// A hash is not one.
    #[error("`{0}` is no SHA-256: expected 64 digits of 0-9 a-f")]
    Hash(String),
    /// A size is not one.
    #[error("`{0}` is no size in bytes")]
    Size(String),
    /// A place below an archive leads elsewhere.
    #[error("`{0}` is no file of an archive: expected ARCHIVE/pool/….deb")]
    File(String),
    /// A package is locked twice.
    #[error("{name} is in the set `{set}` already")]
    Twice {
        /// Its name.
        name: String,
        /// Where it is already.
        set: Set,
    },
    /// Two sets have different files for one version.
    #[error("{name} has another SHA-256 in another set, for the same version")]
    TwoHashes {
        /// Its name.
        name: String,
    },
}

impl FromStr for Lock {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let at = |line: usize, column: usize| move |problem| ParseError { line, column, problem };
        let mut lines = text.lines();

        let format = lines.next().unwrap_or_default();
        if format != FORMAT {
            return Err(at(1, 1)(Problem::Format(format.to_owned())));
        }
        let resolved = lines.next().unwrap_or_default();
        let date = resolved.strip_prefix("resolved ").filter(|date| is_date(date));
        let date = date.ok_or_else(|| at(2, 1)(Problem::Resolved(resolved.to_owned())))?;

        let asked = lines.next().unwrap_or_default();
        let hash = asked.strip_prefix("asked ").filter(|hash| hash.len() == 16 && is_hex(hash));
        let hash = hash.ok_or_else(|| at(3, 1)(Problem::Asked(asked.to_owned())))?;

        let mut lock = Self {
            resolved: date.to_owned(),
            asked: hash.to_owned(),
            packages: std::collections::BTreeMap::new(),
        };
        for (number, text) in lines.enumerate().map(|(index, text)| (index + 4, text)) {
            let words: Vec<&str> = text.split(' ').collect();
            let [set, name, version, architecture, sha256, size, file] = words[..] else {
                return Err(at(number, 1)(Problem::Columns(words.len())));
            };
            let column = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize + 1;
            let set = set.parse().map_err(at(number, 1))?;
            let size_bytes = size
                .parse()
                .map_err(|_| at(number, column(size))(Problem::Size(size.to_owned())))?;
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                sha256: sha256.to_owned(),
                size_bytes,
                file: file.to_owned(),
            };
            lock.insert(set, package).map_err(|problem| {
                let word = match &problem {
                    Problem::Word(_, "version") => version,
                    Problem::Word(_, "architecture") => architecture,
                    Problem::Hash(_) | Problem::TwoHashes { .. } => sha256,
                    Problem::File(_) => file,
                    Problem::Size(_) => size,
                    _ => name,
                };
                at(number, column(word))(problem)
            })?;
        }
        Ok(lock)
    }
}

impl Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FORMAT}\nresolved {}\nasked {}", self.resolved, self.asked)?;
        self.iter().try_for_each(|(set, package)| {
            let Package { name, version, architecture, sha256, size_bytes, file } = package;
            writeln!(f, "{set} {name} {version} {architecture} {sha256} {size_bytes} {file}")
        })
    }
}

impl Package {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let word = |text: &str, what, extra: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
            let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
            let fine = starts && text.chars().all(good);
            if fine { Ok(()) } else { Err(Problem::Word(text.to_owned(), what)) }
        };
        word(&self.name, "name", "+-.")?;
        word(&self.version, "version", "+-.~:")?;
        word(&self.architecture, "architecture", "-")?;
        if self.sha256.len() != 64 || !is_hex(&self.sha256) {
            return Err(Problem::Hash(self.sha256.clone()));
        }
        if self.size_bytes == 0 {
            return Err(Problem::Size(self.size_bytes.to_string()));
        }
        let inside = |part: &str| !matches!(part, "" | "." | "..");
        let good = self.file.ends_with(".deb")
            && self.file.contains("/pool/")
            && self.file.split('/').all(inside);
        if good { Ok(()) } else { Err(Problem::File(self.file.clone())) }
    }
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// `20261121T081653Z`.
fn is_date(text: &str) -> bool {
    text.len() == 16
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn check(lines: &str, expected: Expect) {
        let text = format!("format 1\nresolved 20261121T081653Z\nasked 5e884898da280471\n{lines}")
            .replace("HASH", HASH);
        let said = match text.parse::<Lock>() {
            Ok(lock) => {
                assert_eq!(lock.to_string(), text, "a lock is written as it was read");
                format!("{} packages", lock.iter().count())
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn a_lock_is_read_and_written() {
        check(
            "image bash 5.2.37-2+b8 amd64 HASH 10 debian/pool/main/b/bash/bash.deb\n\
             tools bash 5.2.37-2+b8 amd64 HASH 10 debian/pool/main/b/bash/bash.deb\n",
            expect!["2 packages"],
        );
    }

    #[test]
    fn an_error_says_line_column_and_what_was_expected() {
        check(
            "image bash 1 amd64 HASH 10\n",
            expect![
                "4:1: expected 7 columns (SET NAME VERSION ARCHITECTURE SHA256 BYTES FILE), found 6"
            ],
        );
        check(
            "images bash 1 amd64 HASH 10 debian/pool/b.deb\n",
            expect![
                "4:1: `images` is no set: expected browser, build, image, image.cloud, image.generic, stock or tools"
            ],
        );
        check(
            "image bash 1 amd64 abc 10 debian/pool/b.deb\n",
            expect!["4:20: `abc` is no SHA-256: expected 64 digits of 0-9 a-f"],
        );
        check(
            "image bash 1 amd64 HASH ten debian/pool/b.deb\n",
            expect!["4:85: `ten` is no size in bytes"],
        );
        check(
            "image bash 1/2 amd64 HASH 10 debian/pool/b.deb\n",
            expect!["4:12: `1/2` cannot be a package's version"],
        );
        check(
            "image bash 1 amd64 HASH 10 debian/pool/../../b.deb\n",
            expect![
                "4:88: `debian/pool/../../b.deb` is no file of an archive: expected ARCHIVE/pool/….deb"
            ],
        );
        check(
            "image a 1 amd64 HASH 10 debian/pool/b.deb\nimage a 1 amd64 HASH 10 debian/pool/b.deb\n",
            expect!["5:7: a is in the set `image` already"],
        );
    }

    #[test]
    fn another_format_is_refused_before_it_is_misread() {
        let error = "format 2\n".parse::<Lock>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "1:1: expected `format 1`, found `format 2`: this version reads format 1 only"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(format 1\n)?(resolved [0-9TZ]{16}\n)?(asked [0-9a-f]{16}\n)?[ -~\n]{0,200}") {
            let _ = text.parse::<Lock>();
        }
    }
}
