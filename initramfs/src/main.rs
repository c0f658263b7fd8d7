//! `/init`: from the kernel's first process to systemd of the real root.
//!
//! It does what docs/boot.md says, in that order, and nothing else. The decisions are pure
//! (`modules`, `disks`, `verity`, `root::plan`); `boot`, `drivers`, `root` and `switch`
//! perform them.

mod boot;
mod disks;
mod drivers;
mod efi;
mod log;
mod modules;
mod provision;
mod report;
mod root;
mod switch;
mod uevents;
mod verity;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "init: this is the first program of a machine's boot; it would mount file systems over \
             yours.\nIt runs as PID 1 only. To boot an image, use `./pith boot`."
        );
        return ExitCode::FAILURE;
    }
    // A mistake of ours must not leave a machine without a word.
    std::panic::set_hook(Box::new(|panic| report::stop(&report::of_panic(panic))));
    let failure = boot::run().expect_err("on success systemd has taken this process over");
    report::stop(&failure);
    // PID 1 returns: the kernel panics, and reboots as `panic=` says.
    ExitCode::FAILURE
}
