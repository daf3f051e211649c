//! Which requests may send a body: a pool of uploads under way, bounded in number and
//! in memory.
//!
//! What always holds: one person has few of them; the last quarter of the pool, in
//! number and in memory, is kept for persons who have none; what is refused says which
//! bucket was full.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderMap, header::CONTENT_LENGTH};

use crate::config::UploadLimits;

/// Memory of one upload at most: two pieces on their way to the store.
const UPLOAD_BYTES: u64 = 10 << 20;
/// The share of the pool that is kept for persons who have no upload under way.
const KEPT: u64 = 4;

/// The pool. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploads(Arc<Mutex<Pool>>);

#[derive(Debug)]
struct Pool {
    limits: UploadLimits,
    count: usize,
    bytes: u64,
    users: BTreeMap<String, usize>,
}

/// The right to send one body.
#[derive(Debug)]
pub(crate) struct UploadPermit {
    pool: Uploads,
    user: String,
    bytes: u64,
}

/// Which bucket is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadRefused {
    /// The person's own, with its size.
    PerUser(usize),
    /// The pool, or the part of it that persons with an upload under way may have.
    Count,
    /// The memory of the pool, likewise.
    Memory,
}

impl UploadRefused {
    /// The name of the bucket, in answers and counters.
    pub(crate) fn bucket(self) -> &'static str {
        match self {
            UploadRefused::PerUser(_) => "uploads_per_user",
            UploadRefused::Count => "uploads",
            UploadRefused::Memory => "upload_memory",
        }
    }
}

impl Uploads {
    /// Without uploads.
    pub(crate) fn new(limits: UploadLimits) -> Self {
        Self(Arc::new(Mutex::new(Pool {
            limits,
            count: 0,
            bytes: 0,
            users: BTreeMap::new(),
        })))
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads under way.
    pub(crate) fn count(&self) -> usize {
        self.pool().count
    }

    /// Admits a body of a person, before anything of it is read.
    pub(crate) fn admit(
        &self,
        user: &str,
        headers: &HeaderMap,
    ) -> Result<UploadPermit, UploadRefused> {
        let declared = headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = declared.unwrap_or(UPLOAD_BYTES).min(UPLOAD_BYTES);
        self.pool().admit(user, bytes)?;
        Ok(UploadPermit {
            pool: self.clone(),
            user: user.to_owned(),
            bytes,
        })
    }
}

impl Pool {
    fn admit(&mut self, user: &str, bytes: u64) -> Result<(), UploadRefused> {
        let own = self.users.get(user).copied().unwrap_or(0);
        let limits = &self.limits;
        if own >= limits.per_user {
            return Err(UploadRefused::PerUser(limits.per_user));
        }
        let (count, memory) = (limits.count as u64, limits.memory);
        let (count, memory) = if own > 0 {
            (count - count / KEPT, memory - memory / KEPT)
        } else {
            (count, memory)
        };
        if self.count as u64 >= count {
            return Err(UploadRefused::Count);
        }
        if self.bytes + bytes > memory {
            return Err(UploadRefused::Memory);
        }
        self.count += 1;
        self.bytes += bytes;
        *self.users.entry(user.to_owned()).or_default() += 1;
        Ok(())
    }

    fn release(&mut self, user: &str, bytes: u64) {
        self.count -= 1;
        self.bytes -= bytes;
        if let Some(own) = self.users.get_mut(user) {
            *own -= 1;
            if *own == 0 {
                self.users.remove(user);
            }
        }
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        self.pool.pool().release(&self.user, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize, per_user: usize, memory: u64) -> Pool {
        Pool {
            limits: UploadLimits {
                count,
                per_user,
                memory,
                ..UploadLimits::default()
            },
            count: 0,
            bytes: 0,
            users: BTreeMap::new(),
        }
    }

    #[test]
    fn one_person_has_few_and_the_last_quarter_is_for_those_who_have_none() {
        let mut pool = pool(8, 7, 1_000);
        for _ in 0..6 {
            assert_eq!(pool.admit("a", 1), Ok(()));
        }
        assert_eq!(pool.admit("a", 1), Err(UploadRefused::Count));
        assert_eq!([pool.admit("b", 1), pool.admit("c", 1)], [Ok(()), Ok(())]);
        assert_eq!(pool.admit("d", 1), Err(UploadRefused::Count));
        pool.release("b", 1);
        assert_eq!(pool.admit("a", 1), Err(UploadRefused::Count));
        assert_eq!(pool.admit("d", 1), Ok(()));
        for user in ["a", "a", "a", "a", "a", "a", "c", "d"] {
            pool.release(user, 1);
        }
        assert!(pool.users.is_empty() && pool.count == 0 && pool.bytes == 0);
        let mut pool = self::pool(100, 2, 1_000);
        assert_eq!([pool.admit("a", 1), pool.admit("a", 1)], [Ok(()), Ok(())]);
        assert_eq!(pool.admit("a", 1), Err(UploadRefused::PerUser(2)));
    }

    #[test]
    fn memory_is_bounded_and_a_quarter_of_it_kept_likewise() {
        let mut pool = pool(100, 100, 1_000);
        assert_eq!(
            [pool.admit("a", 400), pool.admit("a", 350)],
            [Ok(()), Ok(())]
        );
        assert_eq!(pool.admit("a", 1), Err(UploadRefused::Memory));
        assert_eq!(pool.admit("b", 250), Ok(()));
        assert_eq!(pool.admit("c", 1), Err(UploadRefused::Memory));
    }
}
