//! `qemu boot`: one machine, with its console here, or checked and switched off again.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use qemu::{Artifacts, Image, Machine, Report, Spec, interrupt, manifest::Manifest};

use super::{console, options, options::Options};

/// Starts a machine.
#[derive(Args, Clone, Debug)]
pub(crate) struct Boot {
    /// Wait until it is ready, ask it how it is, print that, power it off: 0 if all is well.
    #[arg(long)]
    check: bool,
    /// With --check: print JSON.
    #[arg(long, requires = "check")]
    json: bool,
    /// Keep its disk in build/run/NAME, and start from it again the next time.
    #[arg(long, value_name = "NAME")]
    keep: Option<String>,
    /// Its name, and that of its folder in build/run. [default: boot, check with --check]
    #[arg(long, conflicts_with = "keep")]
    name: Option<String>,
    #[command(flatten)]
    options: Options,
}

impl Boot {
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let usual = if self.check { "check" } else { "boot" };
        let spec = match &self.keep {
            Some(name) => options::kept(self.options.spec(name)?),
            None => self.options.spec(self.name.as_deref().unwrap_or(usual))?,
        };
        match self.check {
            true => self.check(spec),
            false => self.attend(spec.console_login()),
        }
    }

    fn attend(&self, spec: Spec) -> anyhow::Result<bool> {
        let machine = start(spec)?;
        let help = format!(
            "  Ctrl-A X leaves{}, Ctrl-A P presses the power button, Ctrl-A R the reset button,\n  \
             Ctrl-A H shows this, Ctrl-A A types Ctrl-A.\n  from another terminal:\n    {}",
            if self.keep.is_some() {
                " (the disk is kept)"
            } else {
                " and throws the machine away"
            },
            machine.ssh_command_line()
        );
        eprintln!("{help}\n");
        console::attend(&machine, &help)?;
        eprintln!();
        if self.keep.is_some() && machine.still_runs().is_ok() && !interrupt::asked() {
            eprintln!("qemu: powering it off (Ctrl-C pulls the plug) ...");
            machine.power_off()?;
        }
        Ok(true)
    }

    fn check(&self, spec: Spec) -> anyhow::Result<bool> {
        let manifest = self.manifest()?;
        let machine = start(spec)?;
        let ready = machine.wait_ready_saying(&mut |after, what| progress(after, what))?;
        let report = Report::ask(&machine, &ready, manifest.as_ref())?;
        machine.power_off().context("powering the machine off after the check")?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("\n{report}");
        }
        Ok(report.good())
    }

    /// What the image is supposed to be; nothing is known of a raw file from elsewhere, or of a
    /// kept machine.
    fn manifest(&self) -> anyhow::Result<Option<Manifest>> {
        let kept = |name: &str| -> anyhow::Result<PathBuf> {
            Ok(Artifacts::find()?.machine(name).join("disk.raw"))
        };
        if let Some(name) = &self.keep
            && kept(name)?.exists()
        {
            return Ok(None);
        }
        let image: Image = match self.options.image()? {
            Some(image) => image,
            None => Artifacts::find()?.image()?,
        };
        Ok(image.manifest)
    }
}

/// Starts a machine and says what was started.
fn start(spec: Spec) -> anyhow::Result<Machine> {
    let machine = spec.start()?;
    eprintln!("qemu: accelerator: {}", machine.accelerator());
    eprintln!("qemu: everything of the machine is in {}", machine.folder().display());
    Ok(machine)
}

fn progress(after: Duration, what: &str) {
    eprintln!("qemu: {:6.1} s  {what}", after.as_secs_f64());
}
