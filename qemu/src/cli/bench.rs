//! `qemu bench`: sizes, build times and the boot, into docs/benchmarks.md.
//!
//! The build is measured from outside, as the program that `./pith image` starts.

mod documents;
mod fleet;
mod updates;

pub(crate) use documents::Measure;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use qemu::{Artifacts, Image, Spec, bench};
use serde_json::Value;

/// Measures, and writes docs/benchmarks.md.
#[derive(Args, Clone, Debug)]
pub(crate) struct Bench {
    /// Where to write it.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    output: PathBuf,
    /// Leave out the builds (some minutes).
    #[arg(long)]
    no_builds: bool,
    /// Leave out the boots (some minutes).
    #[arg(long)]
    no_boots: bool,
    /// Leave out the updates (some minutes).
    #[arg(long)]
    no_updates: bool,
    /// Leave out the fleet that asks update-server (a minute).
    #[arg(long)]
    no_fleet: bool,
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let artifacts = Artifacts::find()?;
        let folder = artifacts.image()?.raw.parent().context("an image is in a folder")?.to_owned();
        let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)?;
        let mut text = heading(&manifest)?;
        text.push_str(&sizes(&artifacts, &folder, &manifest)?);
        if !self.no_builds {
            text.push_str(&builds()?);
        }
        if !self.no_boots {
            text.push_str(&boots(&artifacts)?);
            text.push_str(&documents::documents(&artifacts)?);
        }
        if !self.no_updates {
            text.push_str(&updates::updates()?);
        }
        if !self.no_fleet {
            text.push_str(&fleet::fleet()?);
        }
        fs::write(&self.output, text)
            .with_context(|| format!("writing {}", self.output.display()))?;
        println!("qemu: {} is written", self.output.display());
        Ok(true)
    }
}

fn heading(manifest: &Value) -> anyhow::Result<String> {
    let model = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let model = model.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let cpus = std::thread::available_parallelism()?;
    Ok(format!(
        "# Benchmarks\n\nMade by `./pith bench` of PithOS {} ({}), on {cpus} processors ({}), QEMU \
         without KVM. Every figure is of that one run.\n\n",
        manifest["version"].as_str().unwrap_or("?"),
        manifest["flavor"].as_str().unwrap_or("?"),
        model.unwrap_or("of an unknown model"),
    ))
}

fn sizes(artifacts: &Artifacts, folder: &Path, manifest: &Value) -> anyhow::Result<String> {
    eprintln!("qemu: sizes ...");
    let version = manifest["version"].as_str().context("the manifest has no version")?;
    let artifact = |extension: &str, field: &str| {
        let name = format!("pithos-{version}.{extension}");
        let all = manifest["artifacts"].as_array().into_iter().flatten();
        all.filter(|a| a["file"] == *name).find_map(|a| a[field].as_u64())
    };
    let erofs = folder.join(format!("pithos-{version}.usr.erofs"));
    let packed = Command::new(artifacts.program("zstd")?)
        .args(["-q", "-12", "--long=27", "-T2", "-c"])
        .arg(&erofs)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting zstd")?;
    let packed =
        std::io::copy(&mut packed.stdout.context("zstd has an output")?, &mut std::io::sink())?;
    let rows = [
        ("initramfs, compressed", manifest["initramfs"]["size_bytes"].as_u64(), Some(6)),
        ("UKI", manifest["uki"]["size_bytes"].as_u64(), Some(20)),
        ("ignition", fs::metadata("build/programs/ignition").map(|m| m.len()).ok(), Some(4)),
        ("/usr, erofs", manifest["usr"]["size_bytes"].as_u64(), Some(360)),
        ("/usr, zstd -12 --long=27", Some(packed), Some(95)),
        ("disk image, real bytes", artifact("raw", "allocated_bytes"), None),
        ("disk image, .raw.zst", artifact("raw.zst", "size_bytes"), Some(120)),
        ("disk image, .qcow2", artifact("qcow2", "size_bytes"), None),
    ];
    let mut text = String::from("## Sizes\n\n| | MB (10^6 bytes) | bar |\n| --- | --- | --- |\n");
    for (name, bytes, bar) in rows {
        let bytes = bytes.with_context(|| format!("the manifest does not say: {name}"))?;
        let bar = bar.map_or("-".to_owned(), |bar| format!("{bar}"));
        writeln!(text, "| {name} | {:.1} | {bar} |", bytes as f64 / 1e6)?;
    }
    text.push('\n');
    Ok(text)
}

