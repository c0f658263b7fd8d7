//! `ignition cloud-config`: a cloud-config on the running system, at every boot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::Args;
use ignition::{
    document::{
        Report, Sources,
        cloudconfig::{
            self, Addresses, Facts,
            apply::{Running, apply},
        },
        unpack,
    },
    fetch::{Fetcher, Names},
    journal::Journal,
    network,
    platform::{self, Mounted, Online, metadata, vmware::Backdoor},
};

use super::{Printed, remark};

/// Applies the cloud-config that this machine was given. What fails is said, and stops nothing.
#[derive(Args)]
pub(crate) struct CloudConfig {
    /// A file, instead of what the machine was given.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// A tree of files, instead of the running system; no service is started for it.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl CloudConfig {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let plan = platform::plan(&cmdline)?;
        let (name, bytes) = match &self.from {
            Some(file) => {
                let name = file.display().to_string();
                let bytes = fs::read(file).with_context(|| format!("reading {name}"))?;
                (name, bytes)
            }
            None => match given(&plan)? {
                Some(found) => (found.from, found.bytes),
                None => return Ok(ExitCode::SUCCESS),
            },
        };
        let text = String::from_utf8(unpack(&bytes)?).context("reading it as text")?;
        let is_ours = cloudconfig::is_cloud_config(&text)
            || cloudconfig::is_script(&text)
            || cloudconfig::is_multipart(&text);
        if !is_ours {
            Printed.say(&format!("{name} is no cloud-config: nothing to do"));
            return Ok(ExitCode::SUCCESS);
        }
        let mut facts = Facts::read(&self.root, Addresses::default());
        if let Some(id) = plan.id.as_deref() {
            ask(id, &mut facts);
        }
        let (mut sources, mut report) = (Sources::default(), Report::default());
        let actions = cloudconfig::plan(&name, &text, &facts, &mut sources, &mut report);
        remark(&report.display(&sources));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = u32::try_from(since.as_secs() / 86400).unwrap_or(0);
        let failed = apply(&actions, &mut Running::new(&self.root, day, &Printed), &Printed);
        Printed.say(&format!("{} things done, {failed} failed", actions.len() - failed));
        Ok(ExitCode::SUCCESS)
    }
}

/// What the platform says of the machine: its addresses, its name, its keys.
fn ask(id: &str, facts: &mut Facts) {
    match metadata::ask(id, &Fetcher::online(Names::System, &Printed)) {
        Ok(Some(found)) => {
            let of = |endings: &[&str]| {
                let all = found.attributes.iter();
                let mut named =
                    all.filter(|(name, _)| endings.iter().any(|end| name.ends_with(end)));
                named.next().map(|(_, value)| value.clone())
            };
            facts.addresses = Addresses {
                public_ipv4: of(&["IPV4_PUBLIC", "PUBLIC_IPV4", "IP_EXTERNAL_0", "IPV4_PUBLIC_0"]),
                private_ipv4: of(&[
                    "IPV4_LOCAL",
                    "PRIVATE_IPV4",
                    "PRIVATE_IPV4_0",
                    "IP_LOCAL_0",
                    "IPV4_PRIVATE_0",
                ]),
                public_ipv6: of(&["_IPV6", "PUBLIC_IPV6", "IPV6_PUBLIC_0"]),
                private_ipv6: of(&["IPV6_PRIVATE_0"]),
            };
            facts.hostname = found.hostname;
            facts.keys = found.ssh_keys;
        }
        Ok(None) => {}
        Err(error) => Printed.say(&format!("asking the platform {id}: {error}")),
    }
}

/// The network of the running system.
fn online() -> Online<'static> {
    let fetcher = Fetcher::online(Names::System, &Printed);
    Online { fetcher, dhcp_server: network::lease_server(Path::new(network::LEASES)) }
}

/// What the machine was given.
fn given(plan: &platform::Plan) -> anyhow::Result<Option<platform::Found>> {
    let volumes = Mounted {
        list: "/sys/class/block".into(),
        devices: "/dev".into(),
        at: "/run/ignition-volume".into(),
    };
    let machine = platform::Machine {
        sys: Path::new("/sys"),
        esp: Some(Path::new("/boot")),
        volumes: &volumes,
        guestinfo: &Backdoor,
        vboxcontrol: Path::new("/usr/bin/VBoxControl"),
    };
    let mut connect = || Ok(online());
    Ok(platform::find(plan, &machine, &Fetcher::offline(&Printed), &mut connect, &Printed)?)
}
