//! That reproducibility is proven, and that the proof can fail.
//!
//! - [`harness`]: two builds by a small script in place of the image builder. What the script lets
//!   leak into its artefact, `image repro` names.
//! - [`injected`]: the real image of `build/image`, with one difference of each kind.

mod harness;
mod injected;
