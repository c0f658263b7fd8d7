//! The document: from text to a [`Config`], with a place in the text for every complaint.

pub mod config;
pub mod json;
pub mod node;
pub mod report;
pub mod schema;
pub mod unit;

pub use config::Config;
pub use node::{Map, Mark, Node, Value};
pub use report::{Finding, Report, Severity, Sources};
