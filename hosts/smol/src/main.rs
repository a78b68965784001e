//! The everseed binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    everseed::cli::main()
}
