//! Presence, as one who watches it knows it.

use std::{collections::BTreeMap, sync::Arc};

use delivery::link::Member;

#[derive(Default)]
pub(crate) struct Presence {
    online: BTreeMap<Arc<str>, bool>,
    newest: u64,
}

impl Presence {
    /// The watch begins again; says nothing of who left meanwhile.
    pub(crate) fn snapshot(&mut self, members: &[Member]) {
        self.online.clear();
        self.newest = 0;
        for member in members {
            assert!(member.online, "a snapshot says who is there");
            let twice = self.online.insert(member.user.clone(), true);
            assert_eq!(twice, None, "{} is there twice", member.user);
            self.newest = self.newest.max(member.generation);
        }
    }

    /// Somebody came or left; says how many left.
    pub(crate) fn changes(&mut self, members: &[Member]) -> u64 {
        let mut left = 0;
        for member in members {
            let before = self.online.insert(member.user.clone(), member.online);
            assert_ne!(
                before.unwrap_or(false),
                member.online,
                "{} came or left twice",
                member.user
            );
            assert!(member.generation > self.newest, "generations rise");
            self.newest = member.generation;
            left += u64::from(!member.online);
        }
        left
    }

    pub(crate) fn is_online(&self, user: &str) -> bool {
        self.online.get(user).copied().unwrap_or(false)
    }
}
