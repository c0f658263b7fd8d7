//! Decides what becomes of every file of the root that mkosi assembled. Pure: a tree and the
//! lists in, steps out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    rules::{CutNumber, Rules, Verdict},
    scan::{ETC_IN_USR, Kind, Leads, Node, Tree, from_link, relative},
};

/// What to make, by path on a running machine; parents come first.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: BTreeMap<String, Step>,
    /// What was left out, and by which entry.
    pub(crate) cut: BTreeMap<String, CutNumber>,
    /// Links that led nowhere before anything was cut.
    pub(crate) dangling: BTreeSet<String>,
    /// Decisions that somebody may want to know.
    pub(crate) notes: Vec<String>,
    /// Entries of the lists that match nothing: they outlived what they were written for.
    pub(crate) stale: Vec<String>,
    /// What stops the build.
    pub(crate) findings: Vec<String>,
}

/// How a file of the staged tree comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Dir {
        mode: u32,
    },
    /// The source's file of the same path: by hard link if it has this mode already.
    File {
        mode: u32,
    },
    /// The source's file at `from`, decompressed.
    Decompress {
        from: String,
    },
    Link {
        target: String,
    },
}

/// Files of `/usr/lib/modules/REL` that depmod makes anew from the modules that are kept.
const MADE_BY_DEPMOD: [&str; 7] =
    ["alias", "builtin.alias", "dep", "devname", "softdep", "symbols", "weakdep"];

/// Accounts, which are made from sysusers.d instead.
const ACCOUNTS: [&str; 4] = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];

pub(crate) fn plan(source: &Tree, rules: &Rules, kernel_release: &str) -> Plan {
    let mut plan = Plan::default();
    let (kept, used) = cut(source, rules, &mut plan);
    for number in (0..rules.cuts.len()).filter(|number| !used.contains(number)) {
        plan.stale.push(format!("{} matches nothing", rules.cuts.describe(number)));
    }
    let modules = format!("/usr/lib/modules/{kernel_release}/");
    let mut setuid = BTreeSet::new();
    for path in kept {
        if ACCOUNTS.contains(&&*path) || made_elsewhere(&path, &modules) {
            continue;
        }
        let node = &source.nodes[&path];
        let step = match &node.kind {
            Kind::Dir => Step::Dir { mode: mode(&path, node) },
            Kind::File { .. } if path.starts_with(&modules) && path.ends_with(".ko.xz") => {
                let unpacked = path.trim_end_matches(".xz").to_owned();
                plan.steps.insert(unpacked, Step::Decompress { from: path });
                continue;
            }
            Kind::File { .. } => {
                let mut mode = mode(&path, node);
                if node.mode & 0o4000 != 0 {
                    if rules.setuid.allows(&path) {
                        mode |= 0o4000;
                        setuid.insert(path.clone());
                    } else {
                        plan.notes.push(format!("{path}: setuid taken away (not in setuid.list)"));
                    }
                }
                if node.mode & 0o2000 != 0 {
                    plan.notes.push(format!("{path}: setgid taken away"));
                }
                Step::File { mode }
            }
            Kind::Link { target } => {
                if let Leads::Nowhere(_) = source.resolve(&path) {
                    plan.dangling.insert(path.clone());
                }
                Step::Link { target: link(source, &path, target) }
            }
            Kind::Special => {
                plan.findings.push(format!(
                    "{path} is a device, socket or pipe: an image holds files, directories and \
                     links; cut it"
                ));
                continue;
            }
        };
        plan.steps.insert(path, step);
    }
    for (path, place) in rules.setuid.paths().filter(|(path, _)| !setuid.contains(*path)) {
        plan.stale.push(format!("{place}: {path} is not there or not setuid in its package"));
    }
    plan
}

