//! The words of the command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use image::{
    archive::{Policy, Wanted},
    build::{Additions, Given, Network, Order, Output, Places},
    differ::CompareArgs,
    inspect::InspectArgs,
    lock::Flavor,
    repro::ReproArgs,
    sign::{self, Signer},
    verify::VerifyArgs,
};
use layout::Version;

/// Builds, inspects, verifies and compares images of PithOS.
#[derive(Debug, Parser)]
#[command(name = "image", version)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image into build/image.
    Build(Build),
    /// Resolve the package lists anew and write rootfs/packages.lock.
    Lock(Lock),
    /// Show what is on a disk.
    Inspect(InspectArgs),
    /// Check a disk against its manifest.
    Verify(VerifyArgs),
    /// Say where two artefacts, or two folders of them, differ.
    Compare(CompareArgs),
    /// Build twice, differently, and compare every byte.
    Repro(ReproArgs),
    /// Sign an image for Secure Boot, into build/signed.
    Sign(Sign),
    /// Build the image that benchmarks compare with: the same packages, all else by mkosi.
    Stock(Stock),
    /// Unpack a browser for tests of pages, at build/browser.
    Browser(Lock),
    /// Remove what was built.
    Clean(Clean),
}

#[derive(Debug, Args)]
// Under sudo it gets its own words again, and what was found out behind them.
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  image build                          the image for virtual machines and clouds
  image build --flavor generic         with the kernel for bare metal
  image build --locked                 refuse what is not exactly as locked (releases)
  image build --offline                from the package cache alone
  image build --overlay mine --update-root repo/metadata/1.root.json
                                       with files of yours over /usr, and updates that you sign
  image build --snapshot-mirror 'https://HOST/archive/{archive}/{time}'
                                       old packages from a mirror that keeps them")]
