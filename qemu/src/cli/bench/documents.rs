//! What first-boot documents cost: the program and its memory, checking a large document, the files
//! of one on this host beside Debian's own program, and a real first boot as the machine says it.

use std::{
    fmt::Write,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use qemu::{Artifacts, Machine, Spec, bench};
use serde::{Deserialize, Serialize};

use super::run;

/// Where all of it happens.
const FOLDER: &str = "build/bench-documents";
/// Where Debian's package has its programs.
const DEBIANS: &str = "usr/lib/dracut/modules.d/30ignition/ignition";
const DEBIANS_VALIDATE: &str = "usr/bin/ignition-validate";
/// The smallest of so many is taken: what else runs here only adds.
const TIMES: usize = 5;

/// Runs a program and prints what it took. A process of its own: the kernel says the memory of the
/// largest child only.
#[derive(Args, Clone, Debug)]
pub(crate) struct Measure {
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

/// What a program took.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Took {
    wall_ms: f64,
    processor_ms: f64,
    memory_kib: i64,
}

impl Measure {
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let start = Instant::now();
        let mut command = Command::new(&self.words[0]);
        let status = command.args(&self.words[1..]).stdout(Stdio::null()).status()?;
        let wall_ms = start.elapsed().as_secs_f64() * 1e3;
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let ms = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3
        };
        let processor_ms = ms(usage.user_time()) + ms(usage.system_time());
        let took = Took { wall_ms, processor_ms, memory_kib: usage.max_rss() };
        println!("{}", serde_json::to_string(&took)?);
        Ok(status.success())
    }
}

/// All of it; `build/stock` is there.
pub(super) fn documents(artifacts: &Artifacts) -> anyhow::Result<String> {
    eprintln!("qemu: first-boot documents ...");
    let _ = fs::remove_dir_all(FOLDER);
    fs::create_dir_all(FOLDER).with_context(|| format!("making {FOLDER}"))?;
    let folder = fs::canonicalize(FOLDER)?;
    let (hundred, large) = (folder.join("100.ign"), folder.join("5000.ign"));
    fs::write(&hundred, files(100, 20))?;
    fs::write(&large, files(5000, 110))?;
    let mut text = on_the_host(&folder, &hundred, &large)?;
    text.push_str(&first_boots(artifacts, &hundred, &large)?);
    fs::remove_dir_all(&folder).with_context(|| format!("removing {FOLDER}"))?;
    Ok(text)
}

fn on_the_host(folder: &Path, hundred: &Path, large: &Path) -> anyhow::Result<String> {
    let ours = fs::canonicalize("build/programs/ignition").context("the program of the image")?;
    let debian = folder.join("debian");
    run("dpkg-deb", &["-x", "build/stock/ignition.deb", &debian.display().to_string()])?;
    let mut text = String::from(
        "## First-boot documents\n\nOf this host; the least of five runs. Debian's program is that \
         of Debian 13 (package `ignition`).\n\n| | ours | bar | Debian's |\n| --- | --- | --- | --- |\n",
    );
    let mb = |path: &Path| -> anyhow::Result<f64> { Ok(fs::metadata(path)?.len() as f64 / 1e6) };
    let theirs = debian.join(DEBIANS);
    writeln!(text, "| the program, MB | {:.1} | 4 | {:.1} |", mb(&ours)?, mb(&theirs)?)?;

    let document = large.display().to_string();
    let validate = least(&ours, &["validate", &document], &|| Ok(()))?;
    let theirs_validate = least(&debian.join(DEBIANS_VALIDATE), &[&document], &|| Ok(()))?;
    let size = mb(large)?;
    writeln!(
        text,
        "| `validate` of 5,000 files ({size:.1} MB), ms | {:.0} | 50 | {:.0} |",
        validate.wall_ms, theirs_validate.wall_ms
    )?;
    writeln!(
        text,
        "| its memory, MB | {:.1} | 12 | {:.1} |",
        megabytes(validate),
        megabytes(theirs_validate)
    )?;
    match nix::unistd::geteuid().is_root() {
        true => text.push_str(&on_a_tree(&ours, &theirs, hundred, folder)?),
        false => text.push_str("| 100 files onto a tree: only root can | - | - | - |\n"),
    }
    text.push('\n');
    Ok(text)
}

