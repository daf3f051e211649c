//! When a service drains: first it says that it is not ready, later it begins.
//!
//! A load balancer needs a moment to notice that a backend is not ready. Between the two
//! steps everything is served as before, new connections too.

use tokio_util::sync::CancellationToken;

/// The two steps from serving to draining.
#[derive(Debug, Clone)]
pub struct DrainSignal {
    /// From here on `/readyz` answers 503; everything is still served.
    pub unready: CancellationToken,
    /// From here on the service drains. Never before `unready`.
    pub start: CancellationToken,
}

/// Both at once.
impl From<CancellationToken> for DrainSignal {
    fn from(start: CancellationToken) -> Self {
        Self {
            unready: start.clone(),
            start,
        }
    }
}

impl DrainSignal {
    /// A signal of a service's own: it follows this one, and can be given alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            unready: self.unready.child_token(),
            start: self.start.child_token(),
        }
    }

    /// Both steps at once.
    pub fn cancel(&self) {
        self.unready.cancel();
        self.start.cancel();
    }
}
