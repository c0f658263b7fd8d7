//! Commands that cannot wait for the disk: fsync and its relatives do nothing in it.
//!
//! dpkg syncs its database after every step of every package, some thousand times for one tree,
//! which takes as long as everything else. A tree that a power cut interrupted is made anew
//! anyway, so there is nothing to protect.

use std::{collections::BTreeMap, thread};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// System calls of x86-64 that only wait: msync, fsync, fdatasync, sync, sync_file_range, syncfs.
const SYNCS: [i64; 6] = [26, 74, 75, 162, 277, 306];

/// Does `work` in a thread whose commands do not wait for the disk. It is over when they are: the
/// thread is their parent, and some of them end with it.
pub(super) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let filter = filter();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Where filters are forbidden (some containers), it is slower, and no less right.
            let _ = filter.is_ok_and(|filter| seccompiler::apply_filter(&filter).is_ok());
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules: BTreeMap<i64, Vec<_>> = SYNCS.into_iter().map(|call| (call, Vec::new())).collect();
    let succeed = SeccompAction::Errno(0);
    SeccompFilter::new(rules, SeccompAction::Allow, succeed, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_started_so_runs_and_its_starter_stays_free() {
        let status = run(|| Command::new("/bin/sh").args(["-c", "sync; exit 7"]).status());
        assert_eq!(status.unwrap().code(), Some(7));
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("Seccomp:\t0\n"), "the filter is on this thread, too");
    }
}
