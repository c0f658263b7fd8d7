//! Downloads by apt's own helper: it is on every Debian host, and knows the host's proxies,
//! certificates and credentials.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Archive, Error, apt};
use crate::{
    lock::Package,
    progress::{Task, size},
    step::{remove, sha256_of},
};

const HELPER: &str = "/usr/lib/apt/apt-helper";
const CONNECTIONS: usize = 4;
/// Files per run of the helper: it keeps its connection for them.
const BATCH: usize = 12;
/// How often an error that may pass is tried again, and how long after.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
const LOOK_EVERY: Duration = Duration::from_millis(150);

#[derive(Clone, Debug)]
struct Job {
    package: Package,
    url: String,
    partial: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Fetched,
    Gone,
    WrongHash(String),
    NoSpace,
    Failed(String),
}

/// Fetches packages into the cache: from the mirror, and from the snapshot mirror what it does not
/// have any more.
pub(super) fn fetch(archive: &Archive, missing: Vec<Package>, resolved: &str) -> Result<(), Error> {
    let mirrors = archive.mirrors()?;
    let gone = round(archive, missing, |package| mirrors.url(&package.file))?;
    let gone = match &archive.snapshot {
        Some(snapshot) if !gone.is_empty() => {
            let some = gone.len();
            archive.progress.line(format!("asking the snapshot mirror for {some} old packages"));
            round(archive, gone, |package| snapshot.url(package, resolved))?
        }
        _ => gone,
    };
    if gone.is_empty() { Ok(()) } else { Err(Error::Gone { packages: gone }) }
}

/// Fetches from one place, with retries; what that place does not have is returned.
fn round(
    archive: &Archive,
    packages: Vec<Package>,
    url: impl Fn(&Package) -> Option<String>,
) -> Result<Vec<Package>, Error> {
    let total: u64 = packages.iter().map(|package| package.size_bytes).sum();
    archive.progress.line(format!("fetching {} packages, {}", packages.len(), size(total)));
    let task = archive.progress.transfer("packages", total);

    let partial = archive.cache.join("partial");
    let prepared = remove(&partial).is_ok() && fs::create_dir(&partial).is_ok();
    if !prepared {
        return Err(Error::io("emptying", &partial)(std::io::Error::last_os_error()));
    }
    let mut jobs = Vec::new();
    let mut gone = Vec::new();
    for package in packages {
        let partial = partial.join(&package.sha256);
        match url(&package) {
            Some(url) => jobs.push(Job { package, url, partial }),
            None => gone.push(package),
        }
    }
    // A mirror that does not answer is found out with one file, not with hundreds.
    jobs.sort_by_key(|job| job.package.size_bytes);
    let rest = jobs.split_off(jobs.len().min(1));
    gone.extend(persist(archive, jobs, &rest, &partial, &task)?);
    gone.extend(persist(archive, rest, &[], &partial, &task)?);
    let _ = remove(&partial);
    gone.sort();
    Ok(gone)
}

/// Downloads with retries, and keeps what is right. `behind` is what would come after it.
fn persist(
    archive: &Archive,
    mut jobs: Vec<Job>,
    behind: &[Job],
    partial: &Path,
    task: &Task,
) -> Result<Vec<Package>, Error> {
    let mut gone = Vec::new();
    let mut delays = RETRY_AFTER.iter();
    loop {
        let mut failed: Vec<(Job, String)> = Vec::new();
        for (job, outcome) in download(jobs, partial, task) {
            match outcome {
                Outcome::Fetched => {
                    let path = archive.path(&job.package);
                    fs::rename(&job.partial, &path).map_err(Error::io("keeping", &path))?;
                    task.more(job.package.size_bytes);
                }
                Outcome::Gone => gone.push(job.package),
                Outcome::WrongHash(found) => {
                    let package = Box::new(job.package);
                    return Err(Error::WrongHash { package, url: job.url, found });
                }
                Outcome::NoSpace => {
                    let (path, needed) = (archive.cache.clone(), size(job.package.size_bytes));
                    return Err(Error::NoSpace { path, needed, free: "nothing".to_owned() });
                }
                Outcome::Failed(why) => failed.push((job, why)),
            }
        }
        let Some((_, why)) = failed.first() else { return Ok(gone) };
        let Some(delay) = delays.next() else {
            let why = why.clone();
            let failed = failed.into_iter().map(|(job, _)| job.package);
            let mut missing: Vec<Package> =
                failed.chain(behind.iter().map(|job| job.package.clone())).collect();
            missing.sort();
            return Err(Error::Unreachable { missing, why });
        };
        task.doing(&format!("{} failed, trying again ({why})", failed.len()));
        thread::sleep(*delay);
        jobs = failed.into_iter().map(|(job, _)| job).collect();
    }
}

