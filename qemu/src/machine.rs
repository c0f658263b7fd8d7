//! A running machine.
//!
//! ```text
//!   Spec ──start──▶ Machine ──power_off, pull_plug──▶ Spec (with its disk, to start again)
//!                     │  ▲
//!                     └──┘ reboot, reset
//! ```
//! Dropping a machine pulls its plug. Every wait has a limit, and every error says which machine,
//! where its files are, and what it said last.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    accel::{self, Accel, Choice},
    arguments::{Surroundings, arguments},
    console::Console,
    error::{Doing, Error},
    folder::Folder,
    host, interrupt, process,
    qmp::{Qmp, forwarded_port},
    spec::{Spec, VARIABLES},
    ssh::{Output, Ssh},
};

/// How /init and the kernel begin to say that they give up.
const GAVE_UP: &[&str] = &["PithOS could not start.", "Kernel panic - not syncing"];
/// How long a report may go on after its first line.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long QEMU may take to open its control socket.
const STARTING: Duration = Duration::from_secs(30);
/// How long a command in the guest may take, where nobody says otherwise.
const COMMAND: Duration = Duration::from_secs(120);

/// How a machine is that has booted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ready {
    /// What systemd says: `running` or `degraded`.
    pub state: String,
    /// From switching on (or the reboot) to here.
    pub took: Duration,
    /// What was seen on the way, and when.
    pub milestones: Vec<(Duration, &'static str)>,
}

/// A running machine.
pub struct Machine {
    // In the order of dropping: connections, QEMU, its files.
    ssh: Ssh,
    qmp: Mutex<Qmp>,
    qemu: Mutex<Qemu>,
    console: Console,
    sockets: tempfile::TempDir,
    spec: Spec,
    folder: Arc<Folder>,
    choice: Choice,
    /// When this boot began, and how much the console had said by then.
    boot: Mutex<Instant>,
    boot_mark: AtomicUsize,
}

/// QEMU, which does not outlive this.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        process::kill(&mut self.0);
    }
}

