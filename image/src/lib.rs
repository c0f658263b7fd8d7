//! Builds the image of PithOS: package lock, `/usr` tree, erofs and verity, UKI, GPT disk, formats.

pub mod archive;
pub mod build;
pub mod differ;
pub mod disk;
pub mod erofs;
pub mod esp;
pub mod formats;
pub mod initramfs;
pub mod inspect;
pub mod lock;
pub mod manifest;
pub mod mkosi;
pub mod progress;
pub mod repro;
pub mod sbom;
pub mod sign;
pub mod step;
pub mod tools;
pub mod tree;
pub mod uki;
pub mod verify;
