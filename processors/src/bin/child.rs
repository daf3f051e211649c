//! Does one part of a job, as the hidden commands of `belfry` do: for the tests of this
//! package, which have no other program at hand.

use std::{error::Error, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| {
        let given = arguments.get(at).and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let done: Result<(), Box<dyn Error>> = match arguments.first().map(String::as_str) {
        Some("typeset-report") => processors::typeset_report(number(1, 60)).map_err(Into::into),
        Some("decode-picture") => {
            processors::decode_picture(number(1, 60), number(2, 1 << 30)).map_err(Into::into)
        }
        _ => Err("name the part: typeset-report or decode-picture".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
