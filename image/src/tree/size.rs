//! Where the bytes of the tree are.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::scan::{Kind, Tree};

/// Sizes of a tree, in bytes of its files, each rounded up to the blocks that it takes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sizes {
    /// All of it.
    pub total_bytes: u64,
    /// How many files, directories and links.
    pub entries: u64,
    /// Each directory with what is below it, by its path on a machine.
    pub directories: BTreeMap<String, u64>,
    /// What each package has in it.
    pub packages: BTreeMap<String, u64>,
}

const BLOCK_BYTES: u64 = 4096;

impl Sizes {
    pub(crate) fn of(tree: &Tree, packages: BTreeMap<String, u64>) -> Self {
        let mut sizes = Self { packages, ..Self::default() };
        for (path, node) in &tree.nodes {
            sizes.entries += 1;
            let Kind::File { size_bytes } = node.kind else { continue };
            let bytes = size_bytes.next_multiple_of(BLOCK_BYTES);
            sizes.total_bytes += bytes;
            for (at, _) in path.match_indices('/').skip(1) {
                *sizes.directories.entry(path[..at].to_owned()).or_default() += bytes;
            }
        }
        sizes
    }

    /// The `count` biggest directories that no other one explains: a directory is left out if
    /// almost all of it is in one directory below.
    pub fn biggest_directories(&self, count: usize) -> Vec<(&str, u64)> {
        let explained = |dir: &str, bytes: u64| {
            let below = format!("{dir}/");
            let below = self
                .directories
                .range(below.clone()..)
                .take_while(|(path, _)| path.starts_with(&below));
            below.into_iter().any(|(_, &some)| some * 10 >= bytes * 9)
        };
        let own = self.directories.iter().filter(|(dir, bytes)| !explained(dir, **bytes));
        biggest(own, count)
    }

    /// The `count` biggest packages.
    pub fn biggest_packages(&self, count: usize) -> Vec<(&str, u64)> {
        biggest(self.packages.iter(), count)
    }
}

fn biggest<'a>(
    sizes: impl Iterator<Item = (&'a String, &'a u64)>,
    count: usize,
) -> Vec<(&'a str, u64)> {
    let mut sizes: Vec<_> = sizes.map(|(name, bytes)| (&**name, *bytes)).collect();
    sizes.sort_by_key(|(name, bytes)| (std::cmp::Reverse(*bytes), *name));
    sizes.truncate(count);
    sizes
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>7.1} MB in {} entries", megabytes(self.total_bytes), self.entries)?;
        writeln!(f, "biggest directories:")?;
        for (path, bytes) in self.biggest_directories(20) {
            writeln!(f, "{:>7.1} MB {path}", megabytes(bytes))?;
        }
        writeln!(f, "biggest packages:")?;
        for (name, bytes) in self.biggest_packages(20) {
            writeln!(f, "{:>7.1} MB {name}", megabytes(bytes))?;
        }
        Ok(())
    }
}

/// For people: a megabyte is 10^6 bytes, as in the budgets.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::super::scan::Node;
    use super::*;

    #[test]
    fn a_directory_that_one_below_explains_is_left_out() {
        let mut tree = Tree::default();
        for (path, size_bytes) in
            [("/usr/lib/modules/6.12/a.ko", 90_000), ("/usr/lib/b", 1), ("/usr/bin/c", 40_000)]
        {
            let node = Node { kind: Kind::File { size_bytes }, mode: 0o644 };
            tree.nodes.insert(path.to_owned(), node);
        }
        let sizes = Sizes::of(&tree, BTreeMap::new());
        assert_eq!(sizes.total_bytes, (22 + 1 + 10) * BLOCK_BYTES);
        let biggest: Vec<_> =
            sizes.biggest_directories(9).into_iter().map(|(path, _)| path).collect();
        assert_eq!(biggest, ["/usr", "/usr/lib/modules/6.12", "/usr/bin"]);
    }
}