/// Runs some helpers side by side, and looks at the growing files for the progress.
fn download(jobs: Vec<Job>, partial: &Path, task: &Task) -> Vec<(Job, Outcome)> {
    let batches: VecDeque<Vec<Job>> = jobs.chunks(BATCH).map(<[Job]>::to_vec).collect();
    let (queue, done) = (Mutex::new(batches), Mutex::new(Vec::new()));
    let running = AtomicUsize::new(CONNECTIONS);
    let next = || queue.lock().expect("no thread panics with the queue").pop_front();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                while let Some(batch) = next() {
                    let outcomes = run(batch);
                    done.lock().expect("no thread panics with the results").extend(outcomes);
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            thread::sleep(LOOK_EVERY);
            task.with(bytes_in(partial));
        }
    });
    done.into_inner().expect("no thread panics with the results")
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}

/// One run of the helper, which fetches every file that it can.
fn run(batch: Vec<Job>) -> Vec<(Job, Outcome)> {
    let mut command = Command::new(HELPER);
    command.args(["-qq", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0"]);
    command.arg("download-file");
    for Job { package, url, partial } in &batch {
        // `file:` would only say that the file is there; `copy:` brings it.
        command.arg(url.replacen("file:", "copy:", 1)).arg(partial);
        command.arg(format!("SHA256:{}", package.sha256));
    }
    let output = command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output();
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("E: {HELPER} does not start: {error}"),
    };
    let reasons = reasons(&said);
    batch
        .into_iter()
        .map(|job| {
            let outcome = outcome(&job, &reasons, &said);
            (job, outcome)
        })
        .collect()
}

fn outcome(job: &Job, reasons: &BTreeMap<String, String>, said: &str) -> Outcome {
    // The helper checks the hash too; but what comes into the cache is what we looked at.
    if let Ok(found) = sha256_of(&job.partial) {
        return if found == job.package.sha256 {
            Outcome::Fetched
        } else {
            Outcome::WrongHash(found)
        };
    }
    let refused = job.partial.with_extension("FAILED");
    let url = apt::unescape(&job.url);
    match reasons.get(url.trim_start_matches("file:")) {
        Some(why) if why.contains("Hash Sum mismatch") => {
            Outcome::WrongHash(sha256_of(&refused).unwrap_or_else(|_| "another".to_owned()))
        }
        Some(why) if why.contains("No space left") => Outcome::NoSpace,
        Some(why) if is_gone(why) => Outcome::Gone,
        Some(why) => Outcome::Failed(format!("{}: {why}", job.url)),
        None if said.contains("No space left") => Outcome::NoSpace,
        None => Outcome::Failed(format!("{}: {}", job.url, apt::last_words("", said))),
    }
}

fn is_gone(why: &str) -> bool {
    ["404 ", "410 ", "No such file"].iter().any(|sign| why.contains(sign))
}

/// What the helper says of each file that it did not get: `E: Failed to fetch URL  REASON`.
fn reasons(said: &str) -> BTreeMap<String, String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("E: Failed to fetch "));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(url, why)| {
            let url = apt::unescape(url);
            let url = url.trim_start_matches("copy:").trim_start_matches("file:");
            (url.to_owned(), why.trim().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_each_file_is_found_whatever_is_escaped() {
        let said = "W: warning\n\
            E: Failed to fetch http://m.example/pool/a_1%2b2.deb  404  Not Found [IP: 192.0.2.1 80]\n\
            E: Failed to fetch http://m.example/pool/b.deb  Could not resolve 'm.example'\n\
            E: Download Failed\n";
        let reasons = reasons(said);
        assert!(is_gone(&reasons["http://m.example/pool/a_1+2.deb"]));
        assert_eq!(reasons["http://m.example/pool/b.deb"], "Could not resolve 'm.example'");
    }
}
