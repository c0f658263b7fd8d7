//! What updates cost: bytes for three kinds of change between real images, and the time and memory
//! of installing them, beside writing and reading back the same bytes with dd.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::run;

/// Where all of it happens.
const FOLDER: &str = "build/bench-updates";
const CHANNEL: &str = "bench";

/// A change, the release before and the one after it.
struct Change {
    what: &'static str,
    from: &'static str,
    to: &'static str,
    bar: Option<f64>,
}

/// What it took to install.
struct Took {
    seconds: f64,
    fetched_bytes: f64,
    peak_bytes: f64,
}

pub(super) fn updates() -> anyhow::Result<String> {
    eprintln!("qemu: updates between images ...");
    let _ = fs::remove_dir_all(FOLDER);
    let place = Place::new()?;
    // Security updates come from an archive of their own, and the main archive still has what they
    // replace: that is as much of the past as any mirror has.
    let older = older(Path::new("rootfs/packages.lock"))?;
    let is_kernel = |line: &str| line.contains(" linux-image-");
    let lock = place.repo().join("rootfs/packages.lock");
    let today = fs::read_to_string(&lock)?;
    let without = |version: &str, kernel: bool| -> anyhow::Result<usize> {
        let (text, count) = replace(&today, &older, |line| is_kernel(line) == kernel);
        fs::write(&lock, text)?;
        place.image(version, &["--as-built", "programs"])?;
        Ok(count)
    };
    let packages = without("1.0.0", false)?;
    let kernels = without("1.0.1", true)?;
    fs::write(&lock, &today)?;
    place.image("1.0.2", &[])?;
    let main = place.repo().join("updater/src/main.rs");
    let source = fs::read_to_string(&main)?;
    fs::write(&main, source + "\n#[used]\nstatic CHANGED: &str = \"changed\";\n")?;
    place.image("1.0.3", &[])?;

    for version in ["1.0.0", "1.0.1"] {
        place.publish(version, 0)?;
    }
    place.publish("1.0.2", 2)?;
    let mut rows = vec![];
    for (what, from) in [("packages", "1.0.0"), ("kernel", "1.0.1")] {
        rows.push((Change { what, from, to: "1.0.2", bar: None }, place.install(from)?));
    }
    place.publish("1.0.3", 1)?;
    let agent = Change { what: "agent", from: "1.0.2", to: "1.0.3", bar: Some(2.0) };
    rows.push((agent, place.install("1.0.2")?));
    // No patches against this one any more.
    let whole = Change { what: "whole", from: "1.0.0", to: "1.0.3", bar: None };
    let full = place.install("1.0.0")?;
    let all_bytes = full.fetched_bytes;
    rows.push((whole, full));

    let mut text = format!(
        "## Updates\n\nBetween images that were built for this: one agent changed (`update-engine`, a \
         line of its source); {packages} Debian packages that had security updates, against what the \
         main archive still has of them; the kernel ({kernels} package), likewise; and a machine that \
         runs a version without patches. Installed on a disk in a file on this host, from a repository \
         in a folder, by the engine's own code (built for this host); `dd` writes the same /usr with \
         `conv=fdatasync` and reads it back with `iflag=direct`.\n\n\
         | | MB fetched | of the whole, % | bar | from available to installed, s | dd, s | ratio | bar | memory, MiB | bar |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for (change, took) in rows {
        let dd = place.dd(change.to)?;
        let named = match change.what {
            "packages" => "Debian packages",
            "kernel" => "the kernel",
            "agent" => "one agent",
            _ => "the whole",
        };
        let share = took.fetched_bytes / all_bytes * 100.0;
        let bar = change.bar.map_or("-".to_owned(), |bar| format!("{bar:.0}"));
        let memory_bar = if change.what == "whole" { 32 } else { 64 };
        writeln!(
            text,
            "| {named} ({} to {}) | {:.2} | {share:.1} | {bar} | {:.1} | {dd:.1} | {:.1} | 2 | {:.1} | {memory_bar} |",
            change.from,
            change.to,
            took.fetched_bytes / 1e6,
            took.seconds,
            took.seconds / dd,
            took.peak_bytes / f64::from(1 << 20),
        )?;
    }
    text.push('\n');
    fs::remove_dir_all(FOLDER).with_context(|| format!("removing {FOLDER}"))?;
    Ok(text)
}

