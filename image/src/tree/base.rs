//! The first of the two phases: what depends only on the packages and the lists. It cuts,
//! resolves links, normalises modes, unpacks the kernel modules and indexes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Error, Findings,
    perform::{make_dir, perform, place, settle_modes},
    plan::{Step, broken_modules, plan},
    program,
    rules::Rules,
    scan::{Kind, Tree, normal, staged},
};

/// What the first phase works on.
#[derive(Clone, Copy, Debug)]
pub struct BaseRequest<'a> {
    /// The root directory that mkosi assembled. Only read.
    pub root: &'a Path,
    /// The lists of `rootfs/`.
    pub rules: &'a Rules,
    /// Folder with the wrappers of the tools tree: `depmod`, `systemd-hwdb`.
    pub bin: &'a Path,
    /// Where to put the result: a directory that does not exist, on the file system of `root`.
    pub out: &'a Path,
    /// Whether entries of the lists that match nothing stop the build.
    pub refuse_stale: bool,
}

/// What the first phase found out, stored as `base.json` beside its `usr` and `vmlinuz`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Base {
    /// `uname -r` of the kernel.
    pub kernel_release: String,
    /// Decisions that somebody may want to know, such as setuid bits taken away.
    pub notes: Vec<String>,
    /// Entries of the lists that match nothing.
    pub stale: Vec<String>,
    /// Bytes that each package has in the result, by name.
    pub package_bytes: BTreeMap<String, u64>,
    /// What was cut, and the entry that did it in words.
    pub(crate) cut: BTreeMap<String, String>,
    /// Links that led nowhere before anything was cut.
    pub(crate) dangling: BTreeSet<String>,
    /// Users and groups that packages made.
    pub(crate) users: BTreeSet<String>,
    pub(crate) groups: BTreeSet<String>,
}

/// The normalised `/usr` in the output of either phase.
pub fn usr(out: &Path) -> PathBuf {
    out.join("usr")
}

/// The kernel in the output of the first phase.
pub fn vmlinuz(out: &Path) -> PathBuf {
    out.join("vmlinuz")
}

/// The kernel's modules in the output of either phase.
pub fn modules(out: &Path, kernel_release: &str) -> PathBuf {
    usr(out).join("lib/modules").join(kernel_release)
}

impl Base {
    /// Reads the `base.json` of a finished first phase.
    pub fn load(out: &Path) -> Result<Self, Error> {
        let path = out.join("base.json");
        let reading = |source| Error::Io { doing: "reading", path: path.clone(), source };
        let text = fs::read(&path).map_err(reading)?;
        serde_json::from_slice(&text).map_err(|source| reading(source.into()))
    }
}

/// Does the first phase: `out` gets `usr`, `vmlinuz` and `base.json`.
pub fn base(request: &BaseRequest<'_>) -> Result<Base, Error> {
    let BaseRequest { root, rules, bin, out, refuse_stale } = *request;
    let source = Tree::of_root(root)?;
    let (kernel_release, kernel) = find_kernel(root, &source)?;
    let plan = plan(&source, rules, &kernel_release);
    let mut findings = plan.findings.clone();
    let modules = format!("/usr/lib/modules/{kernel_release}");
    // Without it, nobody has asked depmod yet, and nothing is known of dependencies.
    if let Ok(dep) = fs::read_to_string(root.join(&modules[1..]).join("modules.dep")) {
        findings.extend(broken_modules(&plan, rules, &modules, &dep));
    }
    if refuse_stale {
        findings.extend(plan.stale.iter().cloned());
    }
    Findings(findings).none("normalising the tree")?;

    make_dir(out, 0o755)?;
    perform(&plan.steps, &source, root, &usr(out))?;
    place(&kernel, &vmlinuz(out), 0o644, false)?;
    index_modules(bin, out, &kernel_release)?;
    let some_cut = plan.cut.keys().any(|path| path.starts_with(HWDB_SOURCES));
    let some_kept = plan.steps.keys().any(|path| path.starts_with(HWDB_SOURCES));
    // Without any source, what was compiled from them is kept or cut as the list says.
    if some_cut && some_kept {
        index_hardware(bin, out)?;
    }

    let result = Base {
        package_bytes: package_bytes(root, &plan.steps, &usr(out))?,
        kernel_release,
        notes: plan.notes,
        stale: plan.stale,
        cut: plan.cut.into_iter().map(|(path, by)| (path, rules.cuts.describe(by))).collect(),
        dangling: plan.dangling,
        users: names(&root.join("etc/passwd"))?,
        groups: names(&root.join("etc/group"))?,
    };
    let path = out.join("base.json");
    let text = serde_json::to_vec(&result).expect("strings and numbers become JSON");
    fs::write(&path, text).map_err(|source| Error::Io { doing: "writing", path, source })?;
    Ok(result)
}

