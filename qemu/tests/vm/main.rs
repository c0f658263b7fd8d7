//! What PithOS must show, checked from inside virtual machines and on their disks.
//!
//! Each law is a function of its own name. Booting is what costs time here, so machines that have
//! nothing special share a boot: then a test is a list of laws ([`harness::laws`]).
//!
//! They need an image: `./pith image`. Without one they fail and say so.

mod archive;
mod buses;
mod command;
mod corruption;
mod harness;
mod network;
mod partition;
mod power;
mod provision;
mod secure_boot;
mod shipped;
mod update;
