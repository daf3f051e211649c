//! Waiting for what no event announces: another process, a table, a metric.
//!
//! There is one shape for it: observe until a condition holds, fail at the deadline
//! with what was observed last. No test sleeps in place of a condition.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// Long enough for a busy machine; a test that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// Between two observations.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Observes until `holds`, and returns that observation. `what` completes the
/// sentence "waited for …".
pub(crate) async fn wait_for<T: Debug, F: Future<Output = T>>(
    what: &str,
    observe: impl FnMut() -> F,
    holds: impl Fn(&T) -> bool,
) -> T {
    wait_within(DEADLINE, what, observe, holds).await
}

/// The same for what takes longer by itself.
pub(crate) async fn wait_within<T: Debug, F: Future<Output = T>>(
    limit: Duration,
    what: &str,
    mut observe: impl FnMut() -> F,
    holds: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let observed = observe().await;
        if holds(&observed) {
            return observed;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} for {what}, last observed: {observed:?}"
        );
        sleep(POLL_INTERVAL).await;
    }
}
