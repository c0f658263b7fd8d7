//! The decisions about the tree that are data, not code: the lists in `rootfs/`.
//!
//! | file | an entry | says |
//! | --- | --- | --- |
//! | `cuts.list` | `GLOB reason` or `!GLOB reason` | left out of the image, or kept after all |
//! | `cuts.FLAVOR.list` | the same | behind the entries of `cuts.list`, for one flavour |
//! | `setuid.list` | `PATH reason` | may keep its setuid bit |
//! | `missing.list` | `GLOB NEEDED reason` | the file may need what is not there |
//!
//! Paths are those of a running machine: `/usr/…` and `/etc/…`. A glob that matches a directory
//! takes all that is below; of several entries that match, the last one decides.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use super::{
    glob::Glob,
    list::{Entry, List, ListError},
};

/// The lists, parsed.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) cuts: Cuts,
    pub(crate) setuid: Setuid,
    pub(crate) missing: Missing,
}

impl Rules {
    /// Reads `cuts.list`, `cuts.FLAVOR.list` if there is one, `setuid.list` and `missing.list`
    /// of `rootfs`.
    pub fn load(rootfs: &Path, flavor: &str) -> Result<Self, ListError> {
        let mut cuts = List::read(&rootfs.join("cuts.list"), 1)?;
        let more = List::read_if_there(&rootfs.join(format!("cuts.{flavor}.list")), 1)?;
        cuts.entries.extend(more.entries);
        Ok(Self {
            cuts: Cuts::new(cuts)?,
            setuid: Setuid::new(List::read(&rootfs.join("setuid.list"), 1)?)?,
            missing: Missing::new(List::read(&rootfs.join("missing.list"), 2)?)?,
        })
    }
}

/// `cuts.list`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts {
    list: List,
    globs: Vec<(Glob, Verb)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Cut,
    Keep,
}

/// Number of an entry of `cuts.list`, from 0.
pub(crate) type CutNumber = usize;

/// What the list says about one path, given what it says about the directory that holds it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Verdict(Option<CutNumber>);

impl Cuts {
    pub(crate) fn new(list: List) -> Result<Self, ListError> {
        let globs = list.entries.iter().map(|entry| {
            let text = entry.word(0);
            let (verb, skip) = if text.starts_with('!') { (Verb::Keep, 1) } else { (Verb::Cut, 0) };
            absolute(entry, &text[skip..])?;
            Ok((entry.glob(0, skip)?, verb))
        });
        let globs = globs.collect::<Result<_, ListError>>()?;
        Ok(Self { list, globs })
    }

    /// The verdict on `path`, whose directory has the verdict `above`. Entries that match are
    /// added to `used`.
    pub(crate) fn judge(
        &self,
        path: &str,
        above: Verdict,
        used: &mut BTreeSet<CutNumber>,
    ) -> Verdict {
        let matching = |(number, (glob, _)): (usize, &(Glob, Verb))| {
            let matches = glob.matches(path);
            if matches {
                used.insert(number);
            }
            matches.then_some(number)
        };
        Verdict(self.globs.iter().enumerate().filter_map(matching).max().max(above.0))
    }

    /// The entry that cuts, if the verdict is to cut.
    pub(crate) fn cut_by(&self, verdict: Verdict) -> Option<CutNumber> {
        verdict.0.filter(|&number| self.globs[number].1 == Verb::Cut)
    }

    /// `file:line (glob: reason)` of an entry.
    pub(crate) fn describe(&self, number: CutNumber) -> String {
        let entry = &self.list.entries[number];
        format!("{} ({}: {})", entry.place(), entry.word(0), entry.reason)
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.globs.len()
    }
}

/// `setuid.list`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setuid {
    list: List,
}

impl Setuid {
    pub(crate) fn new(list: List) -> Result<Self, ListError> {
        for entry in &list.entries {
            absolute(entry, entry.word(0))?;
        }
        Ok(Self { list })
    }

    /// Whether the program at `path` may run as root for everybody.
    pub(crate) fn allows(&self, path: &str) -> bool {
        self.list.entries.iter().any(|entry| entry.word(0) == path)
    }

    /// Each entry's path and `file:line`.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&str, String)> {
        self.list.entries.iter().map(|entry| (entry.word(0), entry.place()))
    }
}

