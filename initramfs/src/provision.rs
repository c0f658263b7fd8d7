//! First boot: `ignition` of the verified /usr makes the machine what its document says.
//!
//! ```text
//! /init                                      ignition boot
//!   | starts it -------------------------------> gets the document; partitions, arrays, volumes
//!   | <----------- what root shall be, `root` <-- and file systems of the document
//!   | makes root, mounts it, /usr and /etc in it
//!   | `mounted` -------------------------------> other mounts, files, users, units
//!   | <------------------------------ `done` <--
//!   | root gets its name: the first boot is over
//!   | `named` ---------------------------------> volumes lose their mark (their keys are kept now)
//!   | <------------------------------- it ends <-- and are closed
//! ```
//!
//! Lines of text, `key=value` or a word. After the word `failed` comes what people shall read.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    disks::Disk,
    root::{Kind, RootError, TREE, doing},
};

const PROGRAM: &str = "/usr/bin/ignition";

/// What the document wants root to be; what it does not say is ours to choose.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RootWish {
    /// The file system.
    pub(crate) kind: Option<Kind>,
    /// The label of the file system.
    pub(crate) label: Option<String>,
    /// Options for making it.
    pub(crate) options: Vec<String>,
    /// At most so long; the rest of the disk stays free.
    pub(crate) size_mib: Option<u64>,
}

/// What came of the part before root is made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// Root may be made.
    Root(RootWish),
    /// The machine must start again, with other kernel arguments.
    Reboot,
}

/// `ignition` while it runs.
pub(crate) struct Provisioner {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Provisioner {
    /// Starts it.
    pub(crate) fn start(disk: &Disk) -> Result<Self, RootError> {
        let mut command = Command::new(PROGRAM);
        command.arg("boot").arg("--disk").arg(disk.path()).arg("--root").arg(TREE);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(doing(format!("starting {PROGRAM}")))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = to.zip(from).expect("both were asked for");
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// Waits until root can be made.
    pub(crate) fn prepared(&mut self) -> Result<Prepared, RootError> {
        answer(&mut self.from).or_else(|refused| self.ended(refused))
    }

    /// Root is mounted: waits until everything is in it.
    pub(crate) fn fill(mut self) -> Result<Self, RootError> {
        let written = self.to.write_all(b"mounted\n");
        let answer = written.map_err(Refused::Broken).and_then(|()| done(&mut self.from));
        answer.or_else(|refused| self.ended(refused))?;
        Ok(self)
    }

    /// Root has its name: waits until disks are closed. Nothing of that could undo the first boot;
    /// what fails there is in the kernel's log.
    pub(crate) fn finish(mut self) {
        let _ = self.to.write_all(b"named\n");
        let _ = self.child.wait();
    }

    fn ended<T>(&mut self, refused: Refused) -> Result<T, RootError> {
        match refused {
            Refused::Said(text) => {
                let _ = self.child.wait();
                Err(RootError::Provisioning(text))
            }
            Refused::Broken(source) => {
                // It may be there still, saying something that we do not understand.
                let _ = self.child.kill();
                let status = self.child.wait().map(|status| status.to_string());
                let status = status.unwrap_or_else(|error| error.to_string());
                let doing = format!("talking to {PROGRAM}, which ended with {status}");
                Err(RootError::Io { doing, source })
            }
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Refused {
    /// It says why.
    Said(String),
    /// It does not speak, or not our language.
    Broken(io::Error),
}

fn answer(from: &mut impl BufRead) -> Result<Prepared, Refused> {
    let mut wish = RootWish::default();
    loop {
        let line = line(from)?;
        match line.split_once('=') {
            Some(("format", name)) => wish.kind = Some(Kind::of_name(name).ok_or(unknown(&line))?),
            Some(("label", label)) => wish.label = Some(label.to_owned()),
            Some(("option", option)) => wish.options.push(option.to_owned()),
            Some(("size_mib", size)) => {
                wish.size_mib = Some(size.parse().map_err(|_| unknown(&line))?);
            }
            None if line == "root" => return Ok(Prepared::Root(wish)),
            None if line == "reboot" => return Ok(Prepared::Reboot),
            _ => return Err(unknown(&line)),
        }
    }
}

fn done(from: &mut impl BufRead) -> Result<(), Refused> {
    match line(from)?.as_str() {
        "done" => Ok(()),
        other => Err(unknown(other)),
    }
}

/// A line; what comes behind `failed` is a refusal.
fn line(from: &mut impl BufRead) -> Result<String, Refused> {
    let mut line = String::new();
    if from.read_line(&mut line).map_err(Refused::Broken)? == 0 {
        return Err(Refused::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    let line = line.trim_end_matches('\n').to_owned();
    if line == "failed" {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(Refused::Broken)?;
        return Err(Refused::Said(text));
    }
    Ok(line)
}

fn unknown(line: &str) -> Refused {
    Refused::Broken(io::Error::other(format!("it says `{line}`, which is not known here")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_be_what_the_document_says() {
        let mut said = "format=xfs\noption=-m\noption=reflink=1\nsize_mib=4096\nroot\n".as_bytes();
        let wish = RootWish {
            kind: Some(Kind::Xfs),
            label: None,
            options: vec!["-m".to_owned(), "reflink=1".to_owned()],
            size_mib: Some(4096),
        };
        assert_eq!(answer(&mut said).unwrap(), Prepared::Root(wish));
        assert_eq!(answer(&mut "reboot\n".as_bytes()).unwrap(), Prepared::Reboot);
    }

    #[test]
    fn a_refusal_is_passed_on_whole() {
        let mut said = "format=xfs\nfailed\nline one\nline two\n".as_bytes();
        let Err(Refused::Said(text)) = answer(&mut said) else { panic!() };
        assert_eq!(text, "line one\nline two\n");
        assert!(matches!(done(&mut "failed\nwhy\n".as_bytes()), Err(Refused::Said(_))));
    }

    #[test]
    fn half_an_answer_is_none() {
        for said in ["", "format=xfs\n", "format=ntfs\nroot\n", "size_mib=x\nroot\n", "hello\n"] {
            assert!(matches!(answer(&mut said.as_bytes()), Err(Refused::Broken(_))), "{said}");
        }
        assert!(done(&mut "root\n".as_bytes()).is_err());
    }
}
