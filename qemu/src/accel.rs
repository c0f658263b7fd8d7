//! Who runs the guest's instructions: the processor (KVM) or QEMU itself (TCG).
//!
//! A /dev/kvm proves nothing: inside some virtual machines it is there, opens, runs a few
//! instructions in real mode, and stops at a stock kernel. So three things must be true: it opens,
//! the processor says that it can virtualise, and a tiny guest ends as it should.

use std::{
    fmt, fs, fs::File, path::Path, process::Stdio, str::FromStr, sync::OnceLock, time::Duration,
};

use crate::process;

/// Overrides what was found out, when set: `kvm` or `tcg`.
pub const OVERRIDE: &str = "PITHOS_ACCEL";

/// An accelerator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accel {
    /// The processor, through the kernel.
    Kvm,
    /// Translation in software.
    Tcg,
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(format!("`{word}` is neither kvm nor tcg")),
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// An accelerator, and why it is that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Which.
    pub accel: Accel,
    /// Half a sentence.
    pub why: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.accel {
            Accel::Kvm => write!(f, "KVM ({})", self.why),
            Accel::Tcg => write!(f, "TCG, in software ({})", self.why),
        }
    }
}

/// Picks the accelerator: what the caller wishes, what [`OVERRIDE`] says, else what works here.
/// What works is found out once per process.
pub fn choose(wish: Option<Accel>, qemu: &Path) -> Result<Choice, String> {
    static FOUND: OnceLock<Choice> = OnceLock::new();
    if let Some(accel) = wish {
        return Ok(Choice { accel, why: "as asked".into() });
    }
    match std::env::var(OVERRIDE) {
        Ok(word) => {
            let accel = word.parse().map_err(|e| format!("{OVERRIDE}: {e}"))?;
            Ok(Choice { accel, why: format!("{OVERRIDE}={word}") })
        }
        Err(_) => Ok(FOUND.get_or_init(|| decide(&Here { qemu })).clone()),
    }
}

/// What can be asked of a host.
trait Host {
    fn opens_kvm(&self) -> Result<(), String>;
    fn cpuinfo(&self) -> String;
    fn runs_a_tiny_guest(&self) -> Result<(), String>;
}

fn decide(host: &impl Host) -> Choice {
    let tcg = |why: String| Choice { accel: Accel::Tcg, why };
    if let Err(why) = host.opens_kvm() {
        return tcg(format!("/dev/kvm: {why}"));
    }
    let Some(feature) = virtualisation(&host.cpuinfo()) else {
        return tcg("there is a /dev/kvm, but the processor has neither vmx nor svm".into());
    };
    match host.runs_a_tiny_guest() {
        Ok(()) => Choice { accel: Accel::Kvm, why: format!("{feature}, and a tiny guest runs") },
        Err(why) => tcg(format!("there is a /dev/kvm, but a tiny guest does not run on it: {why}")),
    }
}

fn virtualisation(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    ["vmx", "svm"].into_iter().find(|name| flags.split_whitespace().any(|flag| flag == *name))
}

/// This host.
struct Here<'a> {
    qemu: &'a Path,
}

/// Long enough for a guest of five bytes on a busy host.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where the debug-exit device listens, and what the guest writes to it.
const PORT: u8 = 0xf4;
const WORD: u8 = 0x2a;

impl Host for Here<'_> {
    fn opens_kvm(&self) -> Result<(), String> {
        let file = File::options().read(true).write(true).open("/dev/kvm");
        file.map(|_| ()).map_err(|e| e.to_string())
    }

    fn cpuinfo(&self) -> String {
        fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
    }

    fn runs_a_tiny_guest(&self) -> Result<(), String> {
        tiny_guest(self.qemu, Accel::Kvm)
    }
}

/// Runs a firmware of one instruction after the reset vector: `out PORT, WORD`.
fn tiny_guest(qemu: &Path, accel: Accel) -> Result<(), String> {
    const HALT: u8 = 0xf4;
    let mut firmware = vec![HALT; 64 << 10];
    let reset = firmware.len() - 16;
    firmware[reset..reset + 5].copy_from_slice(&[0xb0, WORD, 0xe6, PORT, HALT]);
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let rom = folder.path().join("tiny.rom");
    fs::write(&rom, firmware).map_err(|e| e.to_string())?;

    let mut command = process::command(qemu);
    command
        .args(["-accel", &accel.to_string(), "-machine", "pc", "-m", "16"])
        .args(["-nodefaults", "-display", "none", "-device"])
        .arg(format!("isa-debug-exit,iobase={PORT:#x},iosize=1"))
        .arg("-bios")
        .arg(&rom)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = process::spawn(command).map_err(|e| e.to_string())?;
    let ended = process::ended(&mut child, PATIENCE).map_err(|e| e.to_string())?;
    process::kill(&mut child);
    if !ended {
        return Err(format!("it hangs for {} s", PATIENCE.as_secs()));
    }
    // The device ends QEMU with twice the word and one.
    match child.wait().map_err(|e| e.to_string())?.code() {
        Some(code) if code == i32::from(WORD) * 2 + 1 => Ok(()),
        Some(code) => Err(format!("QEMU ends with {code}")),
        None => Err("QEMU is killed".into()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    struct Fake {
        opens: Result<(), &'static str>,
        flags: &'static str,
        guest: Result<(), &'static str>,
    }

    impl Host for Fake {
        fn opens_kvm(&self) -> Result<(), String> {
            self.opens.map_err(str::to_owned)
        }
        fn cpuinfo(&self) -> String {
            format!("processor\t: 0\nflags\t\t: fpu {} lm\n", self.flags)
        }
        fn runs_a_tiny_guest(&self) -> Result<(), String> {
            self.guest.map_err(str::to_owned)
        }
    }

    fn check(host: Fake, expected: Expect) {
        expected.assert_eq(&decide(&host).to_string());
    }

    #[test]
    fn kvm_is_picked_only_where_everything_speaks_for_it() {
        let good = Fake { opens: Ok(()), flags: "svm", guest: Ok(()) };
        check(good, expect!["KVM (svm, and a tiny guest runs)"]);
        check(
            Fake { opens: Err("No such file or directory"), flags: "svm", guest: Ok(()) },
            expect!["TCG, in software (/dev/kvm: No such file or directory)"],
        );
        check(
            Fake { opens: Ok(()), flags: "svme hypervisor", guest: Ok(()) },
            expect![
                "TCG, in software (there is a /dev/kvm, but the processor has neither vmx nor svm)"
            ],
        );
        check(
            Fake { opens: Ok(()), flags: "vmx", guest: Err("it hangs for 3 s") },
            expect![
                "TCG, in software (there is a /dev/kvm, but a tiny guest does not run on it: it hangs for 3 s)"
            ],
        );
    }
}
