//! The text of a systemd unit: sections, and the options in them.
//!
//! What is refused is what the original refuses, in its words: a unit that it takes is taken here.
//! Where it reads a text otherwise than systemd does (a comment that ends in a backslash, a comment
//! in the middle of a continued line), this reads it as systemd does.

use std::fmt;

/// systemd once cut lines that are longer; the original refuses them since then.
const MAX_LINE_BYTES: usize = 2048;

/// A unit, or a drop-in of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its sections, in the order of the text. One name may be there more than once.
    pub sections: Vec<Section>,
}

/// A section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// What is in its brackets.
    pub name: String,
    /// Its options, in the order of the text.
    pub options: Vec<UnitOption>,
}

/// An option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitOption {
    /// What is left of its `=`.
    pub name: String,
    /// What is right of it; lines that were continued are joined by a blank.
    pub value: String,
}

/// A text that is no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotAUnit {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `[` without `]`.
    OpenSection,
    /// Something behind the `]` of a section.
    BehindSection,
    /// A line without `=`.
    NoValue,
    /// A line that is too long.
    LongLine,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenSection => f.write_str("unable to find end of section"),
            Self::BehindSection => f.write_str("found garbage after section name"),
            Self::NoValue => {
                f.write_str("unexpected newline encountered while parsing option name")
            }
            Self::LongLine => write!(f, "line too long (max {MAX_LINE_BYTES} bytes)"),
        }
    }
}

impl Unit {
    /// The values of an option, of every section of that name. An empty value forgets those before
    /// it, as systemd has it for options that are lists.
    pub fn values<'a>(&'a self, section: &str, option: &str) -> Vec<&'a str> {
        let mut values = Vec::new();
        let sections = self.sections.iter().filter(|one| one.name == section);
        for found in sections.flat_map(|one| &one.options).filter(|one| one.name == option) {
            match &*found.value {
                "" => values.clear(),
                value => values.push(value),
            }
        }
        values
    }

    /// Whether a section is there and has options.
    pub fn has(&self, section: &str) -> bool {
        self.sections.iter().any(|one| one.name == section && !one.options.is_empty())
    }
}

/// Parses the text of a unit or of a drop-in.
pub fn parse(text: &str) -> Result<Unit, NotAUnit> {
    let mut unit = Unit::default();
    let mut lines = text.lines().zip(1..);
    // The original takes what is behind a comment that ends in a backslash for more of the comment,
    // systemd does not: it is read, but not complained of.
    let mut comment_goes_on = false;
    while let Some((line, number)) = lines.next() {
        let wrong = |reason| NotAUnit { line: number, reason };
        if line.len() >= MAX_LINE_BYTES {
            return Err(wrong(Reason::LongLine));
        }
        let trimmed = line.trim();
        let tolerated = std::mem::take(&mut comment_goes_on);
        if is_comment(trimmed) {
            comment_goes_on = trimmed.ends_with('\\');
        } else if let Some(rest) = trimmed.strip_prefix('[') {
            let (name, behind) = rest.split_once(']').ok_or(wrong(Reason::OpenSection))?;
            if !behind.is_empty() {
                return Err(wrong(Reason::BehindSection));
            }
            unit.sections.push(Section { name: name.to_owned(), options: Vec::new() });
        } else if let Some(section) = unit.sections.last_mut()
            && !trimmed.is_empty()
        {
            let Some((name, value)) = line.split_once('=') else {
                match tolerated {
                    true => continue,
                    false => return Err(wrong(Reason::NoValue)),
                }
            };
            let value = continued(value, &mut lines)?;
            section.options.push(UnitOption { name: name.trim().to_owned(), value });
        }
    }
    Ok(unit)
}

