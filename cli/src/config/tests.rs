//! Precedence, and the sentence for each bad value.

use std::{collections::BTreeMap, path::PathBuf};

use super::{settings::Raw, *};

fn flags(pairs: &[(&'static str, &str)], source: Source) -> BTreeMap<&'static str, Raw> {
    let raw = |text: &str| Raw {
        text: text.to_owned(),
        source,
    };
    pairs.iter().map(|(key, text)| (*key, raw(text))).collect()
}

struct File(tempfile::TempDir);

impl File {
    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("belfry.toml"), text).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("belfry.toml")
    }
}

#[test]
fn every_default_is_valid() {
    let empty = File::with("");
    let config = load(&BTreeMap::new(), Some(&empty.path())).unwrap();
    assert_eq!(config.edge_listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.users_key, PathBuf::from("./data/secrets/users.key"));
}

#[test]
fn by_default_a_dead_peer_is_noticed_in_fifteen_seconds_and_a_dead_client_in_sixty() {
    let empty = File::with("");
    let config = load(&BTreeMap::new(), Some(&empty.path())).unwrap();
    // Asked after the keepalive, given up after half of it again.
    assert!(config.link_keepalive * 3 / 2 <= 15 * SECOND);
    assert!(config.stale_after <= 60 * SECOND);
    assert!(config.write_stall <= 15 * SECOND);
}

#[test]
fn silence_that_ends_a_client_is_longer_than_the_pause_between_pings() {
    let empty = File::with("ping_every = '2s'\nstale_after = '2s'");
    let fault = load(&BTreeMap::new(), Some(&empty.path())).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "`--stale-after` is 2s, it must be longer than `--ping-every`, which is 2s"
    );
}

#[test]
fn what_is_given_beats_the_file_and_the_file_beats_the_default() {
    let file = File::with("drain = '3s'\nretained_events = 7\norigins = ['http://a.test']");
    let given = flags(&[("drain", "4s")], Source::Env);
    let config = load(&given, Some(&file.path())).unwrap();
    assert_eq!(config.drain, Duration::from_secs(4));
    assert_eq!(config.retained_events, 7);
    assert_eq!(config.origins, ["http://a.test"]);
    assert_eq!(config.edge_shards, 1);
}

#[test]
fn secrets_lie_in_the_data_directory_unless_told_otherwise() {
    let empty = File::with("");
    let given = flags(
        &[
            ("data-dir", "/d"),
            ("secrets-dir", "/s"),
            ("files-key-file", "/f"),
        ],
        Source::Flag,
    );
    let config = load(&given, Some(&empty.path())).unwrap();
    assert_eq!(config.services_key, PathBuf::from("/s/services.key"));
    assert_eq!(config.files_key, PathBuf::from("/f"));
}

#[test]
fn each_bad_value_is_one_sentence_with_key_value_and_rule() {
    let empty = File::with("");
    let table = [
        ("edge-listen", "127.0.0.1:70000", "0 to 65535"),
        ("grpc-listen", "example", "an IP address and a port"),
        ("drain", "10", "with a unit"),
        ("drain", "11m", "from 100ms to 10m"),
        ("retained-age", "1s", "from 1m"),
        ("upload-limit", "1GBB", "B, KiB, MiB or GiB"),
        ("upload-limit", "2GiB", "to 1GiB"),
        ("retained-events", "0", "from 1 to"),
        ("edge-shards", "65", "from 1 to 64"),
        ("max-connections", "-1", "whole number"),
        ("notifier-url", "https://n.test", "http URL"),
        (
            "notifier-url",
            "http://me:secret@n.test",
            "without a user name",
        ),
        ("processors-url", "ftp://p.test", "http or https"),
        ("origins", "*", "a `*` is not one"),
        ("origins", "https://App.test", "as browsers send them"),
        ("dev-tokens", "yes", "true or false"),
        ("store", "redis", "embedded, memory"),
        ("log", "edge=loud", "error, warn, info, debug, trace"),
        ("log-format", "xml", "text, json"),
        ("edge-name", "", "1 to 64"),
        ("data-dir", "", "a path"),
    ];
    for (key, value, rule) in table {
        for (source, name) in [
            (Source::Flag, format!("--{key}")),
            (Source::Env, env_name(key)),
        ] {
            let error = load(&flags(&[(key, value)], source), Some(&empty.path())).unwrap_err();
            let text = error.to_string();
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(
                text.starts_with(&format!("`{name}` is `{value}`, but")),
                "{text}"
            );
            assert!(text.contains(rule), "{text} lacks {rule}");
        }
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let file = File::with("drian = '3s'\nupload_limit = 5\nstore = 1.5");
    let text = load(&BTreeMap::new(), Some(&file.path()))
        .unwrap_err()
        .to_string();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("`drian` in") && text.contains("did you mean `drain`"),
        "{text}"
    );
    assert!(text.contains("`upload_limit` is `5`"), "{text}");
    assert!(
        text.contains("`store`") && text.contains("is a float"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_not_toml_names_its_line() {
    let file = File::with("drain = '3s'\n= 3");
    let text = load(&BTreeMap::new(), Some(&file.path()))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("line 2") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_named_file_has_to_exist() {
    let missing = PathBuf::from("/nowhere/belfry.toml");
    assert!(matches!(
        load(&BTreeMap::new(), Some(&missing)),
        Err(ConfigError::Unreadable { .. })
    ));
}
