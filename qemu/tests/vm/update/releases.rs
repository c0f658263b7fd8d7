//! A series of images and the repository that has them, made as whoever publishes makes them: by
//! `image build` and `update-publish`. What is special about each is in `qemu/tests/releases`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, ensure};
use qemu::Artifacts;

/// What machines run first.
pub(crate) const FIRST: &str = "1.0.1";
/// It comes as patches against the first, and is a barrier: the third is only had through it.
pub(crate) const SECOND: &str = "1.0.2";
/// It comes whole.
pub(crate) const THIRD: &str = "1.0.3";
/// Each is alone in a channel of its name, and something is wrong with it.
pub(crate) const BAD: [(&str, &str); 4] =
    [("panics", "1.1.1"), ("unhealthy", "1.1.2"), ("hangs", "1.1.3"), ("freezes", "1.1.4")];

/// The folder of the repository, made once for all tests.
pub(crate) fn repository() -> Result<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_deref().map_err(|error| anyhow!("making releases: {error}"))
}

fn make() -> Result<PathBuf> {
    let place = Artifacts::find()?.root().join("releases");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
    }
    fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
    let publish = |words: &[&str]| run(&place, "publisher", words);
    for key in ["root", "targets", "online"] {
        publish(&["keys", "new", &format!("{key}.key")])?;
    }
    let signers = ["--root", "root.key", "--targets", "targets.key", "--snapshot", "online.key"];
    let init = [&["init", "repo"], &signers[..], &["--timestamp", "online.key"]];
    publish(&init.concat())?;
    let signed = ["--key", "targets.key", "--key", "online.key"];
    let good = [("first", FIRST, "1"), ("second", SECOND, "1"), ("third", THIRD, "0")];
    let good = good.map(|(name, version, deltas)| (name, version, "stable", deltas));
    let bad = BAD.map(|(name, version)| (name, version, name, "1"));
    for (name, version, channel, deltas) in good.into_iter().chain(bad) {
        build(&place, name, version)?;
        let build = place.parent().context("build/")?;
        let folder = build.join(format!("image-{name}"));
        let image = folder.to_str().context("a path that is text")?;
        // To publish quickly is all that counts here.
        let how = ["--deltas", deltas, "--full-level", "1", "--patch-level", "3"];
        let add = [&["add", "repo", image, "--channel", channel], &how[..], &signed[..]];
        publish(&add.concat())?;
        // All of it is in the repository now, and each image takes a gigabyte.
        if version != FIRST {
            for folder in [&folder, &build.join("cache/images").join(format!("image-{name}"))] {
                let removing = || format!("removing {}", folder.display());
                fs::remove_dir_all(folder).with_context(removing)?;
            }
        }
    }
    publish(&[&["barrier", "repo", "stable", SECOND], &signed[..]].concat())?;
    Ok(place.join("repo"))
}

fn build(place: &Path, name: &str, version: &str) -> Result<()> {
    let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/releases").join(name);
    let overlay = overlay.to_str().context("a path that is text")?;
    let name = format!("image-{name}");
    let words = ["build", "--local", "--name", &name, "--version", version, "--overlay", overlay];
    run(place, "image", &[&words[..], &["--update-root", "repo/metadata/1.root.json"]].concat())
}

/// Runs a program of the workspace in `place`.
fn run(place: &Path, package: &str, words: &[&str]) -> Result<()> {
    let cargo = env::var_os("CARGO").context("these tests are run by cargo")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--profile=host", "--package", package, "--manifest-path"])
        .arg(manifest)
        .arg("--")
        .args(words)
        .current_dir(place)
        .output()
        .with_context(|| format!("starting {package}"))?;
    ensure!(
        output.status.success(),
        "{package} {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
