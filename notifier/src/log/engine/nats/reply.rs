//! What NATS servers answer, read so that nothing counts as refused that may be stored.

use async_nats::jetstream::{message::StreamMessage, stream::RawMessage};
use serde::Deserialize;

use super::{EngineError, unusable};

/// What became of a message that was to be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is stored at this place.
    Stored(u64),
    /// The stream or the subject ends elsewhere: it is not stored.
    Conflict,
    /// Nothing received it: it is not stored.
    NoLeader,
    /// There is no such stream.
    Missing,
    /// It was not sent, or refused for another reason: it is not stored.
    NotSent(String),
    /// It may be stored.
    Unknown(String),
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Answer to a request for a message.
#[derive(Debug, Deserialize)]
pub(super) struct StoredMessage {
    message: RawMessage,
}

impl TryFrom<StoredMessage> for StreamMessage {
    type Error = EngineError;

    fn try_from(stored: StoredMessage) -> Result<Self, EngineError> {
        stored.message.try_into().map_err(unusable)
    }
}

impl Reply {
    /// The codes are those of nats-server's `errors.json`.
    pub(super) fn parse(payload: &[u8]) -> Self {
        let answer: Answer = match serde_json::from_slice(payload) {
            Ok(answer) => answer,
            Err(error) => return Self::Unknown(format!("the answer cannot be read: {error}")),
        };
        let Some(refusal) = answer.error else {
            return match answer.seq {
                0 => Self::Unknown("the answer has no place".to_owned()),
                seq => Self::Stored(seq),
            };
        };
        let text = format!("{} ({})", refusal.description, refusal.err_code);
        match refusal.err_code {
            // Wrong last sequence, by place or while another message is under way.
            10_071 | 10_164 => Self::Conflict,
            // JetStream away or not enabled, resources, sizes, a sealed or a wrong stream.
            10_008 | 10_023 | 10_028 | 10_035 | 10_039 | 10_047 | 10_054 | 10_060 | 10_076
            | 10_109 | 10_167 => Self::NotSent(text),
            // Its limits were checked before it was stored.
            10_077 if refusal.description.starts_with("maximum ") => Self::NotSent(text),
            _ => Self::Unknown(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reply {
        Reply::parse(text.as_bytes())
    }

    #[test]
    fn an_answer_with_a_place_is_stored() {
        let answer = r#"{"stream":"BELFRY_a_0000","seq":7}"#;
        assert_eq!(parse(answer), Reply::Stored(7));
    }

    #[test]
    fn a_wrong_last_sequence_is_a_conflict() {
        for code in [10_071, 10_164] {
            let answer = format!(
                r#"{{"error":{{"code":400,"err_code":{code},"description":"wrong last sequence: 5"}},"stream":"S","seq":0}}"#
            );
            assert_eq!(parse(&answer), Reply::Conflict);
        }
    }

    #[test]
    fn a_full_stream_stored_nothing() {
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}"#;
        assert!(matches!(parse(full), Reply::NotSent(_)));
    }

    #[test]
    fn whatever_else_is_unknown() {
        let failed = r#"{"error":{"code":503,"err_code":10077,"description":"no space left on device"},"seq":0}"#;
        for answer in ["", "+OK", "{}", r#"{"seq":0}"#, failed] {
            assert!(matches!(parse(answer), Reply::Unknown(_)), "{answer}");
        }
    }
}
