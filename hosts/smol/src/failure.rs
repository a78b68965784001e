//! The failure of a command, and its exit code.

use std::fmt::Display;
use std::process::ExitCode;

use crate::options::args::Stop;
use crate::text::Output;

/// Exit code of a command that failed.
pub(crate) const FAILURE: u8 = 1;
/// Exit code for arguments that make no sense.
pub(crate) const USAGE: u8 = 2;
/// Exit code of `check` if data is damaged or missing.
pub(crate) const DAMAGED: u8 = 3;

/// Why a command ended early. A person sees its text after `everseed: `.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Help was asked for, or the arguments make no sense.
    Stop(Stop),
    /// The command failed.
    Failed(String),
    /// The command failed with an exit code of its own.
    Code(String, u8),
}

impl Failure {
    /// A failure from an error that names its file, peer or tracker.
    pub(crate) fn failed(error: impl Display) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Failure {
        Failure::Stop(stop)
    }
}

/// Returns the exit code, or a failure if the output could not be written.
pub(crate) fn finish(out: Output, code: ExitCode) -> Result<ExitCode, Failure> {
    match out.finish() {
        Ok(()) => Ok(code),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}
