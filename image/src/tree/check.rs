//! Would the tree work on a machine? Whatever a kept file needs must be there too. A finding
//! names the file, what it needs, and the entry of `cuts.list` that took it away.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    Error,
    base::Base,
    elf::{self, Loads, Needs},
    rules::Missing,
    scan::{Kind, Leads, Tree, from_link, normal, staged},
};

/// Where ld.so of Debian looks for a library that nobody gave a directory for.
pub(crate) const LIBRARY_DIRS: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/lib64"];
/// `$PATH`, as systemd and login set it.
const PROGRAM_DIRS: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// A tree, and what it is checked with.
pub(crate) struct Checker<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) base: &'a Base,
    pub(crate) missing: &'a Missing,
    /// What was cut, by file name.
    cut_names: BTreeMap<&'a str, &'a str>,
    pub(crate) findings: Vec<String>,
    /// What works, but not in full.
    pub(crate) notes: Vec<String>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(tree: &'a Tree, base: &'a Base, missing: &'a Missing) -> Self {
        let name = |path: &'a String| path.rsplit('/').next().unwrap_or(path);
        let cut_names = base.cut.keys().map(|path| (name(path), &**path)).collect();
        Self { tree, base, missing, cut_names, findings: vec![], notes: vec![] }
    }

    /// Notes that `file` needs `needed`, which is not there.
    pub(crate) fn misses(&mut self, file: &str, verb: &str, needed: &str) {
        if self.missing.excuses(file, needed) {
            return;
        }
        let name = needed.rsplit('/').next().unwrap_or(needed);
        let path =
            if needed.starts_with('/') { needed.to_owned() } else { from_link(file, needed) };
        let end = match self.tree.resolve(&path) {
            Leads::Nowhere(end) if self.base.cut.contains_key(&end) => Some(end),
            Leads::Nowhere(_) | Leads::To(_) | Leads::Out => {
                self.cut_names.get(name).map(|&path| path.to_owned())
            }
        };
        let why = match end.and_then(|path| self.base.cut.get_key_value(&path)) {
            Some((path, by)) => format!("{path} was cut by {by}"),
            None => "no package brings it".to_owned(),
        };
        self.findings.push(format!("{file} {verb} {needed}, which is not there: {why}"));
    }

    /// Links that lead nowhere, unless they did so in their package.
    pub(crate) fn links(&mut self) {
        let tree = self.tree;
        for (path, node) in &tree.nodes {
            let Kind::Link { target } = &node.kind else { continue };
            if let Leads::Nowhere(_) = tree.resolve(path)
                && !self.base.dangling.contains(path)
            {
                self.misses(path, "links to", target);
            }
        }
    }

    /// Shared libraries, ELF loaders and interpreters of scripts.
    pub(crate) fn programs(&mut self, usr: &Path) -> Result<(), Error> {
        let tree = self.tree;
        let mut library_dirs = configured_dirs(tree, usr);
        library_dirs.extend(LIBRARY_DIRS.map(str::to_owned));
        let mut found = BTreeSet::new();
        for (path, node) in &tree.nodes {
            if !matches!(node.kind, Kind::File { size_bytes } if size_bytes > 2) {
                continue;
            }
            let host = staged(usr, path);
            let needs = elf::needs(&host).map_err(|source| Error::Io {
                doing: "reading",
                path: host,
                source,
            })?;
            let Some(needs) = needs else { continue };
            // A script that cannot be run is text for somebody else's interpreter.
            let runs = node.mode & 0o111 != 0;
            for interpreter in needs.interpreters.iter().filter(|_| runs) {
                if !self.finds_program(interpreter) {
                    self.misses(path, "is run by", interpreter);
                }
            }
            let own_dirs = own_dirs(path, &needs);
            let in_dirs = |checker: &Self, dirs: &[String], library: &str| {
                dirs.iter().any(|dir| checker.is_file(&format!("{dir}/{library}")))
            };
            let mut finds = |checker: &Self, library: &String| {
                if found.contains(library) || in_dirs(checker, &own_dirs, library) {
                    return true;
                }
                let there = in_dirs(checker, &library_dirs, library);
                there && found.insert(library.clone())
            };
            for library in &needs.libraries {
                if !finds(self, library) {
                    self.misses(path, "needs", library);
                }
            }
            for loads in &needs.loads {
                if !loads.soname.iter().any(|library| finds(self, library)) {
                    self.misses_while_it_runs(path, loads);
                }
            }
        }
        Ok(())
    }

    /// A library that is loaded when it is needed is only missed if we took it away.
    fn misses_while_it_runs(&mut self, file: &str, loads: &Loads) {
        let cut = loads.soname.iter().find(|library| self.was_cut(library));
        let library = cut.or(loads.soname.first()).cloned().unwrap_or_default();
        if loads.priority == "required" {
            self.misses(file, "loads", &library);
        } else if cut.is_some() && !self.missing.excuses(file, &library) {
            let what = &loads.description;
            self.notes.push(format!("{file} goes without {library}, which was cut ({what})"));
        }
    }

    /// Whether a file of that name was cut.
    pub(crate) fn was_cut(&self, name: &str) -> bool {
        self.cut_names.contains_key(name)
    }

    /// Whether a machine finds a program of that name or path.
    pub(crate) fn finds_program(&self, program: &str) -> bool {
        if program.contains('/') {
            return self.tree.has(program);
        }
        PROGRAM_DIRS.iter().any(|dir| self.is_file(&format!("{dir}/{program}")))
    }

    pub(crate) fn is_file(&self, path: &str) -> bool {
        matches!(self.tree.resolve(path), Leads::To(_))
    }

    /// Nothing that must differ between machines, or that the build made for itself.
    pub(crate) fn no_machine_state(&mut self) {
        for (path, node) in &self.tree.nodes {
            // A link, such as /etc/mtab, is the same everywhere.
            if !matches!(node.kind, Kind::File { .. }) {
                continue;
            }
            let name = path.strip_prefix("/etc/").unwrap_or_default();
            let accounts = ["passwd-", "group-", "shadow-", "gshadow-", "subuid-", "subgid-"];
            let state = ["machine-id", "hostname", "resolv.conf", "adjtime", ".pwd.lock", "mtab"];
            let key = name.starts_with("ssh/ssh_host_");
            if key || accounts.contains(&name) || state.contains(&name) {
                if self.missing.excuses(path, "machine") {
                    continue;
                }
                self.findings.push(format!(
                    "{path} is state of one machine, and would be on all: add it to cuts.list"
                ));
            }
        }
    }
}

