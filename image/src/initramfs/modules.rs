//! Which kernel modules go into the initramfs: those that `rootfs/initramfs.modules` names, and
//! whatever they depend on. Pure: the kernel's index files in, names out.
//!
//! ```text
//! # NAME[@FLAVOR]  reason
//! erofs                      the file system of /usr
//! drivers/nvme/host/nvme*    disks on PCIe
//! megaraid_sas@generic       RAID cards; the cloud kernel has none
//! ```
//!
//! A name may be a glob; with a slash it is a path below the kernel's folder, without `.ko`. An
//! entry must match a module or something built in; one for another flavour says nothing.

use std::{collections::BTreeMap, path::Path};

use crate::tree::{
    ListError,
    glob::Glob,
    list::{Entry, List},
};

/// The list, parsed.
#[derive(Clone, Debug)]
pub struct ModuleList {
    list: List,
    globs: Vec<(Glob, Option<String>)>,
}

impl ModuleList {
    /// Reads the list at `path`.
    pub fn load(path: &Path) -> Result<Self, ListError> {
        Self::new(List::read(path, 1)?)
    }

    fn new(list: List) -> Result<Self, ListError> {
        let globs = list.entries.iter().map(|entry| {
            let text = entry.word(0);
            let (name, flavor) = match text.split_once('@') {
                Some((name, flavor)) => (name, Some(flavor.to_owned())),
                None => (text, None),
            };
            let name = if name.contains('/') { name.to_owned() } else { name.replace('-', "_") };
            let glob = Glob::parse(&name).map_err(|bad| entry.error(0, bad.what))?;
            Ok((glob, flavor))
        });
        let globs = globs.collect::<Result<_, ListError>>()?;
        Ok(Self { list, globs })
    }
}

/// The kernel's own index of its modules, as depmod and the kernel's build write it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Path, such as `kernel/fs/erofs/erofs.ko`, by name, such as `erofs`.
    paths: BTreeMap<String, String>,
    /// Names that must be loaded before, by name. Transitive.
    needs: BTreeMap<String, Vec<String>>,
    /// Names or aliases that should be loaded too.
    wants: BTreeMap<String, Vec<String>>,
    /// Names by alias. Only of plain aliases: a pattern names hardware.
    aliases: BTreeMap<String, Vec<String>>,
    /// Built into the kernel.
    builtin: BTreeMap<String, String>,
}

/// Texts of `modules.dep`, `.softdep`, `.alias` and `.builtin`.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexTexts {
    pub(crate) dep: String,
    pub(crate) softdep: String,
    pub(crate) alias: String,
    pub(crate) builtin: String,
}

fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Index {
    pub(crate) fn parse(texts: &IndexTexts) -> Self {
        let mut index = Self::default();
        for line in texts.dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            index.paths.insert(name(path), path.to_owned());
            index.needs.insert(name(path), needs.split_whitespace().map(name).collect());
        }
        for line in texts.softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(owner) = words.next() else { continue };
            let wanted = words.filter(|word| !word.ends_with(':')).map(str::to_owned);
            index.wants.entry(name(owner)).or_default().extend(wanted);
        }
        for (alias, module) in texts.alias.lines().filter_map(alias) {
            if !alias.contains(['*', '?', '[']) {
                index.aliases.entry(alias.to_owned()).or_default().push(name(module));
            }
        }
        for path in texts.builtin.lines() {
            index.builtin.insert(name(path), path.to_owned());
        }
        index
    }
}

/// `alias PATTERN NAME`
fn alias(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("alias ")?.rsplit_once(' ')
}

/// The modules of an initramfs: name, path, and why each is there.
pub(crate) type Chosen = BTreeMap<String, (String, String)>;

/// Chooses the modules, or says which entries match nothing.
pub(crate) fn choose(
    list: &ModuleList,
    index: &Index,
    flavor: &str,
) -> Result<Chosen, Vec<String>> {
    let mut chosen = Chosen::new();
    let mut wrong = vec![];
    for (entry, (glob, only_in)) in list.list.entries.iter().zip(&list.globs) {
        if only_in.as_ref().is_some_and(|only_in| only_in != flavor) {
            continue;
        }
        let fits = |(name, path): (&String, &String)| {
            let path = path.strip_prefix("kernel/").unwrap_or(path);
            let path = path.split(".ko").next().unwrap_or(path);
            (glob.matches(name) || glob.matches(path)).then(|| name.clone())
        };
        let found: Vec<String> = index.paths.iter().filter_map(fits).collect();
        let builtin = || index.builtin.iter().find_map(fits).is_some();
        if found.is_empty() && !builtin() {
            wrong.push(no_module(entry, flavor));
        }
        for name in found {
            add(&mut chosen, index, &name, &entry.reason);
        }
    }
    if wrong.is_empty() { Ok(chosen) } else { Err(wrong) }
}

fn no_module(entry: &Entry, flavor: &str) -> String {
    let name = entry.word(0).split('@').next().unwrap_or_default();
    format!(
        "{}: the {flavor} kernel has no module `{name}`, nor is it built in; write `{name}@FLAVOR` \
         if another flavour has it",
        entry.place()
    )
}

