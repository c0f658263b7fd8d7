//! Resources, fetched from servers that stand in for those of the world.

mod http;
mod stand_in;
mod tftp;
mod tls;
