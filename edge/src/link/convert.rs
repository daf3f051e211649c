//! The link's messages, between their wire form and that of the rules. Nothing is
//! decided here; a message that cannot be read ends the link.

use std::sync::Arc;

use belfry::v1::{
    self, AttachResponse, CloseSession, EdgeMessage, EphemeralEvent, Fetch, HubMessage, JoinStream,
    LeaveStream, OpenSession, StreamJoined, edge_message, hub_message, live,
};
use delivery::{
    EventId, Position, StoredEvent,
    link::{
        Ephemeral, Gap, GapReason, Interest, Joined, Member, Page, Presence, ReceiptState, ToEdge,
        ToHub,
    },
};

/// A message that the contract does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the notifier sent a message without `{0}`; do both speak the same version?")]
pub(super) struct BadMessage(&'static str);

/// One message for the notifier.
pub(super) fn to_wire(message: ToHub) -> EdgeMessage {
    use edge_message::Body;
    let body = match message {
        ToHub::Open {
            session,
            user,
            public_id,
            device,
            interests,
        } => Body::Open(OpenSession {
            session,
            user_id: user.to_string(),
            interests: interests.iter().map(interest).collect(),
            // Absent is the public id.
            device: if device == public_id {
                String::new()
            } else {
                device.to_string()
            },
            session_id: public_id.to_string(),
        }),
        ToHub::Close { session } => Body::Close(CloseSession { session }),
        ToHub::Join {
            session,
            interest: wanted,
        } => Body::Join(JoinStream {
            session,
            interest: Some(interest(&wanted)),
        }),
        ToHub::Leave { session, stream } => Body::Leave(LeaveStream {
            session,
            stream: stream.to_string(),
        }),
        ToHub::Fetch {
            session,
            stream,
            after,
        } => Body::Fetch(Fetch {
            session,
            stream: stream.to_string(),
            after: Some(wire_position(after)),
        }),
        ToHub::Receipts { session, receipts } => Body::Receipts(v1::Receipts {
            session,
            receipts: receipts.into_iter().map(receipt).collect(),
        }),
        ToHub::WatchPresence { session, stream } => Body::WatchPresence(v1::WatchStreamPresence {
            session,
            stream: stream.to_string(),
        }),
        ToHub::UnwatchPresence { session, stream } => {
            Body::UnwatchPresence(v1::UnwatchStreamPresence {
                session,
                stream: stream.to_string(),
            })
        }
        ToHub::Credit { deliveries, bytes } => Body::Credit(v1::Credit { deliveries, bytes }),
    };
    EdgeMessage { body: Some(body) }
}

fn receipt((event, state): (EventId, ReceiptState)) -> v1::EventReceipt {
    let state = match state {
        ReceiptState::Delivered => v1::ReceiptState::Delivered,
        ReceiptState::Displayed => v1::ReceiptState::Displayed,
        ReceiptState::Dismissed => v1::ReceiptState::Dismissed,
        ReceiptState::Read => v1::ReceiptState::Read,
    };
    v1::EventReceipt {
        event_id: event.to_be_bytes().to_vec().into(),
        state: state.into(),
    }
}

fn interest(interest: &Interest) -> v1::Interest {
    v1::Interest {
        stream: interest.stream.to_string(),
        from: interest.from.map(wire_position),
    }
}

fn wire_position(position: Position) -> v1::Position {
    v1::Position {
        epoch: position.epoch,
        offset: position.offset,
        check: position.check,
    }
}

/// One batch from the notifier. Messages of a newer contract are skipped.
pub(super) fn from_wire(response: AttachResponse) -> Result<Vec<ToEdge>, BadMessage> {
    response
        .messages
        .into_iter()
        .filter_map(|message| message_from(message).transpose())
        .collect()
}

fn message_from(message: HubMessage) -> Result<Option<ToEdge>, BadMessage> {
    use hub_message::Body;
    let Some(body) = message.body else {
        return Ok(None);
    };
    Ok(Some(match body {
        Body::Welcome(m) => ToEdge::Welcome {
            epoch: m.epoch,
            request_window: m.request_window,
        },
        Body::Opened(m) => ToEdge::Opened {
            session: m.session,
            joined: m.joined.into_iter().map(joined).collect::<Result<_, _>>()?,
        },
        Body::Done(m) => ToEdge::Done { session: m.session },
        Body::Joined(m) => ToEdge::Joined {
            session: m.session,
            joined: joined(m)?,
        },
        Body::Page(m) => ToEdge::Page(Page {
            requested_from: position(m.asked, "page.asked")?,
            session: m.session,
            stream: m.stream.into(),
            events: m.events.into_iter().map(stored).collect(),
            head: m.head,
            gap: m.gap.map(gap).transpose()?,
            latest: m.latest.into_iter().map(ephemeral).collect(),
        }),
        Body::Live(m) => match m.event.ok_or(BadMessage("live.event"))? {
            live::Event::Stored(event) => ToEdge::Live {
                stream: m.stream.into(),
                event: stored(event),
            },
            live::Event::Ephemeral(event) => ToEdge::Ephemeral {
                stream: m.stream.into(),
                event: ephemeral(event),
            },
        },
        Body::Behind(m) => ToEdge::Behind {
            stream: m.stream.into(),
            head: m.head,
        },
        Body::ReceiptsHeard(m) => ToEdge::ReceiptsAcked { session: m.session },
        Body::Presence(m) => match m.session {
            0 => ToEdge::Presence(presence(m)),
            session => ToEdge::PresenceSnapshot {
                session,
                presence: presence(m),
            },
        },
        Body::Drain(_) => ToEdge::Drain,
    }))
}

fn presence(presence: v1::StreamPresence) -> Presence {
    let members = presence.users.into_iter();
    Presence {
        stream: presence.stream.into(),
        total: presence.snapshot.then_some(presence.total),
        members: members
            .map(|member| Member {
                user: member.user_id.into(),
                online: member.online,
                generation: member.generation,
            })
            .collect(),
    }
}

fn joined(joined: StreamJoined) -> Result<Joined, BadMessage> {
    Ok(Joined {
        stream: joined.stream.into(),
        requested_from: joined
            .asked
            .map(|asked| position(Some(asked), "joined.requested_from"))
            .transpose()?,
        at: position(joined.at, "joined.at")?,
        head: joined.head,
        gap: joined.gap.map(gap).transpose()?,
        latest: joined.latest.into_iter().map(ephemeral).collect(),
    })
}

fn gap(gap: v1::Gap) -> Result<Gap, BadMessage> {
    let reason = match gap.reason() {
        v1::GapReason::Trimmed => GapReason::Trimmed,
        v1::GapReason::EpochChanged => GapReason::EpochChanged,
        v1::GapReason::Ahead => GapReason::Ahead,
        v1::GapReason::Forked => GapReason::Forked,
        v1::GapReason::Unspecified => return Err(BadMessage("gap.reason")),
    };
    Ok(Gap {
        reason,
        from: gap.from_offset,
        to: position(gap.to, "gap.to")?,
    })
}

fn position(position: Option<v1::Position>, field: &'static str) -> Result<Position, BadMessage> {
    let position = position.ok_or(BadMessage(field))?;
    Ok(Position {
        epoch: position.epoch,
        offset: position.offset,
        check: position.check,
    })
}

fn stored(event: v1::StoredEvent) -> StoredEvent {
    StoredEvent {
        offset: event.offset,
        check: event.check,
        envelope: event.envelope,
    }
}

fn ephemeral(event: EphemeralEvent) -> Ephemeral {
    let collapse_key = (!event.collapse_key.is_empty()).then(|| Arc::from(event.collapse_key));
    Ephemeral {
        collapse_key,
        envelope: event.envelope,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_body(body: hub_message::Body) -> Result<Vec<ToEdge>, BadMessage> {
        from_wire(AttachResponse {
            messages: vec![HubMessage { body: Some(body) }],
        })
    }

    #[test]
    fn a_message_that_lacks_its_meaning_ends_the_link() {
        assert_eq!(
            from_body(hub_message::Body::Joined(StreamJoined::default())),
            Err(BadMessage("joined.at"))
        );
        assert_eq!(
            from_body(hub_message::Body::Live(v1::Live::default())),
            Err(BadMessage("live.event"))
        );
        assert_eq!(
            from_body(hub_message::Body::Page(v1::Page::default())),
            Err(BadMessage("page.asked"))
        );
        let page = v1::Page {
            asked: Some(v1::Position::default()),
            gap: Some(v1::Gap::default()),
            ..Default::default()
        };
        assert_eq!(
            from_body(hub_message::Body::Page(page)),
            Err(BadMessage("gap.reason"))
        );
    }

    #[test]
    fn a_message_of_a_newer_contract_is_skipped() {
        let response = AttachResponse {
            messages: vec![HubMessage { body: None }],
        };
        assert_eq!(from_wire(response), Ok(vec![]));
    }

    #[test]
    fn an_empty_collapse_key_is_none() {
        let live = v1::Live {
            stream: "user:u1".into(),
            event: Some(live::Event::Ephemeral(EphemeralEvent::default())),
        };
        let batch = from_body(hub_message::Body::Live(live)).unwrap();
        let [ToEdge::Ephemeral { event, .. }] = &batch[..] else {
            panic!("{batch:?}")
        };
        assert_eq!(event.collapse_key, None);
    }

    #[test]
    fn what_a_session_wants_arrives_whole() {
        let at = Position {
            epoch: 1,
            offset: 2,
            check: 3,
        };
        let message = to_wire(ToHub::Open {
            session: 7,
            user: "u1".into(),
            public_id: "p".into(),
            device: "laptop".into(),
            interests: vec![
                Interest {
                    stream: "user:u1".into(),
                    from: Some(at),
                },
                Interest {
                    stream: "everyone".into(),
                    from: None,
                },
            ],
        });
        let Some(edge_message::Body::Open(open)) = message.body else {
            panic!()
        };
        assert_eq!(
            (open.session, &*open.user_id, &*open.session_id),
            (7, "u1", "p")
        );
        assert_eq!(
            open.interests[0].from,
            Some(v1::Position {
                epoch: 1,
                offset: 2,
                check: 3
            })
        );
        assert_eq!(open.interests[1].from, None);
    }
}
