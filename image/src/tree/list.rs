//! The format of our lists in `rootfs/`: one entry per line, some words and then the reason for
//! the entry, which is mandatory. Empty lines and lines that start with `#` say nothing.
//!
//! ```text
//! # what the words are depends on the list
//! /usr/share/doc      nobody reads documentation on a server
//! ```

use std::{fs, io, path::Path, sync::Arc};

use super::glob::Glob;

/// One line of a list.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Name of the list, as its errors say it.
    pub(crate) file: Arc<str>,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) words: Vec<Word>,
    pub(crate) reason: String,
}

/// A word and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// From 1.
    pub(crate) column: usize,
    pub(crate) text: String,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("reading the list {file}")]
    Read {
        /// The list.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not an entry.
    #[error("{file}:{line}:{column}: {what}")]
    Syntax {
        /// The list.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong, and what to write instead.
        what: String,
    },
}

/// A list, or several one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) entries: Vec<Entry>,
}

impl List {
    /// Reads `path`; every entry has `words` words before its reason.
    pub(crate) fn read(path: &Path, words: usize) -> Result<Self, ListError> {
        let file = short(path);
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text, words),
            Err(source) => Err(ListError::Read { file, source }),
        }
    }

    /// As [`List::read`]; without the file, there are no entries.
    pub(crate) fn read_if_there(path: &Path, words: usize) -> Result<Self, ListError> {
        if path.exists() { Self::read(path, words) } else { Ok(Self::default()) }
    }

    pub(crate) fn parse(file: &str, text: &str, words: usize) -> Result<Self, ListError> {
        let (file, mut list) = (Arc::from(file), Self::default());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let mut entry = Entry {
                file: Arc::clone(&file),
                line: number + 1,
                words: vec![],
                reason: String::new(),
            };
            let mut rest = line;
            for _ in 0..words {
                rest = rest.trim_start();
                let column = line.len() - rest.len() + 1;
                let (word, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                entry.words.push(Word { column, text: word.to_owned() });
                rest = tail;
            }
            entry.reason = rest.trim().to_owned();
            if entry.reason.is_empty() {
                let what = format!(
                    "an entry is {words} word{} and a reason; the reason is missing",
                    if words == 1 { "" } else { "s" }
                );
                return Err(entry.error_at(line.len() + 1, what));
            }
            list.entries.push(entry);
        }
        Ok(list)
    }
}

/// The file in its folder: errors, and what is stored of them, must not depend on where the
/// repository is.
fn short(path: &Path) -> String {
    match (path.parent().and_then(Path::file_name), path.file_name()) {
        (Some(folder), Some(name)) => format!("{}/{}", folder.display(), name.display()),
        (_, _) => path.display().to_string(),
    }
}

impl Entry {
    /// The text of a word.
    pub(crate) fn word(&self, number: usize) -> &str {
        &self.words[number].text
    }

    /// An error at a word.
    pub(crate) fn error(&self, word: usize, what: impl Into<String>) -> ListError {
        self.error_at(self.words[word].column, what.into())
    }

    fn error_at(&self, column: usize, what: String) -> ListError {
        ListError::Syntax { file: self.file.to_string(), line: self.line, column, what }
    }

    /// The word as a glob, without its first `skip` characters.
    pub(crate) fn glob(&self, word: usize, skip: usize) -> Result<Glob, ListError> {
        let Word { column, text } = &self.words[word];
        Glob::parse(&text[skip..]).map_err(|bad| {
            let what = format!("`{text}` is not a glob: {}", bad.what);
            self.error_at(column + skip + bad.at, what)
        })
    }

    /// `file:line`.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_say_nothing_and_a_reason_may_hold_a_hash() {
        let text = "# about\n\n  # more\n/a\t/b   reason # 1 \n";
        let list = List::parse("x.list", text, 2).unwrap();
        let [entry] = &list.entries[..] else { panic!("{list:?}") };
        assert_eq!((entry.line, entry.words[1].column), (4, 4));
        assert_eq!((&*entry.words[0].text, &*entry.words[1].text), ("/a", "/b"));
        assert_eq!(entry.reason, "reason # 1");
    }

    #[test]
    fn an_entry_without_a_reason_is_refused_with_its_place() {
        let error = List::parse("x.list", "/a why\n /b \n", 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.list:2:4: an entry is 1 word and a reason; the reason is missing"
        );
    }

    #[test]
    fn a_bad_glob_is_refused_with_its_place() {
        let list = List::parse("x.list", "  !/a/{b why\n", 1).unwrap();
        let error = list.entries[0].glob(0, 1).unwrap_err();
        assert_eq!(error.to_string(), "x.list:1:7: `!/a/{b` is not a glob: `{` without its `}`");
    }
}
