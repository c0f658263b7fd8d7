//! Whether the host has room for one more machine: asked before, so that it is one clear message.

use std::{fs, path::Path};

use crate::error::{Doing, Error};

/// What QEMU needs beside the memory of the guest: code, firmware, translated blocks.
const OVERHEAD_MIB: u64 = 256;
/// Below this a first boot does not fit: root is made and filled on it.
const LEAST_FREE_MIB: u64 = 512;

/// Refuses machines that want more memory than there is.
pub fn ensure_memory(machines: u32, memory_mib: u32) -> Result<(), Error> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).doing(|| format!("reading {path}"))?;
    match available_mib(&text) {
        Some(available) => fits(machines, memory_mib, available),
        None => Ok(()), // A kernel that does not say: QEMU will.
    }
}

fn fits(machines: u32, memory_mib: u32, available: u64) -> Result<(), Error> {
    let needed = u64::from(machines) * (u64::from(memory_mib) + OVERHEAD_MIB);
    if needed <= available {
        return Ok(());
    }
    let who = if machines == 1 { "the machine".into() } else { format!("{machines} machines") };
    Err(Error::Refused(format!(
        "not enough memory: {who} of {memory_mib} MiB and QEMU itself need {needed} MiB, \
         {available} MiB are available\n  ask for less with --memory (512 are enough), or stop \
         something else"
    )))
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// Refuses a folder on a full file system.
pub fn ensure_disk(folder: &Path) -> Result<(), Error> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .doing(|| format!("asking for the free space of {}", folder.display()))?;
    let free_mib = (stat.blocks_available() * stat.fragment_size()) >> 20;
    if free_mib >= LEAST_FREE_MIB {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "not enough disk for the machine: {free_mib} MiB are free at {}, at least \
         {LEAST_FREE_MIB} MiB are needed\n  `./pith clean` frees what can be built again",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_does_not_fit_is_refused_with_both_numbers() {
        assert!(fits(1, 512, 768).is_ok());
        let error = fits(3, 1024, 3839).expect_err("too much").to_string();
        for word in ["3 machines", "1024 MiB", "3840 MiB", "3839 MiB", "--memory"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(ensure_memory(1000, 1_000_000).is_err());
    }

    #[test]
    fn available_memory_is_the_kernels_own_estimate() {
        let text = "MemTotal: 8000000 kB\nMemFree:  100 kB\nMemAvailable:   2097152 kB\n";
        assert_eq!(available_mib(text), Some(2048));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
    }
}
