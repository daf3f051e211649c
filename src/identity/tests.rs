//! Every token of the table gets its one answer, and what is signed is accepted.

#[path = "../../tests/vectors/tokens.rs"]
mod tokens;

use proptest::prelude::*;

use self::tokens::{
    Audience, PREVIOUS, PUBLIC_ROWS, PublicKeys, ROWS, SECRET, Verdict, good_claims,
};
use super::*;

const NOW_S: u64 = 1_761_652_800;
const NOW_MS: i64 = NOW_S.cast_signed() * 1_000;
const HOUR: Validity = Validity {
    issued_at: NOW_S,
    lifetime: Duration::from_hours(1),
};

fn users() -> UserKeys {
    UserKeys::new(SECRET, Some(PREVIOUS)).unwrap()
}

fn services() -> ServiceKeys {
    ServiceKeys::new(SECRET, Some(PREVIOUS)).unwrap()
}

#[test]
fn every_token_of_the_table_gets_its_verdict() {
    assert!(ROWS.len() >= 120, "{} rows", ROWS.len());
    for row in ROWS {
        let token = row.token(Audience::User, NOW_S, [SECRET, PREVIOUS]);
        let verdict = match users().verify(&token, NOW_MS) {
            Ok(_) => Verdict::Accepted,
            Err(TokenError::Expired) => Verdict::Expired,
            Err(TokenError::NotAccepted) => Verdict::Refused,
        };
        assert_eq!(verdict, row.user, "user token: {}", row.name);
        assert!(services().verify(&token, NOW_MS).is_err(), "{}", row.name);

        let token = row.token(Audience::Service, NOW_S, [SECRET, PREVIOUS]);
        let answer = services().verify(&token, NOW_MS);
        let accepted = row.service == Verdict::Accepted;
        assert_eq!(answer.is_ok(), accepted, "service token: {}", row.name);
        if !accepted {
            assert_eq!(answer.unwrap_err(), TokenError::NotAccepted, "{}", row.name);
        }
        assert!(users().verify(&token, NOW_MS).is_err(), "{}", row.name);
    }
}

fn mixed() -> KeySet {
    let (public, private) = (PublicKeys::get(), KeyOrigin::private("k"));
    let (pem, jwks) = (public.pem(), public.jwks());
    let contents = [SECRET, pem.as_bytes(), jwks.as_bytes()];
    KeySet::merged(contents.map(|content| KeySet::parse(content, &private).unwrap())).unwrap()
}

#[test]
fn every_token_of_public_keys_gets_its_verdict() {
    let users = UserKeys::replaceable(mixed()).1;
    assert!(PUBLIC_ROWS.len() >= 40, "{} rows", PUBLIC_ROWS.len());
    for row in PUBLIC_ROWS {
        let token = row.token(&good_claims(Audience::User, NOW_S), SECRET);
        let verified = users.verify(&token, NOW_MS);
        let accepted = row.user == Verdict::Accepted;
        assert_eq!(verified.is_ok(), accepted, "{}: {verified:?}", row.name);
        let refused = verified.is_err_and(|error| error == TokenError::NotAccepted);
        assert_eq!(refused, !accepted, "{}", row.name);
        if !row.is_signed_by_the_secret() {
            let token = row.token(&good_claims(Audience::Service, NOW_S), SECRET);
            let verified = services().verify(&token, NOW_MS);
            assert!(verified.is_err(), "{}", row.name);
        }
    }
    let counted: u64 = users.refusals().map(|(_, count)| count).sum();
    let refused = PUBLIC_ROWS
        .iter()
        .filter(|row| row.user == Verdict::Refused);
    assert_eq!(counted, refused.count() as u64);
}

#[test]
fn the_leeway_is_counted_once_and_the_close_is_out_within_five_seconds() {
    let token = users().sign("u1", &[], HOUR).unwrap();
    let exp_ms = NOW_MS + 3_600_000;
    let user = users().verify(&token, exp_ms + 4_499).unwrap();
    assert_eq!(user.ends_unix_ms - user.exp_unix_ms, 4_500);
    let late = users().verify(&token, exp_ms + 4_500);
    assert_eq!(late, Err(TokenError::Expired));
}

#[test]
fn grants_of_queues_are_names_or_prefixes() {
    let grants: QueueGrants = ["support".to_owned(), "eu-*".to_owned()]
        .into_iter()
        .collect();
    for queue in ["support", "eu-", "eu-west"] {
        assert!(grants.allow(queue).is_some(), "{queue}");
    }
    for queue in [
        "",
        "supportx",
        "eu",
        "us",
        "eu-*",
        "*",
        "eu-\u{200b}",
        "eu-\0",
    ] {
        assert!(grants.allow(queue).is_none(), "{queue:?}");
    }
    let all: QueueGrants = ["*".to_owned()].into_iter().collect();
    assert!(all.allow(&"x".repeat(10_240)).is_none());
}

fn publisher(events: &[&str], targets: &[&str]) -> ServiceGrant {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    ServiceGrant {
        name: "images".to_owned(),
        role: Role::Publisher,
        events: owned(events),
        targets: owned(targets),
        token_id: None,
    }
}

