//! No service takes another's share of any pool (guarantee G33).

use std::collections::BTreeMap;

use delivery::{
    DedupeKey, JobChange, Limits,
    hub::{Announcement, Input, Kind, Publish, Reply, Subject},
    link::ReceiptState,
    shares::{Bucket, Exhausted, Pool, Queues, Rates, ServiceId, Services},
};
use proptest::prelude::*;

use crate::world::{EDGE, Outcome, World};

/// Of every pool, a quarter is a service's share and 5 are its reserve.
const SIZE: usize = 640;
const SHARE: usize = 160;
const RESERVE: usize = 5;

fn limits() -> Limits {
    Limits {
        unsynced_records: SIZE,
        dedupe_keys: SIZE,
        leases: SIZE,
        latest_events: SIZE,
        tracked_events: SIZE,
        receipts: SIZE,
        watches: SIZE,
        streams: SIZE,
        ..Limits::default()
    }
}

struct Case {
    bucket: Bucket,
    /// The log answers.
    log_runs: bool,
    publish: fn(&mut World, u64) -> Publish,
}

fn keyed(world: &mut World, number: u64) -> Publish {
    let key = u128::from(number);
    Publish {
        dedupe: Some(DedupeKey { key, body: 1 }),
        ..world.stored("e", None)
    }
}

fn leased(world: &mut World, number: u64) -> Publish {
    Publish {
        job: Some(format!("job-{number}").into()),
        ..world.leased(60_000)
    }
}

fn ended(world: &mut World, number: u64) -> Publish {
    Publish {
        job: Some(format!("job-{number}").into()),
        ..world.stored("e", Some(JobChange::Ended))
    }
}

fn to_new_stream(world: &mut World, number: u64) -> Publish {
    Publish {
        streams: [format!("user:{number}").into()].into(),
        ..world.stored("e", None)
    }
}

const CASES: [Case; 7] = [
    Case {
        bucket: Bucket::UnsyncedRecords,
        log_runs: false,
        publish: |world, _| world.stored("e", None),
    },
    Case {
        bucket: Bucket::IdempotencyKeys,
        log_runs: true,
        publish: keyed,
    },
    Case {
        bucket: Bucket::Leases,
        log_runs: true,
        publish: leased,
    },
    Case {
        bucket: Bucket::LatestEvents,
        log_runs: true,
        publish: |world, number| world.progress(&number.to_string(), "e"),
    },
    Case {
        bucket: Bucket::EndedJobs,
        log_runs: true,
        publish: ended,
    },
    Case {
        bucket: Bucket::TrackedEvents,
        log_runs: true,
        publish: |world, _| world.stored("e", None),
    },
    Case {
        bucket: Bucket::Streams,
        log_runs: true,
        publish: to_new_stream,
    },
];

/// What a service holds, and how often it was refused.
fn share(world: &World, service: &str, bucket: Bucket) -> (u64, u64) {
    let mut shares = world.hub.shares();
    let found = shares.find(|share| share.service == service && share.bucket == bucket);
    found.map_or((0, 0), |share| (share.used.unwrap_or(0), share.refused))
}

fn publish_as(world: &mut World, service: &str, publish: Publish) -> Outcome {
    world.publish(Publish {
        publisher: service.into(),
        ..publish
    })
}

#[test]
fn a_service_that_fills_a_pool_stays_within_its_share_and_the_other_has_its_reserve() {
    for case in CASES {
        let Case { bucket, .. } = case;
        let mut world = World::new(limits());
        let mut reported = Vec::new();
        world.log_runs = case.log_runs;
        for number in 0..300 {
            let publish = (case.publish)(&mut world, number);
            let mut outcome = publish_as(&mut world, "weak", publish);
            reported.append(&mut outcome.exhausted);
        }
        let (used, refused) = share(&world, "weak", bucket);
        assert_eq!((used, refused), (SHARE as u64, 140), "{bucket:?}");
        let about = |e: &&Exhausted| e.bucket == bucket;
        assert_eq!(reported.iter().filter(about).count(), 1, "{bucket:?}");
        for number in 1_000..1_000 + RESERVE as u64 {
            let publish = (case.publish)(&mut world, number);
            let outcome = publish_as(&mut world, "other", publish);
            let refused = |(_, reply): &(u64, Reply)| matches!(reply, Reply::Exhausted(_));
            assert!(!outcome.replies.iter().any(refused), "{bucket:?}");
        }
        let held = share(&world, "other", bucket);
        assert_eq!(held, (RESERVE as u64, 0), "{bucket:?}");
        assert_eq!(share(&world, "weak", bucket).0, SHARE as u64, "{bucket:?}");
    }
}

