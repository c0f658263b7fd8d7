//! The stage of the kernel's arguments.

use std::{fs, path::Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Esp, Failure, drivers};
use crate::{
    document::config::KernelArguments,
    files::{
        kargs::{Facts, Plan, plan, read_addon, write_addon},
        tree::Root,
    },
    journal::Journal,
};

/// The variable of the firmware that says whether it refuses what is not signed (UEFI 3.3).
const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Makes the kernel's arguments what the document says. Whether the machine must start again.
pub(super) fn change(
    wanted: &KernelArguments,
    cmdline: &str,
    esp: Option<&Esp>,
    memory: &Path,
    journal: &dyn Journal,
) -> Result<bool, Failure> {
    if wanted.should_exist.is_empty() && wanted.should_not_exist.is_empty() {
        return Ok(false);
    }
    let at = "$.kernelArguments";
    let of_esp = |error: std::io::Error| Failure::of("kargs", at.to_owned(), &error);
    let esp = esp.ok_or_else(|| {
        Failure::new("kargs", at, "the EFI system partition, where they are kept, is not there")
    })?;
    let esp = Root::open(esp.path()).map_err(of_esp)?;
    let facts = Facts {
        running: cmdline.to_owned(),
        addon: read_addon(&esp).map_err(of_esp)?,
        secure_boot: secure_boot(memory),
    };
    let plan = plan(wanted, &facts).map_err(|refused| {
        let hint = refused.hint.clone();
        Failure::new("kargs", refused.at, refused.why).hint(hint)
    })?;
    match plan {
        Plan::Nothing => Ok(false),
        Plan::Restart { addon } => {
            journal.say(&format!("kargs: the kernel gets `{addon}` from now on"));
            write_addon(&esp, &addon).map_err(of_esp)?;
            Ok(true)
        }
    }
}

/// Whether Secure Boot is on. A firmware that does not say so has it not.
fn secure_boot(memory: &Path) -> bool {
    drivers::load("efivarfs");
    let at = memory.join("efivars");
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = fs::create_dir_all(&at).is_ok()
        && mount(Some("efivarfs"), &at, Some("efivarfs"), flags, None::<&str>).is_ok();
    // Four bytes of attributes, and one that says it.
    let on = fs::read(at.join(SECURE_BOOT)).is_ok_and(|bytes| bytes.get(4) == Some(&1));
    if mounted {
        let _ = umount2(&at, MntFlags::MNT_DETACH);
    }
    on
}
