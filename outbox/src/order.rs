//! Which rows of the outbox may be published now.
//!
//! What always holds: of the rows of one stream only one is in flight, and the lowest
//! number goes first; rows that share no stream do not wait for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use belfry::v1::{PublishRequest, publish_request::Target};

/// A stream that an event goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stream {
    User(String),
    Queue(String),
    Everyone,
}

/// The streams that an event goes to.
pub(super) fn streams(request: &PublishRequest) -> BTreeSet<Stream> {
    match &request.target {
        Some(Target::UserId(id)) => BTreeSet::from([Stream::User(id.clone())]),
        Some(Target::Users(users)) => users.user_ids.iter().cloned().map(Stream::User).collect(),
        Some(Target::Queue(id)) => BTreeSet::from([Stream::Queue(id.clone())]),
        Some(Target::Everyone(_)) => BTreeSet::from([Stream::Everyone]),
        None => BTreeSet::new(),
    }
}

/// The rows of one stream.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<i64>,
    busy: bool,
}

/// The rows that were read and are not finished, by number.
#[derive(Debug, Default)]
pub(super) struct Order {
    rows: BTreeMap<i64, BTreeSet<Stream>>,
    lanes: HashMap<Stream, Lane>,
    /// First in all of their streams, none of which is busy.
    ready: BTreeSet<i64>,
}

impl Order {
    /// Whether no row is left.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn add(&mut self, seq: i64, streams: BTreeSet<Stream>) {
        for stream in &streams {
            let lane = self.lanes.entry(stream.clone()).or_default();
            lane.waiting.insert(seq);
        }
        self.rows.insert(seq, streams);
        self.update_ready(seq);
    }

    /// Takes the next row that may be published; it is in flight from here on.
    pub(super) fn next(&mut self) -> Option<i64> {
        let seq = self.ready.pop_first()?;
        for stream in &self.rows[&seq] {
            if let Some(lane) = self.lanes.get_mut(stream) {
                lane.waiting.remove(&seq);
                lane.busy = true;
            }
        }
        Some(seq)
    }

    /// A row in flight has to be published again, before all later ones.
    pub(super) fn requeue(&mut self, seq: i64) {
        let Some(streams) = self.rows.get(&seq).cloned() else {
            return;
        };
        for stream in &streams {
            if let Some(lane) = self.lanes.get_mut(stream) {
                lane.busy = false;
            }
        }
        self.add(seq, streams);
    }

    /// A row in flight is finished.
    pub(super) fn finish(&mut self, seq: i64) {
        let mut next = BTreeSet::new();
        for stream in self.rows.remove(&seq).unwrap_or_default() {
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
            self.update_ready(seq);
        }
    }

    /// A row was added, or one of its streams is no longer busy: decides for it and for
    /// the rows that share a stream with it whether they are ready.
    fn update_ready(&mut self, seq: i64) {
        let streams = self.rows.get(&seq).into_iter().flatten();
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
        let mut lanes = self.rows[&seq].iter().map(|stream| &self.lanes[stream]);
        lanes.all(|lane| !lane.busy && lane.waiting.first() == Some(&seq))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(number: u8) -> Stream {
        Stream::User(number.to_string())
    }

    fn set(streams: &[u8]) -> BTreeSet<Stream> {
        streams.iter().copied().map(user).collect()
    }

    #[test]
    fn rows_of_one_stream_go_one_after_another_and_of_others_at_once() {
        let mut order = Order::default();
        order.add(1, set(&[1]));
        order.add(2, set(&[1]));
        order.add(3, set(&[2]));
        assert_eq!(
            [order.next(), order.next(), order.next()],
            [Some(1), Some(3), None]
        );
        order.requeue(1);
        assert_eq!([order.next(), order.next()], [Some(1), None]);
        order.finish(1);
        assert_eq!(order.next(), Some(2));
        order.finish(2);
        order.finish(3);
        assert!(order.is_empty() && order.lanes.is_empty());
    }

    #[test]
    fn an_event_for_several_users_waits_for_each_of_their_streams() {
        let mut order = Order::default();
        order.add(1, set(&[1]));
        order.add(2, set(&[1, 2]));
        order.add(3, set(&[2]));
        assert_eq!([order.next(), order.next()], [Some(1), None]);
        order.finish(1);
        assert_eq!([order.next(), order.next()], [Some(2), None]);
        order.finish(2);
        assert_eq!(order.next(), Some(3));
    }

    #[test]
    fn an_earlier_event_that_is_seen_late_goes_before_those_that_are_not_in_flight() {
        let mut order = Order::default();
        order.add(2, set(&[1]));
        order.add(1, set(&[1]));
        assert_eq!([order.next(), order.next()], [Some(1), None]);
    }

    proptest! {
        /// Rows are added, requeued and finished at random: order holds, all finish.
        #[test]
        fn no_order_of_responses_breaks_the_order_of_a_stream(
            events in prop::collection::vec(prop::collection::vec(0_u8..5, 0..4), 1..40),
            choices in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 400),
        ) {
            let mut order = Order::default();
            let all: Vec<_> = events.iter().map(|streams| set(streams)).collect();
            let (mut added, mut done) = (0, Vec::new());
            let mut in_flight: Vec<i64> = Vec::new();
            for (choice, index) in choices {
                match choice {
                    0 if added < all.len() => {
                        order.add(i64::try_from(added).unwrap(), all[added].clone());
                        added += 1;
                    }
                    1 if !in_flight.is_empty() => {
                        let seq = in_flight.swap_remove(index.index(in_flight.len()));
                        order.requeue(seq);
                    }
                    2 if !in_flight.is_empty() => {
                        let seq = in_flight.swap_remove(index.index(in_flight.len()));
                        order.finish(seq);
                        done.push(seq);
                    }
                    _ => {
                        let Some(seq) = order.next() else { continue };
                        let streams = &all[seq as usize];
                        prop_assert!(in_flight.iter().all(|other| all[*other as usize].is_disjoint(streams)));
                        in_flight.push(seq);
                    }
                }
            }
            loop {
                for seq in in_flight.drain(..) {
                    order.finish(seq);
                    done.push(seq);
                }
                match order.next() {
                    Some(seq) => in_flight.push(seq),
                    None => break,
                }
            }
            prop_assert!(order.is_empty() && order.lanes.is_empty());
            prop_assert_eq!(done.len(), added);
            for stream in 0..5 {
                let of: Vec<_> = done.iter().filter(|seq| all[**seq as usize].contains(&user(stream))).collect();
                prop_assert!(of.is_sorted(), "{:?}", of);
            }
        }
    }
}
