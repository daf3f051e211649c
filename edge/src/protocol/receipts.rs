//! The receipts in a `receipt` frame.

use delivery::{EventId, link::ReceiptState};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::client::{BadFrame, required};

/// Receipts in one frame at most.
pub const MAX_RECEIPTS: usize = 100;

#[derive(Deserialize)]
struct Item {
    id: String,
    state: String,
}

/// Reads the list; an error names the item that is wrong.
pub(super) fn read(raw: Option<&RawValue>) -> Result<Vec<(EventId, ReceiptState)>, BadFrame> {
    let rule = "a list of 1 to 100 objects with `id` and `state`";
    let items: Vec<Item> = required(raw, "receipts", rule)?;
    if items.is_empty() || items.len() > MAX_RECEIPTS {
        return Err(BadFrame::field("receipts", rule));
    }
    let mut receipts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        // Only the form that events come with: 36 characters with hyphens.
        let id = Uuid::try_parse(&item.id)
            .ok()
            .filter(|_| item.id.len() == 36);
        let Some(id) = id else {
            let field = format!("receipts[{index}].id");
            return Err(BadFrame::field(field, "the id of an event as it came"));
        };
        let state = match item.state.as_str() {
            "delivered" => ReceiptState::Delivered,
            "displayed" => ReceiptState::Displayed,
            "dismissed" => ReceiptState::Dismissed,
            "read" => ReceiptState::Read,
            _ => {
                let field = format!("receipts[{index}].state");
                let rule = "one of `delivered`, `displayed`, `dismissed`, `read`";
                return Err(BadFrame::field(field, rule));
            }
        };
        receipts.push((id.as_u128(), state));
    }
    Ok(receipts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ClientFrame, parse};

    const ID: &str = "0199a7e0-0000-7000-8000-000000000001";

    fn frame(receipts: &str) -> Result<ClientFrame, BadFrame> {
        parse(&format!(r#"{{"type":"receipt","receipts":{receipts}}}"#))
    }

    #[test]
    fn each_state_is_read() {
        let states = [
            ("delivered", ReceiptState::Delivered),
            ("displayed", ReceiptState::Displayed),
            ("dismissed", ReceiptState::Dismissed),
            ("read", ReceiptState::Read),
        ];
        for (name, state) in states {
            let id = 0x0199_a7e0_0000_7000_8000_0000_0000_0001;
            let receipts = vec![(id, state)];
            assert_eq!(
                frame(&format!(r#"[{{"id":"{ID}","state":"{name}","new":1}}]"#)),
                Ok(ClientFrame::Receipt { receipts })
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = format!(r#"{{"id":"{ID}","state":"read"}}"#);
        let many = format!("[{}{good}]", format!("{good},").repeat(100));
        let braced = format!(r#"[{good},{{"id":"{{{ID}}}","state":"read"}}]"#);
        let state = format!(r#"[{{"id":"{ID}","state":"seen"}}]"#);
        let twice = format!(r#"[{{"id":"{ID}","id":"{ID}","state":"read"}}]"#);
        for (receipts, field) in [
            ("[]", "receipts"),
            ("{}", "receipts"),
            ("[7]", "receipts"),
            (r#"[{"id":"x"}]"#, "receipts"),
            (&twice, "receipts"),
            (&many, "receipts"),
            (r#"[{"id":"x","state":"read"}]"#, "receipts[0].id"),
            (&braced, "receipts[1].id"),
            (&state, "receipts[0].state"),
        ] {
            let bad = frame(receipts).expect_err(receipts);
            assert_eq!(bad.field.as_deref(), Some(field), "{receipts:.60}: {bad}");
        }
        assert!(frame(&format!("[{}{good}]", format!("{good},").repeat(99))).is_ok());
    }
}
