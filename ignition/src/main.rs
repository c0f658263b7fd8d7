//! `ignition`: what it can do, and nothing of how.

fn main() {}
