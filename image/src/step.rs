//! Steps of the build that are done once per set of inputs.
//!
//! A step is named, says what it reads ([`Inputs`]), and fills a folder. The folder is kept as
//! `NAME-KEY`, where KEY is the hash of the inputs: the next run with the same inputs takes it as
//! it is. The inputs themselves are kept beside it, so that a step which runs again can say why.
//!
//! ```text
//! build/cache/lock               held while a build runs
//! build/cache/NAME-KEY/          a result; only whole ones carry this name
//! build/cache/NAME-KEY.inputs    what it was made from, one per line; its age is the last use
//! build/cache/NAME-KEY.tmp/      being made, or left by an interrupted build and removed by the next
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result, bail};

use crate::progress::{Progress, size, took};

pub use inputs::{Inputs, sha256_of};

mod inputs;

/// Results of one step that are kept: this one and the one before, for going back and forth.
const KEPT: usize = 2;

/// The steps of one build. While it lives, no other build works in the same folder.
#[derive(Debug)]
pub struct Steps {
    folder: PathBuf,
    progress: Progress,
    may_work: bool,
    _lock: File,
}

/// A step would have to work, and only looking was allowed.
#[derive(Debug, thiserror::Error)]
#[error("step `{0}` has work to do")]
pub struct WorkToDo(String);

/// A finished step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The folder that the step filled.
    pub path: PathBuf,
    /// Names the inputs: the input of a step that reads this one.
    pub key: String,
    /// Whether it was made by this run.
    pub fresh: bool,
}

impl Done {
    /// A file that the step made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Steps {
    /// Takes `folder` for this build, waits for another build to finish first, and removes what an
    /// interrupted one left.
    pub fn open(folder: &Path, progress: &Progress) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let lock = lock(&folder.join("lock"), progress)?;
        let (folder, progress) = (folder.to_owned(), progress.clone());
        let steps = Self { folder, progress, may_work: true, _lock: lock };
        for (name, path) in steps.entries()? {
            if name.ends_with(".tmp") {
                steps.progress.line(format!("removing {name}, left by an interrupted build"));
                remove(&path)?;
            }
        }
        Ok(steps)
    }

    /// Takes what is finished, and works on nothing: every step that would fails with
    /// [`WorkToDo`]. For a user who may not write here.
    pub fn look(folder: &Path, progress: &Progress) -> Result<Self> {
        if !folder.is_dir() {
            bail!(WorkToDo("first".to_owned()));
        }
        let lock = lock(&folder.join("lock"), progress)?;
        let folder = folder.to_owned();
        Ok(Self { folder, progress: Progress::silent(), may_work: false, _lock: lock })
    }

    /// The result of step `name` for `inputs`: the kept one, or what `work` puts into the folder
    /// that it is given.
    pub fn run(
        &self,
        name: &str,
        inputs: Inputs,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Done> {
        let key = inputs.key();
        let path = self.folder.join(format!("{name}-{key}"));
        let note = self.folder.join(format!("{name}-{key}.inputs"));
        if path.is_dir() && note.exists() {
            self.progress.line(format!("{name}: unchanged"));
            touch(&note);
            return Ok(Done { path, key, fresh: false });
        }

        self.may_work(name)?;
        self.progress.line(format!("{name}: {}", self.reason(name, &inputs)?));
        let begun = Instant::now();
        let unfinished = self.folder.join(format!("{name}-{key}.tmp"));
        remove(&unfinished)?;
        remove(&path)?;
        fs::create_dir(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
        if let Err(error) = work(&unfinished) {
            let full = full(&self.folder, &error);
            // What it got done would only take room. A second error here would hide the first.
            let _ = remove(&unfinished);
            return Err(error.context(match full {
                true => format!(
                    "no space left for step `{name}` in {}\nwhat to do: free some (a build from \
                     nothing takes 5 GB), and build again; what is finished is kept\n\
                     what happened",
                    self.folder.display()
                ),
                false => format!("step `{name}`"),
            }));
        }
        // The note first: a result without a note is made again, a note without a result is noise.
        fs::write(&note, inputs.to_string())
            .with_context(|| format!("writing {}", note.display()))?;
        fs::rename(&unfinished, &path)
            .with_context(|| format!("naming the finished {}", path.display()))?;
        let (time, bytes) = (took(begun.elapsed()), size(allocated_bytes(&path)));
        self.progress.line(format!("{name}: done in {time}, {bytes}"));
        self.prune(name)?;
        Ok(Done { path, key, fresh: true })
    }

    /// Refuses work where only looking was allowed.
    pub fn may_work(&self, name: &str) -> Result<()> {
        if self.may_work { Ok(()) } else { bail!(WorkToDo(name.to_owned())) }
    }

    /// Why the step has to run: what is different since it ran last.
    fn reason(&self, name: &str, inputs: &Inputs) -> Result<String> {
        let Some((_, note)) = self.notes(name)?.pop() else {
            return Ok("building".to_owned());
        };
        let text = fs::read_to_string(&note).unwrap_or_default();
        let before: Inputs = text.parse().unwrap_or_default();
        let changes = inputs.changes_since(&before);
        let shown = changes.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
        Ok(match changes.len() {
            0 => "rebuilding: its result is gone".to_owned(),
            1..=3 => format!("rebuilding: {shown}"),
            more => format!("rebuilding: {shown}; and {} more", more - 3),
        })
    }

    /// Removes all but the newest results of a step.
    fn prune(&self, name: &str) -> Result<()> {
        let mut notes = self.notes(name)?;
        notes.truncate(notes.len().saturating_sub(KEPT));
        for (_, note) in notes {
            remove(&note.with_extension(""))?;
            remove(&note)?;
        }
        Ok(())
    }

    /// The notes of a step, the one used last at the end.
    fn notes(&self, name: &str) -> Result<Vec<(SystemTime, PathBuf)>> {
        let mut notes = Vec::new();
        for (file, path) in self.entries()? {
            let key = file
                .strip_suffix(".inputs")
                .and_then(|stem| stem.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')));
            if key.is_some_and(inputs::is_key) {
                let used = fs::metadata(&path).and_then(|data| data.modified());
                notes.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path));
            }
        }
        notes.sort();
        Ok(notes)
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>> {
        let reading = || format!("reading {}", self.folder.display());
        fs::read_dir(&self.folder)
            .with_context(reading)?
            .map(|entry| {
                let entry = entry.with_context(reading)?;
                Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
            })
            .collect()
    }
}

/// Whether a step failed because the disk is full. Programs that it ran say so in many ways, so
/// the disk itself is asked.
fn full(folder: &Path, error: &anyhow::Error) -> bool {
    const FULL_BYTES: u64 = 8 << 20;
    let said = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let free = nix::sys::statvfs::statvfs(folder)
        .map(|stat| stat.blocks_available() * stat.fragment_size());
    said.into_iter().any(|cause| cause.kind() == ErrorKind::StorageFull)
        || format!("{error:#}").contains("No space left on device")
        || free.is_ok_and(|free| free < FULL_BYTES)
}

/// The lock of a folder of builds; waits for it, and says so.
pub fn lock(path: &Path, progress: &Progress) -> Result<File> {
    let opening = || format!("opening {}", path.display());
    let create = || File::options().create(true).truncate(false).write(true).open(path);
    // Made by a build of root's, it is not ours to write; but a lock needs no more than reading.
    let file = match create() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => File::open(path),
        other => other,
    }
    .with_context(opening)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            progress.line("another build works in this folder: waiting for it to finish");
            let _waiting = progress.wait("waiting for the other build");
            file.lock().with_context(|| format!("locking {}", path.display()))?;
            Ok(file)
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", path.display()))
        }
    }
}

