//! A policy allows what it lists and nothing else, and a bad one names its line.

use belfry::identity::{Role, ServiceGrant, ServiceKeys, Validity};

use super::*;

const FILE: &str = "policy.toml";
const EXAMPLE: &str = include_str!("../../../docs/services-policy.example.toml");

fn policy(text: &str) -> Policy {
    let rules = file::parse(FILE, text).unwrap();
    Policy {
        rules: Arc::new(ArcSwapOption::from_pointee(rules)),
        ..Policy::default()
    }
}

/// A service whose token allows everything.
fn service(name: &str, role: Role) -> Service {
    let keys = ServiceKeys::new(&[1; 32], None).unwrap();
    let grant = ServiceGrant {
        name: name.to_owned(),
        role,
        events: vec!["*".to_owned()],
        targets: vec!["*".to_owned()],
        token_id: None,
    };
    let now = std::time::SystemTime::now();
    let now_unix_ms = crate::publish::unix_ms(now);
    let validity = Validity {
        issued_at: u64::try_from(now_unix_ms / 1_000).unwrap(),
        lifetime: std::time::Duration::from_mins(1),
    };
    let token = keys.sign(&grant, validity).unwrap();
    keys.verify(&token, now_unix_ms).unwrap()
}

#[test]
fn the_example_is_a_policy_and_denies_what_it_does_not_list() {
    let policy = policy(EXAMPLE);
    let support = service("support", Role::Publisher);
    assert_eq!(policy.admits(&support), Ok(()));
    for (event, stream, allowed) in [
        ("status_update", "queue:support", true),
        ("status_update", "queue:sales", false),
        ("status_update", "everyone", false),
        ("pdf_generated", "queue:support", false),
    ] {
        assert_eq!(
            policy.allows(&support, event, stream),
            allowed,
            "{event} {stream}"
        );
    }
    let processors = service("processors", Role::Publisher);
    assert!(policy.allows(&processors, "pdf_generated", "user:u1"));
    assert!(!policy.allows(&processors, "pdf_generated", "queue:support"));
    let stranger = service("stranger", Role::Publisher);
    assert_eq!(policy.admits(&stranger), Err(Denial::NotListed));
    assert!(!policy.allows(&stranger, "status_update", "everyone"));
    let promoted = service("support", Role::Operator);
    assert_eq!(policy.admits(&promoted), Err(Denial::OtherRole));
    assert!(!policy.allows(&promoted, "status_update", "queue:support"));
    let rates = policy.rates()["support"];
    assert_eq!(rates.publishes_per_s, Some(200));
    assert_eq!(rates.bytes_per_s, Some(1 << 20));
    assert_eq!(rates.share_percent, Some(5));
}

#[test]
fn without_a_file_tokens_decide() {
    let policy = Policy::read(None).unwrap();
    let anybody = service("anybody", Role::Publisher);
    assert_eq!(policy.admits(&anybody), Ok(()));
    assert!(policy.allows(&anybody, "status_update", "everyone"));
    assert_eq!(policy.reload().unwrap(), None);
}

#[test]
fn a_bad_file_is_refused_with_line_and_value() {
    for (text, expected) in [
        ("[services.a]\nrole = 'king'", "line 2"),
        ("[services.a]\nrole = 'publisher'\nevnets = []", "line 3"),
        ("[services.a]\nevents = ['*']", "line 1"),
        ("services = 3", "line 1"),
        ("", "line 1"),
        (
            "[services.a]\nrole = 'publisher'\nevents = ['status_updat']",
            "line 3: `status_updat` is not the name of an event",
        ),
        (
            "[services.a]\nrole = 'publisher'\ntargets = [\n'user:1',\n'user:*']",
            "line 5: `user:*` is not",
        ),
        (
            "[services.a]\nrole = 'publisher'\nshare_percent = 101",
            "line 3: `101` is not a number from 1 to 100",
        ),
        (
            "[services.a]\nrole = 'publisher'\nbytes_per_second = '1GBB'",
            "line 3: `1GBB` is not a size",
        ),
        (
            "\n[services.\"a\\u0000\"]\nrole = 'edge'",
            "line 2: `a\\0` is not the name",
        ),
    ] {
        let error = file::parse(FILE, text).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains(expected), "{error}");
    }
}

#[test]
fn a_changed_file_is_taken_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let with = |targets: &str| {
        format!("[services.a]\nrole = 'publisher'\nevents = ['*']\ntargets = [{targets}]\n")
    };
    std::fs::write(&path, with("'user:'")).unwrap();
    let policy = Policy::read(Some(&path)).unwrap();
    let open = policy.clone();
    let caller = service("a", Role::Publisher);
    assert!(!open.allows(&caller, "status_update", "everyone"));
    assert_eq!(policy.reload().unwrap(), None, "nothing is different");
    std::fs::write(&path, with("'everyone'")).unwrap();
    let changed = policy.reload().unwrap().unwrap();
    assert!(
        changed.starts_with("a: ") && changed.contains("everyone"),
        "{changed}"
    );
    assert!(open.allows(&caller, "status_update", "everyone"));
    std::fs::write(&path, with("'nobody'")).unwrap();
    assert!(policy.reload().is_err());
    assert!(open.allows(&caller, "status_update", "everyone"));
    std::fs::write(&path, "[services.b]\nrole = 'edge'\n").unwrap();
    let changed = policy.reload().unwrap().unwrap();
    assert!(changed.contains("a: removed; b: added"), "{changed}");
    assert_eq!(open.admits(&caller), Err(Denial::NotListed));
}
