//! mkosi installs locked packages into a directory: once for the tools tree, with the host's apt,
//! and once for the root tree of the image, with the apt of the tools tree.
//!
//! It sees a repository that holds the locked packages and nothing else ([`repository`]), it has no
//! network, and its environment is made here. What it installed is checked against the lock
//! afterwards ([`installed`]).

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    archive::Archive,
    lock::Package,
    progress::{Progress, Task},
    step::remove,
};

use repository::Repository;

mod installed;
mod repository;
mod unsynced;

/// The folder in a step's result that is the tree.
pub const TREE: &str = "tree";
/// mkosi repeats its commands with every package that they name.
const LONGEST_LINE: usize = 240;

/// Where mkosi and its packages come from.
#[derive(Debug)]
pub struct Mkosi<'a> {
    /// The packages, which are fetched already.
    pub archive: &'a Archive,
    /// mkosi's own package.
    pub package: &'a Package,
    /// Where the logs go.
    pub logs: &'a Path,
    /// Who is told.
    pub progress: &'a Progress,
}

/// One tree to assemble.
#[derive(Debug)]
pub struct Job<'a> {
    /// What it is, for people and for the name of the log: `tools`, `tree`.
    pub name: &'a str,
    /// The folder with mkosi.conf.
    pub config: &'a Path,
    /// What there is to install.
    pub packages: &'a [Package],
    /// The names of what is installed.
    pub install: &'a [String],
    /// The tree whose programs are used; the host's without one.
    pub tools: Option<&'a Path>,
    /// What comes out.
    pub output: Output,
    /// The time of everything.
    pub epoch: u64,
    /// Options of mkosi beyond these.
    pub options: &'a [&'a str],
}

/// What mkosi makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// A folder, [`TREE`], with exactly the given packages in it.
    Tree,
    /// A disk that boots, `disk.raw`, with all that mkosi does by itself.
    Disk,
}

impl Mkosi<'_> {
    /// Assembles a tree into `folder`, which it may use to work in.
    pub fn assemble(&self, job: &Job<'_>, folder: &Path) -> Result<()> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "assembling the {} needs root: files of several owners are made",
            job.name
        );
        let work = folder.join("work");
        let repository = Repository::of(self.archive, job.packages)?;
        self.run(job, &repository, &work, folder)?;
        if job.output == Output::Tree {
            installed::check(&folder.join(TREE), job.packages)
                .with_context(|| format!("checking what mkosi installed into the {}", job.name))?;
        }
        remove(&work)
    }

    fn run(&self, job: &Job<'_>, repository: &Repository, work: &Path, out: &Path) -> Result<()> {
        for place in ["home", "workspace", "packages", "tmp", "sandbox/etc/apt/sources.list.d"] {
            fs::create_dir_all(work.join(place)).context("making mkosi's working folder")?;
        }
        fs::write(work.join("sandbox/etc/apt/sources.list.d/mkosi.sources"), repository.sources())
            .context("writing mkosi's sources")?;
        // mkosi is plain Python: its package is unpacked, not installed.
        let program = work.join("mkosi");
        self.archive.unpack(self.package, &program)?;

        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            words.push(name.into());
            words.push(value.as_ref().to_owned());
        };
        option("--directory", &job.config);
        match job.output {
            Output::Tree => {
                option("--format", &"directory");
                option("--output", &TREE);
                option("--bootable", &"no");
            }
            Output::Disk => {
                option("--format", &"disk");
                option("--output", &"disk");
                option("--bootable", &"yes");
            }
        }
        option("--output-directory", &out);
        option("--workspace-directory", &work.join("workspace"));
        option("--package-cache-dir", &work.join("packages"));
        option("--sandbox-tree", &work.join("sandbox"));
        option("--local-mirror", &repository.url());
        option("--source-date-epoch", &job.epoch.to_string());
        option("--with-network", &"no");
        option("--with-docs", &"no");
        option("--manifest-format", &"");
        if let Some(tools) = job.tools {
            option("--tools-tree", &fs::canonicalize(tools).context("finding the tools tree")?);
        }
        for name in job.install {
            option("--package", name);
        }

        let log = self.logs.join(format!("{}.log", job.name));
        fs::create_dir_all(self.logs).with_context(|| format!("making {}", self.logs.display()))?;
        // It ends when we do. No network: what is not locked cannot come in.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--", "unshare", "--net", "--"])
            .args(["python3", "-m", "mkosi"])
            .args(&words)
            .args(job.options)
            .arg("build")
            .current_dir(work)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("PYTHONPATH", program.join("usr/lib/python3/dist-packages"))
            .env("HOME", work.join("home"))
            .env("TMPDIR", work.join("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", job.epoch.to_string());
        let task = self.progress.wait(&format!("mkosi: {}", job.name));
        unsynced::run(|| follow(command, &log, job.packages.len(), &task))
    }
}

/// Runs mkosi with its output in a log, and shows how far it is.
fn follow(mut command: Command, log: &Path, packages: usize, task: &Task) -> Result<()> {
    let mut file = File::create(log).with_context(|| format!("making {}", log.display()))?;
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let errors = writer.try_clone().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child =
        command.spawn().context("starting mkosi (python3 and unshare have to be installed)")?;
    // The command holds our ends of the pipe: without dropping them there is no end of output.
    drop(command);

    let (mut unpacked, mut configured) = (0, 0);
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("reading mkosi's output")?).into_owned();
        writeln!(file, "{line}").with_context(|| format!("writing {}", log.display()))?;
        if line.starts_with("Unpacking ") {
            unpacked += 1;
            task.doing(&format!("unpacking {} of {packages}", unpacked.min(packages)));
        } else if line.starts_with("Setting up ") {
            configured += 1;
            task.doing(&format!("setting up {} of {packages}", configured.min(packages)));
        } else if let Some(step) = line.trim_start().strip_prefix('‣') {
            task.doing(&step.trim().chars().take(80).collect::<String>());
        }
    }
    let status = child.wait().context("waiting for mkosi")?;
    if !status.success() {
        bail!(failure(log, &status.to_string()));
    }
    Ok(())
}

/// What to say when mkosi failed: its last words, and where the rest is.
fn failure(log: &Path, status: &str) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    // The error that dpkg gives a full disk is some screens above mkosi's last words.
    if let Some(line) = text.lines().find(|line| line.contains("No space left on device")) {
        return format!("mkosi failed: {}; its log: {}", line.trim(), log.display());
    }
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.chars().take(LONGEST_LINE).collect())
        .collect();
    let last = lines[lines.len().saturating_sub(15)..].join("\n  ");
    format!("mkosi failed ({status}); its last words:\n  {last}\nits log: {}", log.display())
}

/// Makes `link` point to `target`, in one step, by a path relative to the link's folder.
pub fn point(link: &Path, target: &Path) -> Result<()> {
    let folder = link.parent().context("a link is in a folder")?;
    let relative = target.strip_prefix(folder).unwrap_or(target);
    if fs::read_link(link).is_ok_and(|present| present == relative) {
        return Ok(());
    }
    let unfinished = link.with_extension("tmp");
    remove(&unfinished)?;
    symlink(relative, &unfinished)
        .and_then(|()| fs::rename(&unfinished, link))
        .with_context(|| format!("pointing {} to {}", link.display(), target.display()))
}
