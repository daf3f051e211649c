//! The fields of an event, as JSON.

use std::fmt::{Debug, Write as _};

use serde_json::{Map, Value};
use tracing::{
    Event,
    field::{Field, Visit},
};

/// Characters of one value at most.
const MAX_VALUE: usize = 1_024;

/// The fields of an event, in its order; the message among them.
pub(super) fn as_json(event: &Event<'_>) -> Map<String, Value> {
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    fields.0
}

/// The message of an event.
pub(super) fn message(event: &Event<'_>) -> String {
    match as_json(event).remove("message") {
        Some(Value::String(message)) => message,
        _ => String::new(),
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text: String = value.chars().take(MAX_VALUE).collect();
        self.put(field, text);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
