//! A report for people.

use std::fmt;

use super::{Report, SlotReport, UkiReport};
use crate::progress::size;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.size_bytes;
        writeln!(f, "{}: {} ({bytes} bytes)", self.file.display(), size(bytes))?;
        writeln!(f, "disk {}", self.disk_guid)?;
        writeln!(f)?;
        let longest = self.partitions.iter().map(|p| p.label.chars().count()).max();
        let wide = longest.unwrap_or_default().max("label".len());
        writeln!(f, " #  {:wide$}  type            start        size        used  guid", "label")?;
        for p in &self.partitions {
            let used = p.used_bytes.map_or("?".to_owned(), mebibytes);
            let (start, size) = (mebibytes(p.start_bytes), mebibytes(p.size_bytes));
            writeln!(
                f,
                "{:>2}  {:wide$}  {:10} {start:>10}  {size:>10}  {used:>10}  {}",
                p.number, p.label, p.type_name, p.guid
            )?;
        }
        for slot in &self.slots {
            write!(f, "\n{slot}")?;
        }
        for uki in &self.ukis {
            write!(f, "\n{uki}")?;
        }
        if self.problems.is_empty() {
            return writeln!(f, "\nno problems (`image verify` reads every byte)");
        }
        writeln!(f, "\n{} problem(s):", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "  - {problem}"))
    }
}

impl fmt::Display for SlotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref();
        let Some(content) = &self.content else {
            return writeln!(f, "slot {}: empty", self.slot);
        };
        writeln!(f, "slot {}: {}", self.slot, version.unwrap_or("no version"))?;
        let tree = if content.tree_agrees { "the hash tree agrees" } else { "NOT of this tree" };
        writeln!(f, "  root hash  {} ({tree})", content.root_hash)?;
        if let (Some(bytes), Some(uuid)) = (content.usr_bytes, content.usr_uuid) {
            writeln!(f, "  /usr       erofs, {}, {uuid}", size(bytes))?;
        }
        let ukis = if self.ukis.is_empty() { "nothing".to_owned() } else { self.ukis.join(", ") };
        writeln!(f, "  booted by  {ukis}")
    }
}

impl fmt::Display for UkiReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tries = match self.tries_left {
            Some(tries) => format!("{tries} boots left to prove itself"),
            None => "proven".to_owned(),
        };
        writeln!(f, "UKI {}: {}, {tries}", self.file, size(self.size_bytes))?;
        let unknown = || "?".to_owned();
        let version = self.version.clone().unwrap_or_else(unknown);
        let kernel = self.kernel.clone().unwrap_or_else(unknown);
        let boots = self.slot.map_or("no slot".to_owned(), |slot| format!("slot {slot}"));
        writeln!(f, "  version    {version}, kernel {kernel}, boots {boots}")?;
        writeln!(f, "  cmdline    {}", self.cmdline.clone().unwrap_or_else(unknown))?;
        for section in &self.sections {
            let bytes = section.size_bytes;
            writeln!(f, "  {:9} {bytes:>10} bytes  sha256 {}", section.name, section.sha256)?;
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> String {
    const MIB: u64 = layout::disk::MIB;
    match bytes {
        _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        0..MIB => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / MIB as f64),
    }
}