#[test]
fn watches_and_receipts_have_shares_too() {
    let mut world = World::new(Limits {
        receipts: 40,
        services: 4,
        ..limits()
    });
    world.attach(EDGE);
    for session in 1..=20 {
        world.open(EDGE, session, "u1");
    }
    let mut of_other = Vec::new();
    for service in ["other", "weak", "weak"] {
        let event = world.stored("e", None);
        let id = event.id;
        publish_as(&mut world, service, event);
        of_other.push(id);
        for session in 1..=if service == "other" { 5 } else { 20 } {
            world.report(session, id, ReceiptState::Delivered);
        }
    }
    assert_eq!(share(&world, "other", Bucket::Receipts), (5, 0));
    assert!(share(&world, "weak", Bucket::Receipts).0 <= 10);
    for watch in 0..300 {
        world.watch(watch, "weak", Subject::Job("weak\0a".into()));
    }
    assert_eq!(share(&world, "weak", Bucket::ReceiptWatches), (160, 140));
    let subject = Subject::Events(of_other[..1].to_vec());
    let outcome = world.watch(1_000, "other", subject);
    assert_eq!(outcome.receipts[0].1.len(), 5, "what was known is known");
    for watch in 2_000..2_300 {
        world.feed(Input::WatchPresence {
            watch,
            service: "weak".into(),
            users: [].into(),
        });
    }
    assert_eq!(share(&world, "weak", Bucket::PresenceWatches), (160, 140));
    world.feed(Input::Unwatch { watch: 2_000 });
    world.feed(Input::Unwatch { watch: 1 });
    assert_eq!(share(&world, "weak", Bucket::PresenceWatches).0, 159);
    assert_eq!(share(&world, "weak", Bucket::ReceiptWatches).0, 159);
}

#[test]
fn what_is_given_up_or_over_gives_its_share_back() {
    let mut world = World::new(limits());
    world.log_runs = false;
    for number in 0..3 {
        let publish = Publish {
            streams: [format!("user:{number}").into()].into(),
            ..leased(&mut world, number)
        };
        publish_as(&mut world, "a", publish);
    }
    let held = |world: &World| {
        [Bucket::UnsyncedRecords, Bucket::Leases, Bucket::Streams]
            .map(|bucket| share(world, "a", bucket).0)
    };
    assert_eq!(held(&world), [3, 3, 3]);
    world.feed(Input::Refused);
    assert_eq!(held(&world), [0, 0, 0]);
    world.log_runs = true;
    for number in 0..3 {
        let publish = leased(&mut world, number);
        publish_as(&mut world, "a", publish);
    }
    assert_eq!(held(&world), [0, 3, 1]);
    for number in 0..2 {
        let publish = ended(&mut world, number);
        publish_as(&mut world, "a", publish);
    }
    assert_eq!(held(&world), [0, 1, 1]);
}

#[test]
fn after_a_restart_leases_count_for_whom_they_did() {
    let mut world = World::new(limits());
    for number in 0..3 {
        let publish = leased(&mut world, number);
        world.publish(publish);
    }
    world.restart();
    assert_eq!(share(&world, "p", Bucket::Leases), (3, 0));
}

#[test]
fn observed_shares_are_counted_and_refuse_nothing() {
    let mut world = World::new(Limits {
        observe_shares: true,
        service_publishes_per_s: 100,
        ..limits()
    });
    for number in 0..300 {
        let publish = leased(&mut world, number);
        let outcome = world.publish(publish);
        assert!(matches!(outcome.replies[0].1, Reply::Accepted { .. }));
    }
    assert_eq!(share(&world, "p", Bucket::Leases), (300, 140));
    assert_eq!(share(&world, "p", Bucket::PublishRate).1, 200);
}

#[test]
fn a_rate_is_a_services_own_and_says_when_to_try_again() {
    let mut world = World::new(limits());
    let rates = Rates {
        publishes_per_s: Some(10),
        ..Rates::default()
    };
    world.feed(Input::Rates(BTreeMap::from([("weak".into(), rates)])));
    for count in 0..20 {
        let publish = world.progress("k", "e");
        let outcome = publish_as(&mut world, "weak", publish);
        let refused = match outcome.replies[0].1 {
            Reply::Exhausted(exhausted) => Some((exhausted.bucket, exhausted.retry_after_ms)),
            _ => None,
        };
        let expected = (count >= 10).then_some((Bucket::PublishRate, Some(100)));
        assert_eq!(refused, expected, "{count}");
        let publish = world.stored("e", None);
        let outcome = publish_as(&mut world, "other", publish);
        assert!(matches!(outcome.replies[0].1, Reply::Accepted { .. }));
    }
    world.feed(Input::Rates(BTreeMap::new()));
    world.now += 1;
    let publish = world.stored("e", None);
    let outcome = publish_as(&mut world, "weak", publish);
    assert!(matches!(outcome.replies[0].1, Reply::Accepted { .. }));
}

