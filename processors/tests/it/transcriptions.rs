//! Transcriptions from the recording to the text.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Multipart, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use belfry::v1::{TranscriptionComplete, event::Body};
use processors::{Secret, Transcription};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::{
    sounds::{ffmpeg, recogniser, speech},
    wait::wait_for,
    world::{World, body},
};

async fn world(engine: Transcription) -> World {
    let mut world = World::new().await;
    world.config.transcription = Transcription {
        max_length: Duration::from_mins(2),
        max_bytes: 4 << 20,
        ..engine
    };
    world.config.job_attempts = 1;
    world.start().await;
    world
}

fn command(line: &str) -> Transcription {
    Transcription {
        command: Some(line.to_owned()),
        ..Transcription::default()
    }
}

/// A fake engine that returns the same text for every segment.
fn something() -> Transcription {
    command("/bin/echo something {wav}")
}

impl World {
    async fn say(&self, file: Vec<u8>, language: Option<&str>) -> reqwest::Response {
        let mut form = Form::new().part("file", Part::bytes(file).file_name("x.mp3"));
        if let Some(language) = language {
            form = form.text("language", language.to_owned());
        }
        let post = self.http.post(self.url("/transcriptions"));
        let post = post.bearer_auth(World::token("u1")).multipart(form);
        post.send().await.unwrap()
    }

    async fn transcribe(&self, file: Vec<u8>, language: Option<&str>) -> (String, Body) {
        let answer = self.say(file, language).await;
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(status, 202, "{answer}");
        let id = answer["transcriptionId"].as_str().unwrap().to_owned();
        let events = self.notifier.events_of(&id).await;
        assert!(matches!(body(&events[0]), Body::TranscriptionStarted(_)));
        (id, body(events.last().unwrap()).clone())
    }

    async fn complete(&self, file: Vec<u8>, language: Option<&str>) -> TranscriptionComplete {
        match self.transcribe(file, language).await.1 {
            Body::TranscriptionComplete(complete) => complete,
            other => panic!("{other:?}"),
        }
    }

    async fn fails(&self, file: Vec<u8>) -> String {
        let (id, end) = self.transcribe(file, None).await;
        let Body::TranscriptionFailed(failed) = end else {
            panic!("{end:?}");
        };
        let view = self.json(&format!("/transcriptions/{id}"), "u1").await;
        let code = failed.failure.unwrap().code;
        assert_eq!(view["errorCode"], code);
        // The file is removed once the failure is written.
        let kept = self.data.path().join("files/recordings").join(&id);
        wait_for(
            "the recording of a failed job to be removed",
            async || kept.exists(),
            |is_there| !is_there,
        )
        .await;
        code
    }
}

fn check_words(complete: &TranscriptionComplete) {
    assert_eq!(complete.text, "door nine is closed light two started");
    let texts: Vec<&str> = complete.segments.iter().map(|s| &*s.text).collect();
    assert_eq!(texts, ["door nine is closed", "light two started"]);
    macro_rules! seconds {
        ($time:expr) => {{
            let time = $time.as_ref().unwrap();
            time.seconds as f64 + f64::from(time.nanos) / 1e9
        }};
    }
    let (first, second) = (&complete.segments[0], &complete.segments[1]);
    let length = seconds!(complete.audio_duration);
    assert!(seconds!(first.start) < 0.5, "{complete:?}");
    assert!(
        seconds!(second.start) - seconds!(first.end) > 2.0,
        "{complete:?}"
    );
    assert!(
        seconds!(second.end) < length && length > 8.0,
        "{complete:?}"
    );
}

#[tokio::test]
async fn a_program_transcribes_speech_segment_by_segment() {
    let [python, script] = recogniser();
    let world = world(command(&format!("{python} {script} {{wav}}"))).await;
    let file = speech(&["door nine is closed", "light two started"]);
    let complete = world.complete(file, Some("en")).await;
    check_words(&complete);
    assert_eq!(complete.language, "en");
    let list = world.json("/transcriptions", "u1").await;
    let view = &list["transcriptions"][0];
    assert_eq!(view["text"], complete.text);
    assert_eq!(view["segments"][1]["text"], "light two started");
    assert_eq!(
        (&view["status"], &view["fileName"]),
        (&json!("completed"), &json!("x.mp3"))
    );
    let others = world.json("/transcriptions", "u2").await;
    assert_eq!(others, json!({"transcriptions": []}));
    let partial = world.notifier.events().into_iter().any(
        |event| matches!(body(&event), Body::JobProgress(p) if p.partial == "door nine is closed"),
    );
    assert!(partial, "no progress event carries the text so far");
}

