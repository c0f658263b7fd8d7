//! A server for a fleet: the static files of releases, and what the machines that fetch them say of
//! themselves.
//!
//! ```text
//!  machines ----> listen ----> tree       the repository, as update-publish wrote it
//!                   |   \----> omaha      what a machine is, what happened on it
//!                   |            |
//!                   |          fleet      what that means for what is known of it: pure
//!                   |            |
//!                   |          store      SQLite; many reports are one transaction
//!                   |            |
//!  operators ---> listen ----> page       who runs what, what fails; requests to change it
//! ```
//!
//! Machines need none of it: what is for them is signed, and any server of static files will do.
//! This one holds no key. What an operator wants to change is a request, which the publisher signs.

pub mod catalog;
pub mod fleet;
pub mod form;
pub mod http;
pub mod metrics;
pub mod offers;
pub mod overview;
pub mod page;
pub mod secret;
pub mod serve;
pub mod store;
pub mod tree;
