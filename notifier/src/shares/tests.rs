//! Shares of the pools before the hub, and who waits for them.

use std::time::Duration;

use super::*;
use crate::config::Shares as Mode;

fn shares(change: impl FnOnce(&mut Config)) -> Shares {
    let mut config = Config {
        max_grpc_calls: 160,
        max_services: 8,
        ..Config::default()
    };
    change(&mut config);
    Shares::new(&config)
}

fn fill(shares: &Shares, service: &Arc<str>) -> (Vec<Permit>, Exhausted) {
    let mut held = Vec::new();
    loop {
        match shares.take(service, only(Bucket::Calls, 1)) {
            Ok(permit) => held.push(permit),
            Err(exhausted) => return (held, exhausted),
        }
    }
}

fn used(shares: &Shares, service: &str) -> (u64, u64) {
    let list = shares.list();
    let mut calls = list.iter().filter(|share| share.bucket == Bucket::Calls);
    let share = calls.find(|share| &*share.service == service);
    share.map_or((0, 0), |share| (share.used.unwrap_or(0), share.refused))
}

#[test]
fn a_service_that_fills_a_pool_leaves_others_their_reserve_and_gives_back_what_it_drops() {
    let shares = shares(|_| ());
    let names = ["a", "b", "c", "d"].map(Arc::<str>::from);
    let filled: Vec<_> = names.iter().map(|name| fill(&shares, name)).collect();
    // A quarter of 160 for the first two; then the common half is used up.
    assert_eq!(filled[0].0.len(), 40);
    assert_eq!((filled[0].1.used, filled[0].1.share), (40, 40));
    let (rest, _) = fill(&shares, &"e".into());
    assert_eq!(rest.len(), 8, "the reserve of one of nine accounts");
    assert_eq!(used(&shares, "a"), (40, 1));
    drop(filled);
    assert_eq!(used(&shares, "a"), (0, 1));
    assert_eq!(fill(&shares, &names[3]).0.len(), 40);
}

#[test]
fn the_policy_sets_a_share_whether_the_service_is_known_already_or_not() {
    let shares = shares(|_| ());
    let (known, new) = (Arc::<str>::from("known"), Arc::<str>::from("new"));
    drop(fill(&shares, &known));
    let rates = Rates {
        share_percent: Some(50),
        ..Rates::default()
    };
    shares.set_rates([(known.clone(), rates), (new.clone(), rates)].into());
    for service in [&known, &new] {
        assert_eq!(fill(&shares, service).0.len(), 80, "{service}");
    }
    shares.set_rates(BTreeMap::new());
    assert_eq!(fill(&shares, &known).0.len(), 40);
}

#[test]
fn observed_shares_are_counted_and_the_pool_has_an_end_all_the_same() {
    let shares = shares(|config| config.shares = Mode::Observe);
    let (held, _) = fill(&shares, &"a".into());
    assert_eq!(held.len(), 160);
    assert_eq!(used(&shares, "a"), (160, 121));
}

#[test]
fn those_without_a_token_share_one_account() {
    let shares = shares(|_| ());
    let (held, exhausted) = fill(&shares, shares.no_token());
    assert_eq!((held.len(), exhausted.share), (40, 40));
    assert!(fill(&shares, &"a".into()).0.len() >= 40);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_admitted_when_its_own_or_the_common_part_is_free() {
    let shares = shares(|config| config.service_share = 100);
    let (a, b) = (Arc::<str>::from("a"), Arc::<str>::from("b"));
    let (mut of_a, _) = fill(&shares, &a);
    let (mut of_b, _) = fill(&shares, &b);
    // All of the common part is with `a`; `b` has its reserve.
    assert_eq!((of_a.len(), of_b.len()), (96, 8));
    let wait = |service: &Arc<str>| {
        let (shares, service) = (shares.clone(), service.clone());
        tokio::spawn(async move { shares.wait(&service, only(Bucket::Calls, 1)).await })
    };
    let waiting = [wait(&b), wait(&b)];
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    of_a.pop();
    of_b.pop();
    for waiting in waiting {
        drop(waiting.await.unwrap());
    }
    // One that no longer waits takes nothing.
    of_a.extend(fill(&shares, &a).0);
    of_b.extend(fill(&shares, &b).0);
    let gone = wait(&b);
    tokio::time::sleep(Duration::from_secs(1)).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    drop((of_a, of_b));
    assert_eq!((used(&shares, "a").0, used(&shares, "b").0), (0, 0));
    assert!(shares.table().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_than_a_share_at_once_is_admitted_alone() {
    let shares = shares(|config| config.grpc_body_memory = 128 << 10);
    let service = Arc::<str>::from("a");
    let large = shares
        .wait(&service, only(Bucket::BodyBytes, 1 << 20))
        .await;
    let more = shares.take(&service, only(Bucket::BodyBytes, 1));
    assert_eq!(more.unwrap_err().used, 32 << 10);
    drop(large);
    shares.take(&service, only(Bucket::BodyBytes, 1)).unwrap();
}
