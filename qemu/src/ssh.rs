//! SSH into a machine, by the host's own `ssh`: what an operator would do.
//!
//! One connection is kept open per machine and every command is a session on it: under TCG a
//! handshake costs a second, a session much less.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Doing, Error},
    interrupt, process,
};

/// Who logs in.
const USER: &str = "core";
/// How long a connection may take on a busy host without KVM.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// What a command said, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command.
    pub command: String,
    /// Its exit status.
    pub status: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// Whether it ended well.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// What it wrote, without the space around it. It must have ended well.
    pub fn text(self) -> Result<String, Error> {
        if self.success() {
            return Ok(self.stdout.trim().to_owned());
        }
        Err(Error::Broke(format!(
            "in the guest, `{}` ended with {}\n  stdout: {}\n  stderr: {}",
            self.command,
            self.status,
            self.stdout.trim(),
            self.stderr.trim()
        )))
    }
}

/// The way into one machine.
#[derive(Debug)]
pub(crate) struct Ssh {
    name: String,
    config: PathBuf,
    log: PathBuf,
    control: PathBuf,
    port: u16,
    master: Mutex<Option<Child>>,
}

impl Ssh {
    /// The key, the configuration and the log are in the folder of the machine.
    pub(crate) fn new(name: &str, folder: &Path, sockets: &Path, port: u16) -> Result<Self, Error> {
        let config = folder.join("ssh_config");
        let text = configuration(name, &folder.join("key"), port);
        fs::write(&config, text).doing(|| format!("writing {}", config.display()))?;
        Ok(Self {
            name: name.to_owned(),
            config,
            log: folder.join("ssh.log"),
            control: sockets.join("ssh"),
            port,
            master: Mutex::new(None),
        })
    }