/// Removes a file or folder, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!(
                "removing {}: it belongs to another user (a build made by root?): \
                 remove it with sudo",
                path.display()
            )
        }
        other => other.with_context(|| format!("removing {}", path.display())),
    }
}

/// Bytes that a file, or all files of a folder, take on disk.
pub fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(data) = fs::symlink_metadata(path) else { return 0 };
    if !data.is_dir() {
        return data.blocks() * 512;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| allocated_bytes(&entry.path())).sum()
}

/// Marks a note as used now. That it fails changes only what is pruned first.
fn touch(note: &Path) {
    let opened = File::options().append(true).open(note);
    let _ = opened.and_then(|file| file.set_modified(SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(folder: &Path) -> Steps {
        Steps::open(folder, &Progress::silent()).unwrap()
    }

    fn epoch(epoch: u64) -> Inputs {
        Inputs::new().value("epoch", epoch)
    }

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| Ok(fs::write(folder.join("out"), text)?)
    }

    #[test]
    fn a_step_with_the_same_inputs_does_not_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let steps = steps(folder.path());
        let first = steps.run("erofs", epoch(1), write("one")).unwrap();
        let second = steps.run("erofs", epoch(1), |_| panic!("it ran again")).unwrap();
        assert!(first.fresh && !second.fresh);
        assert_eq!(first.path, second.path);
        assert_eq!(fs::read_to_string(second.file("out")).unwrap(), "one");
    }

    #[test]
    fn a_step_that_failed_leaves_nothing_that_looks_finished() {
        let folder = tempfile::tempdir().unwrap();
        let steps = steps(folder.path());
        let failing = |tmp: &Path| {
            fs::write(tmp.join("half"), "")?;
            bail!("no space left")
        };
        let error = steps.run("erofs", epoch(1), failing).unwrap_err();
        assert_eq!(format!("{error:#}"), "step `erofs`: no space left");
        let names: Vec<_> = steps.entries().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["lock"]);
        assert!(steps.run("erofs", epoch(1), write("whole")).unwrap().fresh);
    }

    #[test]
    fn what_an_interrupted_build_left_is_removed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("erofs-0123.tmp/deep")).unwrap();
        let steps = steps(folder.path());
        assert_eq!(steps.entries().unwrap().len(), 1, "only the lock is left");
    }

    #[test]
    fn a_step_says_what_changed_since_it_ran_last() {
        let folder = tempfile::tempdir().unwrap();
        let steps = steps(folder.path());
        assert_eq!(steps.reason("uki", &epoch(1)).unwrap(), "building");
        steps.run("uki", epoch(1), write("")).unwrap();
        assert_eq!(steps.reason("uki", &epoch(2)).unwrap(), "rebuilding: epoch changed (1, now 2)");
        assert_eq!(steps.reason("uki-test", &epoch(2)).unwrap(), "building");
    }

    #[test]
    fn who_only_looks_gets_what_is_there_and_nothing_made() {
        let folder = tempfile::tempdir().unwrap();
        let made = steps(folder.path()).run("uki", epoch(1), write("")).unwrap();
        let looking = Steps::look(folder.path(), &Progress::silent()).unwrap();
        let found = looking.run("uki", epoch(1), |_| panic!("it worked")).unwrap();
        assert_eq!(found.path, made.path);
        let error = looking.run("uki", epoch(2), |_| panic!("it worked")).unwrap_err();
        assert!(error.is::<WorkToDo>(), "{error}");
    }

    #[test]
    fn the_last_two_results_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let steps = steps(folder.path());
        let paths: Vec<_> =
            (1..=3).map(|n| steps.run("uki", epoch(n), write("")).unwrap().path).collect();
        let kept: Vec<_> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(kept, [false, true, true]);
    }
}
