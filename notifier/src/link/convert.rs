//! The link's messages, between the contract and the rules.

use std::sync::Arc;

use super::{invalid, out_of_turn};
use crate::refusal::Refusal;
use belfry::v1::{self, edge_message, hub_message, live};
use delivery::{
    EventId, Position, StoredEvent,
    link::{
        Ephemeral, Gap, GapReason, Interest, Joined, Page, Presence, ReceiptState, ToEdge, ToHub,
    },
};

const MAX_NAME_BYTES: usize = 128;
const MAX_RECEIPTS: usize = 256;

pub(super) fn to_hub(message: v1::EdgeMessage) -> Result<ToHub, Refusal> {
    use edge_message::Body;
    Ok(
        match message
            .body
            .ok_or_else(|| invalid("body", "is missing: set exactly one kind of message"))?
        {
            Body::Hello(_) => {
                return Err(out_of_turn("Hello was sent twice, send it first and once"));
            }
            Body::Open(open) => {
                let public_id = name("open.session_id", &open.session_id)?;
                ToHub::Open {
                    session: open.session,
                    user: name("open.user_id", &open.user_id)?,
                    device: match &*open.device {
                        "" => Arc::clone(&public_id),
                        device => name("open.device", device)?,
                    },
                    public_id,
                    interests: open
                        .interests
                        .into_iter()
                        .map(interest)
                        .collect::<Result<_, _>>()?,
                }
            }
            Body::Close(close) => ToHub::Close {
                session: close.session,
            },
            Body::Join(join) => ToHub::Join {
                session: join.session,
                interest: interest(
                    join.interest
                        .ok_or_else(|| invalid("join.interest", "is missing"))?,
                )?,
            },
            Body::Leave(leave) => ToHub::Leave {
                session: leave.session,
                stream: stream(&leave.stream)?,
            },
            Body::Fetch(fetch) => ToHub::Fetch {
                session: fetch.session,
                stream: stream(&fetch.stream)?,
                after: position(
                    fetch
                        .after
                        .ok_or_else(|| invalid("fetch.after", "is missing"))?,
                ),
            },
            Body::Receipts(receipts) => ToHub::Receipts {
                session: receipts.session,
                receipts: reported(receipts.receipts)?,
            },
            Body::WatchPresence(watch) => ToHub::WatchPresence {
                session: watch.session,
                stream: stream(&watch.stream)?,
            },
            Body::UnwatchPresence(watch) => ToHub::UnwatchPresence {
                session: watch.session,
                stream: stream(&watch.stream)?,
            },
            Body::Credit(credit) => ToHub::Credit {
                deliveries: credit.deliveries,
                bytes: credit.bytes,
            },
        },
    )
}

fn interest(v1::Interest { stream: name, from }: v1::Interest) -> Result<Interest, Refusal> {
    Ok(Interest {
        stream: stream(&name)?,
        from: from.map(position),
    })
}

/// Names of users, sessions and devices: 1 to 128 bytes.
fn name(field: &str, name: &str) -> Result<Arc<str>, Refusal> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(name.into()),
        bytes => Err(invalid(
            field,
            format!("has {bytes} bytes, but it has to have 1 to {MAX_NAME_BYTES}"),
        )),
    }
}

fn reported(receipts: Vec<v1::EventReceipt>) -> Result<Vec<(EventId, ReceiptState)>, Refusal> {
    if receipts.is_empty() || receipts.len() > MAX_RECEIPTS {
        let count = receipts.len();
        return Err(invalid(
            "receipts.receipts",
            format!("has {count} receipts, but it has to have 1 to {MAX_RECEIPTS}"),
        ));
    }
    let receipts = receipts.into_iter().map(|receipt| {
        let state = match receipt.state() {
            v1::ReceiptState::Delivered => ReceiptState::Delivered,
            v1::ReceiptState::Displayed => ReceiptState::Displayed,
            v1::ReceiptState::Dismissed => ReceiptState::Dismissed,
            v1::ReceiptState::Read => ReceiptState::Read,
            v1::ReceiptState::Unspecified | v1::ReceiptState::Expired => {
                let number = receipt.state;
                return Err(invalid(
                    "receipts.receipts.state",
                    format!("is {number}, which is no state of a receipt"),
                ));
            }
        };
        let id = <[u8; 16]>::try_from(&receipt.event_id[..])
            .map_err(|_| invalid("receipts.receipts.event_id", "has to have 16 bytes"))?;
        Ok((EventId::from_be_bytes(id), state))
    });
    receipts.collect()
}