/// A checkout that may be changed, keys, a repository, images.
struct Place(PathBuf);

impl Place {
    fn new() -> anyhow::Result<Self> {
        fs::create_dir_all(Path::new(FOLDER).join("repo"))?;
        run("git", &["checkout-index", "--all", &format!("--prefix={FOLDER}/repo/")])?;
        run("cp", &["-a", "build/programs", &format!("{FOLDER}/programs")])?;
        let place = Self(fs::canonicalize(FOLDER)?);
        for key in ["root", "targets", "online"] {
            place.run("publisher", &["keys", "new", &format!("{key}.key")])?;
        }
        let words = "init published --root root.key --targets targets.key --snapshot online.key \
                     --timestamp online.key";
        place.run("publisher", &words.split(' ').collect::<Vec<_>>())?;
        Ok(place)
    }

    fn repo(&self) -> PathBuf {
        self.0.join("repo")
    }

    /// Runs a program of this workspace there.
    fn run(&self, package: &str, words: &[&str]) -> anyhow::Result<String> {
        let manifest = fs::canonicalize("Cargo.toml")?;
        let output = Command::new("cargo")
            .args(["run", "--quiet", "--profile=host", "--package", package, "--manifest-path"])
            .arg(manifest)
            .arg("--")
            .args(words)
            .current_dir(&self.0)
            .output()
            .with_context(|| format!("starting {package}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{package} {}: {said}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn image(&self, version: &str, more: &[&str]) -> anyhow::Result<()> {
        eprintln!("qemu: building {version} ...");
        let words = format!(
            "build --repo repo --build-dir out --local --name image-{} --version {version} --epoch \
             1700000000 --build-id bench --update-root published/metadata/1.root.json",
            version.replace('.', "-")
        );
        fs::create_dir_all(self.0.join("out"))?;
        self.run("image", &words.split(' ').chain(more.iter().copied()).collect::<Vec<_>>())
            .map(drop)
    }

    fn folder(&self, version: &str) -> PathBuf {
        self.0.join("out").join(format!("image-{}", version.replace('.', "-")))
    }

    fn file(&self, version: &str, extension: &str) -> PathBuf {
        self.folder(version).join(format!("pithos-{version}.{extension}"))
    }

    fn publish(&self, version: &str, deltas: usize) -> anyhow::Result<()> {
        eprintln!("qemu: publishing {version} ...");
        let image = self.folder(version);
        let words = format!(
            "add published {} --channel {CHANNEL} --deltas {deltas} --key targets.key --key online.key",
            image.display()
        );
        self.run("publisher", &words.split(' ').collect::<Vec<_>>()).map(drop)
    }

    /// Installs the newest release on a machine that runs `from`.
    fn install(&self, from: &str) -> anyhow::Result<Took> {
        eprintln!("qemu: installing over {from} ...");
        let (machine, disk) = (self.0.join("machine"), self.0.join("disk.raw"));
        let _ = fs::remove_dir_all(&machine);
        let manifest: Value =
            serde_json::from_slice(&fs::read(self.folder(from).join("manifest.json"))?)?;
        let uki = &manifest["uki"];
        let cmdline = uki["cmdline"].as_str().context("the manifest has no command line")?;
        let os_release = format!("VARIANT_ID=cloud\nIMAGE_VERSION={from}\n");
        let root = fs::read_to_string(self.0.join("published/metadata/1.root.json"))?;
        for (path, text) in [
            ("usr/lib/os-release", os_release.as_str()),
            ("proc/cmdline", cmdline),
            ("etc/machine-id", "00000000000000000000000000000000\n"),
            ("usr/share/pithos/update/root.json", &root),
        ] {
            let path = machine.join(path);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, text)?;
        }
        let esp = machine.join("esp");
        fs::create_dir_all(&esp)?;
        fs::copy(self.file(from, "efi"), esp.join(format!("pithos_{from}.efi")))?;
        let (raw, copy) = (self.file(from, "raw"), disk.display().to_string());
        run("cp", &["--sparse=always", &raw.display().to_string(), &copy])?;
        run("sync", &[&copy])?;
        let path = |name: &str| self.0.join(name).display().to_string();
        let output = Command::new("cargo")
            .args([
                "run",
                "--quiet",
                "--profile=host",
                "-p",
                "updater",
                "--example",
                "install",
                "--",
            ])
            .args(["--disk", &copy, "--esp", &esp.display().to_string(), "--channel", CHANNEL])
            .args(["--machine", &path("machine"), "--repository", &path("published")])
            .output()
            .context("starting the example install")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "installing over {from}: {said}");
        let took: Value = serde_json::from_slice(&output.stdout)?;
        let number = |name: &str| took[name].as_f64().with_context(|| format!("no {name}"));
        Ok(Took {
            seconds: number("seconds")?,
            fetched_bytes: number("fetched_bytes")?,
            peak_bytes: number("peak_bytes")?,
        })
    }

