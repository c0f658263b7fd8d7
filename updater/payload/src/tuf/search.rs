//! Looking for a path among the roles that may speak about it: depth first, in the order of each
//! role's delegations, each role once.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::{
    metadata::{Delegation, Targets},
    pattern,
};

/// How many roles are asked about one path.
const ROLES_MAX: usize = 32;

/// A search that goes on.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) path: String,
    /// Who comes next is last; with the role that delegates to it.
    ahead: Vec<(String, Delegation)>,
    visited: BTreeSet<String>,
    /// The roles that were verified along this search.
    pub(super) roles: BTreeMap<String, Targets>,
}

impl Search {
    pub(super) fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ahead: Vec::new(),
            visited: BTreeSet::new(),
            roles: BTreeMap::new(),
        }
    }

    /// `role` was asked, and does not know the path: who is to be asked because of it.
    pub(super) fn delegates(&mut self, name: &str, role: Targets) {
        let mut ahead = Vec::new();
        for delegation in role.delegations.iter().flat_map(|all| &all.roles) {
            if !delegation.is_about(&self.path) {
                continue;
            }
            ahead.push((name.to_owned(), delegation.clone()));
            if delegation.terminating {
                self.ahead.clear();
                break;
            }
        }
        self.ahead.extend(ahead.into_iter().rev());
        self.visited.insert(name.to_owned());
        self.roles.insert(name.to_owned(), role);
    }

    /// Who is to be asked next, and who says so.
    pub(super) fn next(&mut self) -> Option<(String, Delegation)> {
        while let Some((by, delegation)) = self.ahead.pop() {
            if self.visited.len() > ROLES_MAX {
                return None;
            }
            if !self.visited.contains(&delegation.name) {
                return Some((by, delegation));
            }
        }
        None
    }
}

impl Delegation {
    fn is_about(&self, path: &str) -> bool {
        let hash = || hex::encode(Sha256::digest(path));
        let has_prefix = || {
            let hash = hash();
            self.path_hash_prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
        };
        self.paths.iter().any(|pattern| pattern::matches(pattern, path)) || has_prefix()
    }
}
