//! The replicated store, a drop-in for etcd.
//!
//! So far what a member keeps, and how: [`state`] is what commands change, over [`store`] (keys and
//! their versions) and [`lease`]; [`watch`] is who hears of it, [`lessor`] when leases run out, and
//! [`log`] what is on the disk. But for `log::disk`, nothing in here knows a file, a socket or a clock.

pub mod api;
pub mod lease;
pub mod lessor;
pub mod log;
pub mod refusal;
pub mod request;
pub mod state;
pub mod store;
pub mod watch;
