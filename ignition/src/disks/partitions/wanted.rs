//! An entry of the document, what it means on a disk, and in what a partition differs from it.

use block::table::Entry;
use layout::{disk::MIB, types};
use uuid::Uuid;

use crate::{
    disks::{Refused, room::amount, steps::Change},
    document::config,
};

/// An entry of the document with what it means on this disk.
pub(super) struct Wanted<'a> {
    pub(super) at: String,
    pub(super) entry: &'a config::Partition,
    pub(super) number: u32,
    pub(super) start_bytes: u64,
    pub(super) size_bytes: u64,
}

/// In what a partition is not as described.
pub(super) struct Difference {
    pub(super) words: String,
    pub(super) is_size: bool,
}

impl Wanted<'_> {
    /// The partition, made.
    pub(super) fn create(&self) -> Result<Change, Refused> {
        Ok(Change::Create {
            number: self.number,
            // Linux data: the type of every partition that nothing is said of.
            kind: self.guid("typeGuid", &self.entry.type_guid)?.unwrap_or(types::UNFINISHED),
            guid: self.guid("guid", &self.entry.guid)?,
            label: self.entry.label.clone().unwrap_or_default(),
            start_bytes: self.start_bytes,
            size_bytes: self.size_bytes,
        })
    }

    fn guid(&self, key: &str, text: &Option<String>) -> Result<Option<Uuid>, Refused> {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(Uuid::parse_str).transpose().map_err(|_| {
            Refused::new(
                format!("{}.{key}", self.at),
                format!("`{}` is not a GUID", text.unwrap_or_default()),
                "write 8-4-4-4-12 hexadecimal digits",
            )
        })
    }

    /// In what a partition is not this one.
    pub(super) fn differs(&self, found: &Entry) -> Result<Vec<Difference>, Refused> {
        let mut all = vec![];
        let mut differ = |is_size: bool, what: &str, is: String, wanted: String| {
            if is != wanted {
                let words = format!("its {what} is {is}, not {wanted}");
                all.push(Difference { words, is_size });
            }
        };
        differ(false, "start", amount(found.start_bytes), amount(self.start_bytes));
        differ(true, "size", amount(found.size_bytes), amount(self.size_bytes));
        if let Some(guid) = self.guid("guid", &self.entry.guid)? {
            differ(false, "GUID", found.guid.to_string(), guid.to_string());
        }
        if let Some(kind) = self.guid("typeGuid", &self.entry.type_guid)? {
            differ(false, "type", found.kind.to_string(), kind.to_string());
        }
        if let Some(label) = &self.entry.label {
            differ(false, "label", format!("`{}`", found.name), format!("`{label}`"));
        }
        Ok(all)
    }
}

/// Mebibytes of the document as bytes.
pub(super) fn bytes(at: &str, key: &str, mib: Option<i64>) -> Result<Option<u64>, Refused> {
    let Some(mib) = mib else { return Ok(None) };
    let bytes = u64::try_from(mib).ok().and_then(|mib| mib.checked_mul(MIB));
    bytes.map(Some).ok_or_else(|| {
        Refused::new(
            format!("{at}.{key}"),
            format!("{mib} MiB is nowhere on a disk"),
            "give a whole number that is not negative, and fits",
        )
    })
}
