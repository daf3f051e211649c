//! Stored files, in a directory or a bucket.
//!
//! What always holds: a file is visible as a whole or not at all; an upload has at most
//! two pieces in memory; on a disk only the system's user of this process can read it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

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

/// How long ago an unfinished upload was written to last when nobody finishes it.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);
/// The folders of all keys.
const FOLDERS: [&str; 4] = ["originals", "thumbnails", "reports", "recordings"];

#[derive(Debug, Clone)]
pub(crate) struct Files {
    store: Arc<dyn ObjectStore>,
    /// Of a directory.
    root: Option<Arc<PathBuf>>,
}

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
        let mut local = None;
        let store: Arc<dyn ObjectStore> = match &config.storage {
            Storage::Local => {
                let root = config.data_dir.join("files");
                private_folders(&root).map_err(generic)?;
                remove_abandoned(&root).map_err(generic)?;
                local = Some(Arc::new(root.clone()));
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
        Ok(Self { store, root: local })
    }

    /// Stores a small file.
    pub(crate) async fn put(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<(), object_store::Error> {
        let bytes: Bytes = bytes.into();
        self.store.put(&Path::from(key), bytes.into()).await?;
        self.make_private(key).await
    }

    /// Whether a file exists.
    pub(crate) async fn has(&self, key: &str) -> Result<bool, object_store::Error> {
        match self.store.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins a file of at most `limit` bytes.
    pub(crate) async fn begin(&self, key: &str, limit: u64) -> Result<Upload, WriteError> {
        let upload = self.store.put_multipart(&Path::from(key)).await?;
        Ok(Upload {
            files: self.clone(),
            key: key.to_owned(),
            writer: WriteMultipart::new_with_chunk_size(upload, PART_BYTES),
            written: 0,
            limit,
        })
    }

    /// Reads a whole file.
    pub(crate) async fn read(&self, key: &str) -> Result<Bytes, object_store::Error> {
        self.store.get(&Path::from(key)).await?.bytes().await
    }

    /// Bytes of a file.
    pub(crate) async fn size(&self, key: &str) -> Result<u64, object_store::Error> {
        self.store
            .head(&Path::parse(key)?)
            .await
            .map(|meta| meta.size)
    }

    /// A small range of a file.
    pub(crate) async fn part(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, object_store::Error> {
        self.store.get_range(&Path::parse(key)?, range).await
    }

    /// A range of a file as a stream.
    pub(crate) async fn stream(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, object_store::Error>>, object_store::Error> {
        let options = GetOptions::new().with_range(Some(range));
        let result = self.store.get_opts(&Path::parse(key)?, options).await?;
        Ok(result.into_stream())
    }

    /// The store creates files with the mode that the process's mask leaves.
    async fn make_private(&self, key: &str) -> Result<(), object_store::Error> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        let file = root.join(key);
        let private = tokio::fs::set_permissions(file, Permissions::from_mode(0o600)).await;
        private.map_err(generic)
    }

    /// Removes a file, if it exists. False if the store failed.
    pub(crate) async fn discard(&self, key: &str) -> bool {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => true,
            Err(error) => {
                tracing::warn!(key, %error, "a file could not be removed");
                false
            }
        }
    }
}

/// Creates the folders, for the system's user of this process alone. They may have been
/// created by an earlier version.
fn private_folders(root: &std::path::Path) -> io::Result<()> {
    let folders = FOLDERS.iter().map(|folder| root.join(folder));
    for folder in std::iter::once(root.to_owned()).chain(folders) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Removes what uploads of a process that was killed have left: `<key>#<number>`.
fn remove_abandoned(root: &std::path::Path) -> io::Result<()> {
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if entry.file_name().as_encoded_bytes().contains(&b'#') && age > ABANDONED_AFTER {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn generic(source: io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "local",
        source: source.into(),
    }
}

/// A file that is being uploaded. End it with [`Upload::finish`] or [`Upload::abort`].
pub(crate) struct Upload {
    files: Files,
    key: String,
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
        Ok(self.files.make_private(&self.key).await?)
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