fn add(chosen: &mut Chosen, index: &Index, name: &str, why: &str) {
    let Some(path) = index.paths.get(name) else { return };
    if chosen.contains_key(name) {
        return;
    }
    chosen.insert(name.to_owned(), (path.clone(), why.to_owned()));
    let why = format!("for {name}");
    for needed in index.needs.get(name).into_iter().flatten() {
        add(chosen, index, needed, &why);
    }
    for wanted in index.wants.get(name).into_iter().flatten() {
        add(chosen, index, &self::name(wanted), &why);
        for module in index.aliases.get(wanted).into_iter().flatten() {
            add(chosen, index, module, &why);
        }
    }
}

/// The index texts, of the chosen modules only. What is built in stays: `/init` must know that
/// it need not look for it.
pub(crate) fn filter(texts: &IndexTexts, chosen: &Chosen) -> IndexTexts {
    let lines = |text: &str, keep: &dyn Fn(&str) -> bool| {
        let lines = text.lines().filter(|line| keep(line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    IndexTexts {
        dep: lines(&texts.dep, &|line| {
            line.split_once(':').is_some_and(|(path, _)| chosen.contains_key(&name(path)))
        }),
        softdep: lines(&texts.softdep, &|line| {
            let owner = line.strip_prefix("softdep ").and_then(|rest| rest.split(' ').next());
            owner.is_some_and(|owner| chosen.contains_key(&name(owner)))
        }),
        alias: lines(&texts.alias, &|line| {
            alias(line).is_some_and(|(_, module)| chosen.contains_key(&name(module)))
        }),
        builtin: texts.builtin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn texts() -> IndexTexts {
        IndexTexts {
            dep: "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko\nkernel/fs/jbd2/jbd2.ko:\n\
                  kernel/crypto/crc32c_generic.ko:\nkernel/arch/crc32c-intel.ko:\n\
                  kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko\n\
                  kernel/drivers/nvme/host/nvme-core.ko:\n"
                .to_owned(),
            softdep: "# comment\nsoftdep ext4 pre: crc32c post: gone\nsoftdep other pre: x\n"
                .to_owned(),
            alias: "alias crc32c crc32c_generic\nalias crc32c crc32c_intel\n\
                    alias pci:v*d*sv*sd*bc01sc08i02* nvme\nalias fs-ext4 ext4\n"
                .to_owned(),
            builtin: "kernel/drivers/virtio/virtio_pci.ko\n".to_owned(),
        }
    }

    fn list(text: &str) -> ModuleList {
        ModuleList::new(List::parse("initramfs.modules", text, 1).unwrap()).unwrap()
    }

    fn check(text: &str, expected: Expect) {
        let said = match choose(&list(text), &Index::parse(&texts()), "cloud") {
            Err(wrong) => wrong.join("\n"),
            Ok(chosen) => {
                let lines = chosen.iter().map(|(name, (path, why))| format!("{name} {path} {why}"));
                lines.collect::<Vec<_>>().join("\n")
            }
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn a_module_brings_what_it_depends_on_and_what_it_would_like() {
        check(
            "ext4 root\nvirtio-pci disks\n",
            expect![[r#"
            crc32c_generic kernel/crypto/crc32c_generic.ko for ext4
            crc32c_intel kernel/arch/crc32c-intel.ko for ext4
            ext4 kernel/fs/ext4/ext4.ko root
            jbd2 kernel/fs/jbd2/jbd2.ko for ext4"#]],
        );
    }

    #[test]
    fn a_path_glob_takes_a_whole_folder() {
        check(
            "drivers/nvme/host/* disks\nmegaraid@generic cards\n",
            expect![[r#"
            nvme kernel/drivers/nvme/host/nvme.ko disks
            nvme_core kernel/drivers/nvme/host/nvme-core.ko for nvme"#]],
        );
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named_with_its_line() {
        check(
            "# x\nmegaraid cards\nhpsa@cloud cards\n",
            expect![[r#"
                initramfs.modules:2: the cloud kernel has no module `megaraid`, nor is it built in; write `megaraid@FLAVOR` if another flavour has it
                initramfs.modules:3: the cloud kernel has no module `hpsa`, nor is it built in; write `hpsa@FLAVOR` if another flavour has it"#]],
        );
    }

    #[test]
    fn the_index_holds_the_chosen_modules_only() {
        let texts = texts();
        let chosen = choose(&list("nvme disks\n"), &Index::parse(&texts), "cloud").unwrap();
        let filtered = filter(&texts, &chosen);
        expect![[r#"
            kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko
            kernel/drivers/nvme/host/nvme-core.ko:
            --
            --
            alias pci:v*d*sv*sd*bc01sc08i02* nvme
            --
            kernel/drivers/virtio/virtio_pci.ko
        "#]]
        .assert_eq(&format!(
            "{}--\n{}--\n{}--\n{}",
            filtered.dep, filtered.softdep, filtered.alias, filtered.builtin
        ));
    }
}
