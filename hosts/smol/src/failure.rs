//! Why a command ended early, and its exit code.

use std::fmt::Display;
use std::process::ExitCode;

use crate::options::args::Stop;
use crate::text::Output;

/// Exit code when something did not work.
pub(crate) const FAILURE: u8 = 1;
/// Exit code when the arguments make no sense.
pub(crate) const USAGE: u8 = 2;
/// Exit code of `check` when data is damaged or missing.
pub(crate) const DAMAGED: u8 = 3;

/// Why a command ended early. What it carries is shown to a person after `everseed: `.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Help was asked for, or the arguments make no sense.
    Stop(Stop),
    /// It did not work.
    Failed(String),
    /// With an exit code of its own.
    Code(String, u8),
}

impl Failure {
    /// For errors that name what they are about.
    pub(crate) fn failed(error: impl Display) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Failure {
        Failure::Stop(stop)
    }
}

/// The exit code, unless what was printed did not arrive where it was sent.
pub(crate) fn finish(out: Output, code: ExitCode) -> Result<ExitCode, Failure> {
    match out.finish() {
        Ok(()) => Ok(code),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}
