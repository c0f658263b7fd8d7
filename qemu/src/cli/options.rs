//! What `boot` and `cluster` are told about the machines they start.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use qemu::{Bus, Disk, Error, Image, Spec, accel::Accel};

/// What a machine is like.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) memory: u32,
    /// Processors.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) cpus: u32,
    /// A folder with a manifest.json, or a raw file. [default: build/image]
    #[arg(long, value_name = "PATH")]
    pub(crate) image: Option<PathBuf>,
    /// Size of the disk: 20G, 512M. [default: that of the image]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) disk_size: Option<u64>,
    /// What the disk hangs on: virtio-blk, virtio-scsi, nvme, ahci.
    #[arg(long, default_value = "virtio-blk")]
    pub(crate) bus: Bus,
    /// Who runs the guest's instructions: kvm, tcg. [default: kvm where it works]
    #[arg(long)]
    pub(crate) accel: Option<Accel>,
    /// The document that the machine becomes on its first boot: Ignition, Butane or cloud-config.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One more argument for QEMU; can be given several times.
    #[arg(long = "qemu", value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) extra: Vec<String>,
}

impl Options {
    /// The machine of that name.
    pub(crate) fn spec(&self, name: &str) -> Result<Spec, Error> {
        let mut spec = Spec::named(name)?.memory_mib(self.memory).cpus(self.cpus).bus(self.bus);
        if let Some(image) = self.image()? {
            spec = spec.image(image);
        }
        if let Some(size) = self.disk_size {
            spec = spec.disk_bytes(size);
        }
        if let Some(accel) = self.accel {
            spec = spec.accel(accel);
        }
        if let Some(file) = &self.config {
            if !file.is_file() {
                let text = format!("there is no file {}", file.display());
                return Err(Error::Refused(format!("{text}\n  --config names a document")));
            }
            spec = spec.document(file);
        }
        Ok(self.extra.iter().fold(spec, |spec, word| spec.argument(word)))
    }

    /// The image that was named.
    pub(crate) fn image(&self) -> Result<Option<Image>, Error> {
        self.image.as_deref().map(Image::open).transpose()
    }
}

/// Makes a kept machine: with a copy of the disk, which the next build cannot pull from under it.
pub(crate) fn kept(spec: Spec) -> Spec {
    spec.disk(Disk::Copy).kept()
}

/// `20G`, `512M`, `1T`, or bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(format!("`{text}` is not a size like 20G or 512M")),
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| format!("`{text}` is not a size like 20G or 512M"))
}

/// `50ms`, `2s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("`{text}` is not a time like 50ms or 2s"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(format!("`{text}` is not a time like 50ms or 2s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units_and_not_without_sense() {
        assert_eq!(size("20G"), Ok(20 << 30));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("4096"), Ok(4096));
        for text in ["", "G", "1X", "-1G", "99999999999T", "1.5G"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for text in ["", "50", "ms", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
