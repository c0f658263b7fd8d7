//! What each word of the command line does: read, say what changes, change, publish.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use image::progress::{Progress, size};
use jiff::Timestamp as Time;
use layout::Version;
use payload::{
    Channel, Release,
    channel::{Entry as Listed, State, Wave},
    countersign::Countersignature,
    release::Rebuilders,
    tuf::{
        Key,
        metadata::{Envelope, Role, Root, Targets},
    },
};
use serde_json::{Value, json};

use crate::{
    bundle,
    channels::{self, Change},
    check,
    cli::{Add, Arguments, Command, Entry, Init, Keys, Opening, Promote, Rotate, Signing},
    delta::Levels,
    keys,
    publish::{Outcome, With, publish},
    release::{Finished, Wish, costs},
    repository::Repository,
    roots,
};

/// Does what the command line says.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let progress = Progress::stderr();
    let printer = Printer { json: arguments.json, progress: &progress };
    match &arguments.command {
        Command::Keys(it) => printer.keys(it)?,
        Command::Init(it) => return printer.init(it),
        Command::Rotate(it) => return printer.rotate(it),
        Command::Sign(it) => printer.sign(&it.file, &it.keys)?,
        Command::AddSignature(it) => {
            return printer.add_signatures(&it.repository, &it.files, &it.signing);
        }
        Command::Add(it) => return printer.add(it),
        Command::Promote(it) => return printer.promote(it),
        Command::Waves(it) => {
            let waves = waves(&it.opening);
            return printer.change(&it.entry, |version| Change::Waves(version, waves));
        }
        Command::Pause(it) => {
            return printer.change(&it.entry, |version| Change::Pause(version, it.reason.clone()));
        }
        Command::Resume(it) => return printer.change(it, Change::Resume),
        Command::Withdraw(it) => {
            let reason = it.reason.clone();
            return printer.change(&it.entry, |version| Change::Withdraw(version, reason));
        }
        Command::Barrier(it) => {
            return printer.change(&it.entry, |version| Change::Barrier(version, !it.remove));
        }
        Command::DeadEnd(it) => {
            let reason = it.reason.clone();
            return printer.change(&it.entry, |version| Change::DeadEnd(version, reason));
        }
        Command::Downgrade(it) => {
            let to = it.to.clone();
            return printer.change(&it.entry, |from| Change::Downgrade { from, to });
        }
        Command::Countersign(it) => {
            let key = keys::read_private(&it.key)?;
            let by = Finished::read(&it.image)?.built().countersign(&key);
            println!("{}", serde_json::to_string_pretty(&by)?);
        }
        Command::AddCountersignature(it) => {
            let new = it.files.iter().map(|file| read_json(file)).collect::<Result<Vec<_>>>()?;
            return printer.change(&it.entry, |version| Change::Countersign(version, new));
        }
        Command::Refresh(it) => {
            return printer.publish(&Repository::at(&it.repository), &it.signing, json!({}));
        }
        Command::Bundle(it) => {
            let repository = Repository::at(&it.repository);
            let current = repository.current()?;
            let wish =
                bundle::Wish { channel: &it.channel, version: it.version.as_ref(), from: &it.from };
            let bundled = bundle::write(&repository, &current, &wish, &it.file)?;
            let (version, bytes) = (&bundled.version, size(bundled.size_bytes));
            let text =
                format!("{}: {version}, {} files, {bytes}", it.file.display(), bundled.files);
            printer.report(&serde_json::to_value(&bundled)?, &text);
        }
        Command::Status(it) => printer.status(&Repository::at(&it.repository))?,
        Command::Check(it) => {
            let checked = check::run(&it.repository, Time::now())?;
            let text = format!(
                "root {}, channels {}, {} releases, {} objects of {}: all in order",
                checked.root,
                checked.channels.join(" "),
                checked.releases,
                checked.objects,
                size(checked.objects_bytes)
            );
            printer.report(&serde_json::to_value(&checked)?, &text);
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Printer<'a> {
    json: bool,
    progress: &'a Progress,
}

impl Printer<'_> {
    fn report(&self, value: &Value, text: &str) {
        if self.json { println!("{value:#}") } else { println!("{text}") }
    }

    fn keys(&self, command: &Keys) -> Result<()> {
        let all = match command {
            Keys::New { file } => vec![keys::make(file)?],
            Keys::Show { files } => files
                .iter()
                .map(|file| Ok(Key::ed25519(&keys::read_public(file)?)))
                .collect::<Result<_>>()?,
        };
        for key in all {
            let (id, public) = (key.id(), key.keyval.public);
            self.report(&json!({ "id": id, "public": public }), &format!("{id}  ed25519:{public}"));
        }
        Ok(())
    }

    fn init(&self, wish: &Init) -> Result<ExitCode> {
        let repository = Repository::at(&wish.repository);
        ensure!(
            repository.current().is_err(),
            "{} is a repository already: `rotate` changes its keys",
            wish.repository.display()
        );
        let root = roots::first(wish, Time::now())?;
        self.describe(&root);
        repository.stage(&root)?;
        // The keys of the roles may have been given as private ones: they are for signing, too.
        let mut signing = own_keys([&wish.root, &wish.targets, &wish.snapshot, &wish.timestamp])?;
        signing.extend(private(&wish.signing.keys)?);
        self.finish(&repository, &signing, &wish.signing, json!({}))
    }

    fn rotate(&self, wish: &Rotate) -> Result<ExitCode> {
        let repository = Repository::at(&wish.repository);
        let root = roots::next(&repository.current()?.root, wish, Time::now())?;
        self.describe(&root);
        repository.stage(&root)?;
        self.publish(&repository, &wish.signing, json!({}))
    }

    fn describe(&self, root: &Root) {
        self.progress.line(format!("root {}, until {}:", root.version, root.expires));
        for (name, role) in &root.roles {
            let (threshold, keys) = (role.threshold, role.keyids.len());
            self.progress.line(format!("  {name}: {threshold} of {keys} keys"));
        }
    }

    fn sign(&self, file: &Path, files: &[PathBuf]) -> Result<()> {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let mut envelope = Envelope::parse(&bytes)
            .with_context(|| format!("{} is not metadata", file.display()))?;
        let (role, version) = (envelope.role().to_owned(), envelope.signed["version"].clone());
        self.progress.line(format!("signing version {version} of {role}"));
        private(files)?.iter().for_each(|key| envelope.sign(key));
        let path = std::path::absolute(file).context("finding the file")?;
        crate::objects::write(&path, envelope.text().as_bytes())?;
        let signed = envelope.signatures.len();
        let text = format!("{}: {signed} signatures", file.display());
        self.report(&json!({ "role": role, "version": version, "signatures": signed }), &text);
        Ok(())
    }

    fn add_signatures(
        &self,
        repository: &Path,
        files: &[PathBuf],
        signing: &Signing,
    ) -> Result<ExitCode> {
        let repository = Repository::at(repository);
        for file in files {
            let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            let signed = Envelope::parse(&bytes)
                .with_context(|| format!("{} is not metadata", file.display()))?;
            let said = repository.merge(&signed).with_context(|| file.display().to_string())?;
            self.progress.line(said);
        }
        self.publish(&repository, signing, json!({}))
    }

    fn add(&self, wish: &Add) -> Result<ExitCode> {
        let repository = Repository::at(&wish.repository);
        let current = repository.current()?;
        let mut targets = repository.next_targets(&current)?;
        let image = Finished::read(&wish.image)?;
        let rebuilders = wish.rebuilders.map(|threshold| -> Result<Rebuilders> {
            let keys = wish
                .rebuilder
                .iter()
                .map(|file| Ok(hex::encode(keys::read_public(file)?.to_bytes())))
                .collect::<Result<_>>()?;
            Ok(Rebuilders { threshold, keys })
        });
        let making = Wish {
            security_epoch: wish.security_epoch,
            rebuilders: rebuilders.transpose()?,
            deltas: wish.deltas,
            levels: Levels { full: wish.full_level, patch: wish.patch_level },
        };
        let name = Release::target(&image.version, &image.variant);
        ensure!(
            !targets.targets.contains_key(&name),
            "{name} is in the repository: what a version consists of never changes"
        );
        self.progress.line(format!("adding {} for {}", image.version, image.variant));
        let release = image.release(&repository, &targets, &making, self.progress)?;
        repository.put_target(&mut targets, &name, &release.text())?;
        let mut channel = channels::read(&repository, &targets, &wish.channel)?;
        self.apply(&mut channel, Change::Add(channels::entry(&release)))?;
        let waves = waves(&wish.opening);
        if !waves.is_empty() {
            self.apply(&mut channel, Change::Waves(release.version.clone(), waves))?;
        }
        self.put_channel(&repository, &mut targets, &channel)?;
        let costs = costs(&release);
        for cost in &costs {
            let from = cost.from.as_deref().unwrap_or("anything else");
            let (all, uki) = (size(cost.fetch_bytes), size(cost.uki_bytes));
            self.progress.line(format!("from {from}: {all}, {uki} of it for the UKI"));
        }
        repository.stage_targets(&current, targets, &wish.signing.lifetimes, Time::now())?;
        self.publish(&repository, &wish.signing, json!({ "costs": costs }))
    }

    fn promote(&self, wish: &Promote) -> Result<ExitCode> {
        let repository = Repository::at(&wish.repository);
        let current = repository.current()?;
        let mut targets = repository.next_targets(&current)?;
        let from = channels::read(&repository, &targets, &wish.from)?;
        let found = from.releases.iter().find(|entry| entry.version == wish.version);
        let found = found
            .with_context(|| format!("{} is not in the channel {}", wish.version, wish.from))?;
        if let State::Withdrawn { reason } = &found.state {
            bail!("{} is withdrawn from {}: {reason}", wish.version, wish.from);
        }
        let entry = Listed { state: State::Open { waves: waves(&wish.opening) }, ..found.clone() };
        let mut to = channels::read(&repository, &targets, &wish.to)?;
        self.apply(&mut to, Change::Add(entry))?;
        self.put_channel(&repository, &mut targets, &to)?;
        repository.stage_targets(&current, targets, &wish.signing.lifetimes, Time::now())?;
        self.publish(&repository, &wish.signing, json!({}))
    }

    fn change(&self, entry: &Entry, change: impl FnOnce(Version) -> Change) -> Result<ExitCode> {
        let repository = Repository::at(&entry.repository);
        let current = repository.current()?;
        let mut targets = repository.next_targets(&current)?;
        let mut channel = channels::read(&repository, &targets, &entry.channel)?;
        self.apply(&mut channel, change(entry.version.clone()))?;
        self.put_channel(&repository, &mut targets, &channel)?;
        repository.stage_targets(&current, targets, &entry.signing.lifetimes, Time::now())?;
        self.publish(&repository, &entry.signing, json!({}))
    }

    fn apply(&self, channel: &mut Channel, change: Change) -> Result<()> {
        let said = channels::change(channel, change)?;
        self.progress.line(said);
        Ok(())
    }

    fn put_channel(
        &self,
        repository: &Repository,
        targets: &mut Targets,
        channel: &Channel,
    ) -> Result<()> {
        repository.put_target(targets, &Channel::target(&channel.name), &channel.text())
    }

    fn publish(&self, repository: &Repository, signing: &Signing, more: Value) -> Result<ExitCode> {
        self.finish(repository, &private(&signing.keys)?, signing, more)
    }

    fn finish(
        &self,
        repository: &Repository,
        keys: &[SigningKey],
        signing: &Signing,
        mut more: Value,
    ) -> Result<ExitCode> {
        let lifetimes = &signing.lifetimes;
        let outcome = publish(With { repository, keys, lifetimes, now: Time::now() })?;
        let text = match &outcome {
            Outcome::Published { versions } => {
                let versions: Vec<String> =
                    versions.iter().map(|(role, version)| format!("{role} {version}")).collect();
                format!("published: {}", versions.join(", "))
            }
            Outcome::Waiting { file, signed, threshold, missing } => format!(
                "{file} has {signed} of {threshold} signatures and is staged. One of these keys has \
                 to sign it (`update-publish sign`, then `add-signature`):\n  {}",
                missing.join("\n  ")
            ),
        };
        more["result"] = serde_json::to_value(&outcome)?;
        self.report(&more, &text);
        // Nothing failed, but nothing is in force either: scripts have to see the difference.
        Ok(match outcome {
            Outcome::Published { .. } => ExitCode::SUCCESS,
            Outcome::Waiting { .. } => ExitCode::from(2),
        })
    }

    fn status(&self, repository: &Repository) -> Result<()> {
        let current = repository.current()?;
        let targets = repository.next_targets(&current)?;
        let mut value = json!({ "root": summary(&current.root), "channels": [] });
        let mut text = format!("root {}, until {}\n", current.root.version, current.root.expires);
        if let Some(found) = &current.timestamp {
            let expires = found.signed.expires;
            value["timestamp"] = json!({ "version": found.signed.version, "expires": expires });
            text += &format!("timestamp {}, until {expires}\n", found.signed.version);
        }
        for role in [Root::TYPE, Targets::TYPE] {
            if let Some(staged) = repository.staged(role)? {
                let signed = staged.signatures.len();
                value["staged"][role] = json!(signed);
                text += &format!("staged: {role}, with {signed} signatures\n");
            }
        }
        for path in targets.targets.keys() {
            let name = path.strip_prefix("channels/").and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name else { continue };
            let channel = channels::read(repository, &targets, name)?;
            text += &format!("{name}:\n");
            for entry in &channel.releases {
                text += &format!("  {}\n", line(entry));
            }
            value["channels"].as_array_mut().expect("made above").push(json!(channel));
        }
        self.report(&value, text.trim_end());
        Ok(())
    }
}

