//! What a browser may say, read strictly: what is wrong is named, and nothing is
//! guessed.
//!
//! Fields are split first and read one by one, so that an error can name its
//! field. Unknown fields are skipped; a duplicate of a known one is refused.

use std::{borrow::Cow, fmt};

use delivery::{EventId, Position, link::ReceiptState};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{read_position, receipts};

/// Queues in one `connect` at most.
pub const MAX_QUEUES: usize = 128;
/// The rule for the name of a device.
const DEVICE: &str = "1 to 64 printable ASCII characters";

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connect {
    /// The token, if it did not come in a header.
    pub token: Option<String>,
    /// Last positions of the client, by public stream name.
    pub positions: Vec<(String, Position)>,
    /// Queues to follow from the start.
    pub queues: Vec<String>,
    /// What the device is called in receipts.
    pub device: Option<String>,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// First and once.
    Connect(Connect),
    /// Follow a queue.
    Subscribe {
        /// The queue.
        queue: String,
        /// From where; `None`: from now on.
        from: Option<Position>,
    },
    /// Follow a queue no longer.
    Unsubscribe {
        /// The queue.
        queue: String,
    },
    /// Are you there?
    Ping,
    /// A new token.
    Refresh {
        /// The token.
        token: String,
    },
    /// What became of events on this device.
    Receipt {
        /// Event and state.
        receipts: Vec<(EventId, ReceiptState)>,
    },
    /// Who follows a queue?
    Presence {
        /// The queue.
        queue: String,
        /// Start or stop watching.
        watch: bool,
    },
}

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadFrame {
    /// The field that is wrong, if one is.
    pub field: Option<Cow<'static, str>>,
    /// What is wrong with it and what would be right.
    pub message: Cow<'static, str>,
    /// Whether it said that it is a `connect`.
    pub connect: bool,
}

impl BadFrame {
    fn whole(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: None,
            message: message.into(),
            connect: false,
        }
    }

    pub(super) fn field(field: impl Into<Cow<'static, str>>, rule: &str) -> Self {
        let field = field.into();
        let message = Cow::Owned(format!("`{field}` must be {rule}"));
        Self {
            field: Some(field),
            message,
            connect: false,
        }
    }
}

/// Reads one message.
pub fn parse(text: &str) -> Result<ClientFrame, BadFrame> {
    let fields: Fields<'_> = serde_json::from_str(text)
        .map_err(|_| BadFrame::whole("the message is not one JSON object, send one per message"))?;
    if let Some(twice) = fields.twice {
        return Err(BadFrame {
            message: format!("duplicate field `{twice}`").into(),
            ..BadFrame::field(twice, "unique")
        });
    }
    let kind: String = required(fields.kind, "type", "a string")?;
    match kind.as_str() {
        "connect" => fields
            .connect()
            .map(ClientFrame::Connect)
            .map_err(|bad| BadFrame {
                connect: true,
                ..bad
            }),
        "subscribe" => {
            Ok(ClientFrame::Subscribe {
                queue: required(fields.queue, "queue", "a string")?,
                from: match optional::<String>(fields.position, "position", "a string")? {
                    Some(text) => Some(read_position(&text).ok_or_else(|| {
                        BadFrame::field("position", "a position as it was received")
                    })?),
                    None => None,
                },
            })
        }
        "unsubscribe" => Ok(ClientFrame::Unsubscribe {
            queue: required(fields.queue, "queue", "a string")?,
        }),
        "ping" => Ok(ClientFrame::Ping),
        "refresh" => Ok(ClientFrame::Refresh {
            token: required(fields.token, "token", "a string")?,
        }),
        "receipt" => Ok(ClientFrame::Receipt {
            receipts: receipts::read(fields.receipts)?,
        }),
        "presence" => Ok(ClientFrame::Presence {
            queue: required(fields.queue, "queue", "a string")?,
            watch: required(fields.watch, "watch", "true or false")?,
        }),
        _ => Err(BadFrame::field(
            "type",
            "one of `connect`, `subscribe`, `unsubscribe`, `ping`, `refresh`, `receipt`, `presence`",
        )),
    }
}

