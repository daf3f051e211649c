//! The client that services publish with.
//!
//! What always holds: the idempotency key of a [`Publish`] is fixed when it is
//! built and every retry carries it, so a retry never makes a second event; a
//! call ends with the notifier's answer, with its refusal, or, after the
//! deadline, with [`PublishError::GaveUp`]: never later, never silently.

mod credential;
mod error;
pub mod event;
mod pipeline;
mod receipts;
mod request;
mod revocations;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use self::error::{Failure, Kind};
pub use self::{
    credential::Credential,
    error::{BadField, ConfigError, PublishError, Refusal, WatchError},
    pipeline::{Answer, Pipeline},
    receipts::{ReceiptSubject, ReceiptUpdate, Receipts},
    request::{Publish, Published},
};
#[cfg(doc)]
use crate::address;
use crate::v1::{PublishRequest, notifier_client::NotifierClient};
use crate::{
    backoff::Backoff,
    notifiers::{Notifier, Notifiers, Retry},
    tls::ClientTls,
};

/// A thousand receipts of the longest names; what is larger is not a notifier.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The notifier's address, the credential, and how long to try.
#[derive(Debug, Clone)]
pub struct PublisherConfig {
    /// The notifier's gRPC address, `https://host:port`, see [`address::endpoint`]; or
    /// several of one cluster, separated by commas, see [`Notifiers`].
    pub endpoint: String,
    /// Whom to trust, and what to show. Default: the system's authorities, no
    /// certificate, clear text on this machine alone.
    pub tls: ClientTls,
    /// The service token: who publishes, and what it may.
    pub credential: Credential,
    /// How long one logical publish is tried, all attempts together. Default 30 s.
    pub deadline: Duration,
    /// How long one attempt may take. Default 5 s. Less than a slow disk's fsync
    /// makes attempts fail that would have succeeded.
    pub attempt_timeout: Duration,
    /// Upper bound of the first pause between attempts; it doubles each time and
    /// the pause is drawn evenly from zero to the bound. Above 0, default 100 ms.
    pub first_pause: Duration,
    /// The largest upper bound of a pause. Default 5 s.
    pub longest_pause: Duration,
    /// How many publishes of one [`Pipeline`] may be unanswered; one more waits.
    /// Default 1,024. Each costs its encoded size in memory.
    pub in_flight: usize,
}

impl PublisherConfig {
    /// The defaults, for a notifier at `endpoint`.
    pub fn new(endpoint: impl Into<String>, credential: Credential) -> Self {
        Self {
            endpoint: endpoint.into(),
            tls: ClientTls::default(),
            credential,
            deadline: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(5),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            in_flight: 1024,
        }
    }
}

/// A client of one notifier, or of several that take over from each other. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    notifiers: Notifiers,
    config: Arc<PublisherConfig>,
    backoff: Backoff,
}

impl Publisher {
    /// Makes a client. It connects when it is first used and again whenever the
    /// connection is lost, so the notifier may be away now.
    ///
    /// # Errors
    /// A configuration that can never work.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(config: PublisherConfig) -> Result<Self, ConfigError> {
        if config.in_flight == 0 || config.in_flight > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(ConfigError::InFlight(config.in_flight));
        }
        let backoff = Backoff::new(config.first_pause, config.longest_pause)?;
        let timeout = config.attempt_timeout;
        let tune = move |endpoint: Endpoint| endpoint.connect_timeout(timeout);
        let notifiers = Notifiers::new(&config.endpoint, &config.tls, tune)?;
        Ok(Self {
            notifiers,
            config: Arc::new(config),
            backoff,
        })
    }

    /// Publishes one event and waits until the notifier has it (on disk, if it is
    /// a stored one), trying again as long as that can help.
    ///
    /// # Errors
    /// Each variant of [`PublishError`] says what to do next. Dropping the future
    /// leaves open whether the event was published.
    pub async fn publish(&self, publish: Publish) -> Result<Published, PublishError> {
        let deadline = Instant::now() + self.config.deadline;
        let mut backoff = self.backoff.clone();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let used = self.notifiers.current();
            let attempt = self.attempt(&used, publish.request().clone(), deadline);
            let failure = match attempt.await {
                Ok(published) => return Ok(published),
                Err(failure) => failure,
            };
            let retry_after = match failure.kind {
                Kind::Final => return Err(failure.into_final()),
                Kind::Retry { retry_after } => retry_after,
            };
            let pause = self.pause_after(&used, (&failure, retry_after), &mut backoff);
            if Instant::now() + pause >= deadline {
                return Err(failure.into_gave_up(attempts, publish.key()));
            }
            tracing::debug!(attempts, ?pause, error = %failure.message, "publishing again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Starts a pipelined stream of its own: many publishes under way at once, in
    /// order, at a fraction of the cost of single calls.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::start(self.clone())
    }

    fn client(used: &Notifier) -> NotifierClient<Channel> {
        NotifierClient::new(used.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Chooses the notifier for the next attempt; how long to wait before it.
    fn pause_after(
        &self,
        used: &Notifier,
        (failure, retry_after): (&Failure, Option<Duration>),
        backoff: &mut Backoff,
    ) -> Duration {
        match self.notifiers.after(used, failure.elsewhere.as_ref()) {
            Retry::AtOnce => Duration::ZERO,
            Retry::Elsewhere => backoff.next_pause(),
            Retry::Here => backoff.next_pause_after(retry_after),
        }
    }

    async fn attempt(
        &self,
        used: &Notifier,
        request: PublishRequest,
        deadline: Instant,
    ) -> Result<Published, Failure> {
        let limit = (Instant::now() + self.config.attempt_timeout).min(deadline);
        let mut client = Self::client(used);
        let attempt = async {
            let request = self.authorized(request).await?;
            let answer = client.publish(request).await;
            answer.map_err(|status| Failure::from_status(&status))
        };
        match tokio::time::timeout_at(limit, attempt).await {
            Ok(answer) => Ok(answer?.into_inner().into()),
            Err(_) => Err(Failure::timed_out(self.config.attempt_timeout)),
        }
    }

    /// Adds the credential, read each time so that a rotated one is used.
    async fn authorized<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let Some(header) = self.config.credential.header().await? else {
            return Ok(Request::new(message));
        };
        let mut value = MetadataValue::try_from(header).map_err(|_| {
            Failure::credential(
                "the service token contains characters that a header must not have, give a JWT",
            )
        })?;
        value.set_sensitive(true);
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
