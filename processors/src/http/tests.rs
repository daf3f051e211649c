//! The `OpenAPI` description against the routes and against what the handlers serialise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{resource::Resource, *};
use crate::{
    failure::Failure,
    job::{Kind, Outcome, Record, Status},
};

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// A record of a kind: pending, completed with this output, and failed.
fn records<K: Kind>(input: &Value, output: &Value) -> [Record; 3] {
    let pending = Record::new(K::NAME, "r".into(), "u".into(), input.to_string());
    let output = output.to_string();
    let completed = pending.clone().ended(&Outcome::Completed { output });
    let failed = pending.clone().ended(&Outcome::Failed(Failure::Timeout));
    [pending, completed, failed]
}

fn object(view: impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(view).unwrap() {
        Value::Object(fields) => fields,
        other => panic!("{other}"),
    }
}

/// What the handlers answer, by the name of its schema.
fn views(signer: &Signer, config: &Config) -> BTreeMap<&'static str, Vec<Map<String, Value>>> {
    let image_input = json!({"documentType": "image"});
    let image_output = json!({"width": 1, "height": 1, "thumbnailKey": "t", "urlsExpireAtS": 1});
    let images = records::<Images>(&image_input, &image_output);
    let report_input = json!({
        "title": "t", "occurredAt": "2026-01-01T00:00:00Z", "severity": "low", "summary": "s"
    });
    let report_output = json!({"pages": 1, "sizeBytes": 1, "urlExpiresAtS": 1});
    let reports = records::<Reports>(&report_input, &report_output);
    let segment = json!({"startMs": 0, "endMs": 1, "text": "t"});
    let recording_input = json!({"fileName": "f"});
    let recording_output =
        json!({"text": "t", "language": "en", "durationMs": 1, "segments": [segment]});
    let mut recordings = records::<Transcriptions>(&recording_input, &recording_output);
    recordings[0].input = "{}".into();
    let jobs = images.iter().chain(&reports).chain(&recordings).cloned();
    let jobs = jobs.map(|record| object(jobs::JobView::from(record)));
    BTreeMap::from([
        ("Job", jobs.collect()),
        (
            "Document",
            images
                .each_ref()
                .map(|record| object(Images::view(signer, config, record).unwrap()))
                .to_vec(),
        ),
        (
            "Report",
            reports
                .each_ref()
                .map(|record| object(Reports::view(signer, config, record).unwrap()))
                .to_vec(),
        ),
        (
            "Transcription",
            recordings
                .each_ref()
                .map(|record| object(Transcriptions::view(signer, config, record).unwrap()))
                .to_vec(),
        ),
    ])
}

#[test]
fn every_path_is_described_and_every_description_is_of_a_path() {
    let described: BTreeSet<_> = description()["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let served: BTreeSet<_> = routes()
        .iter()
        .map(|(path, _)| path.replace("{*", "{"))
        .collect();
    assert_eq!(described, served);
}

#[test]
fn schemas_have_the_properties_that_the_handlers_serialise_and_no_others() {
    let all = description();
    let config = Config::default();
    let signer = Signer::new(config.signing_secrets.clone(), &config.public_url);
    for (name, views) in views(&signer, &config) {
        let schema = &all["components"]["schemas"][name];
        let described: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
        let serialised: BTreeSet<_> = views.iter().flat_map(Map::keys).collect();
        assert_eq!(described, serialised, "{name}");
        let required = schema["required"].as_array().unwrap().iter();
        let required: BTreeSet<_> = required.map(|field| field.as_str().unwrap()).collect();
        let in_every_view = |field: &str| views.iter().all(|view| view.contains_key(field));
        let always = serialised.into_iter().map(String::as_str);
        let always: BTreeSet<_> = always.filter(|field| in_every_view(field)).collect();
        assert_eq!(required, always, "{name}");
        for view in &views {
            for (field, value) in view {
                let types = match value {
                    Value::Number(_) => "integer",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    other => panic!("{name}.{field}: {other}"),
                };
                let described = &schema["properties"][field];
                assert_eq!(described["type"], types, "{name}.{field}");
                if let Some(values) = described["enum"].as_array() {
                    assert!(values.contains(value), "{name}.{field}: {value}");
                }
            }
        }
    }
}

#[test]
fn enums_have_every_value_that_exists() {
    let schemas = &description()["components"]["schemas"];
    let kinds = [Images::NAME, Reports::NAME, Transcriptions::NAME];
    assert_eq!(schemas["Job"]["properties"]["kind"]["enum"], json!(kinds));
    let statuses = Status::ALL.map(Status::name);
    for name in ["Job", "Document", "Report", "Transcription"] {
        let described = &schemas[name]["properties"]["status"]["enum"];
        assert_eq!(*described, json!(statuses), "{name}");
    }
}
