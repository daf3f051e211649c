//! The notifiers that a client may use, and which of them it uses now.
//!
//! What always holds: a connection is opened only to an address of the list, or to one
//! that a notifier answered with `MOVED`, under the same rules and with the scheme of
//! the one that answered. Such a hint is followed without a pause once a second at most,
//! so notifiers that name each other cost no more than the caller's backoff.

use std::{
    error::Error as _,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::{
    address::{self, AddressError},
    reason::{MOVED_TO, Reason},
    tls::ClientTls,
};

/// Addresses of one list at most.
pub const MAX_NOTIFIERS: usize = 16;
/// The least time between two hints that are followed without a pause.
const HINT_INTERVAL: Duration = Duration::from_secs(1);

/// Why another notifier is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// It answered `MOVED`, with the address of the one that has the log if it knows it.
    Moved(Option<String>),
    /// It cannot be reached, went away, or does not serve now.
    Away,
}

impl Elsewhere {
    /// What a failed call says; `None` if another notifier would answer the same.
    pub fn of(status: &Status) -> Option<Self> {
        if let Some(mut info) = status.get_details_error_info()
            && info.reason == Reason::Moved.name()
        {
            return Some(Self::Moved(info.metadata.remove(MOVED_TO)));
        }
        // A status with a source was made on this side: the connection broke.
        let broken = status.source().is_some();
        (broken || status.code() == Code::Unavailable).then_some(Self::Away)
    }
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At once, at another notifier.
    AtOnce,
    /// After a pause, at another notifier: what the last one said about time is not
    /// about that one.
    Elsewhere,
    /// After a pause, at the same notifier.
    Here,
}

/// One notifier as it is used for one call.
#[derive(Debug, Clone)]
pub struct Notifier {
    /// Which choice this is.
    turn: u64,
    /// Where the list goes on after it.
    place: usize,
    address: Arc<str>,
    channel: Channel,
}

impl Notifier {
    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// It connects when it is first used, and again when it is lost.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// The notifiers of one client. Clones choose together.
#[derive(Clone)]
pub struct Notifiers(Arc<Shared>);

struct Shared {
    known: Vec<(Arc<str>, Channel)>,
    tls: ClientTls,
    tune: Box<dyn Fn(Endpoint) -> Endpoint + Send + Sync>,
    choice: Mutex<Choice>,
}

struct Choice {
    current: Notifier,
    /// When a hint was last followed without a pause, and to which turn.
    hint: Option<(Instant, u64)>,
}

impl fmt::Debug for Notifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.known.iter().map(|(address, _)| address);
        f.debug_list().entries(known).finish()
    }
}

/// The addresses of a list, as they are written: separated by commas.
pub fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

impl Notifiers {
    /// Those of `list`: addresses as of [`address::endpoint`], separated by commas, the
    /// first one first. `tune` changes settings of each transport. Connects to nothing
    /// yet.
    ///
    /// # Errors
    /// An address that cannot be used, or more than [`MAX_NOTIFIERS`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        list: &str,
        tls: &ClientTls,
        tune: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static,
    ) -> Result<Self, AddressError> {
        let mut known = Vec::new();
        for address in split(list) {
            if known.len() == MAX_NOTIFIERS {
                return Err(AddressError::TooMany);
            }
            let endpoint = address::endpoint(address, tls)?.with(&tune);
            known.push((Arc::from(address), endpoint.connect_lazy()));
        }
        let (address, channel) = known[0].clone();
        let current = Notifier {
            turn: 0,
            place: 0,
            address,
            channel,
        };
        Ok(Self(Arc::new(Shared {
            known,
            tls: tls.clone(),
            tune: Box::new(tune),
            choice: Mutex::new(Choice {
                current,
                hint: None,
            }),
        })))
    }

    /// The one to use now.
    pub fn current(&self) -> Notifier {
        self.choice().current.clone()
    }

    /// A call to `used` failed: chooses the one to use next.
    pub fn after(&self, used: &Notifier, failure: Option<&Elsewhere>) -> Retry {
        let Some(failure) = failure else {
            return Retry::Here;
        };
        let hint = match failure {
            Elsewhere::Moved(Some(to)) => self.hinted(used, to),
            Elsewhere::Moved(None) | Elsewhere::Away => None,
        };
        let mut choice = self.choice();
        if choice.current.turn != used.turn {
            // Another call was faster.
            let followed = choice.hint.is_some_and(|(_, turn)| turn == used.turn + 1);
            let moved = matches!(failure, Elsewhere::Moved(_));
            return if moved && followed && choice.current.turn == used.turn + 1 {
                Retry::AtOnce
            } else {
                Retry::Elsewhere
            };
        }
        let turn = used.turn + 1;
        if let Some((place, address, channel)) = hint {
            tracing::info!(from = used.address(), to = &*address, "the notifier moved");
            choice.current = Notifier {
                turn,
                place,
                address,
                channel,
            };
            let now = Instant::now();
            let rested = |(at, _): (Instant, u64)| now.duration_since(at) >= HINT_INTERVAL;
            if choice.hint.is_none_or(rested) {
                choice.hint = Some((now, turn));
                return Retry::AtOnce;
            }
            return Retry::Elsewhere;
        }
        let place = (used.place + 1) % self.0.known.len();
        let (address, channel) = self.0.known[place].clone();
        if address == used.address {
            return Retry::Here;
        }
        tracing::info!(
            from = used.address(),
            to = &*address,
            "trying the next notifier"
        );
        choice.current = Notifier {
            turn,
            place,
            address,
            channel,
        };
        Retry::Elsewhere
    }

    /// The notifier that `used` named, if it may be used.
    fn hinted(&self, used: &Notifier, to: &str) -> Option<(usize, Arc<str>, Channel)> {
        let known = &self.0.known;
        let place = known.iter().position(|(address, _)| **address == *to);
        if to == used.address() {
            return None;
        }
        if let Some(place) = place {
            let (address, channel) = known[place].clone();
            return Some((place, address, channel));
        }
        let scheme = |address: &str| Some(address.split_once("://")?.0.to_ascii_lowercase());
        if scheme(to) != scheme(used.address()) {
            tracing::warn!(
                to,
                "a notifier named an address with another scheme, ignored"
            );
            return None;
        }
        match address::endpoint(to, &self.0.tls) {
            Ok(endpoint) => {
                let channel = endpoint.with(&self.0.tune).connect_lazy();
                Some((used.place, Arc::from(to), channel))
            }
            Err(error) => {
                tracing::warn!(%error, "a notifier named an address that cannot be used");
                None
            }
        }
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.0.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