pub(crate) struct Build {
    #[command(flatten)]
    packages: PackageArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Name the version, instead of the commit.
    #[arg(long)]
    version: Option<Version>,
    /// Say the time of the commit, in seconds since 1970.
    #[arg(long, value_name = "SECONDS")]
    epoch: Option<u64>,
    /// Say the commit.
    #[arg(long, value_name = "ID")]
    build_id: Option<String>,
    /// Lay the folder usr/ in this one over the image's /usr: programs, units, defaults of /etc
    /// (usr/share/pithos/etc).
    #[arg(long, value_name = "FOLDER")]
    overlay: Option<PathBuf>,
    /// Take updates that this root of trust signs: metadata/1.root.json of a repository. Without
    /// it a machine takes none.
    #[arg(long, value_name = "FILE")]
    update_root: Option<PathBuf>,
    /// A machine that has run this image takes no update of a lower security epoch.
    #[arg(long, value_name = "NUMBER")]
    security_epoch: Option<u32>,
    /// Put the image into build/NAME, beside others.
    #[arg(long, value_name = "NAME", default_value = "image", value_parser = name)]
    name: String,
    /// Leave out the forms to download: only what boots here, and what updates are made of.
    #[arg(long)]
    local: bool,
    /// Take our programs from this folder, instead of building them.
    #[arg(long, value_name = "FOLDER", hide = true)]
    as_built: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  image lock                           what this host's mirror has now
  image lock --mirror http://HOST/debian")]
pub(crate) struct Lock {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  image sign --key db.key --certificate db.pem
  image sign --key db.key --certificate db.pem --enroll
                                       a firmware without keys gets this one from the ESP
  image sign --with ./sign-by-token    runs ./sign-by-token FILE OUT for each program")]
pub(crate) struct Sign {
    /// The private key: RSA, PEM, not encrypted.
    #[arg(long, value_name = "FILE", requires = "certificate", required_unless_present = "with")]
    key: Option<PathBuf>,
    /// Its certificate: PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// A program that signs, in place of --key: it gets the name of a file and of one to write.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "key")]
    with: Option<PathBuf>,
    /// Put the certificate onto the ESP, for a firmware in setup mode.
    #[arg(long, conflicts_with = "with")]
    enroll: bool,
    /// Make the raw disk only.
    #[arg(long)]
    disk_only: bool,
    /// The folder of the image; otherwise build/image.
    #[arg(value_name = "FOLDER")]
    image: Option<PathBuf>,
    /// Where it goes; otherwise build/signed.
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Stock {
    #[command(flatten)]
    packages: PackageArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  image clean                          build/ goes; what was fetched stays
  image clean --packages               the cache of packages goes, too")]
pub(crate) struct Clean {
    /// Remove the cache of packages, too.
    #[arg(long)]
    pub(crate) packages: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct PackageArgs {
    /// Which kernel: cloud, or generic for bare metal too.
    #[arg(long, default_value = "cloud")]
    flavor: Flavor,
    /// Refuse to take the present version of a locked package that the mirror has dropped.
    #[arg(long)]
    locked: bool,
}

#[derive(Debug, Args)]
struct NetworkArgs {
    /// The Debian mirror; otherwise the one of this host's apt, or mkosi's default.
    #[arg(long, value_name = "URL", env = "PITHOS_MIRROR")]
    mirror: Option<String>,
    /// The mirror of Debian's security archive; otherwise debian-security beside --mirror.
    #[arg(long, value_name = "URL", env = "PITHOS_SECURITY_MIRROR")]
    security_mirror: Option<String>,
    /// A mirror that keeps old versions, for locked packages that the mirror has dropped.
    /// {archive} stands for debian or debian-security, {time} for the date of the lock.
    #[arg(long, value_name = "URL", env = "PITHOS_SNAPSHOT_MIRROR")]
    snapshot_mirror: Option<String>,
    /// Use no network: everything comes from the package cache.
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// The checkout; otherwise the one around this folder.
    #[arg(long, value_name = "FOLDER")]
    repo: Option<PathBuf>,
    /// Where to build; otherwise build/ in the checkout.
    #[arg(long, value_name = "FOLDER")]
    build_dir: Option<PathBuf>,
}

impl PlaceArgs {
    fn find(&self) -> Result<Places> {
        Places::find(self.repo.clone(), self.build_dir.clone())
    }
}

impl NetworkArgs {
    fn get(&self) -> Network {
        // A variable that is set to nothing names nothing.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Network {
            wanted: Wanted { debian: given(&self.mirror), security: given(&self.security_mirror) },
            snapshot: given(&self.snapshot_mirror),
            offline: self.offline,
        }
    }
}

impl PackageArgs {
    fn order(&self) -> Order {
        Order {
            flavor: self.flavor,
            policy: if self.locked { Policy::Locked } else { Policy::Plain },
            source: Given::default(),
            programs: None,
            additions: Additions::default(),
            output: Output::default(),
        }
    }
}

impl Build {
    pub(crate) fn get(&self) -> Result<(Places, Network, Order)> {
        let source = Given {
            version: self.version.clone(),
            epoch: self.epoch,
            build_id: self.build_id.clone(),
        };
        let additions = Additions {
            overlay: self.overlay.clone(),
            update_root: self.update_root.clone(),
            security_epoch: self.security_epoch,
        };
        let output = Output { name: self.name.clone(), is_local: self.local };
        let programs = self.as_built.clone();
        let order = Order { source, programs, additions, output, ..self.packages.order() };
        Ok((self.place.find()?, self.network.get(), order))
    }
}

impl Sign {
    pub(crate) fn get(&self) -> Result<sign::Order> {
        let build = self.place.find()?.build;
        let signer = match (&self.key, &self.certificate, &self.with) {
            (Some(key), Some(certificate), _) => {
                Signer::Key { key: key.clone(), certificate: certificate.clone() }
            }
            (_, _, Some(program)) => Signer::Program(program.clone()),
            _ => unreachable!("clap wants one of them"),
        };
        Ok(sign::Order {
            image: self.image.clone().unwrap_or_else(|| build.join("image")),
            to: self.to.clone().unwrap_or_else(|| build.join("signed")),
            bin: build.join("bin"),
            signer,
            enroll: self.enroll,
            disk_only: self.disk_only,
        })
    }
}

/// A folder beside what else is in `build/`, which it must not take the place of.
fn name(word: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if word == "image" || (word.starts_with("image-") && word.chars().all(good)) {
        return Ok(word.to_owned());
    }
    Err("expected `image`, or `image-` and more of a-z, 0-9 and -".to_owned())
}

impl Stock {
    pub(crate) fn get(&self) -> Result<(Places, Network, Order)> {
        Ok((self.place.find()?, self.network.get(), self.packages.order()))
    }
}

impl Lock {
    pub(crate) fn get(&self) -> Result<(Places, Network)> {
        Ok((self.place.find()?, self.network.get()))
    }
}

impl Clean {
    pub(crate) fn places(&self) -> Result<Places> {
        self.place.find()
    }
}