fn summary(root: &Root) -> Value {
    json!({ "version": root.version, "expires": root.expires, "roles": root.roles })
}

fn line(entry: &Listed) -> String {
    let variants: Vec<String> = entry.variants.iter().map(ToString::to_string).collect();
    let barrier = if entry.barrier { ", barrier" } else { "" };
    let state = match &entry.state {
        State::Open { waves } => match (waves.first(), waves.last()) {
            (Some(first), Some(last)) => {
                format!("open in waves from {} to {}", first.from, last.from)
            }
            _ => "open to all".into(),
        },
        State::Paused { reason, .. } => format!("paused: {reason}"),
        State::Withdrawn { reason } => format!("withdrawn: {reason}"),
    };
    format!("{} ({}{barrier}): {state}", entry.version, variants.join(" "))
}

fn waves(opening: &Opening) -> Vec<Wave> {
    match opening.usual_from {
        Some(first) => channels::usual(first, opening.slower),
        None => opening.wave.iter().map(|wave| wave.0).collect(),
    }
}

fn private(files: &[PathBuf]) -> Result<Vec<SigningKey>> {
    files.iter().map(|file| keys::read_private(file)).collect()
}

/// The private ones among keys that may be either.
fn own_keys<'a>(files: impl IntoIterator<Item = &'a Vec<PathBuf>>) -> Result<Vec<SigningKey>> {
    let mut found = Vec::new();
    for file in files.into_iter().flatten() {
        if fs::read_to_string(file).is_ok_and(|text| text.contains("PRIVATE KEY")) {
            found.push(keys::read_private(file)?);
        }
    }
    Ok(found)
}

fn read_json(file: &Path) -> Result<Countersignature> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{}: expected what `countersign` prints", file.display()))
}
