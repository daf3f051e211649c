//! An engine behind HTTP that speaks like `OpenAI`'s `/v1/audio/transcriptions`, as
//! many do.
//!
//! What always holds: no more of an answer is read than [`MAX_ANSWER_BYTES`]; what
//! may pass is tried again, three times at most, and not before the engine wants it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{
    Client, Response, StatusCode,
    header::RETRY_AFTER,
    multipart::{Form, Part},
    redirect::Policy,
};
use serde::Deserialize;

use super::{Engine, Heard};
use crate::{config::RemoteTranscriber, failure::Failure};

const MAX_ANSWER_BYTES: usize = 1 << 20;
const ATTEMPTS: u32 = 3;
/// Before the second attempt; four times as long before the third.
const PAUSE: Duration = Duration::from_millis(500);
/// An engine that wants more patience is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module's page.
pub(super) struct Remote {
    client: Client,
    config: RemoteTranscriber,
}

/// One attempt.
enum Attempt {
    Heard(Heard),
    /// It may pass; the engine wants so much patience.
    Again(Failure, Option<Duration>),
    Failed(Failure),
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    #[serde(default)]
    language: Option<String>,
}

impl Remote {
    /// `timeout` is for one attempt.
    pub(super) fn new(
        config: &RemoteTranscriber,
        timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            // The key is for this host.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .user_agent("belfry")
            .build()?;
        Ok(Self {
            client,
            config: config.clone(),
        })
    }

    async fn attempt(&self, wav: Vec<u8>, language: Option<&str>) -> Attempt {
        let file = Part::bytes(wav).file_name("segment.wav");
        // Models of the name tell the language in the longer form; others refuse it.
        let whisper = self.config.model.contains("whisper");
        let format = if whisper { "verbose_json" } else { "json" };
        let mut form = Form::new()
            .part("file", file)
            .text("model", self.config.model.clone())
            .text("response_format", format);
        if let Some(language) = language {
            form = form.text("language", language.to_owned());
        }
        let url = format!(
            "{}/audio/transcriptions",
            self.config.url.trim_end_matches('/')
        );
        let mut post = self.client.post(url).multipart(form);
        if let Some(key) = &self.config.key {
            post = post.bearer_auth(String::from_utf8_lossy(key.bytes()));
        }
        match post.send().await {
            Ok(response) => answer(response).await,
            Err(error) => {
                tracing::warn!(%error, "the engine does not answer");
                let failure = if error.is_timeout() {
                    Failure::EngineTimeout
                } else {
                    Failure::EngineFailed
                };
                Attempt::Again(failure, None)
            }
        }
    }

    async fn attempts(&self, wav: &[u8], language: Option<&str>) -> Result<Heard, Failure> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.attempt(wav.to_vec(), language).await {
                Attempt::Heard(heard) => return Ok(heard),
                Attempt::Failed(failure) => return Err(failure),
                Attempt::Again(failure, wanted) => {
                    let next = wanted.unwrap_or(pause);
                    if attempt == ATTEMPTS || next > LONGEST_PAUSE {
                        return Err(failure);
                    }
                    tokio::time::sleep(next).await;
                    pause *= 4;
                }
            }
        }
        Err(Failure::EngineFailed)
    }
}

impl Engine for Remote {
    fn hear<'a>(
        &'a self,
        wav: Vec<u8>,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Heard, Failure>> {
        Box::pin(async move { self.attempts(&wav, language).await })
    }
}

async fn answer(response: Response) -> Attempt {
    let status = response.status();
    let patience = response.headers().get(RETRY_AFTER);
    let patience = patience.and_then(|value| value.to_str().ok()?.parse().ok());
    let patience = patience.map(Duration::from_secs);
    let body = match body(response).await {
        Ok(body) => body,
        Err(failure) => return Attempt::Again(failure, None),
    };
    if status.is_success() {
        return match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) => Attempt::Heard(Heard {
                text: answer.text.trim().to_owned(),
                language: answer.language.as_deref().and_then(tag),
            }),
            Err(error) => {
                tracing::error!(%error, "the engine's answer cannot be read");
                Attempt::Failed(Failure::EngineFailed)
            }
        };
    }
    let said: String = String::from_utf8_lossy(&body).chars().take(500).collect();
    tracing::error!(%status, said, "the engine refuses");
    let passes = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    if passes {
        Attempt::Again(Failure::EngineFailed, patience)
    } else {
        Attempt::Failed(Failure::EngineRefused)
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| {
        tracing::warn!(%error, "the engine's answer breaks off");
        Failure::EngineFailed
    })? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            tracing::error!("the engine's answer has more than {MAX_ANSWER_BYTES} bytes");
            return Err(Failure::EngineFailed);
        }
    }
    Ok(body)
}

/// A language as BCP 47 has it; engines of this kind say `english`.
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
