//! A set of public keys at a URL, fetched again and again.
//!
//! What always holds: the URL is the configured one, redirects are not followed, and
//! nothing that a token says leads anywhere. Fetches begin at least [`Schedule::pause`]
//! apart, except for SIGHUP. A body is bounded in bytes and time. While the URL errs, the
//! keys of its last answer stay in use.

use std::{sync::Arc, time::Duration};

use belfry::identity::{KeyError, KeyOrigin, KeySet};
use reqwest::{Client, redirect::Policy};
use tokio::time::{Instant, sleep_until, timeout};

use super::KeyStore;
use crate::{config::keys::JwksSource, exit::Failure, serve::process::Reload};

/// Longest set of keys, in bytes.
const MAX_BYTES: usize = 256 << 10;
/// How long one fetch may take.
const FETCH: Duration = Duration::from_secs(10);
/// Time between two fetches at least, whatever tokens name.
const PAUSE: Duration = Duration::from_mins(1);

/// Why a set was not fetched. Nothing of the body is shown.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("it cannot be fetched: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the answer was {0}")]
    Status(reqwest::StatusCode),
    #[error("it did not come within 10 s")]
    Slow,
    #[error("it has more than 256 KiB")]
    Long,
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// When a set is fetched.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    refresh: Duration,
    pause: Duration,
}

/// Fetches the set once, for a command that serves nothing.
pub(crate) async fn fetch(source: JwksSource) -> Result<KeySet, Failure> {
    let url = source.url.clone();
    let fetcher = Fetcher::new(source).map_err(Failure::failed)?;
    let answer = timeout(FETCH, fetcher.fetch()).await;
    answer.unwrap_or(Err(FetchError::Slow)).map_err(|error| {
        Failure::failed(error).while_doing(&format!("no keys of user tokens come from `{url}`"))
    })
}

/// Fetches the set, then keeps it fresh for as long as the process lives. The first
/// fetch is awaited; a start goes on without it, since publishing needs no user key.
pub(super) async fn keep(
    source: JwksSource,
    store: Arc<KeyStore>,
    reload: Reload,
) -> Result<(), Failure> {
    let schedule = Schedule {
        refresh: source.refresh,
        pause: PAUSE,
    };
    let fetcher = Fetcher::new(source).map_err(Failure::failed)?;
    let started = Instant::now();
    fetcher.refresh(&store).await;
    tokio::spawn(run(fetcher, store, reload, (schedule, started)));
    Ok(())
}

async fn run(
    fetcher: Fetcher,
    store: Arc<KeyStore>,
    mut reload: Reload,
    (schedule, mut started): (Schedule, Instant),
) {
    loop {
        let unknown_key = async {
            store.writer.unknown_key().await;
            sleep_until(started + schedule.pause).await;
        };
        tokio::select! {
            () = sleep_until(started + schedule.refresh) => {}
            () = unknown_key => {}
            Ok(()) = reload.changed() => {}
        }
        started = Instant::now();
        fetcher.refresh(&store).await;
    }
}

struct Fetcher {
    client: Client,
    source: JwksSource,
    origin: KeyOrigin,
}

impl Fetcher {
    fn new(source: JwksSource) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(Policy::none())
            .timeout(FETCH)
            .https_only(source.url.starts_with("https"))
            .no_proxy()
            .build()?;
        let origin = KeyOrigin {
            name: source.url.as_str().into(),
            issuer: source.issuer.clone(),
            public: true,
        };
        Ok(Self {
            client,
            source,
            origin,
        })
    }

    async fn refresh(&self, store: &KeyStore) {
        let fetched = timeout(FETCH, self.fetch()).await;
        let put = fetched
            .unwrap_or(Err(FetchError::Slow))
            .and_then(|set| Ok(store.put_fetched(set)?));
        match put {
            Ok(None) => {}
            Ok(Some(keys)) => tracing::info!(%keys, "the keys of user tokens have changed"),
            Err(error) => {
                store.writer.read_failed();
                tracing::error!(
                    url = self.source.url,
                    %error,
                    "the keys of user tokens are not fresh, those of the last answer stay in use"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let request = self.client.get(&self.source.url);
        let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::Long);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::from_jwks(&body, &self.origin)?)
    }
}

#[cfg(test)]
mod tests;
