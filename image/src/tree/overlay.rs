//! The second phase: our own files over the packages', what is written from the version, the
//! units that start, and the checks of the whole.

use std::{
    collections::BTreeMap,
    fs::{self},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Error, Findings, accounts,
    base::{self, Base, HWDB_SOURCES, index_hardware},
    check::Checker,
    names,
    perform::{make_dir, make_dir_all, make_file, make_link, place, settle_modes},
    plugins, program,
    release::Release,
    rules::Rules,
    run,
    scan::{ETC_IN_USR, Kind, Tree, staged},
    size::Sizes,
    sysusers::{self, Accounts},
    units,
};

/// The floor of updates, as a number.
const SECURITY_EPOCH: &str = "/usr/share/pithos/update/security-epoch";

/// What the second phase works on.
#[derive(Clone, Copy, Debug)]
pub struct OverlayRequest<'a> {
    /// The output of the first phase. Only read.
    pub base: &'a Path,
    /// Our files: `rootfs`, of which `usr/` is laid over the packages'.
    pub rootfs: &'a Path,
    /// The lists of `rootfs/`.
    pub rules: &'a Rules,
    /// Files from elsewhere: the programs that we build.
    pub extra: &'a [Extra],
    /// An image builder's files, laid over ours.
    pub overlay: Option<&'a Path>,
    /// Updates of a lower one are refused by who has run this image.
    pub security_epoch: Option<u32>,
    /// What the image says about itself.
    pub release: &'a Release,
    /// Folder with the wrappers of the tools tree: `systemctl`, `systemd-hwdb`.
    pub bin: &'a Path,
    /// Where to put the result: a directory that does not exist, on the file system of `base`.
    pub out: &'a Path,
    /// Whether entries of the lists that match nothing stop the build.
    pub refuse_stale: bool,
}

