//! Builds the image twice from nothing, the second time under circumstances that must not matter,
//! and compares every artefact: `./pith repro`.
//!
//! ```text
//! this checkout ─────────────> image build ──> build/repro/a/build/image ──┐
//!    │                                                                     ├─> differ ─> verdict,
//!    └─> copy, elsewhere,  ──> image build ──> build/repro/b/.../image ────┘         repro.json
//!        in reverse order      another umask, zone, locale, home, host name, one
//!                              processor, a later date
//! ```
//!
//! Both builds are children of this program, so that each starts with nothing but its folder. They
//! share the cache of packages, which is checked by content, and nothing else. What could not be
//! varied here is said, and why.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    archive::default_cache,
    build::Places,
    progress::{Progress, took},
};

use circumstances::{Circumstances, Facts};
use verdict::Verdict;

mod checkout;
mod circumstances;
mod verdict;

/// `image repro`: build twice, differently, and compare every byte.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  image repro                       two builds from nothing
  image repro --reuse-first         compare build/image with one new build
  image repro -- --locked           words behind -- are given to both builds

The verdict is in build/repro.json too.")]
pub struct ReproArgs {
    /// Take build/image for the first build, in half the time.
    #[arg(long)]
    reuse_first: bool,
    /// Keep the folders of both builds (they are kept anyway when the builds differ).
    #[arg(long)]
    keep: bool,
    /// Let this program do the second build too, instead of compiling another from the copy.
    #[arg(long)]
    same_program: bool,
    /// Differences to print.
    #[arg(long, default_value_t = crate::differ::MAX, value_name = "N")]
    max: usize,
    /// The checkout; otherwise the one around this folder.
    #[arg(long, value_name = "FOLDER")]
    repo: Option<PathBuf>,
    /// Where to build; otherwise build/ in the checkout.
    #[arg(long, value_name = "FOLDER")]
    build_dir: Option<PathBuf>,
    /// Builds instead of this program: for tests.
    #[arg(long, value_name = "FILE", hide = true)]
    program: Option<PathBuf>,
    /// Words for both builds, such as --locked or --flavor.
    #[arg(last = true)]
    words: Vec<OsString>,
}

