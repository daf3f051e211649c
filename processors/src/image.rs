//! Pictures: the first kind of job. A stored or fetched original becomes a record
//! of its size and a thumbnail, both behind signed links.

mod clean;
mod picture;

use std::{sync::Arc, time::Duration};

use belfry::{
    publisher::event,
    v1::{self, Event, ImageProcessed},
};
use bytes::Bytes;
use image::ImageFormat;
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) use self::picture::{Budget, fit, sniff};
use self::picture::{Picture, process};
use crate::{
    clock::{expiry_s, time_of},
    config::Config,
    failure::Failure,
    fetch::{Fetcher, Whose},
    job::{AtWork, Job, Kind, Places, Terms},
    sign::Signer,
    storage::{Files, WriteError, unavailable},
};

/// What is asked of a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Input {
    /// What it shows, in the user's words.
    pub(crate) document_type: String,
    /// Where it is to be fetched from; otherwise the original is stored already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Url>,
    /// A form's webhook gave the address, not the user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) of_form: bool,
}

/// What is made of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Where the thumbnail is.
    pub(crate) thumbnail_key: String,
    /// Unix seconds: the expiry of the links in the event that tells of it.
    #[serde(default)]
    pub(crate) urls_expire_at_s: i64,
}

/// Where the original of a document is kept.
pub(crate) fn original_key(document_id: &str) -> String {
    format!("originals/{document_id}")
}

/// The kind of job. Holds what pictures are worked on with.
pub(crate) struct Images {
    pub(crate) config: Arc<Config>,
    pub(crate) files: Files,
    pub(crate) fetcher: Fetcher,
    pub(crate) signer: Signer,
}

impl Kind for Images {
    const NAME: &'static str = "image";
    type Input = Input;
    type Output = Output;

    fn terms(&self) -> Terms {
        Terms {
            places: Places::of(
                self.config.workers,
                self.config.queue,
                self.config.jobs_per_user,
            ),
            timeout: self.config.job_timeout,
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

    /// A slow host keeps no worker waiting.
    async fn prepare(&self, job: &Job<Input>, at: &AtWork) -> Result<(), Failure> {
        let key = original_key(&job.resource_id);
        let stored = self.files.has(&key).await.map_err(|e| unavailable(&e))?;
        match &job.input.url {
            _ if stored => Ok(()),
            Some(url) => {
                at.progress(5, "fetching the picture");
                let whose = if job.input.of_form {
                    Whose::Form
                } else {
                    Whose::User
                };
                self.fetch(&key, url.clone(), whose).await
            }
            // Its upload was not finished when its record was written, or it is gone.
            None => Err(Failure::Interrupted),
        }
    }

    async fn work(&self, job: &Job<Input>, at: &AtWork) -> Result<Output, Failure> {
        at.progress(20, "decoding the picture");
        let key = original_key(&job.resource_id);
        let bytes = self.files.read(&key).await.map_err(|e| unavailable(&e))?;
        let picture = self.process(bytes, at).await?;
        at.progress(80, "storing the pictures");
        // From here on nobody is given what the camera wrote into it.
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

    async fn clean(&self, job: &Job<Input>) {
        self.files.remove(&original_key(&job.resource_id)).await;
        for extension in ["jpg", "png"] {
            let key = format!("thumbnails/{}.{extension}", job.resource_id);
            self.files.remove(&key).await;
        }
    }
}

impl Images {
    async fn process(&self, bytes: Bytes, at: &AtWork) -> Result<Picture, Failure> {
        let budget = Budget {
            pixels: self.config.max_pixels,
            bytes: self.config.max_decode_bytes,
        };
        let at = at.clone();
        let work = tokio::task::spawn_blocking(move || {
            process(&bytes, budget, || {
                at.progress(50, "making the thumbnail");
                // Nobody waits for the thumbnail of what was called off.
                !at.is_off()
            })
        });
        work.await.map_err(|e| {
            tracing::error!(error = %e, "a picture could not be processed");
            Failure::Internal
        })?
    }

    async fn fetch(&self, key: &str, url: Url, whose: Whose) -> Result<(), Failure> {
        let limit = self.config.max_file_bytes;
        let mut body = self.fetcher.open(url, limit, whose).await?;
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
