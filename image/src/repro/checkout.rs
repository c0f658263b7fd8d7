//! A copy of a checkout as it is, changes included: the same commit and the same files, in another
//! place, written in reverse order, and readable by nobody else.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Copies what git tracks in `from`, and what it would, to `to`.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a checkout is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let source = from.to_string_lossy();
    git(parent, &["clone", "--quiet", "--no-checkout", &source, &to.to_string_lossy()])
        .with_context(|| {
            format!("cloning {}\nwhat to do: repro needs a git checkout", from.display())
        })?;
    let list = git(from, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    let mut files: Vec<PathBuf> = list
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)))
        .collect();
    // The order in which a folder lists its files is often that of their making.
    files.sort_by(|one, other| other.cmp(one));
    for name in files {
        file(&from.join(&name), &to.join(&name))?;
    }
    // The index of the commit: what differs from it differs in both checkouts.
    git(to, &["reset", "--quiet"])?;
    Ok(())
}

/// The commit that a checkout is at.
pub(super) fn commit(repo: &Path) -> Result<String> {
    let head = git(repo, &["rev-parse", "HEAD"])?;
    Ok(String::from_utf8_lossy(&head).trim().to_owned())
}

fn file(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("copying {}", from.display());
    let data = match fs::symlink_metadata(from) {
        Ok(data) => data,
        // Removed from the checkout, and not from git.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(failed),
    };
    let folder = to.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(failed)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).with_context(failed)?;
    if data.is_symlink() {
        return symlink(fs::read_link(from).with_context(failed)?, to).with_context(failed);
    }
    fs::copy(from, to).with_context(failed)?;
    let mode = if data.permissions().mode() & 0o100 != 0 { 0o700 } else { 0o600 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(failed)
}

fn git(folder: &Path, words: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("git")
        .current_dir(folder)
        .args(words)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .context("starting git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", words[0], said.trim());
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_commit_and_the_same_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to/there"));
        fs::create_dir_all(from.join("sub")).unwrap();
        for name in ["kept", "removed", "sub/changed", "run"] {
            fs::write(from.join(name), name).unwrap();
        }
        fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(from.join(".gitignore"), "/ignored\n").unwrap();
        symlink("kept", from.join("link")).unwrap();
        let git = |words: &[&str]| git(&from, words).unwrap();
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        let name = ["-c", "user.name=x", "-c", "user.email=x@localhost"];
        git(&[&name[..], &["commit", "--quiet", "-m", "x"]].concat());
        fs::write(from.join("sub/changed"), "otherwise").unwrap();
        fs::write(from.join("new"), "new").unwrap();
        fs::write(from.join("ignored"), "ignored").unwrap();
        fs::remove_file(from.join("removed")).unwrap();

        copy(&from, &to).unwrap();

        for words in [&["rev-parse", "HEAD"][..], &["status", "--porcelain"]] {
            assert_eq!(super::git(&from, words).unwrap(), super::git(&to, words).unwrap());
        }
        assert_eq!(fs::read_to_string(to.join("sub/changed")).unwrap(), "otherwise");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("kept"));
        assert!(!to.join("ignored").exists());
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("run"), mode("new"), mode("sub")), (0o700, 0o600, 0o700));
    }
}