fn stream(name: &str) -> Result<delivery::StreamName, Refusal> {
    let id = name
        .strip_prefix("user:")
        .or_else(|| name.strip_prefix("queue:"));
    match id {
        Some(id) if !id.is_empty() && id.len() <= 128 => Ok(name.into()),
        None if name == "everyone" => Ok(name.into()),
        _ => Err(invalid(
            "stream",
            format!("is `{name:.140}`, but it has to be user:<id>, queue:<id> or everyone"),
        )),
    }
}

fn position(position: v1::Position) -> Position {
    Position {
        epoch: position.epoch,
        offset: position.offset,
        check: position.check,
    }
}

fn to_position(position: Position) -> v1::Position {
    v1::Position {
        epoch: position.epoch,
        offset: position.offset,
        check: position.check,
    }
}

pub(super) fn from_hub(message: ToEdge) -> v1::HubMessage {
    use hub_message::Body;
    let body = match message {
        ToEdge::Welcome {
            epoch,
            request_window,
        } => Body::Welcome(v1::Welcome {
            protocol_version: super::VERSION,
            epoch,
            request_window,
        }),
        ToEdge::Opened {
            session,
            joined: all,
        } => Body::Opened(v1::SessionOpened {
            session,
            joined: all.into_iter().map(|one| joined(session, one)).collect(),
        }),
        ToEdge::Done { session } => Body::Done(v1::Done { session }),
        ToEdge::Joined {
            session,
            joined: one,
        } => Body::Joined(joined(session, one)),
        ToEdge::Page(one) => Body::Page(page(one)),
        ToEdge::Live { stream, event } => Body::Live(v1::Live {
            stream: stream.to_string(),
            event: Some(live::Event::Stored(stored(event))),
        }),
        ToEdge::Ephemeral { stream, event } => Body::Live(v1::Live {
            stream: stream.to_string(),
            event: Some(live::Event::Ephemeral(ephemeral(event))),
        }),
        ToEdge::Behind { stream, head } => Body::Behind(v1::Behind {
            stream: stream.to_string(),
            head,
        }),
        ToEdge::ReceiptsAcked { session } => Body::ReceiptsHeard(v1::ReceiptsHeard { session }),
        ToEdge::PresenceSnapshot {
            session,
            presence: now,
        } => Body::Presence(presence(session, &now)),
        ToEdge::Presence(changes) => Body::Presence(presence(0, &changes)),
        ToEdge::Drain => Body::Drain(v1::Drain {}),
    };
    v1::HubMessage { body: Some(body) }
}

fn joined(session: u64, joined: Joined) -> v1::StreamJoined {
    v1::StreamJoined {
        session,
        stream: joined.stream.to_string(),
        at: Some(to_position(joined.at)),
        head: joined.head,
        gap: joined.gap.map(gap),
        latest: joined.latest.into_iter().map(ephemeral).collect(),
        asked: joined.requested_from.map(to_position),
    }
}

fn page(page: Page) -> v1::Page {
    v1::Page {
        session: page.session,
        stream: page.stream.to_string(),
        events: page.events.into_iter().map(stored).collect(),
        head: page.head,
        gap: page.gap.map(gap),
        latest: page.latest.into_iter().map(ephemeral).collect(),
        asked: Some(to_position(page.requested_from)),
    }
}

fn stored(event: StoredEvent) -> v1::StoredEvent {
    v1::StoredEvent {
        offset: event.offset,
        check: event.check,
        envelope: event.envelope,
    }
}

fn ephemeral(event: Ephemeral) -> v1::EphemeralEvent {
    let collapse_key = event
        .collapse_key
        .map(|key| key.to_string())
        .unwrap_or_default();
    v1::EphemeralEvent {
        collapse_key,
        envelope: event.envelope,
    }
}

fn presence(session: u64, presence: &Presence) -> v1::StreamPresence {
    let members = presence.members.iter();
    v1::StreamPresence {
        session,
        stream: presence.stream.to_string(),
        snapshot: presence.total.is_some(),
        total: presence.total.unwrap_or(0),
        users: members
            .map(|member| v1::StreamMember {
                user_id: member.user.to_string(),
                online: member.online,
                generation: member.generation,
            })
            .collect(),
    }
}

fn gap(gap: Gap) -> v1::Gap {
    let reason = match gap.reason {
        GapReason::Trimmed => v1::GapReason::Trimmed,
        GapReason::EpochChanged => v1::GapReason::EpochChanged,
        GapReason::Ahead => v1::GapReason::Ahead,
        GapReason::Forked => v1::GapReason::Forked,
    };
    v1::Gap {
        reason: reason.into(),
        from_offset: gap.from,
        to: Some(to_position(gap.to)),
    }
}
