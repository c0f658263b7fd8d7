//! What a machine says about itself, asked over SSH, and whether that is what it should be.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use serde::Serialize;

use crate::{
    error::Error,
    machine::{FIRMWARE_DONE, Machine, Ready},
    manifest::Manifest,
};

mod parse;

pub use parse::{Disk, Facts, Listener, Mount, Partition, Times};

/// The script that the machine runs.
const GATHER: &str = include_str!("report/gather.sh");
const LIMIT: Duration = Duration::from_secs(120);

/// What a machine says, and what is to be thought of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub machine: String,
    /// Who ran its instructions.
    pub accelerator: String,
    /// From power-on until it was ready, on the host's clock.
    pub ready_after_ms: u128,
    /// What it says.
    pub facts: Facts,
    /// What was checked.
    pub findings: Vec<Finding>,
}

/// One thing that was checked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What should be so.
    pub law: &'static str,
    /// Whether it is.
    pub good: bool,
    /// What was seen.
    pub seen: String,
}

impl Report {
    /// Asks a machine that is ready.
    pub fn ask(
        machine: &Machine,
        ready: &Ready,
        manifest: Option<&Manifest>,
    ) -> Result<Self, Error> {
        let output = machine.ssh_within("sudo bash -s", GATHER.as_bytes(), LIMIT)?;
        let text = output.text().map_err(|e| machine.about(e))?;
        let mut facts = parse::facts(&text);
        let firmware = ready.milestones.iter().find(|(_, what)| *what == FIRMWARE_DONE);
        if let (None, Some((firmware, _))) = (facts.times.firmware, firmware) {
            let kernel = kernel_started(machine)?;
            facts.times.firmware = Some(firmware.as_secs_f64());
            facts.times.loader = Some((kernel - firmware.as_secs_f64()).max(0.0));
        }
        let findings = findings(&facts, manifest);
        Ok(Self {
            machine: machine.name().to_owned(),
            accelerator: machine.accelerator().to_string(),
            ready_after_ms: ready.took.as_millis(),
            facts,
            findings,
        })
    }

    /// Whether everything is as it should be.
    pub fn good(&self) -> bool {
        self.findings.iter().all(|finding| finding.good)
    }
}

/// When the kernel started, on the host's clock: a loader that does not know the frequency of the
/// processor's counter (under TCG) does not say how long it took.
fn kernel_started(machine: &Machine) -> Result<f64, Error> {
    let before = machine.since_boot();
    let said = machine.ask("cat /proc/uptime")?;
    let now = (before + machine.since_boot()) / 2;
    let uptime: f64 = said.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
    Ok(now.as_secs_f64() - uptime)
}

fn findings(facts: &Facts, manifest: Option<&Manifest>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = |law, good, seen: String| findings.push(Finding { law, good, seen });

    check("systemd is running", facts.state == "running", facts.state.clone());
    check("no unit failed", facts.failed_units.is_empty(), facts.failed_units.join(", "));
    check(
        "booted by firmware and systemd-boot",
        facts.loader.starts_with("systemd-boot"),
        format!("{}, {}", facts.loader, facts.entry),
    );
    let usr = facts.usr.clone().unwrap_or_default();
    check(
        "/usr is erofs, read-only",
        usr.kind == "erofs" && usr.options.split(',').any(|option| option == "ro"),
        format!("{} on {}, {}", usr.kind, usr.source, usr.options),
    );
    check(
        "/usr is verified",
        facts.verity_root_hash.is_some() && facts.verity_status.starts_with("verified"),
        facts.verity_status.clone(),
    );
    let hash = facts.verity_root_hash.as_deref().unwrap_or("none");
    if let Some(manifest) = manifest {
        let good = hash.eq_ignore_ascii_case(&manifest.usr.root_hash);
        check("by the root hash of the manifest", good, hash.to_owned());
        let version = facts.image_version.as_deref().unwrap_or("none");
        check("the version of the manifest", version == manifest.version, version.to_owned());
    }
    let root = facts.root.clone().unwrap_or_default();
    check(
        "/ can be written",
        root.options.split(',').any(|option| option == "rw"),
        format!("{} on {}, {}", root.kind, root.source, root.options),
    );
    let others: Vec<String> = facts
        .listeners
        .iter()
        .filter(|listener| listener.is_outward() && !listener.is_expected())
        .map(|listener| listener.to_string())
        .collect();
    check("nothing but SSH listens", others.is_empty(), others.join("; "));
    findings
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        let mut line = |name: &str, text: &str| writeln!(f, "  {name:<12} {text}");
        line("system", &format!("{}, Linux {}", facts.os_name, facts.kernel))?;
        line("firmware", &facts.firmware)?;
        line("loader", &format!("{}, entry {}", facts.loader, facts.entry))?;
        if let Some(usr) = &facts.usr {
            line("/usr", &format!("{} on {} ({})", usr.kind, usr.source, usr.options))?;
        }
        line("root hash", facts.verity_root_hash.as_deref().unwrap_or("none"))?;
        if let Some(root) = &facts.root {
            let used = format!("{} of {} used", bytes(root.used_bytes), bytes(root.size_bytes));
            line("/", &format!("{} on {}, {used}", root.kind, root.source))?;
        }
        line(
            "memory",
            &format!(
                "{} MiB of {} MiB used",
                facts.memory_used_kib / 1024,
                facts.memory_total_kib / 1024
            ),
        )?;
        for disk in &facts.disks {
            line("disk", &format!("{} {}", disk.name, bytes(disk.size_bytes)))?;
            for partition in &disk.partitions {
                line("", &partition.to_string())?;
            }
        }
        line("boot", &self.times())?;
        for step in &facts.init {
            line("", step)?;
        }
        for listener in facts.listeners.iter().filter(|listener| listener.is_outward()) {
            line("listens", &listener.to_string())?;
        }
        writeln!(f)?;
        for finding in &self.findings {
            let mark = if finding.good { "ok " } else { "BAD" };
            let seen =
                if finding.seen.is_empty() { String::new() } else { format!(": {}", finding.seen) };
            writeln!(f, "  {mark} {}{seen}", finding.law)?;
        }
        Ok(())
    }
}

impl Report {
    fn times(&self) -> String {
        let times = &self.facts.times;
        let mut text =
            format!("ready {} after power-on", seconds(self.ready_after_ms as f64 / 1e3));
        let parts = [
            ("firmware", times.firmware),
            ("loader", times.loader),
            ("kernel", times.kernel),
            ("/init", times.init),
            ("userspace", times.userspace),
        ];
        let mut between = " (";
        for (name, part) in parts {
            if let Some(part) = part {
                let _ = write!(text, "{between}{name} {}", seconds(part));
                between = ", ";
            }
        }
        if between == ", " {
            text.push(')');
        }
        text
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{bytes} bytes"),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests;