/// Builds in a folder of their own, from a copy of `rootfs` that may be changed.
fn builds() -> anyhow::Result<String> {
    let root = Path::new("build/bench");
    let (out, repo, programs) = (root.join("out"), root.join("repo"), root.join("programs"));
    if root.exists() {
        fs::remove_dir_all(root).context("removing build/bench")?;
    }
    fs::create_dir_all(&repo)?;
    run("git", &["checkout-index", "--all", &format!("--prefix={}/", repo.display())])?;
    run("cp", &["-a", "build/programs", &programs.display().to_string()])?;
    let build = |more: &[&str]| {
        let (out, repo) = (out.display().to_string(), repo.display().to_string());
        let named = ["--version", "0.0.1", "--epoch", "1700000000", "--build-id", "bench"];
        let mut args = vec!["run", "--quiet", "--profile=host", "--package=image", "--", "build"];
        args.extend(["--offline", "--build-dir", &out, "--repo", &repo]);
        args.extend(named.iter().chain(more));
        timed("cargo", &args)
    };
    let programs = programs.display().to_string();
    let as_built = ["--as-built", &programs];
    let mut rows = vec![];
    eprintln!("qemu: a clean build ...");
    rows.push(("clean: tools tree, root tree and all behind them".to_owned(), build(&as_built)?));
    eprintln!("qemu: builds after a change ...");
    rows.push(("nothing changed".to_owned(), build(&as_built)?));
    fs::write(repo.join("rootfs/usr/share/pithos/etc/issue"), "changed\n")?;
    rows.push(("one file of rootfs changed".to_owned(), build(&as_built)?));
    eprintln!("qemu: the programs of the image, for the first time there ...");
    build(&[])?;
    for (package, program) in [("initramfs", "/init"), ("ignition", "ignition")] {
        eprintln!("qemu: {package} changed ...");
        let main = repo.join(package).join("src/main.rs");
        let source = fs::read_to_string(&main)?;
        // Not a comment: the program has to come out as another one.
        fs::write(&main, source + "\n#[used]\nstatic CHANGED: &str = \"changed\";\n")?;
        let row = format!("one program ({program}) changed, cargo's part included");
        rows.push((row, build(&[])?));
    }
    fs::remove_dir_all(root).context("removing build/bench")?;

    let mut text = String::from(
        "## Builds\n\nWall time, the cache of packages warm, our Rust programs built.\n\n\
         | | s |\n| --- | --- |\n",
    );
    for (name, time) in rows {
        writeln!(text, "| {name} | {:.1} |", time.as_secs_f64())?;
    }
    text.push('\n');
    Ok(text)
}

/// The first boot is that of a machine which is given a document, as they are.
const DOCUMENT: &str = r#"{"ignition": {"version": "3.6.0"}, "storage": {"files": [
    {"path": "/etc/bench", "contents": {"source": "data:,bench"}}]}}"#;

fn boots(artifacts: &Artifacts) -> anyhow::Result<String> {
    let stock = Path::new("build/stock/stock.raw");
    eprintln!("qemu: the stock image ...");
    run("cargo", &["run", "--quiet", "--profile=host", "--package=image", "--", "stock"])?;
    // Machines of an interrupted run have made their first boot already.
    for name in ["bench", "bench-stock"] {
        let _ = fs::remove_dir_all(Path::new("build/run").join(name));
    }
    let spec = |name: &str| {
        let spec = Spec::in_build(name, artifacts.clone()).cpus(1).memory_mib(2048);
        spec.offline()
    };
    eprintln!("qemu: booting PithOS, instructions counted ...");
    let document = Path::new("build/run/bench.ign");
    fs::create_dir_all("build/run").and_then(|()| fs::write(document, DOCUMENT))?;
    let document = fs::canonicalize(document).context("the document of the benchmark")?;
    let first = spec("bench").image(artifacts.image()?).document(&document).kept();
    let (machine, ours) = bench::boot(first, bench::OURS)?;
    machine.wait_ready()?;
    let again = machine.power_off()?;
    eprintln!("qemu: again, now that it has been provisioned ...");
    let (machine, ours_again) = bench::boot(again, bench::OURS)?;
    let init = machine.ask("journalctl -b -t pithos-init --no-pager -o short-monotonic")?;
    machine.pull_plug();
    eprintln!("qemu: booting the stock image, instructions counted ...");
    // It has no key of ours and does not mind its power button: it is switched off by hand.
    let first = spec("bench-stock").image(Image::open(stock)?).kept();
    let first = first.credential("agetty.autologin", "root").credential("login.noauth", "yes");
    let (machine, theirs) = bench::boot(first, bench::STOCK)?;
    machine.wait_for(":~# ", machine.patience())?;
    machine.console().write_line("systemctl poweroff")?;
    let again = machine.power_went_off()?;
    eprintln!("qemu: again ...");
    let (machine, theirs_again) = bench::boot(again, bench::STOCK)?;
    machine.pull_plug();
    Ok(format!(
        "## The boot\n\nInstructions executed by the guest (`-icount shift=0`, one processor), \
         asked for when the console shows the milestone; wall time beside it, with counting on. \
         The stock image is what mkosi makes by itself of the same packages and kernel, with its \
         own default initrd; it provisions nothing, ours becomes what a document of one file \
         says.\n\n### First boot\n\n{}\n### Second boot\n\n{}\n\
         What `/init` says of its steps (second boot, the guest's clock: one nanosecond for each \
         instruction, waiting included):\n\n```\n{}\n```\n",
        bench::table(&ours, &theirs),
        bench::table(&ours_again, &theirs_again),
        init.trim(),
    ))
}

fn timed(program: &str, args: &[&str]) -> anyhow::Result<Duration> {
    let start = Instant::now();
    run(program, args)?;
    Ok(start.elapsed())
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(args).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program} {}: {status}", args.join(" "));
    Ok(())
}
