//! Jobs of kind `image`: measures an uploaded or fetched picture, strips its metadata
//! and makes a thumbnail.
//!
//! What always holds: a picture is decoded in a child process; nothing that it does
//! there can take more than its job with it.

mod child;
mod clean;
mod jpeg;
mod picture;
mod process;

use std::{sync::Arc, time::Duration};

use belfry::{
    publisher::event,
    v1::{self, Event, ImageProcessed},
};
use image::ImageFormat;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::child::{DecodePictureError, decode_picture};
pub(crate) use self::{picture::sniff, process::Decoder};
use crate::{
    clock::{expiry_s, time_of},
    config::Config,
    failure::Failure,
    fetch::{Fetcher, UrlSource},
    job::{ConcurrencyLimit, Job, JobContext, Kind, KindLimits},
    sign::Signer,
    storage::{Files, WriteError, unavailable},
};

/// The request for a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Input {
    /// One of the configured document types.
    pub(crate) document_type: String,
    /// Where to fetch it; without a URL the original is stored already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Url>,
    /// The URL was given by a form's webhook, not by the user.
    #[serde(default, alias = "ofForm", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) from_form: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    pub(crate) thumbnail_key: String,
    /// Unix seconds: when the links of the terminal event expire.
    #[serde(default)]
    pub(crate) urls_expire_at_s: i64,
}

/// The key of a document's original.
pub(crate) fn original_key(document_id: &str) -> String {
    format!("originals/{document_id}")
}

/// The kind `image`.
pub(crate) struct Images {
    pub(crate) config: Arc<Config>,
    pub(crate) files: Files,
    pub(crate) fetcher: Fetcher,
    pub(crate) signer: Signer,
    pub(crate) decoder: Decoder,
}

impl Kind for Images {
    const NAME: &'static str = "image";
    type Input = Input;
    type Output = Output;

    fn limits(&self) -> KindLimits {
        KindLimits {
            concurrency: ConcurrencyLimit::new(
                self.config.workers,
                self.config.queue,
                self.config.jobs_per_user,
            ),
            timeout: self.config.job_timeout,
            cpu: None,
        }
    }

    fn started(&self, job: &Job<Input>) -> Event {
        event::image_processing_started(&job.resource_id, &job.input.document_type)
    }

    fn completed(&self, job: &Job<Input>, output: &Output, took: Duration) -> Event {
        let expires_at_s = output.urls_expire_at_s;
        let expires_at = time_of(expires_at_s);
        let link = |key: &str| event::signed_url(self.signer.link(key, expires_at_s), expires_at);
        event::image_processed(ImageProcessed {
            document_id: job.resource_id.clone(),
            document_type: job.input.document_type.clone(),
            signed_url: Some(link(&original_key(&job.resource_id))),
            thumbnail_url: Some(link(&output.thumbnail_key)),
            processing_duration: Some(event::duration(took)),
            width_px: output.width,
            height_px: output.height,
        })
    }

    fn failed(&self, job: &Job<Input>, reason: v1::Failure) -> Event {
        event::image_processing_failed(&job.resource_id, &job.input.document_type, reason)
    }

    /// Fetches here, so that a slow host holds no permit.
    async fn prepare(&self, job: &Job<Input>, context: &JobContext) -> Result<(), Failure> {
        let key = original_key(&job.resource_id);
        let stored = self.files.has(&key).await.map_err(|e| unavailable(&e))?;
        match &job.input.url {
            _ if stored => Ok(()),
            Some(url) => {
                context.progress(5, "fetching the picture");
                let source = if job.input.from_form {
                    UrlSource::Form
                } else {
                    UrlSource::User
                };
                self.fetch(&key, url.clone(), source).await
            }
            // The upload was not finished when the record was written, or the file is gone.
            None => Err(Failure::Interrupted),
        }
    }

    async fn work(&self, job: &Job<Input>, context: &JobContext) -> Result<Output, Failure> {
        context.progress(20, "decoding the picture");
        let key = original_key(&job.resource_id);
        let bytes = self.files.read(&key).await.map_err(|e| unavailable(&e))?;
        let picture = self.decoder.process(&bytes).await?;
        context.progress(80, "storing the pictures");
        // From here on the metadata of the camera is in no stored file.
        let stored = self.files.put(&key, picture.cleaned).await;
        stored.map_err(|e| unavailable(&e))?;
        let extension = match picture.thumbnail_format {
            ImageFormat::Png => "png",
            _ => "jpg",
        };
        let thumbnail_key = format!("thumbnails/{}.{extension}", job.resource_id);
        let stored = self.files.put(&thumbnail_key, picture.thumbnail).await;
        stored.map_err(|e| unavailable(&e))?;
        Ok(Output {
            width: picture.width,
            height: picture.height,
            thumbnail_key,
            urls_expire_at_s: expiry_s(self.config.url_lifetime),
        })
    }

    fn files(&self, job: &Job<Input>) -> Vec<String> {
        let thumbnail = |extension| format!("thumbnails/{}.{extension}", job.resource_id);
        vec![
            original_key(&job.resource_id),
            thumbnail("jpg"),
            thumbnail("png"),
        ]
    }
}

impl Images {
    async fn fetch(&self, key: &str, url: Url, source: UrlSource) -> Result<(), Failure> {
        let limit = self.config.max_file_bytes;
        let mut body = self.fetcher.open(url, limit, source).await?;
        let mut upload = self.files.begin(key, limit).await.map_err(write_failure)?;
        let written = loop {
            match body.chunk().await {
                Ok(None) if upload.written() == 0 => break Err(Failure::EmptyFile),
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
                Ok(Some(chunk)) => {
                    if let Err(error) = upload.write(chunk).await {
                        break Err(write_failure(error));
                    }
                }
            }
        };
        if let Err(failure) = written {
            upload.abort().await;
            return Err(failure);
        }
        upload.finish().await.map_err(write_failure)
    }
}

fn write_failure(error: WriteError) -> Failure {
    match error {
        WriteError::TooLarge(_) => Failure::TooLarge,
        WriteError::Store(error) => unavailable(&error),
    }
}
