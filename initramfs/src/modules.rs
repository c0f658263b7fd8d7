//! Which kernel modules a device needs, and in which order they load: `modules.alias`,
//! `modules.dep` and `modules.softdep` of kmod, as text, for the modules of this initramfs.

use std::collections::{HashMap, HashSet};

/// The index of the modules in the initramfs.
#[derive(Default)]
pub(crate) struct Index {
    /// Name to path and the paths it depends on, nearest last, as `modules.dep` lists them.
    deps: HashMap<String, Vec<String>>,
    /// Patterns by the bus before the first `:`, so that few are compared.
    aliases: HashMap<String, Vec<(String, String)>>,
    soft: HashMap<String, Vec<String>>,
    builtin: HashSet<String>,
}

/// What the index knows of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Files to load, in order.
    Files(Vec<String>),
    /// The kernel has it built in.
    Builtin,
    /// Neither.
    Nothing,
}

impl Index {
    /// Reads the four lists of kmod.
    pub(crate) fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            let Some((path, deps)) = line.split_once(':') else { continue };
            let files = std::iter::once(path).chain(deps.split_whitespace()).map(str::to_owned);
            index.deps.insert(name_of(path), files.collect());
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let bus = pattern.split(':').next().unwrap_or_default().to_owned();
            let entry = (pattern.to_owned(), module.replace('-', "_"));
            index.aliases.entry(bus).or_default().push(entry);
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace().skip(1);
            let Some(module) = words.next() else { continue };
            let names = words.take_while(|&word| word != "post:").filter(|&word| word != "pre:");
            // A module has a line for each of them.
            let soft = index.soft.entry(module.replace('-', "_")).or_default();
            soft.extend(names.map(str::to_owned));
        }
        index.builtin.extend(builtin.lines().map(name_of));
        index
    }

    /// The modules whose patterns match a device's `MODALIAS`.
    pub(crate) fn matching(&self, modalias: &str) -> Vec<&str> {
        let bus = modalias.split(':').next().unwrap_or_default();
        let entries = self.aliases.get(bus).into_iter().flatten();
        entries
            .filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, module)| &**module)
            .collect()
    }

    /// The files of module `name`, what it depends on first.
    pub(crate) fn files(&self, name: &str) -> Found {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) {
            return Found::Builtin;
        }
        let mut files = vec![];
        self.collect(&name, &mut files, &mut HashSet::new());
        if files.is_empty() { Found::Nothing } else { Found::Files(files) }
    }

    fn collect(&self, name: &str, files: &mut Vec<String>, seen: &mut HashSet<String>) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        for soft in self.soft.get(name).into_iter().flatten() {
            self.collect(&soft.replace('-', "_"), files, seen);
            // Most name what is to be done, such as crc32c, not the module that does it.
            for module in self.matching(soft) {
                self.collect(module, files, seen);
            }
        }
        // modules.dep names a module first and the deepest dependency last.
        for path in self.deps.get(name).into_iter().flatten().rev() {
            let dependency = name_of(path);
            if dependency != name {
                self.collect(&dependency, files, seen);
            }
            if !files.contains(path) {
                files.push(path.clone());
            }
        }
    }
}

