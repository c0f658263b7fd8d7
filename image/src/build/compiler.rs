//! The C compiler of our programs: some of their crates have a little C, and whose compiler makes
//! machine code of it shows in the image. So it is locked as all else is, and the host's is not
//! asked. Its packages are only unpacked, which needs no root, before there is a tools tree.

use std::path::PathBuf;

use anyhow::Result;

use super::{Places, trees::of_packages};
use crate::{
    archive::{Archive, Settled},
    progress::Progress,
    step::Steps,
    tools::wrappers,
};

/// Unpacks it, where it is not there yet. Gives its program.
pub(super) fn unpack(
    places: &Places,
    archive: &Archive,
    packages: &Settled,
    progress: &Progress,
) -> Result<PathBuf> {
    let steps = Steps::open(&places.build.join("compiler"), progress)?;
    let done = steps.run("compiler", of_packages(&packages.compiler), |folder| {
        archive.verify(&packages.compiler, &packages.resolved)?;
        for package in &packages.compiler {
            archive.unpack(package, &folder.join(wrappers::TREE))?;
        }
        wrappers::write_compiler(folder)
    })?;
    Ok(done.path.join(wrappers::COMPILER))
}