/// The paths that are kept, and the entries that matched something.
fn cut(source: &Tree, rules: &Rules, plan: &mut Plan) -> (BTreeSet<String>, BTreeSet<CutNumber>) {
    let mut used = BTreeSet::new();
    let mut verdicts: BTreeMap<&str, Verdict> = BTreeMap::new();
    let mut kept = BTreeSet::new();
    let mut emptied = BTreeSet::new();
    for (path, node) in &source.nodes {
        let above = verdicts.get(parent(path)).copied().unwrap_or_default();
        let verdict = rules.cuts.judge(path, above, &mut used);
        if node.kind == Kind::Dir {
            verdicts.insert(path, verdict);
        }
        match rules.cuts.cut_by(verdict) {
            Some(number) => {
                plan.cut.insert(path.clone(), number);
                emptied.insert(parent(path));
            }
            None => {
                kept.insert(path.clone());
            }
        }
    }
    // What is kept needs its directories; a directory that lost everything goes too.
    for path in kept.clone() {
        let mut above = parent(&path);
        while !above.is_empty() && kept.insert(above.to_owned()) {
            plan.cut.remove(above);
            above = parent(above);
        }
    }
    for &dir in emptied.iter().rev() {
        let mut dir = dir;
        while !dir.is_empty() && kept.contains(dir) && !has_children(&kept, dir) {
            kept.remove(dir);
            dir = parent(dir);
        }
    }
    (kept, used)
}

/// Modules that are kept and depend on one that is not, as the packages' own `modules.dep` has it:
/// depmod would leave the dependency out, and the module would not load.
pub(crate) fn broken_modules(plan: &Plan, rules: &Rules, modules: &str, dep: &str) -> Vec<String> {
    let path = |file: &str| format!("{modules}/{file}").trim_end_matches(".xz").to_owned();
    let mut broken = vec![];
    for (module, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
        let module = path(module);
        if !plan.steps.contains_key(&module) {
            continue;
        }
        for needed in needs.split_whitespace() {
            let cut = plan.cut.get(&format!("{modules}/{needed}"));
            let Some(cut) = cut.filter(|_| !rules.missing.excuses(&module, &path(needed))) else {
                continue;
            };
            let by = rules.cuts.describe(*cut);
            broken.push(format!("{module} needs {}, which was cut by {by}", path(needed)));
        }
    }
    broken
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn has_children(paths: &BTreeSet<String>, dir: &str) -> bool {
    let below = format!("{dir}/");
    paths.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below))
}

/// The kernel goes into the UKI; what depmod writes is about compressed modules, some of them
/// cut, and is made anew.
fn made_elsewhere(path: &str, modules: &str) -> bool {
    let Some(name) = path.strip_prefix(modules) else { return false };
    let index = |name: &str| MADE_BY_DEPMOD.contains(&name.trim_end_matches(".bin"));
    name == "vmlinuz"
        || name == "modules.builtin.bin"
        || name.strip_prefix("modules.").is_some_and(index)
}

/// Nobody but root owns anything in the image, so nothing may be writable by a group; what is in
/// /usr is public. A secret that a package makes in /etc keeps its narrow mode.
fn mode(path: &str, node: &Node) -> u32 {
    let runs = node.kind == Kind::Dir || node.mode & 0o100 != 0;
    match (path.starts_with("/usr"), runs) {
        (true, true) => 0o755,
        (true, false) => 0o644,
        (false, _) => node.mode & 0o755,
    }
}

