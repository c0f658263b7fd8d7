//! What is different between two locks.

use std::{collections::BTreeMap, fmt};

use super::{Lock, Package, Set};

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A package is new.
    Added(Set, Package),
    /// A package is there no more.
    Removed(Set, Package),
    /// A package has another version, or other bytes under the same version.
    Changed {
        /// What it is for.
        set: Set,
        /// As it was.
        from: Package,
        /// As it is.
        to: Package,
    },
}

/// The differences, in the order of the file.
pub fn changes(from: &Lock, to: &Lock) -> Vec<Change> {
    let by_place = |lock: &Lock| -> BTreeMap<(Set, String), Package> {
        let place =
            |(set, package): (Set, &Package)| ((set, package.name.clone()), package.clone());
        lock.iter().map(place).collect()
    };
    let (from, to) = (by_place(from), by_place(to));
    let mut places: Vec<_> = from.keys().chain(to.keys()).collect();
    places.sort();
    places.dedup();
    places
        .into_iter()
        .filter_map(|place| match (from.get(place), to.get(place)) {
            (Some(from), Some(to)) if from == to => None,
            (Some(from), Some(to)) => {
                Some(Change::Changed { set: place.0, from: from.clone(), to: to.clone() })
            }
            (Some(from), None) => Some(Change::Removed(place.0, from.clone())),
            (None, Some(to)) => Some(Change::Added(place.0, to.clone())),
            (None, None) => None,
        })
        .collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(set, package) => write!(f, "+ {set}: {package}"),
            Self::Removed(set, package) => write!(f, "- {set}: {package}"),
            Self::Changed { set, from, to } if from.version == to.version => {
                write!(f, "! {set}: {to}: other bytes under the same version")
            }
            Self::Changed { set, from, to } => write!(f, "~ {set}: {from} -> {}", to.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn lock(lines: &[(&str, &str, char)]) -> Lock {
        let package = |&(name, version, hash): &(&str, &str, char)| {
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: "all".to_owned(),
                sha256: hash.to_string().repeat(64),
                size_bytes: 1,
                file: "debian/pool/a.deb".to_owned(),
            };
            (Set::Image, package)
        };
        Lock::new(
            "20261121T081653Z".to_owned(),
            "5e884898da280471".to_owned(),
            lines.iter().map(package),
        )
        .unwrap()
    }

    #[test]
    fn added_removed_changed_and_repacked_packages_are_told_apart() {
        let before = lock(&[("a", "1", '1'), ("b", "1", '2'), ("c", "1", '3'), ("d", "1", '4')]);
        let after = lock(&[("a", "1", '1'), ("b", "2", '5'), ("c", "1", '6'), ("e", "1", '7')]);
        let said: Vec<_> = changes(&before, &after).iter().map(Change::to_string).collect();
        expect![[r#"
            ~ image: b 1 -> 2
            ! image: c 1: other bytes under the same version
            - image: d 1
            + image: e 1"#]]
        .assert_eq(&said.join("\n"));
        assert_eq!(changes(&before, &before), []);
    }
}
