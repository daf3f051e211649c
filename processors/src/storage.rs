//! Stored files, in a directory or a bucket.
//!
//! What always holds: a file is visible as a whole or not at all; an upload has at most
//! two pieces in memory.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path,
};

use crate::{
    config::{Config, Storage},
    failure::Failure,
};

/// Bytes of one part of an upload: the minimum of S3.
const PART_BYTES: usize = 5 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Files(Arc<dyn ObjectStore>);

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Over the limit.
    #[error("the file has more than {0} bytes, send a smaller one")]
    TooLarge(u64),
    /// The store failed.
    #[error("the file could not be stored: {0}")]
    Store(#[from] object_store::Error),
}

impl Files {
    pub(crate) fn open(config: &Config) -> Result<Self, object_store::Error> {
        let store: Arc<dyn ObjectStore> = match &config.storage {
            Storage::Local => {
                let root = config.data_dir.join("files");
                std::fs::create_dir_all(&root).map_err(|source| object_store::Error::Generic {
                    store: "local",
                    source: source.into(),
                })?;
                Arc::new(LocalFileSystem::new_with_prefix(root)?.with_fsync(true))
            }
            Storage::S3 {
                bucket,
                region,
                endpoint,
                access_key_id,
                secret_access_key,
            } => {
                let secret = String::from_utf8_lossy(secret_access_key.bytes());
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_access_key_id(access_key_id)
                    .with_secret_access_key(secret);
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint).with_allow_http(true);
                }
                Arc::new(builder.build()?)
            }
        };
        Ok(Self(store))
    }

    /// Stores a small file.
    pub(crate) async fn put(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<(), object_store::Error> {
        let bytes: Bytes = bytes.into();
        self.0.put(&Path::from(key), bytes.into()).await.map(drop)
    }

    /// Whether a file exists.
    pub(crate) async fn has(&self, key: &str) -> Result<bool, object_store::Error> {
        match self.0.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins a file of at most `limit` bytes.
    pub(crate) async fn begin(&self, key: &str, limit: u64) -> Result<Upload, WriteError> {
        let upload = self.0.put_multipart(&Path::from(key)).await?;
        Ok(Upload {
            writer: WriteMultipart::new_with_chunk_size(upload, PART_BYTES),
            written: 0,
            limit,
        })
    }

    /// Reads a whole file.
    pub(crate) async fn read(&self, key: &str) -> Result<Bytes, object_store::Error> {
        self.0.get(&Path::from(key)).await?.bytes().await
    }

    /// Bytes of a file.
    pub(crate) async fn size(&self, key: &str) -> Result<u64, object_store::Error> {
        self.0.head(&Path::parse(key)?).await.map(|meta| meta.size)
    }

    /// A small range of a file.
    pub(crate) async fn part(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, object_store::Error> {
        self.0.get_range(&Path::parse(key)?, range).await
    }

    /// A range of a file as a stream.
    pub(crate) async fn stream(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, object_store::Error>>, object_store::Error> {
        let options = GetOptions::new().with_range(Some(range));
        let result = self.0.get_opts(&Path::parse(key)?, options).await?;
        Ok(result.into_stream())
    }

    /// Removes a file, if it exists.
    pub(crate) async fn remove(&self, key: &str) {
        match self.0.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(key, %error, "a file could not be removed"),
        }
    }
}

/// A file that is being uploaded. End it with [`Upload::finish`] or [`Upload::abort`].
pub(crate) struct Upload {
    writer: WriteMultipart,
    written: u64,
    limit: u64,
}

impl Upload {
    /// Adds bytes, waiting while the store is slower.
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        self.written += chunk.len() as u64;
        if self.written > self.limit {
            return Err(WriteError::TooLarge(self.limit));
        }
        self.writer.wait_for_capacity(1).await?;
        self.writer.put(chunk);
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Makes the file visible.
    pub(crate) async fn finish(self) -> Result<(), WriteError> {
        self.writer.finish().await?;
        Ok(())
    }

    pub(crate) async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(%error, "an unfinished upload could not be removed");
        }
    }
}

/// Logs an error of the store; a retry may succeed.
pub(crate) fn unavailable(error: &object_store::Error) -> Failure {
    tracing::error!(%error, "the store of files failed");
    Failure::Unavailable
}
