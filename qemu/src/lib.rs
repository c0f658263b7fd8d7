//! Virtual machines of PithOS: started as an operator would start them, spoken to as an operator
//! would speak to them (SSH, the serial console), and gone when we are.
//!
//! ```text
//!   Artifacts ── the build folder: image, firmware, QEMU
//!   Spec      ── what a machine is to be like        arguments (pure): Spec -> QEMU's words
//!   Machine   ── one that runs: Console, SSH, QMP    accel: KVM only where it works
//!   Switch    ── the network between machines        switch::core (pure): frames in, frames out
//!   Report    ── what a machine says about itself
//! ```
//! What it is not: a way around the guest. Nothing here links code of the guest's programs, and
//! nothing gets into a machine that is not offered to everybody by the image.

pub mod accel;
mod arguments;
pub mod artifacts;
pub mod bench;
pub mod cluster;
pub mod console;
mod error;
mod folder;
pub mod host;
pub mod interrupt;
mod machine;
pub mod manifest;
mod process;
mod qmp;
pub mod report;
mod spec;
mod ssh;
pub mod switch;

pub use artifacts::{Artifacts, Image};
pub use console::Console;
pub use error::{Error, chain};
pub use machine::{Machine, Ready};
pub use report::Report;
pub use spec::{Bus, Disk, Nic, Spec};
pub use ssh::Output;
pub use switch::Switch;
