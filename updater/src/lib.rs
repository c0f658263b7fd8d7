//! Updates of a running machine: signed versions are learnt of, fetched, written to the slot that
//! is not running, booted on trial, and kept or remembered as bad.
//!
//! What is decided is decided in pure modules; shells read the facts and perform the steps.

pub mod attempt;
pub mod bundle;
pub mod bus;
pub mod client;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod fetch;
pub mod health;
pub mod identity;
pub mod install;
pub mod records;
pub mod report;
pub mod repository;
pub mod slots;
pub mod status;
pub mod strategy;