/// Directories of the file's own choice. A library in a private directory finds its neighbours:
/// the program that loads it from there brought them along.
fn own_dirs(path: &str, needs: &Needs) -> Vec<String> {
    let origin = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let dirs = needs.search.iter().filter(|dir| !dir.is_empty());
    let dirs = dirs.map(|dir| dir.replace("${ORIGIN}", origin).replace("$ORIGIN", origin));
    let neighbours = needs.interpreters.is_empty().then(|| origin.to_owned());
    dirs.chain(neighbours).map(|dir| normal(&dir)).collect()
}

/// Directories of `/etc/ld.so.conf` and what it includes.
fn configured_dirs(tree: &Tree, usr: &Path) -> Vec<String> {
    let configs = tree.nodes.keys().filter(|path| {
        *path == "/etc/ld.so.conf"
            || (path.starts_with("/etc/ld.so.conf.d/") && path.ends_with(".conf"))
    });
    let texts = configs.filter_map(|path| std::fs::read_to_string(staged(usr, path)).ok());
    let mut dirs = vec![];
    for text in texts {
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with('/'));
        dirs.extend(lines.map(normal));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::{Expect, expect};

    use super::super::perform::{make_dir_all, make_file, make_link};
    use super::*;

    fn check(lay_out: impl FnOnce(&Path), cut: &[(&str, &str)], expected: Expect) {
        let dir = tempfile::tempdir().unwrap();
        make_dir_all(&dir.path().join("bin")).unwrap();
        make_dir_all(&dir.path().join("lib64")).unwrap();
        lay_out(dir.path());
        let owned = |(path, by): &(&str, &str)| ((*path).to_owned(), (*by).to_owned());
        let base = Base { cut: cut.iter().map(owned).collect(), ..Base::default() };
        let (tree, missing) = (Tree::of_usr(dir.path()).unwrap(), Missing::default());
        let mut checker = Checker::new(&tree, &base, &missing);
        checker.links();
        checker.programs(dir.path()).unwrap();
        checker.no_machine_state();
        expected.assert_eq(&checker.findings.join("\n"));
    }

    #[test]
    fn an_interpreter_that_was_cut_is_named_with_the_entry_that_did_it() {
        check(
            |usr| {
                make_file(&usr.join("bin/tool"), b"#!/usr/bin/perl -w\n", 0o755).unwrap();
                make_file(&usr.join("bin/env"), b"", 0o755).unwrap();
                make_file(&usr.join("bin/other"), b"#!/bin/env python3\n", 0o755).unwrap();
                make_file(&usr.join("bin/text"), b"#!/usr/bin/perl\n", 0o644).unwrap();
                make_file(&usr.join("bin/local"), b"#!/opt/x\n", 0o755).unwrap();
            },
            &[("/usr/bin/perl", "cuts.list:3 (/usr/bin/perl: no Perl)")],
            expect![[r#"
                /usr/bin/other is run by python3, which is not there: no package brings it
                /usr/bin/tool is run by /usr/bin/perl, which is not there: /usr/bin/perl was cut by cuts.list:3 (/usr/bin/perl: no Perl)"#]],
        );
    }

    #[test]
    fn a_library_is_looked_for_where_the_loader_looks() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        check(
            |usr| {
                make_file(&usr.join("bin/tool"), &this, 0o755).unwrap();
                make_file(&usr.join("lib64/ld-linux-x86-64.so.2"), b"", 0o755).unwrap();
                // What this very program needs besides libc depends on how it was built.
                for library in ["libgcc_s.so.1", "libm.so.6"] {
                    make_file(&usr.join("lib64").join(library), b"", 0o755).unwrap();
                }
            },
            &[("/usr/lib/libc.so.6", "cuts.list:1 (/usr/lib/libc*: no C)")],
            expect![
                "/usr/bin/tool needs libc.so.6, which is not there: /usr/lib/libc.so.6 was cut by cuts.list:1 (/usr/lib/libc*: no C)"
            ],
        );
    }

    #[test]
    fn a_link_into_what_was_cut_is_named_and_machine_state_too() {
        check(
            |usr| {
                make_link("../lib/x/tool", &usr.join("bin/tool")).unwrap();
                make_link("/run/x", &usr.join("bin/runtime")).unwrap();
                make_dir_all(&usr.join("share/pithos/etc/ssh")).unwrap();
                make_file(&usr.join("share/pithos/etc/ssh/ssh_host_rsa_key"), b"", 0o600).unwrap();
                make_link("../usr/bin", &usr.join("share/pithos/etc/good")).unwrap();
            },
            &[("/usr/lib/x/tool", "cuts.list:1 (/usr/lib/x: why)")],
            expect![[r#"
                /usr/bin/tool links to ../lib/x/tool, which is not there: /usr/lib/x/tool was cut by cuts.list:1 (/usr/lib/x: why)
                /etc/ssh/ssh_host_rsa_key is state of one machine, and would be on all: add it to cuts.list"#]],
        );
    }
}