/// `missing.list`: what may be needed and not there. Remembers which entries were of use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    list: List,
    globs: Vec<(Glob, Glob)>,
    used: RefCell<BTreeSet<usize>>,
}

impl Missing {
    pub(crate) fn new(list: List) -> Result<Self, ListError> {
        let globs = list.entries.iter().map(|entry| {
            absolute(entry, entry.word(0))?;
            Ok((entry.glob(0, 0)?, entry.glob(1, 0)?))
        });
        let globs = globs.collect::<Result<_, ListError>>()?;
        Ok(Self { list, globs, used: RefCell::default() })
    }

    /// Whether `file` may need `needed`, which is not there.
    pub(crate) fn excuses(&self, file: &str, needed: &str) -> bool {
        let fits = |(file_glob, needed_glob): &(Glob, Glob)| {
            file_glob.matches(file) && needed_glob.matches(needed)
        };
        let entry = self.globs.iter().position(fits);
        self.used.borrow_mut().extend(entry);
        entry.is_some()
    }

    /// `file:line` and text of the entries that excused nothing so far.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let entries = self.list.entries.iter().enumerate();
        entries
            .filter(|(number, _)| !used.contains(number))
            .map(|(_, entry)| {
                let (file, needed) = (entry.word(0), entry.word(1));
                format!("{}: `{file}` does not miss `{needed}` any more", entry.place())
            })
            .collect()
    }
}

fn absolute(entry: &Entry, path: &str) -> Result<(), ListError> {
    let known = path.starts_with("/usr/") || path.starts_with("/etc/");
    // Directories never end in a slash here: such an entry would match nothing.
    let what = match (known, path.ends_with('/')) {
        (true, false) => return Ok(()),
        (true, true) => format!("`{path}` ends in a slash: write the directory without it"),
        (false, _) => format!("`{path}` must start with /usr/ or /etc/, braces come later"),
    };
    Err(entry.error(0, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(text: &str) -> Cuts {
        Cuts::new(List::parse("cuts.list", text, 1).unwrap()).unwrap()
    }

    fn cut_by(cuts: &Cuts, path: &str) -> Option<CutNumber> {
        let mut verdict = Verdict::default();
        for (at, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            verdict = cuts.judge(&path[..at], verdict, &mut BTreeSet::new());
        }
        cuts.cut_by(verdict)
    }

    #[test]
    fn the_last_entry_that_matches_decides() {
        let cuts = cuts("/usr/share/doc a\n!/usr/share/doc/*/copyright b\n/usr/share/doc/x c\n");
        assert_eq!(cut_by(&cuts, "/usr/share"), None);
        assert_eq!(cut_by(&cuts, "/usr/share/doc/bash/changelog"), Some(0));
        assert_eq!(cut_by(&cuts, "/usr/share/doc/bash/copyright"), None);
        assert_eq!(cut_by(&cuts, "/usr/share/doc/x/y"), Some(2));
        assert_eq!(cut_by(&cuts, "/usr/share/doc/x/copyright"), Some(2));
    }

    #[test]
    fn a_path_outside_usr_and_etc_is_refused_with_its_place() {
        let list = List::parse("cuts.list", "/usr/a b\n!var/lib b\n", 1).unwrap();
        assert_eq!(
            Cuts::new(list).unwrap_err().to_string(),
            "cuts.list:2:1: `var/lib` must start with /usr/ or /etc/, braces come later"
        );
        let list = List::parse("cuts.list", "/usr/a/ b\n", 1).unwrap();
        assert!(Cuts::new(list).unwrap_err().to_string().contains("ends in a slash"));
    }

    #[test]
    fn an_excuse_that_nobody_needs_any_more_is_named() {
        let list = "/usr/bin/* libx.so.1 a\n/usr/bin/b liby.so.* b\n";
        let missing = Missing::new(List::parse("missing.list", list, 2).unwrap()).unwrap();
        assert!(missing.excuses("/usr/bin/a", "libx.so.1"));
        assert!(!missing.excuses("/usr/bin/a", "liby.so.1"));
        assert_eq!(
            missing.unused(),
            ["missing.list:2: `/usr/bin/b` does not miss `liby.so.*` any more"]
        );
    }
}
