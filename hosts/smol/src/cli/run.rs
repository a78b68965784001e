//! `everseed run`: runs the service, or checks its configuration.

use std::process::ExitCode;

use lexopt::Parser;

use crate::cli::front;
use crate::cli::status::interval_of_service;
use crate::failure::{FAILURE, Failure, finish};
use crate::logging::start_service_log;
use crate::options::finding::Weight;
use crate::options::run::{Config, RunArgs};
use crate::session::foresee::{foresee, refusals};
use crate::session::{self, Attendance};
use crate::text::{Output, escape};

/// Runs the service, or checks its configuration for `--check-config`.
pub(crate) fn run(parser: Parser) -> Result<ExitCode, Failure> {
    let args = RunArgs::parse(parser)?;
    let (config, lines, wrong) = Config::read(&args).map_err(Failure::Failed)?;
    if args.check {
        let found = foresee(&config, &lines, wrong, None);
        let mut out = Output::new();
        found
            .iter()
            .for_each(|finding| out.line(format_args!("{}", args.tell(finding))));
        if found.iter().all(|finding| finding.weight == Weight::Waits) {
            let shown = escape(args.config.as_os_str().as_encoded_bytes()).to_string();
            out.line(format_args!("{shown}: good"));
            return finish(out, ExitCode::SUCCESS);
        }
        return finish(out, ExitCode::from(FAILURE));
    }
    let refusals = refusals(&config, &lines, wrong);
    if !refusals.is_empty() {
        let refusals: Vec<String> = refusals.iter().map(|finding| args.tell(finding)).collect();
        return Err(Failure::Failed(refusals.join("\n")));
    }
    start_service_log(config.seed.log);
    session::run(
        config,
        Attendance::Service(args),
        front::of(interval_of_service)?,
    )
}