impl Machine {
    pub(crate) fn start(mut spec: Spec) -> Result<Self, Error> {
        let program = spec.artifacts.program("qemu-system-x86_64")?;
        let firmware_code = match spec.secure_boot {
            true => spec.artifacts.firmware_code_secure()?,
            false => spec.artifacts.firmware_code()?,
        };
        let choice = accel::choose(spec.accel, &program).map_err(Error::Refused)?;
        host::ensure_memory(1, spec.memory_mib)?;
        // A machine that was switched off hands its folder over to its next life.
        let folder = match spec.rests_in.take() {
            Some(folder) => folder,
            None => Arc::new(Folder::take(&spec)?),
        };
        let path = folder.path();
        let disk = folder.furnish(&spec)?;
        let key = Ssh::make_key(path, &spec.name)?;
        // Not in the folder: the path of a unix socket has 107 bytes at most.
        let sockets = tempfile::Builder::new()
            .prefix("pithos-")
            .tempdir()
            .doing(|| "making a folder for the sockets".into())?;
        let link = path.join("sockets");
        let _ = fs::remove_file(&link);
        symlink(sockets.path(), &link).doing(|| format!("linking {}", link.display()))?;
        let around = Surroundings {
            accel: choice.accel,
            firmware_code,
            firmware_variables: path.join(VARIABLES),
            disk,
            serial: sockets.path().join("serial"),
            qmp: sockets.path().join("qmp"),
        };
        let console = Console::listen(&around.serial, &path.join("serial.log"))?;
        let mut with_key = spec.clone();
        with_key.credentials.insert("ssh.authorized_keys.core".into(), key);
        let words = arguments(&with_key, &around);

        let log = path.join("qemu.log");
        let mut command = process::command(&program);
        command.args(&words).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).doing(|| format!("making {}", log.display()))?);
        let line = shell_line(&program, &words);
        fs::write(path.join("command"), line).doing(|| format!("writing in {}", path.display()))?;
        let start = Instant::now();
        let child = process::spawn(command).doing(|| format!("starting {}", program.display()))?;
        let mut qemu = Qemu(child);
        let (qmp, port) = control(&mut qemu.0, &around.qmp, &log)?;
        let ssh = Ssh::new(&spec.name, path, sockets.path(), port)?;
        Ok(Self {
            ssh,
            qmp: Mutex::new(qmp),
            qemu: Mutex::new(qemu),
            console,
            sockets,
            spec,
            choice,
            folder,
            boot: Mutex::new(start),
            boot_mark: AtomicUsize::new(0),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where its logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its sockets are, for as long as it runs.
    pub fn sockets(&self) -> &Path {
        self.sockets.path()
    }

    /// Who runs its instructions, and why.
    pub fn accelerator(&self) -> &Choice {
        &self.choice
    }

    /// Its serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The words by which a person gets in.
    pub fn ssh_command_line(&self) -> String {
        self.ssh.command_line()
    }

    /// The port of 127.0.0.1 that leads to its port 22.
    pub fn ssh_port(&self) -> u16 {
        self.ssh.port()
    }

    /// The configuration by which `ssh -F` finds it under its name.
    pub fn ssh_config(&self) -> PathBuf {
        self.folder().join("ssh_config")
    }

    /// How long a whole boot may take: generous, for a busy host without KVM.
    pub fn patience(&self) -> Duration {
        match self.choice.accel {
            Accel::Kvm => Duration::from_secs(120),
            Accel::Tcg => Duration::from_secs(400),
        }
    }

    /// Runs a command as `core`. That it ends badly is not an error here: see [`Output::text`].
    pub fn ssh(&self, command: &str) -> Result<Output, Error> {
        self.ssh_within(command, b"", COMMAND)
    }

    /// Runs a command with something to read, for so long at most.
    pub fn ssh_within(
        &self,
        command: &str,
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, Error> {
        self.ssh.run(command, input, limit).map_err(|e| self.about(e))
    }

    /// Runs a command that must end well, and returns what it wrote.
    pub fn ask(&self, command: &str) -> Result<String, Error> {
        self.ssh(command)?.text().map_err(|e| self.about(e))
    }

    /// Waits until it says something on the serial console.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<(), Error> {
        self.console.wait_for(text, limit).map_err(|e| self.about(e))
    }

    /// Waits until it has booted.
    pub fn wait_ready(&self) -> Result<Ready, Error> {
        self.wait_ready_saying(&mut |_, _| {})
    }

    /// The same, with what happens meanwhile and when.
    pub fn wait_ready_saying(
        &self,
        progress: &mut dyn FnMut(Duration, &str),
    ) -> Result<Ready, Error> {
        self.become_ready(progress).map_err(|e| self.about(e))
    }

    fn become_ready(&self, progress: &mut dyn FnMut(Duration, &str)) -> Result<Ready, Error> {
        let (start, limit) = (*self.boot.lock().expect("no panic"), self.patience());
        let mark = self.boot_mark.load(Ordering::SeqCst);
        let mut milestones = Vec::new();
        let mut pass = |what| {
            progress(start.elapsed(), what);
            milestones.push((start.elapsed(), what));
        };
        let mut expected = MILESTONES.iter().peekable();
        while !self.ssh.answers() {
            interrupt::check()?;
            self.still_runs()?;
            while let Some((_, what)) =
                expected.next_if(|(text, _)| self.console.has_said_since(mark, text))
            {
                pass(*what);
            }
            if GAVE_UP.iter().any(|text| self.console.has_said_since(mark, text)) {
                thread::sleep(LAST_WORDS);
                return Err(Error::Broke("it gave up booting".into()));
            }
            if start.elapsed() > limit {
                let what = "waiting for SSH to answer".into();
                return Err(Error::TimedOut { what, limit });
            }
            thread::sleep(Duration::from_millis(100));
        }
        pass("SSH answers");
        let left = limit.saturating_sub(start.elapsed()).max(Duration::from_secs(10));
        let output = self.ssh.run("systemctl is-system-running --wait", b"", left)?;
        let state = output.stdout.trim().to_owned();
        if !["running", "degraded"].contains(&&*state) {
            let said = output.stderr.trim();
            return Err(Error::Broke(format!("it did not get ready: systemd is {state} {said}")));
        }
        pass("systemd has started everything");
        Ok(Ready { state, took: start.elapsed(), milestones })
    }

    /// How long this boot has been going on.
    pub fn since_boot(&self) -> Duration {
        self.boot.lock().expect("no panic").elapsed()
    }

    /// Whether QEMU is still there.
    pub fn still_runs(&self) -> Result<(), Error> {
        let status = self.qemu.lock().expect("no panic").0.try_wait();
        match status.doing(|| "looking after QEMU".into())? {
            None => Ok(()),
            Some(status) => {
                let said = fs::read_to_string(self.folder().join("qemu.log")).unwrap_or_default();
                Err(Error::Broke(format!("QEMU ended: {status} {}", said.trim())))
            }
        }
    }

    /// Asks it to reboot, as an operator would, and waits until it is back.
    pub fn reboot(&self) -> Result<Ready, Error> {
        self.control(|qmp| {
            qmp.take_events();
            Ok(())
        })?;
        // The answer may get lost with the connection.
        match self.ssh.run("sudo systemctl reboot", b"", COMMAND) {
            Ok(output) if !output.success() => return Err(self.about(broke(output))),
            Ok(_) | Err(_) => {}
        }
        self.wait_for_reset(self.patience())?;
        self.wait_ready()
    }

    /// Waits until it resets itself.
    pub fn wait_for_reset(&self, limit: Duration) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let events = self.control(|qmp| {
                qmp.execute("query-status", json!({}))?;
                Ok(qmp.take_events())
            })?;
            if events.iter().any(|event| event == "RESET") {
                self.begins_anew();
                return Ok(());
            }
            if start.elapsed() > limit {
                let what = "waiting for it to restart".into();
                return Err(self.about(Error::TimedOut { what, limit }));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses the reset button.
    pub fn reset(&self) -> Result<(), Error> {
        self.control(|qmp| qmp.execute("system_reset", json!({})))?;
        self.begins_anew();
        Ok(())
    }

    fn begins_anew(&self) {
        self.ssh.disconnect();
        self.boot_mark.store(self.console.length(), Ordering::SeqCst);
        *self.boot.lock().expect("no panic") = Instant::now();
    }

    /// Stops its processors.
    pub fn pause(&self) -> Result<(), Error> {
        self.control(|qmp| qmp.execute("stop", json!({}))).map(|_| ())
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<(), Error> {
        self.control(|qmp| qmp.execute("cont", json!({}))).map(|_| ())
    }

    /// What QEMU calls its state: `running`, `paused`, `shutdown`...
    pub fn status(&self) -> Result<String, Error> {
        let answer = self.control(|qmp| qmp.execute("query-status", json!({})))?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// A command of QEMU's own control protocol.
    pub fn qmp(
        &self,
        command: &str,
        arguments: serde_json::Value,
    ) -> Result<serde_json::Value, Error> {
        self.control(|qmp| qmp.execute(command, arguments))
    }

    /// What was held back for a [`Spec::deaf`] machine arrives, and all that comes then.
    pub fn let_through(&self) -> Result<(), Error> {
        let off = json!({"path": "/objects/deaf", "property": "status", "value": "off"});
        self.control(|qmp| qmp.execute("qom-set", off)).map(|_| ())
    }

    /// Presses the power button once.
    pub fn press_power(&self) -> Result<(), Error> {
        self.control(|qmp| qmp.execute("system_powerdown", json!({}))).map(|_| ())
    }

    /// Presses the power button and waits until it is off.
    pub fn power_off(self) -> Result<Spec, Error> {
        self.press_power()?;
        self.power_went_off()
    }

    /// What is left of it once it is off, whoever switched it off.
    pub fn power_went_off(self) -> Result<Spec, Error> {
        self.wait_off(self.patience())?;
        Ok(self.rest())
    }

    /// Waits until it is off, whoever switches it off.
    pub fn wait_off(&self, limit: Duration) -> Result<(), Error> {
        let ended = process::ended(&mut self.qemu.lock().expect("no panic").0, limit);
        match ended.doing(|| "looking after QEMU".into()).map_err(|e| self.about(e))? {
            true => Ok(()),
            false => {
                interrupt::check()?;
                let what = "waiting for it to power off".into();
                Err(self.about(Error::TimedOut { what, limit }))
            }
        }
    }

    /// Takes its power away.
    pub fn pull_plug(self) -> Spec {
        process::kill(&mut self.qemu.lock().expect("no panic").0);
        self.rest()
    }

    /// What is left: a description that starts from the same disk.
    fn rest(self) -> Spec {
        let mut spec = self.spec.clone();
        spec.rests_in = Some(Arc::clone(&self.folder));
        spec
    }

    fn control<T>(&self, run: impl FnOnce(&mut Qmp) -> Result<T, Error>) -> Result<T, Error> {
        run(&mut self.qmp.lock().expect("no panic")).map_err(|e| self.about(e))
    }

    /// Adds which machine it was, where its files are, and what it said last.
    pub fn about(&self, error: Error) -> Error {
        match error {
            Error::Machine { .. } => error,
            trouble => Error::Machine {
                name: self.name().to_owned(),
                folder: self.folder().to_owned(),
                tail: self.console.tail(),
                trouble: Box::new(trouble),
            },
        }
    }
}

/// The milestone between firmware and loader.
pub(crate) const FIRMWARE_DONE: &str = "the firmware starts the loader";

/// What a boot says on the serial console on its way.
const MILESTONES: &[(&str, &str)] = &[
    ("BdsDxe: starting", FIRMWARE_DONE),
    ("Welcome to", "systemd starts"),
    ("login:", "there is a login prompt"),
];

fn broke(output: Output) -> Error {
    output.text().expect_err("it ended badly")
}

/// Connects to a QEMU that was just started, and learns where SSH is.
fn control(child: &mut Child, socket: &Path, log: &Path) -> Result<(Qmp, u16), Error> {
    let start = Instant::now();
    let connected = loop {
        if let Some(status) = child.try_wait().doing(|| "looking after QEMU".into())? {
            let said = fs::read_to_string(log).unwrap_or_default().trim().to_owned();
            let (program, status) = ("QEMU".into(), status.to_string());
            return Err(Error::Program { program, status, said });
        }
        match Qmp::connect(socket) {
            Ok(qmp) => break qmp,
            Err(error) if start.elapsed() > STARTING => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut qmp = connected;
    let said = qmp.human("info usernet")?;
    let port = forwarded_port(&said).ok_or_else(|| {
        Error::Broke(format!("QEMU does not say which port leads to the guest's SSH:\n{said}"))
    })?;
    Ok((qmp, port))
}

/// A line that starts the same QEMU by hand.
fn shell_line(program: &Path, words: &[std::ffi::OsString]) -> String {
    let words = words.iter().map(|word| word.to_string_lossy());
    let quoted = words.map(|word| match word.contains([' ', '\'', '*', ';', '&', '$']) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => word.into_owned(),
    });
    [program.to_string_lossy().into_owned()].into_iter().chain(quoted).collect::<Vec<_>>().join(" ")
        + "\n"
}
