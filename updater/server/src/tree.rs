//! The static repository over HTTP: which file a request means, and which part of it is sent. Pure;
//! [`file`] touches the disk.

pub mod file;

use std::time::SystemTime;

/// What machines read. `staged/` is nobody's business.
const FOLDERS: [&str; 3] = ["metadata", "targets", "objects"];
const TIMESTAMP: &str = "metadata/timestamp.json";

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its length.
    pub size_bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// What a request demands of a file, header by header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `Range`.
    pub range: Option<&'a str>,
}

/// What is sent of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// So many bytes from there on.
    Range {
        /// The first.
        from: u64,
        /// How many; at least one.
        length: u64,
    },
    /// Nothing: the client has it.
    NotModified,
    /// Nothing: it ends before that.
    Unsatisfiable,
}

/// The file that the path of a request means, relative to the repository. No name in a repository
/// needs an escape, so none is undone, and nothing can hide in one.
pub fn path(of_request: &str) -> Option<&str> {
    let path = of_request.strip_prefix('/')?;
    let good = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    let mut segments = path.split('/');
    let is_ours = segments.clone().next().is_some_and(|first| FOLDERS.contains(&first));
    let is_good = segments.all(|segment| {
        !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(good)
    });
    (is_ours && is_good && path.contains('/') && path.len() <= 512).then_some(path)
}

/// How long a cache may keep a file: all of them but one have a name of their own for ever.
pub fn cache_control(path: &str) -> &'static str {
    match path {
        TIMESTAMP => "no-cache",
        _ => "public, max-age=31536000, immutable",
    }
}

impl Facts {
    /// A name for this content. Files of a repository are replaced, not changed.
    pub fn etag(&self) -> String {
        let age = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("\"{:x}-{:x}\"", age.as_nanos(), self.size_bytes)
    }

    /// The time of `Last-Modified`.
    pub fn last_modified(&self) -> String {
        httpdate::fmt_http_date(self.modified)
    }

    /// What is sent.
    pub fn part(&self, conditions: &Conditions<'_>) -> Part {
        let fresh = match (conditions.if_none_match, conditions.if_modified_since) {
            (Some(tags), _) => self.is_one_of(tags),
            (None, Some(since)) => self.is_no_newer_than(since),
            (None, None) => false,
        };
        if fresh {
            return Part::NotModified;
        }
        let same = match conditions.if_range {
            None => true,
            Some(tag) if tag.starts_with('"') => tag == self.etag(),
            Some(date) => date == self.last_modified(),
        };
        match conditions.range {
            Some(range) if same => self.range(range),
            Some(_) | None => Part::Whole,
        }
    }

    fn is_one_of(&self, tags: &str) -> bool {
        let own = self.etag();
        tags.split(',').map(str::trim).any(|tag| {
            // A weak tag is as good here.
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own
        })
    }

    fn is_no_newer_than(&self, date: &str) -> bool {
        let Ok(date) = httpdate::parse_http_date(date) else { return false };
        // The header has whole seconds.
        let own = httpdate::parse_http_date(&self.last_modified());
        own.is_ok_and(|own| own <= date)
    }

