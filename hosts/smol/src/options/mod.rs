//! The options of each command, and the keys of the configuration file.
//!
//! The text of a command's `--help` is the only table of its options; see [`table`].

pub mod args;
pub mod config;
pub(crate) mod finding;
pub mod get;
pub mod item;
mod keys;
pub(crate) mod making;
mod one_off;
pub mod rates;
pub mod run;
pub mod seed;
pub mod table;
pub mod urls;