    /// Makes the key of a machine, if it has none, and returns its public half.
    pub(crate) fn make_key(folder: &Path, name: &str) -> Result<String, Error> {
        let key = folder.join("key");
        if !key.exists() {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key);
            process::run(&mut keygen)?;
        }
        let public = key.with_extension("pub");
        fs::read_to_string(&public).doing(|| format!("reading {}", public.display()))
    }

    /// What a person types to get in.
    pub(crate) fn command_line(&self) -> String {
        format!("ssh -F {} {}", self.config.display(), self.name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether somebody greets on the guest's port 22. QEMU takes the connection long before the
    /// guest does.
    pub(crate) fn answers(&self) -> bool {
        let mut greeting = [0; 4];
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(3)))?;
                stream.read_exact(&mut greeting)
            })
            .is_ok_and(|()| greeting == *b"SSH-")
    }

    /// Runs a command and waits for its end.
    pub(crate) fn run(
        &self,
        command: &str,
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, Error> {
        self.connect()?;
        let mut ssh = self.client();
        ssh.args(["-T", "-o", "ControlMaster=no", &self.name, "--", command]);
        captured(ssh, command, input, limit)
    }

    /// Forgets the connection: the guest behind it is another one now.
    pub(crate) fn disconnect(&self) {
        if let Some(mut master) = self.master.lock().expect("no panic under the lock").take() {
            process::kill(&mut master);
        }
        let _ = fs::remove_file(&self.control);
    }

    fn client(&self) -> Command {
        let mut ssh = process::command("ssh");
        ssh.arg("-F").arg(&self.config).arg("-S").arg(&self.control).args(["-o", "BatchMode=yes"]);
        ssh
    }

    fn connect(&self) -> Result<(), Error> {
        let mut master = self.master.lock().expect("no panic under the lock");
        if let Some(running) = &mut *master
            && running.try_wait().doing(|| "looking after ssh".into())?.is_none()
        {
            return Ok(());
        }
        let _ = fs::remove_file(&self.control);
        let log = || File::options().create(true).append(true).open(&self.log);
        let log = log().doing(|| format!("opening {}", self.log.display()))?;
        let mut ssh = self.client();
        ssh.args(["-M", "-N", "-T", &self.name]);
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = process::spawn(ssh).doing(|| "starting ssh (openssh-client)".into())?;
        let start = Instant::now();
        while !self.control.exists() {
            if let Some(status) = child.try_wait().doing(|| "looking after ssh".into())? {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                let said = said.lines().last().unwrap_or_default().to_owned();
                let status = status.to_string();
                return Err(Error::Program { program: "ssh".into(), status, said });
            }
            if start.elapsed() > HANDSHAKE {
                process::kill(&mut child);
                return Err(Error::TimedOut { what: "connecting by SSH".into(), limit: HANDSHAKE });
            }
            thread::sleep(Duration::from_millis(20));
        }
        *master = Some(child);
        Ok(())
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// A machine of ours is new each time, and only we can reach it: its host key is not remembered.
/// The key exchange is the one that costs least where every instruction is emulated.
fn configuration(name: &str, key: &Path, port: u16) -> String {
    format!(
        "# ssh -F THIS-FILE {name}\nHost {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {USER}\n  \
         IdentityFile \"{}\"\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
         UserKnownHostsFile /dev/null\n  StrictHostKeyChecking no\n  LogLevel ERROR\n  \
         ConnectTimeout 60\n  ServerAliveInterval 15\n  ServerAliveCountMax 8\n  \
         KexAlgorithms curve25519-sha256\n",
        key.display()
    )
}

/// Runs a child with its input, for so long, and takes what it says.
fn captured(
    mut command: Command,
    what: &str,
    input: &[u8],
    limit: Duration,
) -> Result<Output, Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process::spawn(command).doing(|| "starting ssh (openssh-client)".into())?;
    let (mut stdin, input) = (child.stdin.take().expect("piped"), input.to_vec());
    // A guest that does not read must not stop us: the write fails when the child is killed.
    thread::spawn(move || stdin.write_all(&input));
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let ended = process::ended(&mut child, limit).doing(|| format!("waiting for `{what}`"))?;
    process::kill(&mut child);
    interrupt::check()?;
    if !ended {
        return Err(Error::TimedOut { what: format!("`{what}` in the guest"), limit });
    }
    let status = child.wait().doing(|| format!("waiting for `{what}`"))?;
    let (stdout, stderr) = (stdout.join(), stderr.join());
    let text = |bytes: thread::Result<Vec<u8>>| {
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    // 255 is ssh's own: no connection, or it broke.
    match status.code() {
        Some(code) if code != 255 => {
            Ok(Output { command: what.to_owned(), status: code, stdout, stderr })
        }
        _ => Err(Error::Program {
            program: format!("ssh, running `{what}`,"),
            status: status.to_string(),
            said: stderr.trim().to_owned(),
        }),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &str, limit: Duration) -> Result<Output, Error> {
        let mut command = process::command("sh");
        command.args(["-c", script]);
        captured(command, script, input.as_bytes(), limit)
    }

    #[test]
    fn a_command_gets_its_input_and_its_output_and_status_come_back() {
        let output = sh("cat; echo oh >&2; exit 3", "in", HANDSHAKE).expect("it ran");
        assert_eq!((&*output.stdout, &*output.stderr, output.status), ("in", "oh\n", 3));
        let error = output.text().expect_err("ended badly").to_string();
        for word in ["exit 3", "ended with 3", "oh"] {
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_what_it_started() {
        let start = Instant::now();
        let error = sh("sleep 60 | sleep 60", "", Duration::from_millis(200)).expect_err("slow");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_broken_connection_is_not_the_commands_status() {
        let error = sh("echo refused >&2; exit 255", "", HANDSHAKE).expect_err("no connection");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Ssh::make_key(folder.path(), "one").expect("a key");
        assert!(first.starts_with("ssh-ed25519 "), "{first}");
        assert_eq!(Ssh::make_key(folder.path(), "one").expect("a key"), first);
    }
}
