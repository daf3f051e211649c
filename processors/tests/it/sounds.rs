//! Recordings for tests, made by tools of others.

use std::{path::Path, process::Command};

use tempfile::TempDir;

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/speech/recognise.py");
const PYTHON: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/.cache/speech/bin/python"
);

/// The command of a real recogniser.
pub(crate) fn recogniser() -> [&'static str; 2] {
    let there = Path::new(PYTHON).exists();
    assert!(there, "no {PYTHON}; `tests/run` installs it");
    [PYTHON, SPEECH]
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; `tests/run` installs it"));
    assert!(output.status.success(), "{program}: {output:?}");
}

/// Half a second of a tone, as a WAV file of one channel with 8 kHz.
pub(crate) fn tone() -> Vec<u8> {
    let samples = (0..4_000_u32).map(|n| if n % 20 < 10 { 8_000_i16 } else { -8_000 });
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let length = u32::try_from(data.len()).unwrap();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8_000_u32.to_le_bytes());
    file.extend(16_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    file
}

/// A file of ffmpeg's, by its arguments, in a format by its extension.
pub(crate) fn ffmpeg(arguments: &str, extension: &str) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(format!("sound.{extension}"));
    let file = file.to_str().unwrap();
    let mut all = vec!["-nostdin", "-loglevel", "error", "-y"];
    all.extend(arguments.split_whitespace());
    all.push(file);
    run("ffmpeg", &all);
    std::fs::read(file).unwrap()
}

/// Spoken sentences, with three seconds of silence between them.
pub(crate) fn speech(sentences: &[&str]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let mut list = String::new();
    for (number, sentence) in sentences.iter().enumerate() {
        let file = dir.path().join(format!("{number}.wav"));
        let path = file.to_str().unwrap();
        run(
            "espeak-ng",
            &["-v", "en-us", "-s", "130", "-w", path, sentence],
        );
        let silent = dir.path().join(format!("{number}-silent.wav"));
        let silent = silent.to_str().unwrap();
        let pad = [
            "-nostdin",
            "-loglevel",
            "error",
            "-i",
            path,
            "-af",
            "apad=pad_dur=3",
            silent,
        ];
        run("ffmpeg", &pad);
        list += &["file '", silent, "'\n"].concat();
    }
    let listed = dir.path().join("list");
    std::fs::write(&listed, list).unwrap();
    let listed = listed.to_str().unwrap();
    ffmpeg(&format!("-f concat -safe 0 -i {listed}"), "wav")
}
