//! What somebody can do to a machine who owns the network, a mirror, yesterday's repository or some
//! of the keys: a case each.

mod clock;
mod files;
mod keys;
mod replay;
mod repository;
mod segments;
mod targets;