/// `kernel/fs/ext4/ext4.ko` is `ext4`; dashes and underscores are the same.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Shell pattern of fnmatch(3) as kernel aliases use it: `*`, `?` and `[...]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and the text that it was last tried to end at.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) if t == text.len() => return false,
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(&byte) => (byte == text[t]).then_some(1),
        };
        match (step, star) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((at, end))) if end < text.len() => {
                star = Some((at, end + 1));
                (p, t) = (at + 1, end + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The length of the class that `pattern` starts with, if `byte` is in it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|&byte| byte == b']')?;
    let mut inside = &pattern[1..end];
    let negated = matches!(inside.first(), Some(b'!' | b'^'));
    if negated {
        inside = &inside[1..];
    }
    let mut found = false;
    while let Some((&low, rest)) = inside.split_first() {
        if let [b'-', high, rest @ ..] = rest {
            found |= (low..=*high).contains(&byte);
            inside = rest;
        } else {
            found |= low == byte;
            inside = rest;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/a/virtio_blk.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko\n\
             kernel/v/virtio.ko: kernel/v/virtio_ring.ko\n\
             kernel/v/virtio_ring.ko:\nkernel/f/ext4.ko: kernel/f/jbd2.ko\nkernel/f/jbd2.ko:\n\
             kernel/c/crc32c-intel.ko:\nkernel/c/xxhash.ko:\n",
            "# comment\nalias virtio:d00000002v* virtio_blk\nalias fs-ext4 ext4\n\
             alias xxhash64 xxhash\n",
            "softdep ext4 pre: crc32c-intel post: later\nsoftdep ext4 pre: xxhash64\n",
            "kernel/x/scsi_mod.ko\n",
        )
    }

    #[test]
    fn what_a_module_depends_on_is_loaded_first() {
        let files = ["kernel/v/virtio_ring.ko", "kernel/v/virtio.ko", "kernel/a/virtio_blk.ko"];
        assert_eq!(index().files("virtio-blk"), Found::Files(files.map(str::to_owned).into()));
        let files = [
            "kernel/c/crc32c-intel.ko",
            "kernel/c/xxhash.ko",
            "kernel/f/jbd2.ko",
            "kernel/f/ext4.ko",
        ];
        assert_eq!(index().files("ext4"), Found::Files(files.map(str::to_owned).into()));
    }

    #[test]
    fn built_in_and_unknown_are_told_apart() {
        assert_eq!(index().files("scsi_mod"), Found::Builtin);
        assert_eq!(index().files("nothing"), Found::Nothing);
    }

    #[test]
    fn a_device_finds_its_module_by_alias() {
        assert_eq!(index().matching("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert!(index().matching("virtio:d00000001v00001AF4").is_empty());
    }

    #[test]
    fn patterns_match_as_in_fnmatch() {
        for (pattern, text, expected) in [
            ("pci:v*d*bc01sc06i01*", "pci:v00008086d00002922sv1sd1bc01sc06i01", true),
            ("pci:v*d*bc01sc06i01*", "pci:v00008086d00002922sv1sd1bc01sc01i80", false),
            (
                "usb:v*p*d*dc*dsc*dp*ic08isc06ip[5-6]0in*",
                "usb:v1p2d3dc0dsc0dp0ic08isc06ip50in00",
                true,
            ),
            ("usb:ip[!5]0", "usb:ip50", false),
            ("*", "", true),
            ("a*b*c", "aXbXbc", true),
            ("a?", "a", false),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// The same by trying everything, for short texts.
    fn matches_slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((b'*', rest)), _) => {
                (0..=text.len()).any(|skipped| matches_slowly(rest, &text[skipped..]))
            }
            (Some(_), None) => false,
            (Some((b'?', rest)), Some((_, text))) => matches_slowly(rest, text),
            (Some((byte, rest)), Some((other, text))) => {
                byte == other && matches_slowly(rest, text)
            }
        }
    }

    proptest! {
        #[test]
        fn no_pattern_matches_otherwise_than_by_trying_everything(
            pattern in "[ab*?]{0,8}",
            text in "[ab]{0,8}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), matches_slowly(pattern, text));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in r"[\]a\[!^*?\-]{0,8}", text in r"[\]a\-]{0,8}") {
            matches(pattern.as_bytes(), text.as_bytes());
        }

        /// In whatever order the lists name them, what a module needs is loaded before it, once.
        #[test]
        fn every_module_comes_after_what_it_needs(
            needs in prop::collection::vec(prop::collection::btree_set(0usize..8, 0..4), 8),
        ) {
            // Only smaller numbers: modules do not need each other in a circle.
            let path = |n: usize| format!("k/m{n}.ko");
            let lines = needs.iter().enumerate().map(|(n, set)| {
                let needed = set.iter().filter(|&&m| m < n).map(|&m| format!(" {}", path(m)));
                format!("{}:{}\n", path(n), needed.collect::<String>())
            });
            let index = Index::parse(&lines.collect::<String>(), "", "", "");
            let Found::Files(files) = index.files("m7") else { panic!("m7 is there") };
            for (place, file) in files.iter().enumerate() {
                prop_assert!(!files[..place].contains(file));
                let n: usize = file["k/m".len()..file.len() - ".ko".len()].parse().unwrap();
                for &needed in needs[n].iter().filter(|&&m| m < n) {
                    prop_assert!(files[..place].contains(&path(needed)), "{file}: {files:?}");
                }
            }
        }
    }
}