/// A service as `OpenAI` has it, with a real recogniser behind; the first two requests
/// it refuses for the moment.
#[derive(Clone)]
struct Service {
    requests: Arc<AtomicUsize>,
}

async fn transcribe(
    State(service): State<Service>,
    headers: HeaderMap,
    mut form: Multipart,
) -> Response {
    // The whole body, also for an error: a client that still sends would miss it.
    let (mut wav, mut model) = (Vec::new(), String::new());
    while let Some(field) = form.next_field().await.unwrap() {
        match field.name().unwrap() {
            "file" => wav = field.bytes().await.unwrap().to_vec(),
            "model" => model = field.text().await.unwrap(),
            _ => {}
        }
    }
    if headers["authorization"] != "Bearer sesame-sesame-sesame-sesame-0123" {
        return (StatusCode::UNAUTHORIZED, "no").into_response();
    }
    match service.requests.fetch_add(1, Ordering::SeqCst) {
        0 => return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response(),
        1 => return (StatusCode::BAD_GATEWAY, "not yet").into_response(),
        _ => {}
    }
    assert_eq!(model, "whisper-small");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.wav");
    std::fs::write(&file, wav).unwrap();
    let [python, script] = recogniser();
    let mut recognise = tokio::process::Command::new(python);
    let output = recognise.arg(script).arg(&file).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    axum::Json(json!({"task": "transcribe", "language": "english", "text": text})).into_response()
}

async fn service(key: &str) -> (Service, Transcription) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let service = Service {
        requests: Arc::default(),
    };
    let app = Router::new()
        .route("/v1/audio/transcriptions", post(transcribe))
        .with_state(service.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let remote = Transcription {
        url: Some(url),
        key: Some(Secret::new(key)),
        model: "whisper-small".into(),
        ..Transcription::default()
    };
    (service, remote)
}

