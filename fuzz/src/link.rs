//! Messages of the link between edge and notifier, both ways.

use belfry::v1::{AttachRequest, AttachResponse};
use prost::Message;

/// A message to the hub or to an edge. One that is accepted means the same when it was
/// written again.
pub(crate) fn link_message(bytes: &[u8]) {
    if let Ok(request) = AttachRequest::decode(bytes) {
        // Both are checked alone: whoever reads one may not see the other.
        let _ = wire::check_request(&request);
        for message in request.messages {
            if let Ok(Some(decoded)) = wire::decode_to_hub(message) {
                let encoded = wire::encode_to_hub(decoded.clone());
                let again = wire::decode_to_hub(encoded).expect("what was encoded here is valid");
                assert_eq!(Some(decoded), again);
            }
        }
    }
    if let Ok(response) = AttachResponse::decode(bytes) {
        for message in response.messages {
            let _ = wire::decode_to_edge(message);
        }
    }
}
