//! What an operator sees when a machine does not start, and what happens then.

use std::{
    error::Error,
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    panic::PanicHookInfo,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use layout::cmdline;
use nix::sys::reboot::{RebootMode, reboot};

use crate::{boot::PROVISION, efi, log};

/// How long the report stays on the screen before a reboot.
const READING_TIME: Duration = Duration::from_secs(10);

/// A step that failed, in the words of the report.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What `/init` was doing.
    pub(crate) step: &'static str,
    /// What it looked for.
    pub(crate) looked_for: String,
    /// What it saw instead.
    pub(crate) found: String,
    /// What a person can do.
    pub(crate) to_do: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            ("step:", self.step),
            ("looked for:", &self.looked_for),
            ("found:", &self.found),
            ("what to do:", &self.to_do),
        ];
        write!(f, "PithOS could not start.")?;
        for (name, text) in lines {
            let text = text.trim_end().replace('\n', "\n              ");
            write!(f, "\n  {name:<12}{text}")?;
        }
        Ok(())
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A mistake of ours, as a failure of the step that it happened in.
pub(crate) fn of_panic(panic: &PanicHookInfo<'_>) -> Failure {
    Failure {
        step: log::current_step(),
        looked_for: "nothing in particular".to_owned(),
        found: format!("a mistake in /init: {panic}"),
        to_do: "boot another version, and report this text".to_owned(),
    }
}

/// What the command line asks for when a step fails.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Then {
    Reboot,
    Halt,
    Shell,
}

impl Then {
    fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Shell => "shell",
        }
    }
}

fn then(cmdline: &str, step: &str) -> Then {
    match cmdline::values(cmdline, cmdline::ON_FAILURE).last() {
        Some(&"halt") => Then::Halt,
        Some(&"shell") => Then::Shell,
        // Another try, or another version, would find the same document.
        None if step == PROVISION => Then::Halt,
        // What is misspelt must not stop a machine that nobody watches.
        Some(_) | None => Then::Reboot,
    }
}

/// Says what failed on every console and does what the command line asks. Comes back only if the
/// kernel does not reboot.
pub(crate) fn stop(failure: &Failure) {
    say(&format!("\n{failure}"));
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let then = then(&cmdline, failure.step);
    if then == Then::Shell
        && let Err(why) = shell()
    {
        say(&format!("  No rescue shell: {why}."));
    }
    nix::unistd::sync();
    match then {
        Then::Halt => {
            say("  Stopped (pithos.on-failure=halt). Reset the machine to try again.");
            loop {
                thread::sleep(Duration::from_secs(3600));
            }
        }
        Then::Reboot | Then::Shell => {
            let (seconds, word) = (READING_TIME.as_secs(), then.word());
            say(&format!("  Rebooting in {seconds} s (pithos.on-failure={word})..."));
            thread::sleep(READING_TIME);
            let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
            say(&format!("  The reboot failed: {error}."));
        }
    }
}

/// Starts the machine again, because that was asked for.
pub(crate) fn reboot_now(why: &str) -> ! {
    say(&format!("Rebooting: {why}."));
    nix::unistd::sync();
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    panic!("the reboot failed: {error}");
}

/// A shell from the verified /usr on the console; it comes back when the shell ends.
fn shell() -> Result<(), String> {
    if efi::secure_boot() {
        return Err("Secure Boot is on, and a shell would get around it".to_owned());
    }
    if !Path::new("/usr/bin/bash").exists() {
        return Err("/usr is not mounted, and the initramfs has none".to_owned());
    }
    say("  Rescue shell (pithos.on-failure=shell). Ctrl-D or `exit` reboots.");
    // The last console is the one that /dev/console means, but only by its own name can it be a
    // controlling terminal, without which Ctrl-C does nothing.
    let console = consoles().pop().expect("there is always one");
    let device = OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(&console));
    let device = device.map_err(|error| format!("/dev/{console}: {error}"))?;
    let copy = || device.try_clone().map_err(|error| format!("/dev/{console}: {error}"));
    let (stdin, stdout, stderr) = (copy()?, copy()?, copy()?);
    let mut bash = match Path::new("/usr/bin/setsid").exists() {
        true => {
            let mut setsid = Command::new("/usr/bin/setsid");
            setsid.args(["--ctty", "--wait", "/usr/bin/bash"]);
            setsid
        }
        false => Command::new("/usr/bin/bash"),
    };
    bash.args(["--norc", "-i"]).env_clear().env("PATH", "/usr/bin:/usr/sbin").env("TERM", "linux");
    bash.env("PS1", "pithos-rescue# ").stdin(stdin).stdout(stdout).stderr(stderr);
    bash.status().map(drop).map_err(|error| format!("/usr/bin/bash: {error}"))
}

/// The names of the consoles that the kernel has; the last one is `/dev/console` too.
fn consoles() -> Vec<String> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let mut names: Vec<String> = active.split_whitespace().map(str::to_owned).collect();
    if names.is_empty() {
        names.push("console".to_owned());
    }
    names
}

/// Writes to every console that the kernel has, and to the kernel log.
fn say(text: &str) {
    let mut said = false;
    for name in consoles() {
        if let Ok(mut console) = OpenOptions::new().write(true).open(Path::new("/dev").join(name)) {
            said |= console.write_all(format!("{text}\n").as_bytes()).is_ok();
        }
    }
    if !said {
        // Before /dev is mounted, or while it moves: the kernel opened a console for us.
        let _ = writeln!(io::stderr(), "{text}");
    }
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        log::write_line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_step_wish_finding_and_remedy() {
        let failure = Failure {
            step: "find the disk",
            looked_for: "a".to_owned(),
            found: "vda\nvdb".to_owned(),
            to_do: "b".to_owned(),
        };
        let text = "PithOS could not start.\n  step:       find the disk\n  looked for: a\n  \
                    found:      vda\n              vdb\n  what to do: b";
        assert_eq!(failure.to_string(), text);
    }

    #[test]
    fn the_last_wish_of_the_command_line_holds_and_a_misspelt_one_reboots() {
        assert_eq!(then("pithos.on-failure=halt", "any"), Then::Halt);
        assert_eq!(then("pithos.on-failure=halt pithos.on-failure=shell", "any"), Then::Shell);
        assert_eq!(then("pithos.on-failure=sell", "any"), Then::Reboot);
        assert_eq!(then("", "any"), Then::Reboot);
        assert_eq!(then("", PROVISION), Then::Halt);
        assert_eq!(then("pithos.on-failure=reboot", PROVISION), Then::Reboot);
    }
}
