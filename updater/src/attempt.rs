//! One update, from the question what is new to a version that boots next: what the metadata says,
//! whether it is for this machine, and then segment by segment, each fetched, put together,
//! verified and written before the next one. So little memory is enough, and whatever ends it costs
//! one segment.

use std::{
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use http_client::Clock;
use layout::Role;
use payload::{
    Channel, Release,
    channel::{self, Machine, Offer},
    countersign,
    release::{self, Choice, Running},
    segment,
};

use crate::{
    engine::{Code, End, Event, Failure, Found},
    fetch::{Absent, NotFetched, Why},
    identity::Identity,
    install::{self, Image, Installer, Media, Need, Piece, Step, Wanted, sha256_of},
    records::Bad,
    repository::{Error, Repository, Source, Trust},
    slots::{NoSlots, Slots},
};

/// What an update needs.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// What this machine is.
    pub identity: &'a Identity,
    /// The channel that it follows.
    pub channel: &'a str,
    /// What it believes.
    pub trust: Trust<'a>,
    /// The highest security epoch that it has run.
    pub security_epoch: u32,
    /// What failed here.
    pub bad: &'a Bad,
    /// Health checks that the running version fails.
    pub failing: &'a BTreeSet<String>,
    /// Where files come from.
    pub source: &'a dyn Source,
    /// Where a version goes.
    pub media: &'a dyn Media,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// True once it is to stop.
    pub stop: &'a AtomicBool,
    /// Who is told how far it is.
    pub tell: &'a dyn Fn(Event),
}

/// How it ended before the end.
enum Over {
    Nothing(Found),
    Failed(Failure),
    Stopped,
}

impl Attempt<'_> {
    /// Does it.
    pub fn run(self) -> End {
        match self.update() {
            Ok(release) => End::Installed { version: release.version },
            Err(Over::Nothing(found)) => End::Nothing(found),
            Err(Over::Failed(failure)) => End::Failed(failure),
            Err(Over::Stopped) => End::Stopped,
        }
    }

    fn update(&self) -> Result<Release, Over> {
        let mut repository = Repository::refresh(self.trust, self.source, self.clock)?;
        let (release, goes_back) = self.choose(&mut repository)?;
        self.install(&repository, &release, goes_back)?;
        Ok(release)
    }

    /// What is for this machine, now, and whether it is sent back to that.
    fn choose(&self, repository: &mut Repository<'_>) -> Result<(Release, bool), Over> {
        let text = repository.target(&Channel::target(self.channel), channel::MAX_BYTES)?;
        let channel = Channel::parse(self.channel, &text).map_err(|e| metadata(&e))?;
        let machine = Machine {
            version: self.identity.version.clone(),
            variant: self.identity.variant.clone(),
            security_epoch: self.security_epoch,
            seed: self.identity.seed,
            bad: self.bad.versions.iter().map(|bad| bad.version.clone()).collect(),
        };
        let entry = match channel.offer(&machine, repository.now()) {
            Offer::Take(entry) => entry,
            Offer::UpToDate => return Err(Over::Nothing(Found::UpToDate)),
            Offer::Later { entry, from } => {
                let version = entry.version.to_string();
                return Err(Over::Nothing(Found::Later { version, from }));
            }
            Offer::KnownBad(entry) => {
                let bad = self.bad.versions.iter().find(|bad| bad.version == entry.version);
                let reason = bad.map(|bad| bad.reason.clone()).unwrap_or_default();
                let version = entry.version.to_string();
                return Err(Over::Nothing(Found::KnownBad { version, reason }));
            }
            Offer::DeadEnd(end) => {
                return Err(Over::Nothing(Found::DeadEnd { reason: end.reason.clone() }));
            }
        };
        let target = Release::target(&entry.version, &machine.variant);
        let text = repository.target(&target, release::MAX_BYTES)?;
        let release = Release::parse(&text).map_err(|e| metadata(&e))?;
        channel.permits(&machine, entry, &release).map_err(|e| metadata(&e))?;
        if let Some(rebuilders) = &release.rebuilders {
            countersign::check(&release, rebuilders, &entry.countersignatures)
                .map_err(|e| metadata(&e))?;
        }
        Ok((release, channel.sends_back(&machine, entry)))
    }

    fn install(
        &self,
        repository: &Repository<'_>,
        release: &Release,
        goes_back: bool,
    ) -> Result<(), Over> {
        let running = Images::of(self.media, self.identity)?;
        let facts = running.running;
        let (version, size_bytes) = (release.version.clone(), release.fetch_bytes(&facts));
        (self.tell)(Event::Offered { version, size_bytes });
        let wanted = Wanted { goes_back, ..Wanted::from(release) };
        let (hash, failing) = (&self.identity.root_hash, self.failing.clone());
        let mut installer = Installer::begin(self.media, hash, wanted, failing)?;
        loop {
            self.go_on()?;
            match installer.steps().next() {
                Some(Step::Write(_)) => {
                    let left = left_bytes(&installer, release, &facts);
                    (self.tell)(Event::Fetched { bytes: size_bytes.saturating_sub(left) });
                }
                Some(Step::Prove) => (self.tell)(Event::Verifying),
                Some(Step::Name(_) | Step::Arm | Step::Retire) => (self.tell)(Event::Finalizing),
                Some(Step::Remove(_) | Step::SyncEsp | Step::Empty(_)) | None => {}
            }
            match installer.advance()? {
                Need::Piece(piece) => {
                    let bytes = self.piece(repository, release, &running, piece)?;
                    installer.give(&bytes)?;
                }
                Need::Time => {}
                Need::Nothing => return Ok(()),
            }
        }
    }

    /// A piece, by the cheapest way that leads to it.
    fn piece(
        &self,
        repository: &Repository<'_>,
        release: &Release,
        running: &Images<'_>,
        piece: Piece,
    ) -> Result<Vec<u8>, Over> {
        let (image, source) = image(release, &running.running, piece.image);
        let choices = image.choices(piece.index, source);
        let (last, cheaper) = choices.split_last().expect("one form is the full one");
        for choice in cheaper {
            self.go_on()?;
            // What is wrong with it does not matter while there is another way.
            let object = match choice.object {
                Some(object) => match repository.object(&object, Absent::IsAnAnswer) {
                    Ok(Some(bytes)) => bytes,
                    Err(Error::Fetch(NotFetched::Stopped)) => return Err(Over::Stopped),
                    Ok(None) | Err(_) => continue,
                },
                None => Vec::new(),
            };
            let made = running
                .read(piece.image, choice)
                .ok()
                .and_then(|old| segment::make(image, piece.index, choice, &object, &old).ok());
            if let Some(bytes) = made {
                return Ok(bytes);
            }
        }
        let object = last.object.expect("a full form is an object");
        let bytes = repository.object(&object, Absent::IsAnError)?;
        let bytes = bytes.ok_or(Error::Absent(object.path()))?;
        segment::make(image, piece.index, last, &bytes, &[])
            .map_err(|error| failed(Code::Hash, &error))
    }

    fn go_on(&self) -> Result<(), Over> {
        if self.stop.load(Ordering::Relaxed) { Err(Over::Stopped) } else { Ok(()) }
    }
}

