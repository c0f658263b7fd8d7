//! Children that do not outlive us, however we end.
//!
//! The kernel kills such a child when the *thread* that started it ends, so one thread that lives as
//! long as the process starts them all.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Output},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    error::{Doing, Error},
    interrupt,
};

type Birth = (Command, mpsc::Sender<io::Result<Child>>);

/// A command for [`spawn`]: run by util-linux's setpriv, which asks the kernel for the favour.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    // Its own group: Ctrl-C in the terminal is for us alone.
    command.process_group(0);
    command
}

/// Starts a child that is killed when this process ends.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static NURSERY: OnceLock<mpsc::Sender<Birth>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Birth>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    nursery.send((command, answer)).expect("the nursery lives as long as the process");
    child.recv().expect("the nursery answers")
}

/// Kills a child of [`spawn`] and what it started, and takes its status.
pub(crate) fn kill(child: &mut Child) {
    if let Ok(None) = child.try_wait() {
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }
}

/// Waits for a child to end, for so long, or until somebody interrupts us.
pub(crate) fn ended(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        if start.elapsed() > limit || interrupt::asked() {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a program to its end, which must be a good one.
pub(crate) fn run(command: &mut Command) -> Result<Output, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().doing(|| format!("running {program}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Program { program, status: output.status.to_string(), said })
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, process::Stdio};

    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it_and_not_the_kill() {
        let mut sleep = command("sleep");
        sleep.arg("60");
        let mut child = thread::spawn(|| spawn(sleep)).join().expect("a thread").expect("a child");
        assert!(!ended(&mut child, Duration::from_millis(300)).expect("a status"));
        kill(&mut child);
        assert!(!fs::exists(format!("/proc/{}", child.id())).expect("proc"));
    }

    #[test]
    fn a_child_dies_with_the_process_that_started_it() {
        // A shell stands in for us: setpriv ties the sleep to it, then it is killed.
        let mut shell = Command::new("sh");
        shell.args(["-c", "setpriv --pdeathsig KILL -- sleep 60 & echo $!; sleep 1; kill -9 $$"]);
        let mut shell = shell.stdout(Stdio::piped()).spawn().expect("a shell");
        let mut pid = String::new();
        // The pipe ends only when the sleep, which holds it too, is gone.
        let start = Instant::now();
        shell.stdout.take().expect("a pipe").read_to_string(&mut pid).expect("a number");
        let _ = shell.wait();
        assert!(start.elapsed() < Duration::from_secs(30), "{pid} lives on");
    }
}
