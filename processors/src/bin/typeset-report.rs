//! Sets one report, as `belfry typeset-report` does: for the tests of this package,
//! which have no other program at hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let cpu_seconds = std::env::args().nth(1).and_then(|text| text.parse().ok());
    match processors::typeset_report(cpu_seconds.unwrap_or(60)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
