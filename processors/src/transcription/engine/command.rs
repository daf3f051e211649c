//! An engine that is a program of this machine: it gets the path of a WAV file and
//! prints the text.
//!
//! What always holds: nothing of it goes on when nobody waits, its children included;
//! no more of what it prints is read than [`MAX_OUTPUT_BYTES`].

use std::{io::Write, process::Stdio, time::Duration};

use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Engine, Heard};
use crate::failure::Failure;

const MAX_OUTPUT_BYTES: u64 = 1 << 20;
/// Bytes of what it says about a failure that are logged.
const SAID_BYTES: usize = 1_000;

/// See the module's page.
pub(super) struct Command {
    /// Program and arguments.
    words: Vec<String>,
    timeout: Duration,
}

/// The program and its children, gone with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It has ended: all the better.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Command {
    /// `line` is split at spaces. `{wav}` becomes the path of the file, which comes
    /// last where it is not named; `{language}` the language, or `auto`.
    pub(super) fn new(line: &str, timeout: Duration) -> Self {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if !words.iter().any(|word| word.contains("{wav}")) {
            words.push("{wav}".to_owned());
        }
        Self { words, timeout }
    }

    async fn run(&self, wav: Vec<u8>, language: Option<&str>) -> Result<Heard, Failure> {
        let file = tokio::task::spawn_blocking(move || {
            let mut file = tempfile::Builder::new().suffix(".wav").tempfile()?;
            file.write_all(&wav)?;
            Ok::<_, std::io::Error>(file.into_temp_path())
        });
        let file = file.await.map_err(|error| failed(&error))?;
        let file = file.map_err(|error| failed(&error))?;
        let path = file.to_string_lossy();
        let words = self.words.iter().map(|word| {
            word.replace("{wav}", &path)
                .replace("{language}", language.unwrap_or("auto"))
        });
        let words: Vec<String> = words.collect();
        let mut child = tokio::process::Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                tracing::error!(%error, program = words[0], "the engine does not start");
                Failure::EngineFailed
            })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let _group = Group(id.and_then(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (printed, said) = tokio::join!(read(stdout), read(stderr));
        let status = child.wait().await.map_err(|error| failed(&error))?;
        let printed = printed.map_err(|error| failed(&error))?;
        if !status.success() {
            let said = said.unwrap_or_default();
            let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SAID_BYTES)..]);
            tracing::error!(%status, %said, program = words[0], "the engine failed");
            return Err(Failure::EngineFailed);
        }
        Ok(heard(&String::from_utf8_lossy(&printed)))
    }
}

impl Engine for Command {
    fn hear<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Heard, Failure>> {
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
        // What is more than that is thrown away, so that the program can end.
        tokio::io::copy(pipe.get_mut(), &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// A line of JSON, as programs print that also tell where each word is.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "t")]
    text: String,
    #[serde(default)]
    language: Option<String>,
}

/// JSON with a `text`, line by line, or else the text itself.
fn heard(printed: &str) -> Heard {
    let lines = printed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let (mut words, mut language) = (Vec::new(), None);
    for line in lines {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => {
                language = language.or(line.language);
                words.push(line.text.trim().to_owned());
            }
            Err(_) => words.push(line.to_owned()),
        }
    }
    Heard {
        text: words.join(" ").trim().to_owned(),
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

    async fn run(line: &str) -> Result<Heard, Failure> {
        let command = Command::new(line, Duration::from_secs(30));
        command.hear(b"RIFF".to_vec(), Some("en")).await
    }

    #[tokio::test]
    async fn a_program_gets_the_file_and_its_words_are_the_text() {
        let heard = run("/bin/echo {language} {wav}").await.unwrap();
        let (language, file) = heard.text.split_once(' ').unwrap();
        assert!(language == "en" && file.contains("/.tmp"), "{heard:?}");
        assert!(!std::path::Path::new(file).exists(), "the file is left");
        assert_eq!(run("/bin/cat").await.unwrap().text, "RIFF");
        assert_eq!(run("/bin/false").await, Err(Failure::EngineFailed));
        assert_eq!(run("/nowhere/engine").await, Err(Failure::EngineFailed));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (script, pid) = (dir.path().join("engine"), dir.path().join("pid"));
        let lines = format!("sleep 1000 & echo $! > {}; wait\n", pid.display());
        std::fs::write(&script, lines).unwrap();
        let line = format!("/bin/sh {}", script.display());
        let command = Command::new(&line, Duration::from_millis(300));
        let heard = command.hear(Vec::new(), None).await;
        assert_eq!(heard, Err(Failure::EngineTimeout));
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
        panic!("the engine's child lives on");
    }

    #[test]
    fn what_is_printed_is_text_or_lines_of_json_with_one() {
        let heard = |printed| super::heard(printed).text;
        assert_eq!(heard("  Hello there.\n\nYou. \n"), "Hello there. You.");
        assert_eq!(
            heard("{\"b\":0.1,\"t\":\"go forward\",\"w\":[]}\n"),
            "go forward"
        );
        assert_eq!(heard(""), "");
        let json = super::heard("{\"text\":\" Hallo\",\"language\":\"de\"}");
        assert_eq!(
            (&*json.text, json.language.as_deref()),
            ("Hallo", Some("de"))
        );
    }
}
