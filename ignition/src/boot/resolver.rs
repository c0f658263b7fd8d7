//! Name servers for programs that are run before systemd is there, as clevis is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::journal::Journal;

/// Where the image's /etc/resolv.conf leads to. systemd-resolved writes it anew.
const FILE: &str = "/run/systemd/resolve/stub-resolv.conf";

/// The file, for as long as the network of the first boot is there.
#[derive(Debug)]
pub(super) struct Resolver(PathBuf);

impl Resolver {
    /// Writes it. Without it only programs that are run miss names: that is said, and no more.
    pub(super) fn write(text: &str, journal: &dyn Journal) -> Self {
        let resolver = Self(FILE.into());
        if let Err(error) = resolver.fill(text) {
            journal.say(&format!("network: {FILE} could not be written: {error}"));
        }
        resolver
    }

    fn fill(&self, text: &str) -> io::Result<()> {
        fs::create_dir_all(self.0.parent().expect("it is below /run"))?;
        fs::write(&self.0, text)
    }

    /// Removes it, and the folders that were made for it: their owner will be another.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.0);
        for folder in self.0.ancestors().skip(1).take(2).filter(|folder| *folder != Path::new("/"))
        {
            // One with something in it stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_for_the_name_servers_goes_with_them() {
        let run = tempfile::tempdir().unwrap();
        let resolver = || Resolver(run.path().join("systemd/resolve/stub-resolv.conf"));
        resolver().fill("nameserver 192.0.2.1\n").unwrap();
        assert_eq!(fs::read_to_string(resolver().0).unwrap(), "nameserver 192.0.2.1\n");
        resolver().remove();
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0);
        resolver().fill("").unwrap();
        fs::write(run.path().join("systemd/other"), "").unwrap();
        resolver().remove();
        assert_eq!(fs::read_dir(run.path().join("systemd")).unwrap().count(), 1);
    }
}