#[tokio::test]
async fn an_overloaded_service_is_retried_until_it_transcribes() {
    let (service, remote) = service("sesame-sesame-sesame-sesame-0123").await;
    let world = world(remote).await;
    let file = speech(&["door nine is closed", "light two started"]);
    let complete = world.complete(file, None).await;
    check_words(&complete);
    assert_eq!(complete.language, "en");
    assert_eq!(service.requests.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_service_that_refuses_or_is_away_fails_the_job_with_its_code() {
    let (_, remote) = service("some-other-key").await;
    let away = Transcription {
        // Nothing listens on a port that was just given back.
        url: {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            Some(format!("http://{}/v1", listener.local_addr().unwrap()))
        },
        ..remote.clone()
    };
    let tone = || ffmpeg("-f lavfi -i sine=duration=1", "wav");
    let refused = world(remote).await;
    assert_eq!(refused.fails(tone()).await, "engine_refused");
    let away = world(away).await;
    assert_eq!(away.fails(tone()).await, "engine_failed");
}

#[tokio::test]
async fn recordings_of_each_format_are_decoded_in_full_length() {
    let world = world(something()).await;
    let tone = "-f lavfi -i sine=frequency=440:duration=3";
    let goods: [(&str, &str, &str); 12] = [
        ("-ar 8000 -ac 1", "wav", "8 kHz"),
        ("-ar 48000 -ac 2", "wav", "48 kHz stereo"),
        ("-c:a pcm_s24le -ar 44100", "wav", "24 bits"),
        ("-c:a pcm_f32le -ar 16000", "wav", "floats"),
        ("-c:a pcm_u8 -ar 11025", "wav", "8 bits"),
        ("-ac 6 -ar 48000", "wav", "six channels"),
        ("-b:a 64k", "mp3", "MP3"),
        ("-ar 22050 -b:a 32k", "mp3", "MP3, half the rate"),
        ("-ar 96000", "flac", "FLAC"),
        (
            "-c:a vorbis -strict experimental -ac 2",
            "ogg",
            "OGG Vorbis",
        ),
        ("-c:a aac", "m4a", "M4A, AAC"),
        ("-c:a alac", "m4a", "M4A, ALAC"),
    ];
    for (arguments, extension, what) in goods {
        let file = ffmpeg(&format!("{tone} {arguments}"), extension);
        let complete = world.complete(file, None).await;
        let length = complete.audio_duration.unwrap();
        let ms = length.seconds * 1000 + i64::from(length.nanos) / 1_000_000;
        assert!((2_950..3_150).contains(&ms), "{what}: {ms} ms");
        assert!(complete.text.starts_with("something /"), "{what}");
        assert_eq!(complete.segments.len(), 1, "{what}");
    }
    world.settled().await;
}

#[tokio::test]
async fn silence_has_no_text_and_is_not_sent_to_the_engine() {
    let world = world(command("/bin/false")).await;
    let silence = ffmpeg("-f lavfi -i anullsrc -t 40", "flac");
    let complete = world.complete(silence, None).await;
    assert_eq!((&*complete.text, complete.segments.len()), ("", 0));
    let mut noise = ffmpeg("-f lavfi -i anullsrc -t 1 -c:a pcm_f32le", "wav");
    let samples = noise.len() - 4_000;
    noise[samples..].fill(0xFF); // not a number
    assert_eq!(world.complete(noise, None).await.text, "");
    assert_eq!(
        world
            .complete(ffmpeg("-f lavfi -i anullsrc -t 1", "mp3"), None)
            .await
            .text,
        ""
    );
}

fn cut(mut file: Vec<u8>, to: usize) -> Vec<u8> {
    file.truncate(to);
    file
}

#[tokio::test]
async fn bad_recordings_fail_with_their_code_and_leave_nothing() {
    let world = world(something()).await;
    let tone = "-f lavfi -i sine=duration=5";
    let wav = ffmpeg(tone, "wav");
    let flac = ffmpeg(tone, "flac");
    let m4a = ffmpeg(&format!("{tone} -movflags +faststart -c:a aac"), "m4a");
    let mut huge = wav.clone();
    let data = huge.windows(4).position(|four| four == b"data").unwrap();
    huge[data + 4..data + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut holes = flac.clone();
    let half = holes.len() / 4..holes.len() * 3 / 4;
    holes[half].fill(0x55);
    let bads = [
        (
            "text",
            b"This is no music at all, whatever its name says.".repeat(9),
            "unsupported_audio",
        ),
        (
            "a picture",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01".to_vec(),
            "unsupported_audio",
        ),
        (
            "a script",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            "unsupported_audio",
        ),
        ("zeros", vec![0; 50_000], "unsupported_audio"),
        (
            "a wav that is cut off",
            cut(wav.clone(), 100_000),
            "damaged_audio",
        ),
        ("a wav that claims 4 GiB", huge, "damaged_audio"),
        ("a flac that is cut off", cut(flac, 30_000), "damaged_audio"),
        ("a flac with a hole", holes, "damaged_audio"),
        ("an m4a that is cut off", cut(m4a, 20_000), "damaged_audio"),
        (
            "a wav of nothing",
            cut(wav.clone(), data + 8),
            "no_audio|damaged_audio|unsupported_audio",
        ),
        (
            "a film without sound",
            ffmpeg(
                "-f lavfi -i testsrc=duration=1:size=64x64 -c:v mpeg4",
                "mp4",
            ),
            "no_audio|unsupported_audio",
        ),
        (
            "a long recording",
            ffmpeg("-f lavfi -i anullsrc -t 130 -ar 8000 -b:a 8k", "mp3"),
            "too_long",
        ),
        (
            "a bomb of silence",
            ffmpeg("-f lavfi -i anullsrc -t 3600 -ar 8000", "flac"),
            "too_long",
        ),
    ];
    for (what, file, code) in bads {
        let got = world.fails(file).await;
        assert!(code.split('|').any(|code| got == code), "{what}: {got}");
    }
    world.settled().await;
    let left = std::fs::read_dir(world.data.path().join("files/recordings"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn an_invalid_upload_is_rejected_with_the_reason() {
    let world = world(something()).await;
    let refusals = [
        (world.say(Vec::new(), None).await, 400, "empty_file"),
        (world.say(vec![1; 5 << 20], None).await, 413, "too_large"),
        (
            world.say(vec![1; 10], Some("English!")).await,
            400,
            "bad_request",
        ),
    ];
    for (answer, status, code) in refusals {
        assert_eq!(answer.status(), status);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["errorCode"], code, "{problem}");
    }
    let post = || world.http.post(world.url("/transcriptions"));
    let stranger = post().send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    let json = post().bearer_auth(World::token("u1")).json(&json!({}));
    assert_eq!(json.send().await.unwrap().status(), 415);
    assert_eq!(world.notifier.count(), 0);
    let left = std::fs::read_dir(world.data.path().join("files/recordings"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn without_a_working_engine_no_text_is_invented() {
    let tone = || ffmpeg("-f lavfi -i sine=duration=1", "wav");
    let none = world(Transcription::default()).await;
    assert_eq!(none.fails(tone()).await, "not_configured");
    let failing = world(command("/bin/false")).await;
    assert_eq!(failing.fails(tone()).await, "engine_failed");
    let mut hanging = World::new().await;
    hanging.config.transcription = Transcription {
        segment_timeout: Duration::from_millis(200),
        ..command("/usr/bin/tail -f {wav}")
    };
    hanging.config.job_attempts = 1;
    hanging.start().await;
    assert_eq!(hanging.fails(tone()).await, "engine_timeout");
}
