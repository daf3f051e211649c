//! Precedence, and the sentence for each bad value.

use std::{fs, time::Duration};

use super::{
    layers::{Origin, Raw, definitions, flag, variable},
    roles::{Edge, Everything, Notifier, Processors, Up},
    *,
};

fn written(pairs: &[(&str, &str)], origin: &Origin) -> Given {
    let raw = |text: &str| Raw {
        text: text.to_owned(),
        origin: origin.clone(),
    };
    let pairs = pairs.iter();
    pairs
        .map(|(setting, text)| ((*setting).to_owned(), raw(text)))
        .collect()
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

    fn load<R: Role>(&self, given: &Given) -> Result<R, String> {
        let loaded = load::<R>(given, Some(&self.path()));
        loaded
            .map(|loaded| loaded.role)
            .map_err(|error| error.to_string())
    }

    fn faults(&self) -> String {
        self.load::<Everything>(&Given::new()).unwrap_err()
    }
}

#[test]
fn without_anything_written_every_role_has_the_defaults_of_its_crates() {
    let empty = File::with("");
    let none = Given::new();
    let up: Up = empty.load(&none).unwrap();
    assert_eq!(
        up.edge_listen.edge_listen,
        "127.0.0.1:8080".parse().unwrap()
    );
    let keys = up.users_key.sources(&up.process.data).files;
    assert_eq!(keys, [PathBuf::from("./data/secrets/users.key")]);
    assert_eq!(up.notifier().drain, notifier::Config::default().drain);
    let edge: Edge = empty.load(&none).unwrap();
    assert_eq!(edge.config().drain, edge::Config::default().drain);
    assert_eq!(
        edge.config().max_connections,
        edge::Config::default().max_connections
    );
    let processors: Processors = empty.load(&none).unwrap();
    let (ours, theirs) = (processors.config(), processors::Config::default());
    assert_eq!(ours.shutdown_grace, theirs.shutdown_grace);
    assert_eq!(ours.notifier, theirs.notifier);
    assert_eq!(ours.document_types, theirs.document_types);
    let _: Notifier = empty.load(&none).unwrap();
    let _: Everything = empty.load(&none).unwrap();
}

#[test]
fn by_default_a_dead_peer_is_noticed_in_fifteen_seconds_and_a_dead_client_in_sixty() {
    let edge: Edge = File::with("").load(&Given::new()).unwrap();
    // Pinged after the keepalive, closed after half of it again.
    assert!(edge.link.link_keepalive * 3 / 2 <= Duration::from_secs(15));
    assert!(edge.config().stale_after <= Duration::from_mins(1));
    assert!(edge.config().write_stall <= Duration::from_secs(15));
}

#[test]
fn silence_that_ends_a_client_is_longer_than_the_pause_between_pings() {
    let file = File::with("ping_every = '2s'\nstale_after = '2s'");
    let place = file.path();
    assert_eq!(
        file.faults(),
        format!(
            "`stale_after` in `{}`, line 2, is `2s`, but it must be longer than `--ping-every`, \
             which is 2s",
            place.display()
        )
    );
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let file = File::with("drain = '3s'\nretained_events = 7\norigins = ['http://a.test']");
    let given = written(&[("drain", "4s")], &Origin::Variable);
    let up: Up = file.load(&given).unwrap();
    assert_eq!(up.process.drain, Duration::from_secs(4));
    assert_eq!(up.notifier().retained_events, 7);
    assert_eq!(up.edge().origins, ["http://a.test"]);
    assert_eq!(up.edge().shards, 1);
}

#[test]
fn every_way_to_write_a_value_is_read_alike() {
    for text in [
        "origins = ['http://a.test', 'capacitor://localhost']\nretained_events = 7",
        "origins = 'http://a.test, capacitor://localhost,'\nretained_events = '7'",
    ] {
        let up: Up = File::with(text).load(&Given::new()).unwrap();
        let origins = ["http://a.test", "capacitor://localhost"];
        assert_eq!(up.edge().origins, origins, "{text}");
        assert_eq!(up.notifier().retained_events, 7, "{text}");
    }
}

#[test]
fn an_empty_flag_or_key_means_none_where_that_is_possible() {
    let file = File::with("origins = 'http://a.test'\nprocessors_url = ''");
    let given = written(
        &[("origins", ""), ("typeform-documents", "")],
        &Origin::Flag,
    );
    let up: Up = file.load(&given).unwrap();
    assert!(up.edge().origins.is_empty());
    assert_eq!(up.pages.processors_url, None);
    for setting in ["edge-name", "data-dir", "drain", "document-types"] {
        let given = written(&[(setting, "")], &Origin::Flag);
        let error = file.load::<Up>(&given).unwrap_err();
        assert!(error.contains(&format!("`--{setting}`")), "{error}");
    }
}

