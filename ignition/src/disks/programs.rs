//! Runs programs of the verified /usr; what they say is for the report.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use super::{
    Refused, Step,
    machine::{Trouble, doing},
    steps::Program,
};

/// Nothing that is run here may take longer: making a file system on the largest disk, or writing
/// zeros through clevis to the slowest.
const PATIENCE: Duration = Duration::from_secs(900);
/// How often to look whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const MKE2FS_CONFIG: &str = "/usr/share/pithos/etc/mke2fs.conf";

/// Refuses steps for which this machine has no program.
pub(crate) fn are_there(steps: &[Step]) -> Result<(), Refused> {
    for step in steps {
        let gone = |program: &&Program| !Path::new(program.path).exists();
        if let Some(program) = step.programs().iter().find(gone) {
            return Err(Refused::new(
                step.at(),
                format!("this image comes without {}, which this needs", program.path),
                "describe it without, or build an image with the package that has it \
                 (rootfs/packages/image.list)",
            ));
        }
    }
    Ok(())
}

/// Runs a program. What stands for something in its arguments is put in; `more` comes behind.
pub(crate) fn run(
    at: &str,
    program: &Program,
    stand_ins: &[(&str, &Path)],
    more: &[&Path],
) -> Result<(), Trouble> {
    let put_in = |arg: &String| match stand_ins.iter().find(|(name, _)| name == arg) {
        Some((_, path)) => path.display().to_string(),
        None => arg.clone(),
    };
    let mut args: Vec<String> = program.args.iter().map(put_in).collect();
    args.extend(more.iter().map(|path| path.display().to_string()));
    let ended = execute(program.path, &args);
    let (status, output) = ended.map_err(doing(at, format!("running {}", program.path)))?;
    if status == "0" {
        return Ok(());
    }
    Err(Trouble::Program {
        at: at.to_owned(),
        command: format!("{} {}", program.path, args.join(" ")),
        status,
        output: excerpt(&output),
    })
}

/// The first lines and the last: some programs say why they fail at once, and how they are used then.
fn excerpt(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    match lines.len() {
        0..=10 => lines.join("\n"),
        all => format!("{}\n...\n{}", lines[..4].join("\n"), lines[all - 5..].join("\n")),
    }
}

/// What a program says, if it ends well.
pub(crate) fn output(path: &str, args: &[&str]) -> io::Result<String> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let (status, output) = execute(path, &args)?;
    match status == "0" {
        true => Ok(output),
        false => Err(io::Error::other(format!("{path} ended with {status}: {output}"))),
    }
}

fn execute(path: &str, args: &[String]) -> io::Result<(String, String)> {
    let (mut said, out) = io::pipe()?;
    let mut command = Command::new(path);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .env("LC_ALL", "C")
        // There is no udev to wait for, nor to make nodes.
        .env("DM_DISABLE_UDEV", "1")
        .env("MDADM_NO_UDEV", "1")
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    if fs::exists(MKE2FS_CONFIG).unwrap_or(false) {
        command.env("MKE2FS_CONFIG", MKE2FS_CONFIG);
    }
    let mut child = command.spawn()?;
    // It holds the ends of the pipe to write to; the reader waits for the last of them to close.
    drop(command);
    let reader = thread::spawn(move || {
        let mut text = vec![];
        said.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("it took more than {} s", PATIENCE.as_secs())));
        }
        sleep(LOOK_AGAIN);
    };
    let output = reader.join().unwrap_or_else(|_| Ok(String::new()))?;
    let status = status.code().map_or_else(|| status.to_string(), |code| code.to_string());
    Ok((status, output))
}
