//! The everseed command.
fn main() {}