#[test]
fn secrets_are_in_the_data_directory_unless_another_place_is_named() {
    let given = written(
        &[
            ("data-dir", "/d"),
            ("secrets-dir", "/s"),
            ("files-key-file", "/f"),
        ],
        &Origin::Flag,
    );
    let up: Up = File::with("").load(&given).unwrap();
    assert_eq!(
        up.services_key.path(&up.process.data),
        PathBuf::from("/s/services.key")
    );
    assert_eq!(up.files_key.path(&up.process.data), PathBuf::from("/f"));
}

#[test]
fn each_bad_value_is_one_sentence_with_name_value_and_rule() {
    let empty = File::with("");
    let table = [
        ("edge-listen", "127.0.0.1:70000", "0 to 65535"),
        ("grpc-listen", "example", "an IP address and a port"),
        ("drain", "10", "with a unit"),
        ("drain", "11m", "from 100ms to 10m"),
        ("retained-age", "1s", "from 1m"),
        ("upload-limit", "1GBB", "KiB, MiB or GiB"),
        ("upload-limit", "2GiB", "to 1GiB"),
        ("retained-events", "0", "from 1 to"),
        ("edge-shards", "65", "from 1 to 64"),
        ("max-connections", "-1", "whole number"),
        ("notifier-url", "ws://n.test", "http or https"),
        ("notifier-url", "http://n.test", "write `https`, or allow"),
        ("grpc-listen", "10.0.0.1:1", "set `--tls-cert` and"),
        ("edge-listen", "[::]:8080", "set `--tls-cert` and"),
        ("tls-cert", "/c.pem", "needs `--tls-key`"),
        ("tls-client-key", "/k.pem", "needs `--tls-client-cert`"),
        ("tls-client-ca", "/ca.pem", "set `--tls-cert`"),
        (
            "notifier-url",
            "http://me:secret@n.test",
            "without a user name",
        ),
        ("processors-url", "ftp://p.test", "http or https"),
        ("public-ws-url", "https://p.test", "ws or wss"),
        ("origins", "*", "a `*` is not one"),
        ("origins", "https://*.a.test", "a `*` is not one"),
        ("origins", "https://App.test", "as browsers send them"),
        ("dev-tokens", "yes", "true, false"),
        ("fetch-private", "1", "true, false"),
        ("store", "redis", "embedded, memory"),
        ("log", "edge=loud", "error, warn, info, debug, trace"),
        ("log-format", "xml", "text, json"),
        ("edge-name", "", "1 to 64"),
        ("data-dir", "", "a path"),
    ];
    for (setting, value, rule) in table {
        for (origin, name) in [
            (Origin::Flag, format!("--{setting}")),
            (Origin::Variable, variable(setting)),
        ] {
            let given = written(&[(setting, value)], &origin);
            let text = empty.load::<Everything>(&given).unwrap_err();
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
fn every_fault_is_reported_at_once_with_its_line() {
    let file = File::with("drian = '3s'\nupload_limit = 5\n\nstore = 1.5");
    let text = file.faults();
    assert_eq!(text.lines().count(), 3, "{text}");
    for part in [
        "`drian` in `",
        "line 1, is not a setting, did you mean `drain`?",
        "line 2, is `5`, but it must be a size",
        "line 4, is of the type float",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

#[test]
fn a_file_that_is_not_toml_names_its_line() {
    let text = File::with("drain = '3s'\n= 3").faults();
    assert!(
        text.contains("line 2") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_named_file_must_exist() {
    let missing = PathBuf::from("/nowhere/belfry.toml");
    assert!(matches!(
        load::<Up>(&Given::new(), Some(&missing)),
        Err(ConfigError::Unreadable { .. })
    ));
}

#[test]
fn a_file_is_shared_by_processes_that_read_other_keys() {
    let file = File::with("retained_events = 7\nedge_name = 'e'");
    let edge: Edge = file.load(&Given::new()).unwrap();
    assert_eq!(edge.config().name, "e");
}

#[test]
fn development_tokens_are_refused_where_others_could_request_them() {
    let file = File::with("dev_tokens = true\norigins = ['https://a.test']");
    let text = file.load::<Up>(&Given::new()).unwrap_err();
    assert!(text.contains("`origins` in `"), "{text}");
    let off = File::with("edge_listen = '0.0.0.0:0'\ninsecure_plaintext = true");
    let up: Up = off.load(&Given::new()).unwrap();
    assert!(!up.gives_dev_tokens());
}

#[test]
fn the_rule_of_a_setting_is_found_for_the_reference() {
    let rules: std::collections::BTreeMap<_, _> = definitions::<Everything>()
        .iter()
        .map(|setting| (flag(setting).to_owned(), layers::rule_of(setting)))
        .collect();
    let rule = rules["drain"].as_deref().unwrap();
    assert_eq!(
        rule,
        "a duration with a unit (ms, s, m, h or d) from 100ms to 10m"
    );
    assert_eq!(rules["data-dir"], None);
}