    /// Seconds that dd takes to write `/usr` of a version where the machine has it, and to read it
    /// back from the disk.
    fn dd(&self, version: &str) -> anyhow::Result<f64> {
        let (usr, disk) = (self.file(version, "usr.erofs"), self.0.join("disk.raw"));
        let (usr, disk) = (usr.display(), disk.display());
        let count = fs::metadata(self.file(version, "usr.erofs"))?.len() >> 20;
        // Slot B of the disk; where exactly is no matter.
        let start = Instant::now();
        let quiet = "status=none";
        run(
            "dd",
            &[
                &format!("if={usr}"),
                &format!("of={disk}"),
                "bs=1M",
                "seek=1600",
                "conv=fdatasync,notrunc",
                quiet,
            ],
        )?;
        run(
            "dd",
            &[
                &format!("if={disk}"),
                "of=/dev/null",
                "bs=1M",
                "skip=1600",
                &format!("count={count}"),
                "iflag=direct",
                quiet,
            ],
        )?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Lines of the lock whose package comes from the security archive, with what the main archive has
/// instead.
fn older(lock: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let main = main_archive()?;
    let text = fs::read_to_string(lock)?;
    let mut older = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(" debian-security/")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [set @ ("image" | "image.cloud"), name, ..] = words[..] else { continue };
        let found = main.get(name).or_else(|| {
            // The kernel's package is named after its version, which the one that asks for it has.
            let asks = main.get("linux-image-cloud-amd64")?;
            let is_kernel = |other: &&Package| {
                other.name.starts_with("linux-image-")
                    && other.name.ends_with("-cloud-amd64")
                    && other.name != asks.name
                    && other.version == asks.version
            };
            name.starts_with("linux-image-").then(|| main.values().find(is_kernel)).flatten()
        });
        if let Some(found) = found {
            older.insert(line.to_owned(), format!("{set} {}", found.line));
        }
    }
    Ok(older)
}

/// A package of an archive, as the lock would say it.
struct Package {
    name: String,
    version: String,
    line: String,
}

/// What the main archive has, by name.
fn main_archive() -> anyhow::Result<BTreeMap<String, Package>> {
    let cache = std::env::var_os("PITHOS_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/pithos")))
        .context("no cache of packages")?;
    let lists = cache.join("apt/lists");
    let reading =
        || format!("reading {}: `./pith lock` fetches what archives have", lists.display());
    let mut main = BTreeMap::new();
    for entry in fs::read_dir(&lists).with_context(reading)? {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with("_dists_trixie_main_binary-amd64_Packages") {
            continue;
        }
        for stanza in fs::read_to_string(&path)?.split("\n\n") {
            let field = |name: &str| {
                stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let fields = ["Package", "Version", "Architecture", "SHA256", "Size", "Filename"];
            let [Some(name), Some(version), Some(arch), Some(hash), Some(size), Some(file)] =
                fields.map(field)
            else {
                continue;
            };
            let line = format!("{name} {version} {arch} {hash} {size} debian/{file}");
            let (name, version) = (name.to_owned(), version.to_owned());
            main.insert(name.clone(), Package { name, version, line });
        }
    }
    Ok(main)
}

/// The lock with other lines for packages that `wanted` says, and how many those are.
fn replace(
    lock: &str,
    older: &BTreeMap<String, String>,
    wanted: impl Fn(&str) -> bool,
) -> (String, usize) {
    let mut count = 0;
    let lines = lock.lines().map(|line| match older.get(line) {
        Some(instead) if wanted(line) => {
            count += 1;
            format!("{instead}\n")
        }
        _ => format!("{line}\n"),
    });
    (lines.collect(), count)
}
