//! What was taken back, for services that verify tokens of persons themselves.

use tokio::time::timeout;

use super::{Publisher, WatchError, error::Failure};
use crate::v1::{GetRevocationsRequest, GetRevocationsResponse};

/// Bytes of an answer at most: a full list has less than half of it.
const MAX_LIST_BYTES: usize = 8 << 20;

impl Publisher {
    /// Reads what is taken back, in one attempt. With the version of the answer before,
    /// the list is empty if nothing has changed since.
    ///
    /// # Errors
    /// Each variant of [`WatchError`] says what to do next; one that did not reach the
    /// notifier is [`WatchError::Refused`].
    pub async fn revocations(&self, version: u64) -> Result<GetRevocationsResponse, WatchError> {
        let limit = self.config.attempt_timeout;
        let used = self.notifiers.current();
        let mut client = Self::client(&used).max_decoding_message_size(MAX_LIST_BYTES);
        let attempt = async {
            let request = self.authorized(GetRevocationsRequest { version }).await?;
            let answer = client.get_revocations(request).await;
            answer.map_err(|status| Failure::from_status(&status))
        };
        let answer = timeout(limit, attempt).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::timed_out(limit)));
        if let Err(failure) = &answer {
            // The next call goes where this failure says; it has an interval of its own.
            self.notifiers.after(&used, failure.elsewhere.as_ref());
        }
        Ok(answer.map_err(Failure::into_watch_error)?.into_inner())
    }
}
