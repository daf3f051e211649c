//! An engine with the HTTP interface of `OpenAI`'s `/v1/audio/transcriptions`.
//!
//! What always holds: at most [`MAX_RESPONSE_BYTES`] of a response are read; temporary
//! failures are retried, three attempts at most, and not before `Retry-After`.

use std::time::Duration;

use belfry::backoff::Backoff;
use futures_util::future::BoxFuture;
use reqwest::{
    Client, Response, StatusCode,
    header::RETRY_AFTER,
    multipart::{Form, Part},
    redirect::Policy,
};
use serde::Deserialize;

use super::{Engine, Transcript};
use crate::{config::Transcription, failure::Failure};

const MAX_RESPONSE_BYTES: usize = 1 << 20;
const MAX_ATTEMPTS: u32 = 3;
/// The bound of the first pause between attempts, and of the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A longer `Retry-After` ends the attempts.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the engine.
pub(super) struct Remote {
    client: Client,
    /// The address, without a slash at its end.
    url: String,
    settings: Transcription,
}

/// The result of one attempt.
enum Attempt {
    Done(Transcript),
    /// A temporary failure, with the engine's `Retry-After`.
    Retry(Failure, Option<Duration>),
    Failed(Failure),
}

#[derive(Deserialize)]
struct Body {
    text: String,
    #[serde(default)]
    language: Option<String>,
}

impl Remote {
    /// For the service at `url`.
    pub(super) fn new(url: &str, settings: &Transcription) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            // The key is for this host.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(settings.segment_timeout)
            .user_agent("belfry")
            .build()?;
        Ok(Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            settings: settings.clone(),
        })
    }

    async fn attempt(&self, wav: Vec<u8>, language: Option<&str>) -> Attempt {
        let file = Part::bytes(wav).file_name("segment.wav");
        // Whisper models report the language in the verbose format; others refuse it.
        let whisper = self.settings.model.contains("whisper");
        let format = if whisper { "verbose_json" } else { "json" };
        let mut form = Form::new()
            .part("file", file)
            .text("model", self.settings.model.clone())
            .text("response_format", format);
        if let Some(language) = language {
            form = form.text("language", language.to_owned());
        }
        let url = format!("{}/audio/transcriptions", self.url);
        let mut post = self.client.post(url).multipart(form);
        if let Some(key) = &self.settings.key {
            post = post.bearer_auth(String::from_utf8_lossy(key.bytes()));
        }
        match post.send().await {
            Ok(response) => parse(response).await,
            Err(error) => {
                tracing::warn!(%error, "the engine does not answer");
                let failure = if error.is_timeout() {
                    Failure::EngineTimeout
                } else {
                    Failure::EngineFailed
                };
                Attempt::Retry(failure, None)
            }
        }
    }

    async fn attempts(&self, wav: &[u8], language: Option<&str>) -> Result<Transcript, Failure> {
        let mut backoff =
            Backoff::new(FIRST_PAUSE, LONGEST_PAUSE).expect("the first is below the longest");
        for attempt in 1.. {
            match self.attempt(wav.to_vec(), language).await {
                Attempt::Done(transcript) => return Ok(transcript),
                Attempt::Failed(failure) => return Err(failure),
                Attempt::Retry(failure, retry_after) => {
                    let is_too_long = retry_after.is_some_and(|after| after > MAX_RETRY_AFTER);
                    if attempt == MAX_ATTEMPTS || is_too_long {
                        return Err(failure);
                    }
                    tokio::time::sleep(backoff.next_pause_after(retry_after)).await;
                }
            }
        }
        Err(Failure::EngineFailed)
    }
}

impl Engine for Remote {
    fn transcribe<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Transcript, Failure>> {
        Box::pin(async move { self.attempts(&wav, language).await })
    }
}

async fn parse(response: Response) -> Attempt {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let body = match read(response).await {
        Ok(body) => body,
        Err(failure) => return Attempt::Retry(failure, None),
    };
    if status.is_success() {
        return match serde_json::from_slice::<Body>(&body) {
            Ok(answer) => Attempt::Done(Transcript {
                text: answer.text.trim().to_owned(),
                language: answer.language.as_deref().and_then(tag),
            }),
            Err(error) => {
                tracing::error!(%error, "the engine's response cannot be parsed");
                Attempt::Failed(Failure::EngineFailed)
            }
        };
    }
    let message: String = String::from_utf8_lossy(&body).chars().take(500).collect();
    tracing::error!(%status, message, "the engine refused the request");
    let is_temporary = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    if is_temporary {
        Attempt::Retry(Failure::EngineFailed, retry_after)
    } else {
        Attempt::Failed(Failure::EngineRefused)
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| {
        tracing::warn!(%error, "the engine's response is incomplete");
        Failure::EngineFailed
    })? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_RESPONSE_BYTES {
            tracing::error!("the engine's response has more than {MAX_RESPONSE_BYTES} bytes");
            return Err(Failure::EngineFailed);
        }
    }
    Ok(body)
}

/// The BCP 47 tag of a language; these engines may name it `english`.
fn tag(language: &str) -> Option<String> {
    const NAMES: [(&str, &str); 18] = [
        ("arabic", "ar"),
        ("chinese", "zh"),
        ("czech", "cs"),
        ("dutch", "nl"),
        ("english", "en"),
        ("french", "fr"),
        ("german", "de"),
        ("greek", "el"),
        ("hebrew", "he"),
        ("hindi", "hi"),
        ("italian", "it"),
        ("japanese", "ja"),
        ("korean", "ko"),
        ("polish", "pl"),
        ("portuguese", "pt"),
        ("russian", "ru"),
        ("spanish", "es"),
        ("turkish", "tr"),
    ];
    let language = language.to_ascii_lowercase();
    if (2..=3).contains(&language.len()) {
        return Some(language);
    }
    let named = NAMES.iter().find(|(name, _)| *name == language);
    named.map(|(_, tag)| (*tag).to_owned())
}