/// Links through `/etc/alternatives` lead straight to what was chosen; absolute ones into /usr
/// become relative, so that the tree is whole wherever it is mounted. Those of /etc stay
/// absolute: they are used at /etc but stored in /usr.
fn link(source: &Tree, path: &str, target: &str) -> String {
    let mut leads_to = from_link(path, target);
    let mut chosen = false;
    while let Some(Kind::Link { target }) = leads_to
        .starts_with("/etc/alternatives/")
        .then(|| source.nodes.get(&leads_to).map(|node| &node.kind))
        .flatten()
    {
        leads_to = from_link(&leads_to, target);
        chosen = true;
    }
    debug_assert!(!leads_to.starts_with(ETC_IN_USR));
    let into_usr = leads_to.starts_with("/usr/");
    match (path.starts_with("/usr/") && into_usr, chosen) {
        (true, true) => relative(path, &leads_to),
        (true, false) if target.starts_with('/') => relative(path, &leads_to),
        (false, true) => leads_to,
        (_, false) => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::{list::List, rules};
    use super::*;

    /// `source` and `cuts` are lines; a source line is `MODE PATH`, `MODE PATH -> TARGET`, and a
    /// directory ends in a slash.
    fn check(source: &str, cuts: &str, setuid: &str, expected: Expect) {
        let mut tree = Tree::default();
        for line in source.lines() {
            let (mode, path) = line.trim().split_once(' ').unwrap();
            let mode = u32::from_str_radix(mode, 8).unwrap();
            let (path, kind) = match (path.split_once(" -> "), path.strip_suffix('/')) {
                (Some((path, target)), _) => (path, Kind::Link { target: target.to_owned() }),
                (None, Some(path)) => (path, Kind::Dir),
                (None, None) => (path, Kind::File { size_bytes: 1 }),
            };
            for (at, _) in path.match_indices('/').skip(1) {
                let dir = Node { kind: Kind::Dir, mode: 0o775 };
                tree.nodes.entry(path[..at].to_owned()).or_insert(dir);
            }
            tree.nodes.insert(path.to_owned(), Node { kind, mode });
        }
        let list = |file, text, words| List::parse(file, text, words).unwrap();
        let rules = Rules {
            cuts: rules::Cuts::new(list("cuts.list", cuts, 1)).unwrap(),
            setuid: rules::Setuid::new(list("setuid.list", setuid, 1)).unwrap(),
            missing: rules::Missing::default(),
        };
        let plan = plan(&tree, &rules, "6.12");
        let mut said = String::new();
        for (path, step) in &plan.steps {
            said += &match step {
                Step::Dir { mode } => format!("{mode:o} {path}/\n"),
                Step::File { mode } => format!("{mode:o} {path}\n"),
                Step::Decompress { from } => format!("unpack {path} from {from}\n"),
                Step::Link { target } => format!("{path} -> {target}\n"),
            };
        }
        for (what, lines) in
            [("note", plan.notes), ("stale", plan.stale), ("finding", plan.findings)]
        {
            lines.iter().for_each(|line| said += &format!("{what}: {line}\n"));
        }
        plan.cut.keys().for_each(|path| said += &format!("cut: {path}\n"));
        plan.dangling.iter().for_each(|path| said += &format!("dangling: {path}\n"));
        expected.assert_eq(&said);
    }

    #[test]
    fn modes_are_those_of_a_tree_that_root_owns() {
        check(
            "4755 /usr/bin/sudo
             4754 /usr/bin/other
             2755 /usr/bin/wall
             664 /usr/share/x
             440 /etc/sudoers
             2770 /etc/private/
             600 /etc/shadow",
            "",
            "/usr/bin/sudo administration\n/usr/bin/su nobody has it\n",
            expect![[r#"
                755 /etc/
                750 /etc/private/
                440 /etc/sudoers
                755 /usr/
                755 /usr/bin/
                755 /usr/bin/other
                4755 /usr/bin/sudo
                755 /usr/bin/wall
                755 /usr/share/
                644 /usr/share/x
                note: /usr/bin/other: setuid taken away (not in setuid.list)
                note: /usr/bin/wall: setgid taken away
                stale: setuid.list:2: /usr/bin/su is not there or not setuid in its package
            "#]],
        );
    }

    #[test]
    fn links_go_around_the_alternatives_and_are_relative_in_usr() {
        check(
            "777 /usr/bin/awk -> /etc/alternatives/awk
             777 /etc/alternatives/awk -> /usr/bin/mawk
             777 /etc/awk -> /etc/alternatives/awk
             777 /etc/localtime -> /usr/share/zoneinfo/UTC
             644 /usr/share/zoneinfo/UTC
             777 /usr/bin/sh -> dash
             777 /usr/lib/ssl/certs -> /etc/ssl/certs
             777 /usr/lib/x.service -> /dev/null
             777 /usr/sbin/x -> /bin/mawk
             755 /usr/bin/mawk",
            "/etc/alternatives resolved\n",
            "",
            expect![[r#"
                755 /etc/
                /etc/awk -> /usr/bin/mawk
                /etc/localtime -> /usr/share/zoneinfo/UTC
                755 /usr/
                755 /usr/bin/
                /usr/bin/awk -> mawk
                755 /usr/bin/mawk
                /usr/bin/sh -> dash
                755 /usr/lib/
                755 /usr/lib/ssl/
                /usr/lib/ssl/certs -> /etc/ssl/certs
                /usr/lib/x.service -> /dev/null
                755 /usr/sbin/
                /usr/sbin/x -> ../bin/mawk
                755 /usr/share/
                755 /usr/share/zoneinfo/
                644 /usr/share/zoneinfo/UTC
                cut: /etc/alternatives
                cut: /etc/alternatives/awk
                dangling: /usr/bin/sh
                dangling: /usr/lib/ssl/certs
            "#]],
        );
    }

    #[test]
    fn directories_live_and_die_with_what_is_in_them() {
        check(
            "644 /usr/share/doc/bash/copyright
             644 /usr/share/doc/bash/NEWS
             644 /usr/share/doc/less/NEWS
             644 /usr/share/man/man1/ls.1
             755 /usr/share/empty/",
            "/usr/share/doc reason\n!/usr/share/doc/*/copyright reason\n/usr/share/man/** reason\n/usr/share/info reason\n",
            "",
            expect![[r#"
                755 /usr/
                755 /usr/share/
                755 /usr/share/doc/
                755 /usr/share/doc/bash/
                644 /usr/share/doc/bash/copyright
                755 /usr/share/empty/
                stale: cuts.list:4 (/usr/share/info: reason) matches nothing
                cut: /usr/share/doc/bash/NEWS
                cut: /usr/share/doc/less
                cut: /usr/share/doc/less/NEWS
                cut: /usr/share/man/man1
                cut: /usr/share/man/man1/ls.1
            "#]],
        );
    }

    #[test]
    fn a_module_that_depends_on_a_cut_one_is_named() {
        let list = |file, text, words| List::parse(file, text, words).unwrap();
        let rules = Rules {
            cuts: rules::Cuts::new(list("cuts.list", "/usr/m/kernel/b.ko.xz why\n", 1)).unwrap(),
            setuid: rules::Setuid::default(),
            missing: rules::Missing::default(),
        };
        let mut plan = Plan::default();
        let from = String::new();
        plan.steps.insert("/usr/m/kernel/a.ko".to_owned(), Step::Decompress { from });
        plan.cut.insert("/usr/m/kernel/b.ko.xz".to_owned(), 0);
        plan.cut.insert("/usr/m/kernel/c.ko.xz".to_owned(), 0);
        let dep = "kernel/a.ko.xz: kernel/b.ko.xz\nkernel/c.ko.xz: kernel/b.ko.xz\n";
        assert_eq!(
            broken_modules(&plan, &rules, "/usr/m", dep),
            ["/usr/m/kernel/a.ko needs /usr/m/kernel/b.ko, which was cut by cuts.list:1 \
              (/usr/m/kernel/b.ko.xz: why)"]
        );
    }

    #[test]
    fn modules_are_unpacked_and_the_kernel_stays_outside() {
        check(
            "644 /usr/lib/modules/6.12/vmlinuz
             644 /usr/lib/modules/6.12/modules.dep
             644 /usr/lib/modules/6.12/modules.dep.bin
             644 /usr/lib/modules/6.12/modules.builtin
             644 /usr/lib/modules/6.12/modules.builtin.bin
             644 /usr/lib/modules/6.12/kernel/fs/erofs.ko.xz
             644 /usr/lib/x.ko.xz",
            "",
            "",
            expect![[r#"
                755 /usr/
                755 /usr/lib/
                755 /usr/lib/modules/
                755 /usr/lib/modules/6.12/
                755 /usr/lib/modules/6.12/kernel/
                755 /usr/lib/modules/6.12/kernel/fs/
                unpack /usr/lib/modules/6.12/kernel/fs/erofs.ko from /usr/lib/modules/6.12/kernel/fs/erofs.ko.xz
                644 /usr/lib/modules/6.12/modules.builtin
                644 /usr/lib/x.ko.xz
            "#]],
        );
    }
}