/// A file that is put into the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// The file.
    pub from: PathBuf,
    /// Its path on a machine: `/usr/…`.
    pub to: String,
    /// Whether it is a program.
    pub executable: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Overlaid {
    /// Where the bytes are.
    pub sizes: Sizes,
    /// What somebody may want to know: replaced files, excuses that nobody needs.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
enum Item {
    Dir {
        mode: u32,
    },
    Link {
        target: String,
    },
    /// A file of the first phase, by hard link.
    Base {
        mode: u32,
    },
    /// One of ours: whoever edits it must not change the image.
    Copy {
        from: PathBuf,
        mode: u32,
    },
    Text {
        text: String,
        mode: u32,
    },
}

/// Does the second phase: `out` gets `usr`.
pub fn overlay(request: &OverlayRequest<'_>) -> Result<Overlaid, Error> {
    let OverlayRequest { base, rootfs, rules, extra, release, bin, out, refuse_stale, .. } =
        *request;
    let packages = Base::load(base)?;
    let base_usr = base::usr(base);
    let mut plan = Laying::default();
    plan.base(&Tree::of_usr(&base_usr)?);
    plan.ours(&Tree::of_usr(&rootfs.join("usr"))?, &rootfs.join("usr"));
    plan.extra(extra);
    if let Some(usr) = request.overlay {
        plan.ours(&Tree::of_usr(usr)?, usr);
    }
    if let Some(epoch) = request.security_epoch {
        plan.text(SECURITY_EPOCH, format!("{epoch}\n"), 0o644);
    }
    plan.text("/usr/lib/os-release", release.os_release(), 0o644);
    // systemd sets a clock that is behind this file's time to it; erofs gives it our epoch.
    plan.text("/usr/lib/clock-epoch", String::new(), 0o644);
    plan.accounts(&base_usr, &packages, rules)?;
    Findings(std::mem::take(&mut plan.findings)).none("laying our files over the packages'")?;

    make_dir(out, 0o755)?;
    plan.perform(&base_usr, &base::usr(out))?;
    if plan.ours_has(HWDB_SOURCES) {
        index_hardware(bin, out)?;
    }
    apply_presets(bin, out)?;

    let usr = base::usr(out);
    let tree = Tree::of_usr(&usr)?;
    let mut checker = Checker::new(&tree, &packages, &rules.missing);
    checker.links();
    checker.programs(&usr)?;
    checker.no_machine_state();
    units::check(&mut checker, &usr);
    plugins::check(&mut checker, &usr);
    names::check(&mut checker, &usr, &plan.accounts);
    let mut findings = checker.findings;
    let unused = rules.missing.unused();
    if refuse_stale {
        findings.extend(unused.iter().cloned());
    }
    Findings(findings).none("checking the tree")?;
    let notes = plan.notes.into_iter().chain(checker.notes).chain(unused).collect();
    Ok(Overlaid { sizes: Sizes::of(&tree, packages.package_bytes), notes })
}

#[derive(Default)]
struct Laying {
    items: BTreeMap<String, Item>,
    accounts: Accounts,
    notes: Vec<String>,
    findings: Vec<String>,
}

impl Laying {
    fn base(&mut self, tree: &Tree) {
        let items = tree.nodes.iter().map(|(path, node)| {
            let mode = node.mode;
            let item = match &node.kind {
                Kind::Dir => Item::Dir { mode },
                Kind::Link { target } => Item::Link { target: target.clone() },
                Kind::File { .. } | Kind::Special => Item::Base { mode },
            };
            (path.clone(), item)
        });
        self.items = items.collect();
    }

    fn ours(&mut self, tree: &Tree, usr: &Path) {
        for (path, node) in &tree.nodes {
            // Of modes, git keeps whether a file is a program, and sudo is particular about its own.
            let mode = match (path.starts_with("/etc/sudoers.d/"), node.mode & 0o100 != 0) {
                (true, _) => 0o440,
                (false, true) => 0o755,
                (false, false) => 0o644,
            };
            match &node.kind {
                // A directory comes with the first file in it: git does not know empty ones.
                Kind::Dir => {}
                Kind::Link { target } => self.put(path, Item::Link { target: target.clone() }),
                Kind::File { .. } => {
                    self.put(path, Item::Copy { from: staged(usr, path), mode });
                }
                Kind::Special => {
                    self.findings.push(format!("{} is no file", staged(usr, path).display()));
                }
            }
        }
    }

    fn extra(&mut self, extra: &[Extra]) {
        for Extra { from, to, executable } in extra {
            let mode = if *executable { 0o755 } else { 0o644 };
            self.put(to, Item::Copy { from: from.clone(), mode });
        }
    }

    fn text(&mut self, path: &str, text: String, mode: u32) {
        if let Some(Item::Copy { from, .. }) = self.items.get(path) {
            let from = from.display();
            self.findings.push(format!("{from}: {path} is made by the build; remove the file"));
        }
        self.put(path, Item::Text { text, mode });
    }

    fn put(&mut self, path: &str, item: Item) {
        let dir = |item: &Item| matches!(item, Item::Dir { .. });
        match self.items.get(path) {
            Some(old) if dir(old) != dir(&item) => self.findings.push(format!(
                "{path} is a directory on one side and none on the other, ours or the packages'"
            )),
            Some(Item::Base { .. } | Item::Link { .. }) if !matches!(item, Item::Text { .. }) => {
                self.notes.push(format!("{path}: a package's file is replaced by ours"));
            }
            Some(_) | None => {}
        }
        let ends: Vec<usize> = path.match_indices('/').skip(1).map(|(at, _)| at).collect();
        for end in ends {
            let above =
                self.items.entry(path[..end].to_owned()).or_insert(Item::Dir { mode: 0o755 });
            if !dir(above) {
                let above = &path[..end];
                self.findings.push(format!("{path} cannot be put: {above} is no directory"));
            }
        }
        self.items.insert(path.to_owned(), item);
    }

    /// Whether one of our own files is below `dir`.
    fn ours_has(&self, dir: &str) -> bool {
        let below =
            self.items.range(dir.to_owned()..).take_while(|(path, _)| path.starts_with(dir));
        below.into_iter().any(|(_, item)| matches!(item, Item::Copy { .. }))
    }

    fn accounts(&mut self, base_usr: &Path, packages: &Base, rules: &Rules) -> Result<(), Error> {
        let mut sources: BTreeMap<String, (String, String)> = BTreeMap::new();
        // A file in /etc takes the place of the one of the same name in /usr.
        for dir in ["/usr/lib/sysusers.d/", "/etc/sysusers.d/"] {
            for (path, item) in self.items.range(dir.to_owned()..) {
                let Some(name) = path.strip_prefix(dir) else { break };
                if !name.ends_with(".conf") {
                    continue;
                }
                let from = match item {
                    Item::Base { .. } => staged(base_usr, path),
                    Item::Copy { from, .. } => from.clone(),
                    // To /dev/null: that name says nothing.
                    Item::Link { .. } | Item::Dir { .. } | Item::Text { .. } => {
                        sources.remove(name);
                        continue;
                    }
                };
                let text = fs::read_to_string(&from).map_err(|source| Error::Io {
                    doing: "reading",
                    path: from,
                    source,
                })?;
                sources.insert(name.to_owned(), (path.clone(), text));
            }
        }
        let sources: Vec<_> = sources.values().map(|(path, text)| (&**path, &**text)).collect();
        match sysusers::accounts(&sources) {
            Err(wrong) => self.findings.extend(wrong),
            Ok(accounts) => {
                for (name, mode, text) in accounts::files(&accounts) {
                    self.text(&format!("/etc/{name}"), text, mode);
                }
                let (users, groups) = (&packages.users, &packages.groups);
                let forgotten = accounts::forgotten(users, groups, &accounts, &rules.missing);
                self.findings.extend(forgotten);
                self.accounts = accounts;
            }
        }
        Ok(())
    }

    fn perform(&self, base_usr: &Path, usr: &Path) -> Result<(), Error> {
        make_dir(usr, 0o755)?;
        make_dir_all(&staged(usr, "/etc"))?;
        for (path, item) in &self.items {
            let to = staged(usr, path);
            match item {
                Item::Dir { .. } if path == "/usr" || path == "/etc" => {}
                Item::Dir { mode } => make_dir(&to, *mode)?,
                Item::Link { target } => make_link(target, &to)?,
                Item::Base { mode } => place(&staged(base_usr, path), &to, *mode, true)?,
                Item::Copy { from, mode } => place(from, &to, *mode, false)?,
                Item::Text { text, mode } => make_file(&to, text.as_bytes(), *mode)?,
            }
        }
        Ok(())
    }
}

/// Enables what our presets enable and nothing else, as the first boot would do on every machine.
fn apply_presets(bin: &Path, out: &Path) -> Result<(), Error> {
    let (stored, used) = (staged(&base::usr(out), "/etc"), out.join("etc"));
    let rename = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|source| Error::Io {
            doing: "renaming",
            path: from.into(),
            source,
        })
    };
    debug_assert!(stored.ends_with(&ETC_IN_USR[1..]));
    rename(&stored, &used)?;
    for scope in ["--system", "--global"] {
        let mut systemctl = program(bin, "systemctl");
        run(systemctl.arg("--root").arg(out).args(["--quiet", scope, "preset-all"]))?;
    }
    let units = used.join("systemd");
    if units.is_dir() {
        settle_modes(&units, &Path::is_dir)?;
    }
    rename(&used, &stored)
}
