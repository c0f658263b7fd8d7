//! `ignition boot`: what `/init` runs on a first boot. It speaks with `/init` over its standard
//! input and output (initramfs/src/provision.rs draws how).

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    process::ExitCode,
    sync::Mutex,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::Args;
use ignition::{
    boot::{self, Esp, Failure, Order, Outcome, Whole},
    files::result::Run,
    journal::Journal,
};
use nix::sys::resource::{UsageWho, getrusage};

/// Makes this machine what its document says (run by /init on a first boot, and by nobody else).
#[derive(Args)]
pub(crate) struct Boot {
    /// The disk that the machine boots from.
    #[arg(long)]
    disk: PathBuf,
    /// Where root will be mounted.
    #[arg(long)]
    root: PathBuf,
    /// A folder in memory.
    #[arg(long, default_value = "/run/ignition")]
    memory: PathBuf,
}

/// The kernel's log: it is in the journal later.
struct Kmsg(Mutex<Option<File>>);

impl Kmsg {
    fn write(&self, level: u8, line: &str) {
        if let Some(file) = &mut *self.0.lock().expect("nobody panics with the lock") {
            let _ = file.write_all(format!("<{level}>ignition: {line}\n").as_bytes());
        }
    }
}

impl Journal for Kmsg {
    fn say(&self, line: &str) {
        self.write(6, line);
    }

    /// As an error: the consoles show nothing below (`loglevel=4`).
    fn delay(&self, line: &str) {
        self.write(3, line);
    }
}

impl Boot {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let start = Instant::now();
        let journal = Kmsg(Mutex::new(File::options().write(true).open("/dev/kmsg").ok()));
        // Keys pass through it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.memory);
        made.with_context(|| format!("making {}", self.memory.display()))?;
        let cmdline = fs::read_to_string("/proc/cmdline").context("reading /proc/cmdline")?;
        let order = Order { disk: self.disk, root: self.root, memory: self.memory };
        let esp = Esp::mount(&order.disk, &order.memory);
        let mut talk = Talk { esp: esp.as_ref().ok(), order: &order, cmdline: &cmdline };
        let code = talk.first_boot(&journal);
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let (ms, kib) = (start.elapsed().as_millis(), usage.max_rss());
            journal.say(&format!("ended after {ms} ms, with {kib} KiB of memory at most"));
        }
        if let Err(error) = &esp {
            journal.say(&format!("the EFI system partition: {error}"));
        }
        drop(esp);
        boot::forget(&order.memory);
        code
    }
}

struct Talk<'a> {
    esp: Option<&'a Esp>,
    order: &'a Order,
    cmdline: &'a str,
}

impl Talk<'_> {
    fn first_boot(&mut self, journal: &dyn Journal) -> anyhow::Result<ExitCode> {
        let mut whole = Whole::default();
        let outcome =
            boot::run(self.order, self.cmdline, self.esp, &mut whole, journal, &mut |wish| {
                say(&format!("{}root\n", wish.lines())).map_err(|error| error.to_string())?;
                match hear().map_err(|error| error.to_string())?.as_str() {
                    "mounted" => Ok(now()),
                    other => Err(format!("/init says `{other}` instead of `mounted`")),
                }
            });
        match outcome {
            Ok(Outcome::Done(rest)) => {
                if let Some(Err(error)) = self.esp.map(|esp| esp.report(None)) {
                    journal.say(&format!("removing the report of an earlier failure: {error}"));
                }
                say("done\n")?;
                let answer = hear()?;
                anyhow::ensure!(answer == "named", "/init says `{answer}` instead of `named`");
                rest.finish(journal);
                Ok(ExitCode::SUCCESS)
            }
            Ok(Outcome::Reboot) => {
                say("reboot\n")?;
                Ok(ExitCode::SUCCESS)
            }
            Err(failure) => {
                self.write_down(&failure, &whole, journal);
                let text = failure.text(whole.node.as_ref(), &whole.sources);
                say(&format!("failed\n{text}"))?;
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// For programs, on the ESP.
    fn write_down(&self, failure: &Failure, whole: &Whole, journal: &dyn Journal) {
        let json = failure.json(whole.node.as_ref(), &whole.sources);
        let text = format!("{json:#}\n");
        if let Some(Err(error)) = self.esp.map(|esp| esp.report(Some(&text))) {
            journal.say(&format!("writing the report of the failure: {error}"));
        }
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn hear() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Today, and this run: the only place that asks a clock.
fn now() -> (u32, Run) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let run = Run {
        boot_id: boot_id.trim().replace('-', ""),
        date: boot::rfc3339(seconds),
        user_config_provided: false,
    };
    (u32::try_from(seconds / 86400).unwrap_or(0), run)
}
