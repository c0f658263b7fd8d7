//! Running the suite: its Python environment, and pytest with ourselves as the client.

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

const ENVIRONMENT: &str = "build/tuf-conformance";

/// Runs the suite in `folder`.
pub(crate) fn run(folder: &Path, words: &[String]) -> Result<ExitCode> {
    let project = folder.join("pyproject.toml");
    let wanted = fs::read_to_string(&project).with_context(|| {
        format!(
            "reading {}: expected a checkout of theupdateframework/tuf-conformance",
            project.display()
        )
    })?;
    if Command::new("faketime").arg("--version").output().is_err() {
        bail!("some cases need the program `faketime`: install the Debian package faketime");
    }
    install(folder, &wanted)?;
    let ourselves = env::current_exe().context("finding this program")?;
    let mut pytest = Command::new(Path::new(ENVIRONMENT).join("bin/pytest"));
    pytest.arg(folder.join("tuf_conformance")).arg("--entrypoint").arg(ourselves);
    pytest.args(["-p", "no:cacheprovider", "--quiet"]).args(words);
    let status = pytest.status().context("starting pytest")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs what the suite needs, unless that was done for the same list already.
fn install(folder: &Path, wanted: &str) -> Result<()> {
    let done = Path::new(ENVIRONMENT).join("installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("installing the suite's Python packages into {ENVIRONMENT}");
    succeed(Command::new("python3").args(["-m", "venv", "--clear", ENVIRONMENT]))?;
    let pip = Path::new(ENVIRONMENT).join("bin/pip");
    succeed(Command::new(pip).args(["install", "--quiet", "--editable"]).arg(folder))?;
    fs::write(&done, wanted).with_context(|| format!("writing {}", done.display()))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?} failed: {status}") }
}
