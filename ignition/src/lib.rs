//! First boot: a document becomes a machine.
//!
//! ```text
//! text --(json, butane, cloudconfig)--> Node tree, each node with its place in the text
//!      --(schema, validate)-----------> a report, and a tree without what is not known
//!      --(translate, merge)-----------> one tree of specification 3.6.0
//!      --> Config --(plan, with facts of the machine)--> steps --(perform)--> the machine
//! ```

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod attributes;
pub mod boot;
pub mod causes;
pub mod disks;
pub mod document;
pub mod fetch;
pub mod files;
pub mod journal;
pub mod mount;
pub mod network;
pub mod platform;
pub mod render;