    /// One range of bytes. Several, or what is no range, are answered by all of it, which the
    /// protocol allows.
    fn range(&self, range: &str) -> Part {
        let size = self.size_bytes;
        let Some((first, last)) =
            range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
        else {
            return Part::Whole;
        };
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // What is too large for a number is behind every end.
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let (from, end) = match (number(first), number(last)) {
            (Some(from), None) if last.is_empty() => (from, size),
            (Some(from), Some(last)) if from <= last => (from, last.saturating_add(1).min(size)),
            (None, Some(length)) if first.is_empty() => {
                (size.saturating_sub(length), if length == 0 { 0 } else { size })
            }
            _ => return Part::Whole,
        };
        match end.checked_sub(from) {
            Some(length @ 1..) if from < size => Part::Range { from, length },
            Some(_) | None => Part::Unsatisfiable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FACTS: Facts = Facts { size_bytes: 1000, modified: SystemTime::UNIX_EPOCH };

    fn ranged(range: &str) -> Part {
        FACTS.part(&Conditions { range: Some(range), ..Conditions::default() })
    }

    #[test]
    fn only_files_that_machines_read_have_a_path() {
        for good in [
            "metadata/timestamp.json",
            "objects/ab/abcdef0123",
            "targets/releases/0.1.0-2026/00ff.cloud-x86_64.json",
        ] {
            assert_eq!(path(&format!("/{good}")), Some(good));
        }
        for bad in [
            "",
            "/",
            "//",
            "metadata/timestamp.json",
            "/metadata",
            "/metadata/",
            "/staged/root.json",
            "/metadata/../staged/root.json",
            "/metadata/..",
            "/metadata/./a",
            "/metadata//a",
            "/metadata/.hidden",
            "/metadata/%2e%2e/staged/root.json",
            "/metadata/..%2fstaged",
            "/metadata/a\\b",
            "/metadata/a\0b",
            "/metadata/a b",
            "/Metadata/a",
            "/etc/passwd",
            "/objects/ä",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
        assert_eq!(path(&format!("/objects/{}", "a".repeat(600))), None);
    }

    #[test]
    fn ranges_are_what_they_say() {
        let range = |from, length| Part::Range { from, length };
        for (text, part) in [
            ("bytes=0-0", range(0, 1)),
            ("bytes=10-19", range(10, 10)),
            ("bytes=990-", range(990, 10)),
            ("bytes=990-99999999999999999999999", range(990, 10)),
            ("bytes=-10", range(990, 10)),
            ("bytes=-5000", range(0, 1000)),
            ("bytes=1000-", Part::Unsatisfiable),
            ("bytes=1000-1001", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            // Not a range, or several of them.
            ("bytes=20-10", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(ranged(text), part, "{text}");
        }
        let empty = Facts { size_bytes: 0, ..FACTS };
        let conditions = Conditions { range: Some("bytes=0-"), ..Conditions::default() };
        assert_eq!(empty.part(&conditions), Part::Unsatisfiable);
    }

    #[test]
    fn who_has_it_gets_nothing() {
        let part = |conditions: Conditions<'_>| FACTS.part(&conditions);
        let none = Conditions::default();
        let tag = FACTS.etag();
        let weak = format!("\"x\", W/{tag}");
        for tags in [&tag, "*", &weak] {
            let conditions = Conditions { if_none_match: Some(tags), ..none };
            assert_eq!(part(conditions), Part::NotModified, "{tags}");
        }
        let other = Conditions { if_none_match: Some("\"x\""), ..none };
        assert_eq!(part(other), Part::Whole);
        let date = FACTS.last_modified();
        let since = Conditions { if_modified_since: Some(&date), ..none };
        assert_eq!(part(since), Part::NotModified);
        // A tag says more than a date.
        assert_eq!(part(Conditions { if_none_match: Some("\"x\""), ..since }), Part::Whole);
        let newer = Facts { modified: FACTS.modified + Duration::from_secs(2), ..FACTS };
        assert_eq!(newer.part(&since), Part::Whole);
        let garbage = Conditions { if_modified_since: Some("yesterday"), ..none };
        assert_eq!(part(garbage), Part::Whole);
    }

    #[test]
    fn a_range_of_another_content_is_all_of_this_one() {
        let range = Conditions { range: Some("bytes=0-0"), ..Conditions::default() };
        let (tag, date) = (FACTS.etag(), FACTS.last_modified());
        for (if_range, part) in [
            (tag.as_str(), Part::Range { from: 0, length: 1 }),
            (&date, Part::Range { from: 0, length: 1 }),
            ("\"x\"", Part::Whole),
            ("W/\"x\"", Part::Whole),
        ] {
            let conditions = Conditions { if_range: Some(if_range), ..range };
            assert_eq!(FACTS.part(&conditions), part, "{if_range}");
        }
    }
}