/// The release of the one kernel of the tree, and its image.
fn find_kernel(root: &Path, source: &Tree) -> Result<(String, PathBuf), Error> {
    let release = |(path, node): (&String, &super::scan::Node)| {
        let release = path.strip_prefix("/usr/lib/modules/")?;
        (node.kind == Kind::Dir && !release.contains('/')).then(|| release.to_owned())
    };
    let releases: Vec<String> = source.nodes.iter().filter_map(release).collect();
    let [release] = &releases[..] else {
        return Err(Error::Kernels { root: root.to_owned(), releases });
    };
    let places = [
        root.join("usr/lib/modules").join(release).join("vmlinuz"),
        root.join(format!("boot/vmlinuz-{release}")),
    ];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok((release.clone(), place.clone())),
        None => Err(Error::NoKernel { looked_at: places.to_vec() }),
    }
}

fn index_modules(bin: &Path, out: &Path, kernel_release: &str) -> Result<(), Error> {
    // The host's own depmod.d has no say; an empty folder takes its place.
    let config = out.join("depmod.d");
    make_dir(&config, 0o755)?;
    let mut depmod = program(bin, "depmod");
    depmod.arg("-C").arg(&config).arg("-b").arg(usr(out)).arg(kernel_release);
    super::run(&mut depmod)?;
    fs::remove_dir(&config).map_err(|source| Error::Io {
        doing: "removing",
        path: config,
        source,
    })?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    settle_modes(&modules(out, kernel_release), &|path| name(path).starts_with("modules."))
}

/// Where `systemd-hwdb` finds what it compiles into `/usr/lib/udev/hwdb.bin`.
pub(crate) const HWDB_SOURCES: &str = "/usr/lib/udev/hwdb.d/";

/// Compiles the hardware database from what was kept of its sources.
pub(crate) fn index_hardware(bin: &Path, out: &Path) -> Result<(), Error> {
    let compiled = staged(&usr(out), "/usr/lib/udev/hwdb.bin");
    // It may be a hard link to the source's: never written in place.
    match fs::remove_file(&compiled) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Io { doing: "removing", path: compiled, source: error });
        }
        Ok(()) | Err(_) => {}
    }
    let mut hwdb = program(bin, "systemd-hwdb");
    super::run(hwdb.arg("update").arg("--usr").arg("--strict").arg("--root").arg(out))?;
    settle_modes(&compiled, &|_| true)
}

/// Names in the first column of a file such as /etc/passwd.
fn names(path: &Path) -> Result<BTreeSet<String>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io {
        doing: "reading",
        path: path.into(),
        source,
    })?;
    Ok(text.lines().filter_map(|line| line.split(':').next()).map(str::to_owned).collect())
}

/// How much of each package is left, as dpkg's lists of files say.
fn package_bytes(
    root: &Path,
    steps: &BTreeMap<String, Step>,
    usr: &Path,
) -> Result<BTreeMap<String, u64>, Error> {
    let info = root.join("var/lib/dpkg/info");
    let reading = |source| Error::Io { doing: "reading", path: info.clone(), source };
    let mut sizes = BTreeMap::new();
    if !info.is_dir() {
        return Ok(sizes);
    }
    for entry in fs::read_dir(&info).map_err(reading)? {
        let path = entry.map_err(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".list") else { continue };
        let package = name.split(':').next().unwrap_or(name).to_owned();
        let text = fs::read_to_string(&path).map_err(reading)?;
        let bytes = text.lines().map(|line| {
            let path = normal(line);
            let unpacked = path.strip_suffix(".xz").unwrap_or(&path);
            let path = if steps.contains_key(unpacked) { unpacked } else { &path };
            match steps.get(path) {
                Some(Step::File { .. } | Step::Decompress { .. }) => {
                    staged(usr, path).metadata().map_or(0, |meta| meta.len())
                }
                Some(Step::Dir { .. } | Step::Link { .. }) | None => 0,
            }
        });
        *sizes.entry(package).or_default() += bytes.sum::<u64>();
    }
    Ok(sizes)
}
