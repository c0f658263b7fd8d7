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
    request::{self, Fate, Wish as Asked},
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
    cli::{
        Add, Arguments, CarryOut, Command, Entry, Init, Keys, Opening, Promote, Refuse, Rotate,
        Signing,
    },
    delta::Levels,
    keys,
    publish::{Outcome, With, publish},
    release::{Finished, Wish, costs},
    repository::Repository,
    requests::{self, Server},
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
        Command::Requests(it) => printer.requests(&Server::at(&it.server)?)?,
        Command::CarryOut(it) => return printer.carry_out(it),
        Command::Refuse(it) => printer.refuse(it)?,
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
        let mut to = channels::read(&repository, &targets, &wish.to)?;
        let entry = promoted(&from, &wish.version, waves(&wish.opening))?;
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

    fn requests(&self, server: &Server) -> Result<()> {
        let all = server.requests()?;
        let line = |request: &request::Request| {
            let fate = match &request.fate {
                Fate::Waiting => "waits".to_owned(),
                Fate::CarriedOut { said, .. } => format!("carried out: {said}"),
                Fate::Refused { said, .. } => format!("refused: {said}"),
            };
            format!("{}  {}  ({fate})", request.name(), request.wish)
        };
        let named = |request: &request::Request| json!({ "name": request.name(), "sentence": request.wish.to_string(), "request": request });
        let lines: Vec<String> = all.iter().map(line).collect();
        let text = if lines.is_empty() { "nothing was asked for".into() } else { lines.join("\n") };
        self.report(&all.iter().map(named).collect(), &text);
        Ok(())
    }

    /// All of them, in one publication, or none.
    fn carry_out(&self, wish: &CarryOut) -> Result<ExitCode> {
        let server = Server::at(&wish.telling.of.server)?;
        let token = requests::token(&wish.telling.token)?;
        let asked = server.waiting(&wish.requests)?;
        let repository = Repository::at(&wish.repository);
        let current = repository.current()?;
        let mut targets = repository.next_targets(&current)?;
        let mut said = Vec::new();
        for request in &asked {
            let Asked { channel, version, change } = &request.wish;
            self.progress.line(format!("{}: {}", request.name(), request.wish));
            let mut channel = channels::read(&repository, &targets, channel)?;
            let version = version.clone();
            let change = match change {
                request::Change::Pause { reason } => Change::Pause(version, reason.clone()),
                request::Change::Resume => Change::Resume(version),
                request::Change::Promote { from, usual_from } => {
                    let from = channels::read(&repository, &targets, from)?;
                    let waves = usual_from.map_or_else(Vec::new, |first| channels::usual(first, 1));
                    Change::Add(promoted(&from, &version, waves)?)
                }
            };
            said.push(self.apply(&mut channel, change)?);
            self.put_channel(&repository, &mut targets, &channel)?;
        }
        repository.stage_targets(&current, targets, &wish.signing.lifetimes, Time::now())?;
        let code =
            self.publish(&repository, &wish.signing, json!({ "carried_out": wish.requests }))?;
        for (request, said) in asked.iter().zip(said) {
            let fate = Fate::CarriedOut { at: Time::now(), said };
            // It is in force, or staged, whatever the server hears of it.
            if let Err(error) = server.settle(request.number, &fate, &token) {
                self.progress.line(format!("{} is done, but: {error:#}", request.name()));
            }
        }
        Ok(code)
    }

    fn refuse(&self, wish: &Refuse) -> Result<()> {
        let server = Server::at(&wish.telling.of.server)?;
        let token = requests::token(&wish.telling.token)?;
        for request in server.waiting(&wish.requests)? {
            let fate = Fate::Refused { at: Time::now(), said: wish.reason.clone() };
            server.settle(request.number, &fate, &token)?;
        }
        self.report(&json!({ "refused": wish.requests }), "refused");
        Ok(())
    }

    /// Says it before it is done.
    fn apply(&self, channel: &mut Channel, change: Change) -> Result<String> {
        let said = channels::change(channel, change)?;
        self.progress.line(&said);
        Ok(said)
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

/// A release of a channel, as another one takes it over.
fn promoted(from: &Channel, version: &Version, waves: Vec<Wave>) -> Result<Listed> {
    let found = from.releases.iter().find(|entry| entry.version == *version);
    let found = found.with_context(|| format!("{version} is not in the channel {}", from.name))?;
    if let State::Withdrawn { reason } = &found.state {
        bail!("{version} is withdrawn from {}: {reason}", from.name);
    }
    Ok(Listed { state: State::Open { waves }, ..found.clone() })
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