#[test]
fn a_publisher_may_do_what_its_token_lists() {
    let grant = publisher(&["status_update"], &["user:", "queue:support"]);
    let token = services().sign(&grant, HOUR).unwrap();
    let service = services().verify(&token, NOW_MS).unwrap();
    for (event, stream, allowed) in [
        ("status_update", "user:u1", true),
        ("status_update", "queue:support", true),
        ("status_update", "queue:support-2", false),
        ("status_update", "everyone", false),
        ("custom", "user:u1", false),
    ] {
        assert_eq!(
            service.may_publish(event, stream),
            allowed,
            "{event} {stream}"
        );
    }
}

#[test]
fn grants_that_nothing_matches_are_not_signed() {
    for (events, targets) in [
        (&["image_*"][..], &["*"][..]),
        (&["image_process"], &["*"]),
        (&["*"], &["user:*"]),
        (&["*"], &["u1"]),
        (&["*"], &["queue:a*"]),
    ] {
        let error = services()
            .sign(&publisher(events, targets), HOUR)
            .unwrap_err();
        assert!(matches!(error, SignError::Grant { .. }), "{error}");
    }
    for queue in ["a*b", "", "a\u{200b}", "**"] {
        let error = users().sign("u1", &[queue.to_owned()], HOUR).unwrap_err();
        assert!(
            matches!(error, SignError::Grant { .. }),
            "{queue:?}: {error}"
        );
    }
    let much = vec!["x".repeat(100); 200];
    assert!(matches!(
        users().sign("u1", &much, HOUR),
        Err(SignError::TooLong)
    ));
    let ever = Validity {
        lifetime: Duration::MAX,
        ..HOUR
    };
    assert!(matches!(
        users().sign("u1", &[], ever),
        Err(SignError::Lifetime)
    ));
}

proptest! {
    #[test]
    fn what_is_signed_is_accepted(name in "\\PC{0,40}|.{0,140}", queue in ".{0,20}\\*?") {
        let queues = [queue];
        if let Ok(token) = users().sign(&name, &queues, HOUR) {
            let user = users().verify(&token, NOW_MS).unwrap();
            prop_assert_eq!(user.id.as_str(), &name);
        }
        let grant = ServiceGrant { name, ..publisher(&["*"], &["*"]) };
        if let Ok(token) = services().sign(&grant, HOUR) {
            let service = services().verify(&token, NOW_MS).unwrap();
            prop_assert_eq!(service.name.as_str(), &grant.name);
        }
    }
}

#[test]
fn a_token_lives_for_as_long_as_its_role_may_and_no_longer() {
    const DAY: Duration = Duration::from_hours(24);
    for (role, days) in [
        (Role::Publisher, 366),
        (Role::Edge, 366),
        (Role::Operator, 31),
    ] {
        let grant = ServiceGrant {
            role,
            ..publisher(&[], &[])
        };
        let fault = |lifetime| {
            let validity = Validity { lifetime, ..HOUR };
            let token = services().sign(&grant, validity).unwrap();
            services().check(&token, NOW_MS).err()
        };
        assert_eq!(fault(DAY * days), None, "{role:?}");
        let longer = DAY * days + Duration::from_secs(1);
        assert_eq!(fault(longer), Some(TokenFault::Lifetime), "{role:?}");
    }
}

#[test]
fn short_secrets_are_refused_and_none_is_shown() {
    let short = |bytes| Err(ShortSecret { bytes }.into());
    assert_eq!(UserKeys::new(&[1; 31], None).map(drop), short(31));
    assert_eq!(ServiceKeys::new(SECRET, Some(&[1; 3])).map(drop), short(3));
    let shown = format!("{:?}", users());
    assert!(shown.contains("Keys(2 redacted)"), "{shown}");
}

#[tokio::test]
async fn replaced_keys_are_in_use_at_once_and_every_clone_learns_of_it() {
    let set = |secret| KeySet::from_secrets(secret, None).unwrap();
    let (writer, mut keys) = UserKeys::replaceable(set(SECRET));
    let token = keys.sign("u1", &[], HOUR).unwrap();
    let user = keys.verify(&token, NOW_MS).unwrap();
    assert!(keys.accepts_key(user.key));

    let mut clone = keys.clone();
    writer.replace(KeySet::from_secrets(PREVIOUS, Some(SECRET)).unwrap());
    clone.changed().await;
    keys.changed().await;
    assert!(keys.accepts_key(user.key));
    assert_eq!(clone.verify(&token, NOW_MS).unwrap().key, user.key);

    writer.replace(set(PREVIOUS));
    keys.changed().await;
    assert!(!keys.accepts_key(user.key));
    assert_eq!(clone.verify(&token, NOW_MS), Err(TokenError::NotAccepted));

    let mut later = keys.clone();
    writer.replace(set(PREVIOUS));
    let unchanged = tokio::time::timeout(Duration::from_millis(20), later.changed());
    assert!(unchanged.await.is_err(), "the same keys are no change");
}

#[test]
fn a_token_has_its_id_and_the_time_it_was_issued() {
    let mut claims = serde_json::json!({"sub": "u1", "aud": "belfry", "exp": NOW_S + 60});
    let verified = |claims: &serde_json::Value| {
        let set = KeySet::from_secrets(SECRET, None).unwrap();
        users().verify(&set.sign(claims).unwrap(), NOW_MS)
    };
    let user = verified(&claims).unwrap();
    assert_eq!((user.token_id, user.issued_at_unix_ms), (None, None));
    claims["iat"] = NOW_S.into();
    claims["jti"] = "t-1".into();
    let user = verified(&claims).unwrap();
    assert_eq!(user.token_id.as_deref(), Some("t-1"));
    assert_eq!(user.issued_at_unix_ms, Some(NOW_MS));
}
