//! The replicated store, a drop-in for etcd; so far a member that is alone.
//!
//! A request comes to [`server`] and is checked; [`member`] has it agreed on by [`consensus`], which
//! keeps it in the [`log`], and does it: [`state`] is what commands change, over [`store`] (keys and
//! their versions) and [`lease`]. A [`snapshot`] takes the place of a long log.
//! [`watch`] is who hears of it, [`lessor`] when leases run out.
//!
//! `server`, `member` and `log::disk` know sockets, clocks and files; nothing else does.

pub mod api;
pub mod consensus;
pub mod lease;
pub mod lessor;
pub mod log;
pub mod member;
pub mod refusal;
pub mod request;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod watch;