/// All that a document leads to, onto an empty tree: ours is one process, Debian's one for each
/// stage.
fn on_a_tree(ours: &Path, theirs: &Path, document: &Path, folder: &Path) -> anyhow::Result<String> {
    let root = folder.join("root");
    let anew = || {
        let _ = fs::remove_dir_all(folder.join("root"));
        let _ = fs::remove_dir_all(folder.join("run"));
        fs::create_dir_all(folder.join("root/etc/selinux"))?;
        fs::create_dir_all(folder.join("run"))?;
        // Debian's program relabels what it wrote, whether the machine has labels or not.
        Ok(fs::write(folder.join("root/etc/selinux/config"), "SELINUXTYPE=none\n")?)
    };
    fs::create_dir(folder.join("bin"))?;
    symlink("/bin/true", folder.join("bin/setfiles"))?;
    let (root, document) = (root.display().to_string(), document.display().to_string());
    let apply = ["apply", "--offline", "--quiet", "--root", &root, &document];
    let one = least(ours, &apply, &anew)?;
    let script = format!(
        "export IGNITION_CONFIG_FILE='{document}' PATH=\"{bin}:$PATH\"; for stage in fetch-offline fetch files; do \
         '{}' --platform file --stage $stage --root '{root}' --config-cache '{run}/cache' \
         --neednet '{run}/net' --state-file '{run}/state' --log-to-stdout || exit 1; done",
        theirs.display(),
        bin = folder.join("bin").display(),
        run = folder.join("run").display(),
    );
    let other = least(Path::new("/bin/sh"), &["-c", &script], &anew)?;
    let count = fs::read_dir(folder.join("root/etc/bench"))?.count();
    ensure!(count == 100, "Debian's program made {count} files of 100");
    Ok(format!(
        "| 100 files onto a tree, ms of the processor | {:.0} | - | {:.0} |\n\
         | the same, wall, ms | {:.0} | - | {:.0} |\n| its memory, MB | {:.1} | - | {:.1} |\n",
        one.processor_ms,
        other.processor_ms,
        one.wall_ms,
        other.wall_ms,
        megabytes(one),
        megabytes(other),
    ))
}

/// What machines say of their first boots.
fn first_boots(artifacts: &Artifacts, hundred: &Path, large: &Path) -> anyhow::Result<String> {
    let spec = |name: &str, document: &Path| -> anyhow::Result<Spec> {
        let _ = fs::remove_dir_all(Path::new("build/run").join(name));
        let spec = Spec::in_build(name, artifacts.clone()).image(artifacts.image()?);
        Ok(spec.cpus(1).memory_mib(2048).offline().document(document))
    };
    eprintln!("qemu: a first boot with 100 files, instructions counted ...");
    let (counted, reached) = bench::boot(spec("bench-files", hundred)?, bench::OURS)?;
    counted.wait_ready()?;
    let init =
        counted.ask("journalctl -b -t pithos-init --no-pager -o cat | grep provision || true")?;
    let [ms, _] = ended(&counted)?;
    counted.pull_plug();
    eprintln!("qemu: first boots as they are ...");
    let real = spec("bench-files", hundred)?.start()?;
    real.wait_ready()?;
    let [wall, kib] = ended(&real)?;
    real.pull_plug();
    let real = spec("bench-large", large)?.start()?;
    real.wait_ready()?;
    let [large_wall, large_kib] = ended(&real)?;
    real.pull_plug();
    let systemd = bench::between(&reached, "kernel", "systemd").unwrap_or_default() as f64 / 1e9;
    Ok(format!(
        "What a machine says of its first boot, from inside (`journalctl -t ignition`):\n\n\
         | | 100 files | 5,000 files, {:.1} MB | bar |\n| --- | --- | --- | --- |\n\
         | `ignition` in the initramfs, wall, ms | {wall} | {large_wall} | - |\n\
         | its memory at most, MB | {:.1} | {:.1} | 12 |\n\
         | instructions while it runs (root is made meanwhile) | {:.2} G | - | - |\n\
         | kernel to systemd, all of it | {systemd:.2} G | - | - |\n\n```\n{}\n```\n",
        fs::metadata(large)?.len() as f64 / 1e6,
        kib as f64 * 1.024e-3,
        large_kib as f64 * 1.024e-3,
        ms as f64 / 1e3,
        init.trim(),
    ))
}

/// Milliseconds and KiB, as `ignition` writes them down at its end. With instructions counted, a
/// millisecond is a million of them.
fn ended(machine: &Machine) -> anyhow::Result<[u64; 2]> {
    let said = machine.ask("journalctl -b -t ignition --no-pager -o cat | grep '^ended after'")?;
    let numbers = said.split(' ').filter_map(|word| word.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    numbers.try_into().ok().with_context(|| format!("no two numbers in `{said}`"))
}

/// The least of some runs, each after `prepare`.
fn least(
    program: &Path,
    arguments: &[&str],
    prepare: &dyn Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Took> {
    let us: PathBuf = std::env::current_exe().context("finding this program")?;
    let mut all = Vec::new();
    for _ in 0..TIMES {
        prepare()?;
        let output = Command::new(&us)
            .arg("measure")
            .arg(program)
            .args(arguments)
            .stderr(Stdio::piped())
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {complaint}", program.display());
        all.push(serde_json::from_slice::<Took>(&output.stdout).context("what was measured")?);
    }
    let least = |of: fn(&Took) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    Ok(Took {
        wall_ms: least(|took| took.wall_ms),
        processor_ms: least(|took| took.processor_ms),
        memory_kib: least(|took| took.memory_kib as f64) as i64,
    })
}

fn megabytes(took: Took) -> f64 {
    took.memory_kib as f64 * 1.024e-3
}

/// A document of so many files, each with so many bytes.
fn files(count: usize, bytes: usize) -> String {
    let text = "x".repeat(bytes);
    let file = |number| {
        format!(
            r#"{{"path": "/etc/bench/{number}", "mode": 420, "contents": {{"source": "data:,{text}"}}}}"#
        )
    };
    let all: Vec<String> = (0..count).map(file).collect();
    let files = all.join(",\n");
    format!(
        "{{\"ignition\": {{\"version\": \"3.3.0\"}}, \"storage\": {{\"files\": [\n{files}]}}}}\n"
    )
}
