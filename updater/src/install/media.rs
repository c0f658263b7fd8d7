//! What an installation reads and writes: two slots, a partition table, a folder of the ESP and one
//! of the machine's own state. [`super::machine`] has the real ones; the tests have ones that lose,
//! tear and reorder what was not synced.

use std::io;

use block::table::{Disk, Table, TableError};
use layout::Role;

/// What of a machine an installation changes.
pub trait Media {
    /// The whole disk, for its partition table.
    fn disk(&self) -> &dyn Disk;
    /// Its length.
    fn disk_bytes(&self) -> u64;
    /// Its logical sector.
    fn sector_bytes(&self) -> u64;
    /// A partition of a slot. What is read was read from the disk itself, whatever was written just
    /// before.
    fn partition(&self, role: Role) -> io::Result<&dyn Disk>;
    /// `/EFI/Linux` of the ESP.
    fn esp(&self) -> &dyn Folder;
    /// `/var/lib/update-engine`.
    fn state(&self) -> &dyn Folder;

    /// The partition table.
    fn table(&self) -> Result<Table, TableError> {
        Table::read(self.disk(), self.disk_bytes(), self.sector_bytes())
    }
}

/// A file of a [`Folder`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}

/// A folder of files: no folders in it, and none above it.
///
/// What was written is there after a power cut once the file was synced; under which names files
/// are found, once the folder was.
pub trait Folder {
    /// Its files, by name.
    fn list(&self) -> io::Result<Vec<File>>;
    /// What can still be written to its file system.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Reads from `offset` until `bytes` is full or the file ends. What was synced is read from the
    /// disk itself.
    fn read(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` from `offset`, which is inside the file or at its end. The file ends
    /// behind them. Offset 0 makes a file where there is none.
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what is in a file will be there after a power cut.
    fn sync_file(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, that of a file that goes, where there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when the names will be what they are now after a power cut.
    fn sync(&self) -> io::Result<()>;
}

impl dyn Folder + '_ {
    /// All of a file of at most `max_bytes`; nothing where there is none.
    pub fn load(&self, name: &str, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; max_bytes + 1];
        match self.read(name, 0, &mut bytes) {
            Ok(length) if length > max_bytes => {
                Err(io::Error::other(format!("{name} has more than {max_bytes} bytes")))
            }
            Ok(length) => {
                bytes.truncate(length);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a file in the place of the one of this name: after a power cut it is the old one or the
    /// new one, and once this returns it is the new one.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = format!("{name}.new");
        self.write(&unfinished, 0, bytes)?;
        self.sync_file(&unfinished)?;
        self.rename(&unfinished, name)?;
        self.sync()
    }
}