/// A value and the lines that it is continued on; comments between them are none of it.
fn continued<'a>(
    first: &'a str,
    lines: &mut impl Iterator<Item = (&'a str, usize)>,
) -> Result<String, NotAUnit> {
    let mut value = String::new();
    let mut line = Some(first);
    while let Some(text) = line.take() {
        let part = text.strip_suffix('\\');
        value.push_str(part.unwrap_or(text));
        if part.is_some() {
            value.push(' ');
            let next = lines.find(|(line, _)| !is_comment(line.trim()));
            if let Some((_, number)) = next.filter(|(next, _)| next.len() >= MAX_LINE_BYTES) {
                return Err(NotAUnit { line: number, reason: Reason::LongLine });
            }
            line = next.map(|(next, _)| next);
        }
    }
    Ok(value.trim().to_owned())
}

fn is_comment(trimmed: &str) -> bool {
    trimmed.starts_with(['#', ';'])
}

/// The template (`a@.service`) that an instance is made from.
pub fn template_of(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{suffix}"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Expect) {
        let found = match parse(text) {
            Err(error) => format!("line {}: {error}\n", error.line),
            Ok(unit) => unit.sections.iter().map(picture).collect(),
        };
        expected.assert_eq(&found);
    }

    fn picture(section: &Section) -> String {
        let options = section.options.iter();
        let options: String =
            options.map(|one| format!("  {} = {:?}\n", one.name, one.value)).collect();
        format!("[{}]\n{options}", section.name)
    }

    #[test]
    fn sections_and_options_are_found() {
        check(
            "# a comment\n[Unit]\nDescription = a=b \n\n; another\n[Install]\r\nWantedBy=a.target\r\n",
            expect![[r#"
                [Unit]
                  Description = "a=b"
                [Install]
                  WantedBy = "a.target"
            "#]],
        );
    }

    #[test]
    fn a_continued_line_is_one_value_and_comments_in_it_are_not_of_it() {
        check(
            "[Service]\nExecStart=/bin/a \\\n# why\n  --b \\\n  --c\nType=oneshot\nUser=a\\",
            expect![[r#"
                [Service]
                  ExecStart = "/bin/a    --b    --c"
                  Type = "oneshot"
                  User = "a"
            "#]],
        );
    }

    #[test]
    fn a_comment_that_ends_in_a_backslash_hides_nothing_and_what_it_left_over_is_no_error() {
        check(
            "[Service]\n#ExecStart=/bin/a \\\n  --b\n# \\\nType=oneshot\n",
            expect![[r#"
                [Service]
                  Type = "oneshot"
            "#]],
        );
    }

    #[test]
    fn what_is_before_the_first_section_is_nothing() {
        check(
            "Type=oneshot\nwhat\n[Unit]\n",
            expect![[r#"
            [Unit]
        "#]],
        );
        check("", expect![""]);
    }

    #[test]
    fn what_is_not_a_unit_is_refused_with_its_line() {
        check(
            "\n[Foo",
            expect![[r#"
            line 2: unable to find end of section
        "#]],
        );
        check(
            "[Foo] bar",
            expect![[r#"
            line 1: found garbage after section name
        "#]],
        );
        check(
            "[Foo]\nbar\n",
            expect![[r#"
            line 2: unexpected newline encountered while parsing option name
        "#]],
        );
        let long = format!("[Foo]\na=\\\n{}", "b".repeat(MAX_LINE_BYTES));
        check(
            &long,
            expect![[r#"
            line 3: line too long (max 2048 bytes)
        "#]],
        );
    }

    #[test]
    fn an_empty_value_forgets_those_before_it() {
        let text = "[Install]\nWantedBy=a\nWantedBy=\nWantedBy=b c\n[Install]\nWantedBy=d\n";
        let unit = parse(text).unwrap();
        assert_eq!(unit.values("Install", "WantedBy"), ["b c", "d"]);
        assert!(unit.has("Install") && !unit.has("Unit"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[\\[\\]=#;a\\\\ \r\n\u{e9}]{0,40}") {
            let _ = parse(&text);
        }
    }
}