/// Builds twice and says whether that gave the same bytes.
pub fn run(args: &ReproArgs, progress: &Progress) -> Result<ExitCode> {
    let places = Places::find(args.repo.clone(), args.build_dir.clone())?;
    let folder = places.build.join("repro");
    clear(&folder)?;
    let repro = Repro { args, places: &places, folder, progress };
    let a = repro.first()?;
    let b = repro.second(&a)?;

    let begun = Instant::now();
    let verdict = Verdict::of(&a.image, &b.image, args.max)?;
    progress.line(format!("repro: compared in {}", took(begun.elapsed())));
    print!("{}", verdict.table());
    print!("{}", b.circumstances.table());
    let report = places.build.join("repro.json");
    let text = serde_json::to_string_pretty(&repro.report(&a, &b, &verdict))?;
    fs::write(&report, text + "\n").with_context(|| format!("writing {}", report.display()))?;

    if verdict.equal() {
        println!("equal: {} artefacts ({})", verdict.artefacts.len(), report.display());
        if !args.keep {
            clear(&repro.folder)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    println!("NOT equal ({})", report.display());
    println!("more: image compare --max 1000 {} {}", a.image.display(), b.image.display());
    Ok(ExitCode::FAILURE)
}

/// Two builds to make.
struct Repro<'a> {
    args: &'a ReproArgs,
    places: &'a Places,
    /// Where both happen.
    folder: PathBuf,
    progress: &'a Progress,
}

/// A build that was made.
struct Made {
    image: PathBuf,
    circumstances: Circumstances,
    seconds: u64,
}

impl Repro<'_> {
    /// From this checkout, as this program was started.
    fn first(&self) -> Result<Made> {
        let circumstances = Circumstances::default();
        if self.args.reuse_first {
            let image = self.places.build.join("image");
            ensure!(
                image.join("manifest.json").exists(),
                "no image in {}\nwhat to do: `./pith image`, or leave --reuse-first out",
                image.display()
            );
            let head = checkout::commit(&self.places.repo)?;
            let built = manifest(&image)["build_id"].as_str().map(str::to_owned);
            let of_head = built.as_ref().is_none_or(|id| id.starts_with(&head));
            ensure!(
                of_head,
                "{} was built from {}, and the checkout is at {head}\nwhat to do: `./pith image`, \
                 or leave --reuse-first out",
                image.display(),
                built.unwrap_or_default()
            );
            self.progress.line(format!("repro: the first build is {}", image.display()));
            return Ok(Made { image, circumstances, seconds: 0 });
        }
        let build = self.folder.join("a/build");
        let seconds =
            self.build("first", &self.program()?, &self.places.repo, &build, &circumstances)?;
        Ok(Made { image: build.join("image"), circumstances, seconds })
    }

    /// From a copy of it, differently.
    fn second(&self, first: &Made) -> Result<Made> {
        let b = self.folder.join("b");
        // Another path, of another length.
        let repo = b.join("another/place/for/the-same-checkout");
        self.progress.line(format!("repro: copying the checkout to {}", repo.display()));
        checkout::copy(&self.places.repo, &repo)?;
        // build/tools, beside build/image.
        let tools = first.image.with_file_name("tools");
        let facts = Facts::find(&self.places.repo, &tools, &b, as_locked(&first.image));
        let circumstances = circumstances::vary(&facts, &repo, &b.join("home"));
        make_home(&b.join("home"))?;
        let build = b.join("output");
        let program = match (&self.args.program, self.args.same_program) {
            (None, false) => self.compile(&repo, &b.join("target"))?,
            _ => self.program()?,
        };
        let seconds = self.build("second", &program, &repo, &build, &circumstances)?;
        Ok(Made { image: build.join("image"), circumstances, seconds })
    }

    fn program(&self) -> Result<PathBuf> {
        match &self.args.program {
            Some(program) => std::path::absolute(program).context("finding the builder"),
            None => std::env::current_exe().context("finding this program"),
        }
    }

    /// This very program, from the copy of its source.
    fn compile(&self, repo: &Path, target: &Path) -> Result<PathBuf> {
        let begun = Instant::now();
        let waiting = self.progress.wait("repro: compiling the builder of the second build");
        let output = Command::new(cargo())
            .args(["build", "--locked", "--profile=host", "--package=image", "--target-dir"])
            .arg(target)
            .current_dir(repo)
            .output()
            .context("starting cargo")?;
        drop(waiting);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("compiling the builder in {}:\n{}", repo.display(), said.trim_end());
        }
        self.progress.line(format!("repro: compiled its builder in {}", took(begun.elapsed())));
        Ok(target.join("host/image"))
    }

    /// Makes an image in `build`, which is empty, and says how many seconds it took.
    fn build(
        &self,
        which: &str,
        program: &Path,
        repo: &Path,
        build: &Path,
        circumstances: &Circumstances,
    ) -> Result<u64> {
        fs::create_dir_all(build).with_context(|| format!("making {}", build.display()))?;
        self.progress.line(format!("repro: the {which} build, in {}", build.display()));
        let begun = Instant::now();
        let words: Vec<OsString> =
            ["build".into(), "--repo".into(), repo.into(), "--build-dir".into(), build.into()]
                .into();
        let mut command = circumstances.command(program, words.iter().chain(&self.args.words));
        command.current_dir(repo);
        command.env("PITHOS_REPRO_CARGO", cargo());
        // The cache of packages is the same, wherever HOME is.
        command.env("PITHOS_CACHE", default_cache().as_ref().unwrap_or(&self.places.cache));
        let status = command.status().with_context(|| format!("starting {}", program.display()))?;
        ensure!(status.success(), "the {which} build failed ({status}); what it said is above");
        let image = build.join("image");
        ensure!(image.is_dir(), "the {which} build left no {}", image.display());
        self.progress.line(format!("repro: the {which} build took {}", took(begun.elapsed())));
        Ok(begun.elapsed().as_secs())
    }

    fn report(&self, a: &Made, b: &Made, verdict: &Verdict) -> Value {
        let manifest = manifest(&a.image);
        let said = |name: &str| manifest.get(name).cloned().unwrap_or(Value::Null);
        json!({
            "format": 1,
            "equal": verdict.equal(),
            "version": said("version"),
            "build_id": said("build_id"),
            "epoch": said("epoch"),
            "as_locked": said("as_locked"),
            "tools": said("tools"),
            "rustc": circumstances::said("rustc", &["--version"]),
            "first_build_reused": self.args.reuse_first,
            "seconds": [a.seconds, b.seconds],
            "varied": b.circumstances.varied,
            "not_varied": b.circumstances.not_varied,
            "artefacts": verdict.artefacts,
        })
    }
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn manifest(image: &Path) -> Value {
    let text = fs::read(image.join("manifest.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

/// Whether a build had the very packages of the lock: then the next one needs no network.
fn as_locked(image: &Path) -> bool {
    manifest(image).get("as_locked") == Some(&Value::Bool(true))
}

/// A home without anything but the ways to cargo and its crates, by another path.
fn make_home(home: &Path) -> Result<()> {
    let failed = || format!("making {}", home.display());
    let cargo = home.join(".cargo");
    fs::create_dir_all(&cargo).with_context(failed)?;
    for entry in circumstances::cargo_home().iter().flat_map(fs::read_dir).flatten().flatten() {
        symlink(entry.path(), cargo.join(entry.file_name())).with_context(failed)?;
    }
    let script = home.join(circumstances::CARGO_OF_TODAY);
    let text = "#!/bin/sh\nunset LD_PRELOAD\nexec \"$PITHOS_REPRO_CARGO\" \"$@\"\n";
    fs::write(&script, text).with_context(failed)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).with_context(failed)
}

/// Removes what a run left: a user's with sudo, for builds under sudo make files of root.
fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let status = Command::new("sudo")
                .args(["rm", "-rf", "--one-file-system", "--"])
                .arg(folder)
                .status()
                .context("starting sudo")?;
            ensure!(status.success(), "removing {}: {status}", folder.display());
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("removing {}", folder.display())),
    }
}
