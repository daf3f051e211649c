//! Where the service token comes from. It is never printed.

use std::{fmt, io, path::PathBuf, sync::Arc};

use super::error::Failure;

/// A source of service tokens. It is read before each attempt, so a token that
/// expires can be replaced while the service runs.
#[derive(Clone)]
pub struct Credential(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<str>),
    File(Arc<PathBuf>),
    Minted(Arc<dyn Fn() -> String + Send + Sync>),
    Certificate,
}

impl Credential {
    /// One token for as long as the publisher lives.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Source::Fixed(token.into().into()))
    }

    /// The file that holds the token; it may be replaced at any time.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(Arc::new(path.into())))
    }

    /// A function that makes a token for each attempt. It must not block.
    pub fn minted(mint: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Source::Minted(Arc::new(mint)))
    }

    /// No token: the certificate of [`ClientTls::own`](crate::tls::ClientTls::own) says
    /// who this is.
    pub fn certificate() -> Self {
        Self(Source::Certificate)
    }

    /// `Bearer …`, with the token as it is now; `None`: there is no token.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub async fn bearer(&self) -> io::Result<Option<String>> {
        let bearer = |token: &str| Ok(Some(format!("Bearer {}", token.trim())));
        match &self.0 {
            Source::Certificate => Ok(None),
            Source::Fixed(token) => bearer(token),
            Source::Minted(mint) => bearer(&mint()),
            Source::File(path) => match tokio::fs::read_to_string(path.as_path()).await {
                Ok(token) => bearer(&token),
                Err(error) => {
                    let path = path.display();
                    let message =
                        format!("the service token file `{path}` cannot be read: {error}");
                    Err(io::Error::new(error.kind(), message))
                }
            },
        }
    }

    pub(super) async fn header(&self) -> Result<Option<String>, Failure> {
        let bearer = self.bearer().await;
        bearer.map_err(|error| Failure::credential(&error.to_string()))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Fixed(_) => f.write_str("Credential(redacted)"),
            Source::File(path) => write!(f, "Credential(file {})", path.display()),
            Source::Minted(_) => f.write_str("Credential(minted)"),
            Source::Certificate => f.write_str("Credential(certificate)"),
        }
    }
}
