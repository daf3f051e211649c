//! An engine that is a local program: it gets the path of a WAV file and prints the
//! text.
//!
//! What always holds: the program and its children are killed when the result is no
//! longer awaited; at most [`MAX_OUTPUT_BYTES`] of its output are kept.

use std::{io::Write, process::Stdio, time::Duration};

use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Engine, Transcript};
use crate::failure::Failure;

const MAX_OUTPUT_BYTES: u64 = 1 << 20;
/// Bytes of its standard error that are logged after a failure.
const MAX_LOGGED_BYTES: usize = 1_000;

/// A program and its arguments.
pub(super) struct Command {
    /// The program comes first.
    arguments: Vec<String>,
    timeout: Duration,
}

/// A process group that is killed on drop.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
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
        let mut child = tokio::process::Command::new(&arguments[0])
            .args(&arguments[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                tracing::error!(%error, program = arguments[0], "the engine cannot be started");
                Failure::EngineFailed
            })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let _group = ProcessGroup(id.and_then(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (output, errors) = tokio::join!(read(stdout), read(stderr));
        let status = child.wait().await.map_err(|error| failed(&error))?;
        let output = output.map_err(|error| failed(&error))?;
        if !status.success() {
            let errors = errors.unwrap_or_default();
            let errors =
                String::from_utf8_lossy(&errors[errors.len().saturating_sub(MAX_LOGGED_BYTES)..]);
            tracing::error!(%status, %errors, program = arguments[0], "the engine failed");
            return Err(Failure::EngineFailed);
        }
        Ok(parse_output(&String::from_utf8_lossy(&output)))
    }
}

impl Engine for Command {
    fn transcribe<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Transcript, Failure>> {
        Box::pin(async move {
            let run = tokio::time::timeout(self.timeout, self.run(wav, language));
            run.await.unwrap_or(Err(Failure::EngineTimeout))
        })
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(MAX_OUTPUT_BYTES);
        pipe.read_to_end(&mut bytes).await?;
        // The rest is discarded, so that the program can end.
        tokio::io::copy(pipe.get_mut(), &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// A line of JSON, of programs that also print the position of each word.
#[derive(Deserialize)]
struct Line {
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
        match serde_json::from_str::<Line>(line) {
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
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (script, pid) = (dir.path().join("engine"), dir.path().join("pid"));
        let lines = format!("sleep 1000 & echo $! > {}; wait\n", pid.display());
        std::fs::write(&script, lines).unwrap();
        let line = format!("/bin/sh {}", script.display());
        let command = Command::new(&line, Duration::from_millis(300));
        let result = command.transcribe(Vec::new(), None).await;
        assert_eq!(result, Err(Failure::EngineTimeout));
        let child = std::fs::read_to_string(&pid).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..1_000 {
            if gone() {
                return;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the engine's child was not killed");
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
