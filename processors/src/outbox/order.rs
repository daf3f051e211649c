//! Which events of the outbox may be under way now.
//!
//! What always holds: of two events that share a stream only one is under way, and
//! the one with the lower number goes first; what shares none waits for none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use belfry::v1::{PublishRequest, publish_request::Target};

/// The streams that an event goes to.
pub(super) fn streams(request: &PublishRequest) -> BTreeSet<String> {
    match &request.target {
        Some(Target::UserId(id)) => BTreeSet::from([format!("user:{id}")]),
        Some(Target::Users(users)) => users.user_ids.iter().map(|u| format!("user:{u}")).collect(),
        Some(Target::Queue(id)) => BTreeSet::from([format!("queue:{id}")]),
        Some(Target::Everyone(_)) => BTreeSet::from(["everyone".to_owned()]),
        None => BTreeSet::new(),
    }
}

/// What is known of one stream while it has events here.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<i64>,
    busy: bool,
}

/// The events that were read and are not done, by number.
#[derive(Debug, Default)]
pub(super) struct Order {
    events: BTreeMap<i64, BTreeSet<String>>,
    lanes: HashMap<String, Lane>,
    /// First and free in all of their streams.
    ready: BTreeSet<i64>,
}

impl Order {
    /// Whether nothing is here.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds an event.
    pub(super) fn add(&mut self, seq: i64, streams: BTreeSet<String>) {
        for stream in &streams {
            let lane = self.lanes.entry(stream.clone()).or_default();
            lane.waiting.insert(seq);
        }
        self.events.insert(seq, streams);
        self.look_again(seq);
    }

    /// The next that may be under way; it is from here on.
    pub(super) fn next(&mut self) -> Option<i64> {
        let seq = self.ready.pop_first()?;
        for stream in &self.events[&seq] {
            if let Some(lane) = self.lanes.get_mut(stream) {
                lane.waiting.remove(&seq);
                lane.busy = true;
            }
        }
        Some(seq)
    }

    /// It was under way and is to go again, before all that come after it.
    pub(super) fn again(&mut self, seq: i64) {
        let Some(streams) = self.events.get(&seq).cloned() else {
            return;
        };
        for stream in &streams {
            if let Some(lane) = self.lanes.get_mut(stream) {
                lane.busy = false;
            }
        }
        self.add(seq, streams);
    }

    /// It was under way and is done.
    pub(super) fn done(&mut self, seq: i64) {
        let mut next = BTreeSet::new();
        for stream in self.events.remove(&seq).unwrap_or_default() {
            let Some(lane) = self.lanes.get_mut(&stream) else {
                continue;
            };
            lane.busy = false;
            match lane.waiting.first() {
                Some(first) => drop(next.insert(*first)),
                None => drop(self.lanes.remove(&stream)),
            }
        }
        for seq in next {
            self.look_again(seq);
        }
    }

    /// An event came or a stream of it became free: it, and those that share a
    /// stream with it, may be ready or no longer be.
    fn look_again(&mut self, seq: i64) {
        let streams = self.events.get(&seq).into_iter().flatten();
        let shares = streams.filter_map(|stream| self.lanes.get(stream));
        let mut candidates: BTreeSet<i64> = shares
            .flat_map(|lane| lane.waiting.iter().take(2))
            .copied()
            .collect();
        candidates.insert(seq);
        for seq in candidates {
            if self.is_ready(seq) {
                self.ready.insert(seq);
            } else {
                self.ready.remove(&seq);
            }
        }
    }

    fn is_ready(&self, seq: i64) -> bool {
        let mut lanes = self.events[&seq].iter().map(|stream| &self.lanes[stream]);
        lanes.all(|lane| !lane.busy && lane.waiting.first() == Some(&seq))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(streams: &[u8]) -> BTreeSet<String> {
        streams.iter().map(|s| format!("user:{s}")).collect()
    }

    #[test]
    fn events_of_one_stream_go_one_after_another_and_of_others_at_once() {
        let mut order = Order::default();
        order.add(1, set(&[1]));
        order.add(2, set(&[1]));
        order.add(3, set(&[2]));
        assert_eq!(
            [order.next(), order.next(), order.next()],
            [Some(1), Some(3), None]
        );
        order.again(1);
        assert_eq!([order.next(), order.next()], [Some(1), None]);
        order.done(1);
        assert_eq!(order.next(), Some(2));
        order.done(2);
        order.done(3);
        assert!(order.is_empty() && order.lanes.is_empty());
    }

    #[test]
    fn an_event_for_several_users_waits_for_each_and_holds_up_each() {
        let mut order = Order::default();
        order.add(1, set(&[1]));
        order.add(2, set(&[1, 2]));
        order.add(3, set(&[2]));
        assert_eq!([order.next(), order.next()], [Some(1), None]);
        order.done(1);
        assert_eq!([order.next(), order.next()], [Some(2), None]);
        order.done(2);
        assert_eq!(order.next(), Some(3));
    }

    #[test]
    fn an_earlier_event_that_is_seen_late_goes_before_those_that_are_not_under_way() {
        let mut order = Order::default();
        order.add(2, set(&[1]));
        order.add(1, set(&[1]));
        assert_eq!([order.next(), order.next()], [Some(1), None]);
    }

    proptest! {
        /// Whatever is added, answered and asked again: order holds and all is done.
        #[test]
        fn no_order_of_answers_breaks_the_order_of_a_stream(
            events in prop::collection::vec(prop::collection::vec(0_u8..5, 0..4), 1..40),
            choices in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 400),
        ) {
            let mut order = Order::default();
            let all: Vec<_> = events.iter().map(|streams| set(streams)).collect();
            let (mut added, mut done) = (0, Vec::new());
            let mut under_way: Vec<i64> = Vec::new();
            for (choice, index) in choices {
                match choice {
                    0 if added < all.len() => {
                        order.add(i64::try_from(added).unwrap(), all[added].clone());
                        added += 1;
                    }
                    1 if !under_way.is_empty() => {
                        let seq = under_way.swap_remove(index.index(under_way.len()));
                        order.again(seq);
                    }
                    2 if !under_way.is_empty() => {
                        let seq = under_way.swap_remove(index.index(under_way.len()));
                        order.done(seq);
                        done.push(seq);
                    }
                    _ => {
                        let Some(seq) = order.next() else { continue };
                        let streams = &all[seq as usize];
                        prop_assert!(under_way.iter().all(|other| all[*other as usize].is_disjoint(streams)));
                        under_way.push(seq);
                    }
                }
            }
            loop {
                for seq in under_way.drain(..) {
                    order.done(seq);
                    done.push(seq);
                }
                match order.next() {
                    Some(seq) => under_way.push(seq),
                    None => break,
                }
            }
            prop_assert!(order.is_empty() && order.lanes.is_empty());
            prop_assert_eq!(done.len(), added);
            for stream in 0..5 {
                let of: Vec<_> = done.iter().filter(|seq| all[**seq as usize].contains(&format!("user:{stream}"))).collect();
                prop_assert!(of.is_sorted(), "{:?}", of);
            }
        }
    }
}
