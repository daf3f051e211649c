//! An engine that is a local program: it gets the path of a WAV file and prints the
//! text.
//!
//! What always holds: at most [`MAX_OUTPUT_BYTES`] of its output are kept; it gets no
//! variable of this process's environment but [`ENVIRONMENT`], so none of its secrets.

use std::{io::Write, time::Duration};

use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{Engine, Transcript};
use crate::{
    child::{Child, ChildError},
    failure::Failure,
};

const MAX_OUTPUT_BYTES: u64 = 1 << 20;
/// What programs need to find themselves, their libraries, models and temporary files.
const ENVIRONMENT: [&str; 5] = ["HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR"];

/// A program and its arguments.
pub(super) struct Command {
    /// The program comes first.
    arguments: Vec<String>,
    timeout: Duration,
}

impl Command {
    /// `line` is split at spaces. `{wav}` becomes the path of the file, which is appended
    /// if it does not occur; `{language}` becomes the language, or `auto`.
    pub(super) fn new(line: &str, timeout: Duration) -> Self {
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if !arguments.iter().any(|argument| argument.contains("{wav}")) {
            arguments.push("{wav}".to_owned());
        }
        Self { arguments, timeout }
    }

    async fn run(&self, wav: Vec<u8>, language: Option<&str>) -> Result<Transcript, Failure> {
        let file = tokio::task::spawn_blocking(move || {
            let mut file = tempfile::Builder::new().suffix(".wav").tempfile()?;
            file.write_all(&wav)?;
            Ok::<_, std::io::Error>(file.into_temp_path())
        });
        let file = file.await.map_err(|error| failed(&error))?;
        let file = file.map_err(|error| failed(&error))?;
        let path = file.to_string_lossy();
        let arguments = self.arguments.iter().map(|argument| {
            argument
                .replace("{wav}", &path)
                .replace("{language}", language.unwrap_or("auto"))
        });
        let arguments: Vec<String> = arguments.collect();
        let child = Child {
            command: &arguments,
            environment: &ENVIRONMENT,
            input: &[],
            max_output: MAX_OUTPUT_BYTES,
            deadline: self.timeout,
        };
        let output = child.run().await.map_err(|error| {
            tracing::error!(%error, program = arguments[0], "a segment was not transcribed");
            match error {
                ChildError::Deadline(_) => Failure::EngineTimeout,
                _ => Failure::EngineFailed,
            }
        })?;
        Ok(parse_output(&String::from_utf8_lossy(&output)))
    }
}

impl Engine for Command {
    fn transcribe<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Transcript, Failure>> {
        Box::pin(self.run(wav, language))
    }
}

/// A line of JSON, of programs that print more than the text.
#[derive(Deserialize)]
struct OutputLine {
    #[serde(alias = "t")]
    text: String,
    #[serde(default)]
    language: Option<String>,
}

/// Parses lines of JSON with a `text`, or else plain text.
fn parse_output(output: &str) -> Transcript {
    let lines = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let (mut texts, mut language) = (Vec::new(), None);
    for line in lines {
        match serde_json::from_str::<OutputLine>(line) {
            Ok(line) => {
                language = language.or(line.language);
                texts.push(line.text.trim().to_owned());
            }
            Err(_) => texts.push(line.to_owned()),
        }
    }
    Transcript {
        text: texts.join(" ").trim().to_owned(),
        language,
    }
}

fn failed(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "the engine could not be used");
    Failure::EngineFailed
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(line: &str) -> Result<Transcript, Failure> {
        let command = Command::new(line, Duration::from_secs(30));
        command.transcribe(b"RIFF".to_vec(), Some("en")).await
    }

    #[tokio::test]
    async fn a_program_gets_the_file_and_prints_the_text() {
        let transcript = run("/bin/echo {language} {wav}").await.unwrap();
        let (language, file) = transcript.text.split_once(' ').unwrap();
        assert!(language == "en" && file.contains("/.tmp"), "{transcript:?}");
        assert!(
            !std::path::Path::new(file).exists(),
            "the file was not removed"
        );
        assert_eq!(run("/bin/cat").await.unwrap().text, "RIFF");
        assert_eq!(run("/bin/false").await, Err(Failure::EngineFailed));
        assert_eq!(run("/nowhere/engine").await, Err(Failure::EngineFailed));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_a_timeout() {
        let command = Command::new("/usr/bin/tail -f", Duration::from_millis(100));
        let result = command.transcribe(Vec::new(), None).await;
        assert_eq!(result, Err(Failure::EngineTimeout));
    }

    #[test]
    fn output_is_plain_text_or_lines_of_json() {
        let text = |output| parse_output(output).text;
        assert_eq!(text("  Hello there.\n\nYou. \n"), "Hello there. You.");
        assert_eq!(
            text("{\"b\":0.1,\"t\":\"go forward\",\"w\":[]}\n"),
            "go forward"
        );
        assert_eq!(text(""), "");
        let json = parse_output("{\"text\":\" Hallo\",\"language\":\"de\"}");
        assert_eq!(
            (&*json.text, json.language.as_deref()),
            ("Hallo", Some("de"))
        );
    }
}
