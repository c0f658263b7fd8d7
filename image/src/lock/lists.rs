//! Package lists: what people ask for, before it is resolved. One name a line; `#` starts a
//! comment, where the reason for a package belongs.

use std::str::FromStr;

/// Names of packages, sorted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List(Vec<String>);

/// Where and why a text is no package list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{line}:{column}: {problem}")]
pub struct ListError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in bytes.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl List {
    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The names of both lists.
    pub fn and(&self, other: &Self) -> Self {
        let mut names = [&self.0[..], &other.0[..]].concat();
        names.sort();
        names.dedup();
        Self(names)
    }
}

impl FromStr for List {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let mut names: Vec<String> = Vec::new();
        for (number, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text)) {
            let content = text.split('#').next().unwrap_or_default();
            let name = content.trim();
            if name.is_empty() {
                continue;
            }
            let column = content.len() - content.trim_start().len() + 1;
            let error = |problem| ListError { line: number, column, problem };
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(allowed)
            {
                let problem = format!("`{name}` is no name of a package: expected one name a line");
                return Err(error(problem));
            }
            if names.iter().any(|other| other == name) {
                return Err(error(format!("{name} is listed twice")));
            }
            names.push(name.to_owned());
        }
        names.sort();
        Ok(Self(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_for_people_and_names_are_sorted() {
        let list: List = "# why\nzstd   # because\n\nbash\n".parse().unwrap();
        assert_eq!(list.names(), ["bash", "zstd"]);
    }

    #[test]
    fn a_line_that_is_no_name_is_named() {
        let error = |text: &str| text.parse::<List>().unwrap_err().to_string();
        assert_eq!(
            error("bash\n  bash zsh\n"),
            "2:3: `bash zsh` is no name of a package: expected one name a line"
        );
        assert_eq!(error("bash\nbash\n"), "2:1: bash is listed twice");
        assert_eq!(
            error("--option\n"),
            "1:1: `--option` is no name of a package: expected one name a line"
        );
    }
}
