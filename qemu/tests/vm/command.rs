//! The command itself, as a person at a terminal uses it.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{pty::openpty, sys::termios};
use serde_json::Value;

use crate::harness;

const QEMU: &str = env!("CARGO_BIN_EXE_qemu");
/// A whole boot on a busy host without KVM.
const BOOT: Duration = Duration::from_secs(400);

#[test]
fn boot_check_reports_a_machine_on_virtio_scsi_and_powers_it_off() -> Result<()> {
    let _seat = harness::seats(1);
    let arguments = ["boot", "--check", "--json", "--name", "test-check", "--bus", "virtio-scsi"];
    let output = Command::new(QEMU).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said.to_string())?;
    ensure!(output.status.success(), "{said}\n{report:#}");
    ensure!(report["facts"]["disks"][0]["name"] == "sda", "{report:#}");
    let times = &report["facts"]["times"];
    for part in ["firmware", "loader", "kernel", "init", "userspace"] {
        ensure!(times[part].as_f64().is_some_and(|seconds| seconds >= 0.0), "{part}: {times}");
    }
    ensure!(said.contains("accelerator: "), "{said}");
    Ok(())
}

#[test]
fn the_console_in_a_terminal_is_logged_in_and_can_be_left() -> Result<()> {
    let _seat = harness::seats(1);
    let pty = openpty(None, None)?;
    let before = termios::tcgetattr(&pty.slave)?;
    let mut qemu = Command::new(QEMU)
        .args(["boot", "--name", "test-console"])
        .stdin(pty.slave.try_clone()?)
        .stdout(pty.slave.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut terminal = Terminal::new(File::from(pty.master))?;
    let done = use_console(&mut terminal);
    if done.is_err() {
        qemu.kill()?;
    }
    let mut said = String::new();
    qemu.stderr.take().context("piped")?.read_to_string(&mut said)?;
    done.with_context(|| said.clone())?;
    ensure!(qemu.wait()?.success(), "{said}");
    for word in ["Ctrl-A X leaves", "ssh -F", "accelerator: "] {
        ensure!(said.contains(word), "no `{word}` in\n{said}");
    }
    let after = termios::tcgetattr(&pty.slave)?;
    ensure!(after.local_flags == before.local_flags, "the terminal is left in raw mode");
    Ok(())
}

fn use_console(terminal: &mut Terminal) -> Result<()> {
    terminal.wait_for("core@", BOOT)?;
    terminal.write(b"echo $((6 * 7)) is the answer of $(id -un)\r")?;
    terminal.wait_for("42 is the answer of core", Duration::from_secs(60))?;
    // Ctrl-C is for the machine.
    terminal.write(b"sleep 1000\r")?;
    thread::sleep(Duration::from_secs(3));
    terminal.write(b"\x03")?;
    terminal.write(b"echo still $((40 + 4))\r")?;
    terminal.wait_for("still 44", Duration::from_secs(60))?;
    terminal.write(b"\x01x")
}

/// The other end of a terminal.
struct Terminal {
    to: File,
    from: Receiver<Vec<u8>>,
    said: Vec<u8>,
}

impl Terminal {
    fn new(to: File) -> Result<Self> {
        let mut master = to.try_clone()?;
        let (sender, from) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                let _ = sender.send(buffer[..length].to_vec());
            }
        });
        Ok(Self { to, from, said: Vec::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.to.write_all(bytes)?)
    }

    fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let said = String::from_utf8_lossy(&self.said).into_owned();
            if let Some(at) = said.find(text) {
                self.said = said[at + text.len()..].into();
                return Ok(());
            }
            match self.from.recv_timeout(limit.saturating_sub(start.elapsed())) {
                Ok(bytes) => self.said.extend(bytes),
                Err(RecvTimeoutError::Timeout) => bail!("no `{text}` in {limit:?}, only:\n{said}"),
                Err(RecvTimeoutError::Disconnected) => bail!("no `{text}`, only:\n{said}"),
            }
        }
    }
}