pub(super) fn optional<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    rule: &str,
) -> Result<Option<T>, BadFrame> {
    raw.map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|_| BadFrame::field(field, rule))
}

pub(super) fn required<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    rule: &str,
) -> Result<T, BadFrame> {
    optional(raw, field, rule)?.ok_or_else(|| BadFrame::field(field, rule))
}

/// The known fields of a message, unread.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    token: Option<&'a RawValue>,
    positions: Option<&'a RawValue>,
    queues: Option<&'a RawValue>,
    queue: Option<&'a RawValue>,
    position: Option<&'a RawValue>,
    device: Option<&'a RawValue>,
    receipts: Option<&'a RawValue>,
    watch: Option<&'a RawValue>,
    twice: Option<&'static str>,
}

impl<'a> Fields<'a> {
    fn connect(self) -> Result<Connect, BadFrame> {
        let queues: Vec<String> =
            optional(self.queues, "queues", "a list of strings")?.unwrap_or_default();
        if queues.len() > MAX_QUEUES {
            return Err(BadFrame::field("queues", "a list of 128 queues at most"));
        }
        let texts: Positions = optional(
            self.positions,
            "positions",
            "an object of strings, without duplicates",
        )?
        .unwrap_or_default();
        let mut positions = Vec::with_capacity(texts.0.len());
        for (stream, text) in texts.0 {
            let Some(position) = read_position(&text) else {
                // The name is the client's own; it is shown only if it is short.
                let name = if stream.len() <= 140 {
                    stream.as_str()
                } else {
                    "…"
                };
                return Err(BadFrame::field(
                    format!("positions.{name}"),
                    "a position as it was received",
                ));
            };
            positions.push((stream, position));
        }
        let device: Option<String> = optional(self.device, "device", DEVICE)?;
        let fits = |name: &String| {
            (1..=64).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        if device.as_ref().is_some_and(|name| !fits(name)) {
            return Err(BadFrame::field("device", DEVICE));
        }
        Ok(Connect {
            token: optional(self.token, "token", "a string")?,
            positions,
            queues,
            device,
        })
    }

    fn slot(&mut self, key: &str) -> Option<(&mut Option<&'a RawValue>, &'static str)> {
        Some(match key {
            "type" => (&mut self.kind, "type"),
            "token" => (&mut self.token, "token"),
            "positions" => (&mut self.positions, "positions"),
            "queues" => (&mut self.queues, "queues"),
            "queue" => (&mut self.queue, "queue"),
            "position" => (&mut self.position, "position"),
            "device" => (&mut self.device, "device"),
            "receipts" => (&mut self.receipts, "receipts"),
            "watch" => (&mut self.watch, "watch"),
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;
        impl<'de> Visitor<'de> for Split {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let Some((slot, name)) = fields.slot(&key) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if slot.replace(map.next_value()?).is_some() {
                        fields.twice = Some(name);
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Split)
    }
}

/// Streams and their positions, in the order they came.
#[derive(Default)]
struct Positions(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Positions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Positions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Positions, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry::<String, String>()? {
                    // At most one for each queue, `user` and `everyone`.
                    if pairs.len() == MAX_QUEUES + 2
                        || pairs.iter().any(|(name, _)| *name == pair.0)
                    {
                        return Err(A::Error::custom("too many, or a duplicate"));
                    }
                    pairs.push(pair);
                }
                Ok(Positions(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::position_text;

    #[test]
    fn each_frame_of_the_protocol_is_read() {
        let position = Position {
            epoch: 1,
            offset: 2,
            check: 3,
        };
        let text = position_text(position);
        let connect = format!(
            r#"{{"type":"connect","token":"t","positions":{{"user":"{text}"}},"queues":["a"],"new":[1]}}"#
        );
        let Ok(ClientFrame::Connect(connect)) = parse(&connect) else {
            panic!()
        };
        assert_eq!(connect.positions, [("user".to_owned(), position)]);
        assert_eq!(
            (connect.token.as_deref(), &connect.queues[..]),
            (Some("t"), &["a".to_owned()][..])
        );
        assert_eq!(
            parse(&format!(
                r#"{{"queue":"a","type":"subscribe","position":"{text}"}}"#
            )),
            Ok(ClientFrame::Subscribe {
                queue: "a".into(),
                from: Some(position)
            })
        );
        assert_eq!(
            parse(r#"{"type":"unsubscribe","queue":"\u0061"}"#),
            Ok(ClientFrame::Unsubscribe { queue: "a".into() })
        );
        assert_eq!(parse(r#"{"type":"ping"}"#), Ok(ClientFrame::Ping));
        assert_eq!(
            parse(r#"{"type":"refresh","token":"t"}"#),
            Ok(ClientFrame::Refresh { token: "t".into() })
        );
        assert_eq!(
            parse(r#"{"type":"presence","queue":"a","watch":false}"#),
            Ok(ClientFrame::Presence {
                queue: "a".into(),
                watch: false
            })
        );
        let Ok(ClientFrame::Connect(connect)) = parse(r#"{"type":"connect","device":"my phone"}"#)
        else {
            panic!()
        };
        assert_eq!(connect.device.as_deref(), Some("my phone"));
    }

    #[test]
    fn a_bad_message_is_refused_and_its_field_named() {
        let deep = format!(r#"{{"type":"ping","x":{}}}"#, "[".repeat(10_000));
        let queues = format!(
            r#"{{"type":"connect","queues":[{}"a"]}}"#,
            r#""a","#.repeat(128)
        );
        let long = format!(r#"{{"type":"connect","device":"{}"}}"#, "x".repeat(65));
        let table: [(&str, Option<&str>); 32] = [
            ("", None),
            ("x", None),
            ("[]", None),
            ("null", None),
            ("5", None),
            (r#"{"type":"ping"} x"#, None),
            ("\u{feff}{\"type\":\"ping\"}", None),
            (r#"{"type":"ping""#, None),
            (&deep, None),
            (r"{}", Some("type")),
            (r#"{"type":7}"#, Some("type")),
            (r#"{"type":null}"#, Some("type")),
            (r#"{"type":"shout"}"#, Some("type")),
            (r#"{"type":"ping","type":"ping"}"#, Some("type")),
            (r#"{"type":"subscribe"}"#, Some("queue")),
            (r#"{"type":"subscribe","queue":1e999}"#, Some("queue")),
            (r#"{"type":"subscribe","queue":"\ud800"}"#, Some("queue")),
            (
                r#"{"type":"subscribe","queue":"a","queue":"b"}"#,
                Some("queue"),
            ),
            (
                r#"{"type":"subscribe","queue":"a","position":7}"#,
                Some("position"),
            ),
            (
                r#"{"type":"subscribe","queue":"a","position":"7"}"#,
                Some("position"),
            ),
            (r#"{"type":"refresh","token":{}}"#, Some("token")),
            (r#"{"type":"presence","watch":true}"#, Some("queue")),
            (r#"{"type":"presence","queue":"a"}"#, Some("watch")),
            (
                r#"{"type":"presence","queue":"a","watch":1}"#,
                Some("watch"),
            ),
            (r#"{"type":"connect","device":""}"#, Some("device")),
            (r#"{"type":"connect","device":"é"}"#, Some("device")),
            (&long, Some("device")),
            (r#"{"type":"receipt"}"#, Some("receipts")),
            (r#"{"type":"connect","queues":"a"}"#, Some("queues")),
            (&queues, Some("queues")),
            (
                r#"{"type":"connect","positions":{"user":"x"}}"#,
                Some("positions.user"),
            ),
            (
                r#"{"type":"connect","positions":{"user":"","user":""}}"#,
                Some("positions"),
            ),
        ];
        for (text, field) in table {
            let bad = parse(text).expect_err(text);
            assert_eq!(bad.field.as_deref(), field, "{text:.60}: {bad}");
        }
    }
}
