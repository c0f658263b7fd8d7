//! Installing a version into the slot that does not run.
//!
//! ```text
//! remove its UKI -> empty its slot -> write the pieces -> prove -> name the slot -> write the UKI -> arm
//!                   (table)           (each verified)     (read    (table)         (as .new)        (.efi)
//!                                                          back)
//! ```
//!
//! Power may fail in any of it, and the disk may have written what was not synced or not, in any
//! order. What must hold: whatever the boot loader sees belongs to a slot that is whole. So the UKI
//! goes first and comes last, and each arrow waits until the disk has what is left of it.
//!
//! What an attempt has left on the disk is not remembered but looked at: a piece that is there, by
//! its hash, is not fetched again. Nothing unverified is ever written.

pub mod machine;
pub mod media;
mod perform;
mod plan;
#[cfg(test)]
mod simulated;
mod tidy;

pub use media::Media;
pub(crate) use perform::sha256_of;
pub use perform::{Error, Installer, Need, proves};
pub use plan::{Facts, Image, Piece, Pieces, Refused, Step, Wanted, plan};
pub use tidy::{take_back, tidy};

#[cfg(test)]
mod tests;