#[test]
fn new_streams_and_bytes_have_rates() {
    let mut world = World::new(Limits {
        service_bytes_per_s: 1 << 20,
        service_streams_per_s: 100,
        ..limits()
    });
    let refused = |outcome: &Outcome| match outcome.replies[0].1 {
        Reply::Exhausted(exhausted) => Some(exhausted.bucket),
        _ => None,
    };
    for number in 0..101 {
        let publish = to_new_stream(&mut world, number);
        let outcome = world.publish(publish);
        let expected = (number == 100).then_some(Bucket::StreamRate);
        assert_eq!(refused(&outcome), expected);
    }
    let known = to_new_stream(&mut world, 7);
    assert_eq!(refused(&world.publish(known)), None, "it is not new");
    for number in 0..17 {
        let publish = Publish {
            envelope: vec![0; 64 << 10].into(),
            ..world.progress("k", "e")
        };
        let outcome = publish_as(&mut world, "big", publish);
        let expected = (number == 16).then_some(Bucket::ByteRate);
        assert_eq!(refused(&outcome), expected);
    }
}

#[test]
fn services_beyond_the_bound_share_one_account() {
    let mut services = Services::new(&Limits {
        services: 4,
        ..Limits::default()
    });
    let mut number = |name: &str| services.number(&name.into());
    let (a, b) = (number("a"), number("b"));
    assert_ne!(a, b);
    assert_eq!(number("c"), ServiceId::OTHERS);
    assert_eq!(number("d"), ServiceId::OTHERS);
    assert_eq!((number("a"), number("b")), (a, b));
}

#[test]
fn the_hubs_own_retractions_take_no_services_share() {
    let mut world = World::new(limits());
    world.attach(EDGE);
    world.open(EDGE, 1, "u1");
    let event = world.stored("e", None);
    let id = event.id;
    publish_as(&mut world, "a", event);
    let outcome = world.report(1, id, ReceiptState::Read);
    assert!(matches!(
        outcome.announced[..],
        [Announcement::Retract { .. }]
    ));
    assert_eq!(share(&world, "a", Bucket::LatestEvents), (0, 0));
}

fn kind_is_ephemeral(publish: &Publish) -> bool {
    matches!(publish.kind, Kind::Ephemeral { .. })
}

#[test]
fn whoever_sends_the_newest_of_a_key_holds_it() {
    let mut world = World::new(limits());
    for service in ["a", "b"] {
        let publish = world.progress("k", service);
        assert!(kind_is_ephemeral(&publish));
        publish_as(&mut world, service, publish);
    }
    assert_eq!(share(&world, "a", Bucket::LatestEvents).0, 0);
    assert_eq!(share(&world, "b", Bucket::LatestEvents).0, 1);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Take(u8, usize),
    GiveBack(u8, usize),
}

fn step(services: u8) -> impl Strategy<Value = Step> {
    let amount = 1..40_usize;
    prop_oneof![
        3 => (0..services, amount.clone()).prop_map(|(who, amount)| Step::Take(who, amount)),
        1 => (0..services, amount).prop_map(|(who, amount)| Step::GiveBack(who, amount)),
    ]
}

proptest! {
    /// A service within its reserve is admitted whatever the others hold; nobody is
    /// over its share, and all together never hold more than the pool.
    #[test]
    fn nobody_takes_anothers_reserve(
        size in 0..2_000_usize,
        percent in 1..=100_u64,
        count in 2..20_usize,
        steps in proptest::collection::vec(step(20), 0..300),
    ) {
        let limits = Limits {
            services: count,
            service_share_percent: percent,
            ..Limits::default()
        };
        let mut services = Services::new(&limits);
        let numbers: Vec<_> = (0..20)
            .map(|who| services.number(&format!("s{who}").into()))
            .collect();
        let mut pool = Pool::new(Bucket::Leases, size, &limits);
        let reserve = size / 2 / count;
        for step in steps {
            match step {
                Step::Take(who, amount) => {
                    let service = numbers[usize::from(who)];
                    let held = pool.used(service);
                    let admitted = pool.admits(service, amount);
                    prop_assert!(admitted || held + amount > reserve);
                    if admitted {
                        pool.take(service, amount);
                        prop_assert!(pool.used(service) <= pool.share(service));
                    }
                }
                Step::GiveBack(who, amount) => {
                    let service = numbers[usize::from(who)];
                    pool.give_back(service, amount.min(pool.used(service)));
                }
            }
            prop_assert!(pool.total() <= size);
        }
    }

    /// An entry goes for one of its own service, the oldest first.
    #[test]
    fn a_queue_makes_room_among_its_own(pushes in proptest::collection::vec(0..4_u8, 0..400)) {
        let limits = Limits { services: 6, ..Limits::default() };
        let mut services = Services::new(&limits);
        let mut queues = Queues::new(Bucket::IdempotencyKeys, 120, &limits);
        let mut kept: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (number, who) in pushes.into_iter().enumerate() {
            let service = services.number(&format!("s{who}").into());
            let own = kept.entry(who).or_default();
            own.push(number);
            if let Some((replaced, of)) = queues.push(service, (number, who)) {
                prop_assert_eq!(of, who);
                prop_assert_eq!(replaced, own.remove(0));
            }
            prop_assert!(own.len() >= 10 || own.len() <= 30);
        }
    }
}