/// The images that run, to which patches refer.
struct Images<'m> {
    media: &'m dyn Media,
    slots: Slots,
    uki: Option<String>,
    running: Running,
}

impl<'m> Images<'m> {
    fn of(media: &'m dyn Media, identity: &Identity) -> Result<Self, Over> {
        let esp = media.esp();
        let files = esp.list().map_err(write("listing /EFI/Linux of the ESP"))?;
        let names = files.iter().map(|file| file.name.as_str());
        let table = media.table().map_err(|error| failed(Code::Write, &error))?;
        let slots = Slots::read(&table.entries(), &identity.root_hash, names)?;
        let uki = slots.content(slots.booted).ukis().first().map(ToString::to_string);
        // Without it, patches against it are of no use; the rest is.
        let hash = uki.as_deref().and_then(|name| sha256_of(esp, name).ok());
        let usr = Some(identity.root_hash);
        let running = Running { usr, uki: hash.map(|(hash, _)| hash) };
        Ok(Self { media, slots, uki, running })
    }

    /// The bytes that a form refers to.
    fn read(&self, image: Image, choice: &Choice<'_>) -> io::Result<Vec<u8>> {
        let Some((offset, length)) = choice.source else { return Ok(Vec::new()) };
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        match (image, &self.uki) {
            (Image::Usr, _) => {
                let partition = self.media.partition(Role::Usr(self.slots.booted))?;
                partition.read_exact_at(&mut bytes, offset)?;
            }
            (Image::Uki, Some(name)) => {
                let read = self.media.esp().read(name, offset, &mut bytes)?;
                bytes.truncate(read);
            }
            (Image::Uki, None) => bytes.clear(),
        }
        Ok(bytes)
    }
}

fn image<'r>(
    release: &'r Release,
    running: &Running,
    image: Image,
) -> (&'r release::Image, Option<usize>) {
    match image {
        Image::Usr => (&release.usr.image, release.usr_source(running)),
        Image::Uki => (&release.uki.image, release.uki_source(running)),
    }
}

/// What is still to be fetched, if all goes well.
fn left_bytes(installer: &Installer<'_>, release: &Release, running: &Running) -> u64 {
    let pieces = installer.steps().filter_map(|step| match step {
        Step::Write(piece) => Some(piece),
        Step::Remove(_)
        | Step::SyncEsp
        | Step::Empty(_)
        | Step::Prove
        | Step::Name(_)
        | Step::Arm
        | Step::Retire => None,
    });
    let bytes = pieces.map(|piece| {
        let (image, source) = image(release, running, piece.image);
        image.choices(piece.index, source).first().map_or(0, Choice::fetch_bytes)
    });
    bytes.sum()
}

fn failed(code: Code, error: &dyn std::error::Error) -> Over {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let cause = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    Over::Failed(Failure { code, cause })
}

fn metadata(error: &dyn std::error::Error) -> Over {
    failed(Code::Metadata, error)
}

fn write(doing: &'static str) -> impl FnOnce(io::Error) -> Over {
    move |error| {
        let cause = format!("{doing}: {error}");
        Over::Failed(Failure { code: Code::Write, cause })
    }
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Fetch(NotFetched::Stopped) => return Self::Stopped,
            Error::Fetch(NotFetched::GivenUp { source, .. }) => match source.why {
                Why::Wrong(_) => Code::Hash,
                Why::Absent(_) | Why::Status(..) | Why::TooLong(_) | Why::Io(_) => Code::Transfer,
            },
            Error::Metadata(_) | Error::Absent(_) => Code::Metadata,
            Error::Store(_) => Code::Write,
        };
        failed(code, &error)
    }
}

impl From<NoSlots> for Over {
    fn from(error: NoSlots) -> Self {
        failed(Code::Write, &error)
    }
}

impl From<install::Error> for Over {
    fn from(error: install::Error) -> Self {
        let code = match &error {
            install::Error::Rots { .. } => Code::Readback,
            install::Error::Piece { .. } | install::Error::Contradiction { .. } => Code::Hash,
            install::Error::Refused(_)
            | install::Error::Slots(_)
            | install::Error::Table(_)
            | install::Error::Record(_)
            | install::Error::Io { .. } => Code::Write,
        };
        failed(code, &error)
    }
}
