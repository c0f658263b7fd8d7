//! Resources, and the documents of platforms, from servers that stand in for those of the world.

mod http;
mod platform;
mod stand_in;
mod tftp;
mod tls;
