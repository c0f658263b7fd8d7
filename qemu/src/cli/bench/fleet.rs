//! Many machines that ask `update-server` at once. A program of its crate measures; here it is built
//! and run.

use std::process::Command;

use anyhow::{Context, ensure};

use super::run;

/// The section of the page.
pub(super) fn fleet() -> anyhow::Result<String> {
    eprintln!("qemu: 10,000 machines ask update-server ...");
    let package = ["--quiet", "--profile=host", "--package=update-server"];
    run("cargo", &[&["build"], &package[..], &["--bins", "--example=poll"]].concat())?;
    let output = Command::new("cargo")
        .arg("run")
        .args(package)
        .args(["--example=poll"])
        .output()
        .context("starting cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "measuring update-server: {said}");
    let table = String::from_utf8(output.stdout).context("the table is no text")?;
    Ok(format!(
        "\n## A fleet that asks update-server\n\nOver loopback; the clients run on the same \
         processors.\n\n{table}"
    ))
}
