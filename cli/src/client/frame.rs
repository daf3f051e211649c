//! What an edge sends: each frame as it arrived, and what a client needs of it.

use belfry::name::StreamRef;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ClientError;

/// A frame from an edge: what a client needs of it, and all of it as it came.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Frame {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    stream: Option<String>,
    queue: Option<String>,
    /// Its place, for people.
    pub(crate) offset: Option<u64>,
    /// Its place, for the next `connect`.
    pub(crate) position: Option<String>,
    timestamp: Option<String>,
    #[serde(skip)]
    batch: Vec<Frame>,
    /// As it came.
    #[serde(skip)]
    pub(crate) raw: String,
}

impl Frame {
    /// Reads a text frame.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        struct Batch<'a> {
            #[serde(borrow)]
            events: Vec<&'a RawValue>,
        }
        let nonsense = |cause: serde_json::Error| ClientError::Nonsense(cause.to_string());
        let mut frame: Frame = serde_json::from_str(text).map_err(nonsense)?;
        if frame.kind == "batch" {
            let batch: Batch<'_> = serde_json::from_str(text).map_err(nonsense)?;
            let events = batch.events.into_iter();
            frame.batch = events
                .map(|event| Frame::parse(event.get()))
                .collect::<Result<_, _>>()?;
        }
        text.clone_into(&mut frame.raw);
        Ok(frame)
    }

    /// The events of a batch, or the frame itself.
    pub(crate) fn events(&self) -> Vec<Frame> {
        if self.kind == "batch" {
            self.batch.clone()
        } else {
            vec![self.clone()]
        }
    }

    /// The stream as `positions` names it.
    pub(crate) fn stream_name(&self) -> String {
        match (self.stream.as_deref(), &self.queue) {
            (Some("queue") | None, Some(queue)) => StreamRef::Queue(queue).to_string(),
            (stream, _) => stream.unwrap_or_default().to_owned(),
        }
    }

    /// One line for people: when, where, what.
    pub(crate) fn pretty(&self) -> String {
        let mut rest: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&self.raw).unwrap_or_default();
        for shown in [
            "type",
            "id",
            "stream",
            "queue",
            "offset",
            "position",
            "timestamp",
        ] {
            rest.remove(shown);
        }
        let time = self.timestamp.as_deref().unwrap_or("-");
        let place = match self.offset {
            Some(offset) => format!("{}@{offset}", self.stream_name()),
            None => self.stream_name(),
        };
        let rest = serde_json::Value::Object(rest);
        format!("{time:24}  {place:14}  {:26}  {rest}", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_its_events() {
        let frame = Frame::parse(
            r#"{"type":"batch","events":[{"type":"custom","stream":"queue","queue":"q","offset":1,"position":"a"},{"type":"job_progress"}]}"#,
        )
        .unwrap();
        let events = frame.events();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].stream_name(), "queue:q");
        assert!(events[0].raw.starts_with(r#"{"type":"custom""#));
    }
}
