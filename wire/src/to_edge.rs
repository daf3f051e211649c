//! Messages from the hub to an edge.
//!
//! An edge trusts its notifier with names, and skips messages of a newer contract;
//! what the edge cannot act without is checked.

use std::sync::Arc;

use belfry::v1::{self, HubMessage, hub_message::Body, live};
use delivery::{
    StoredEvent,
    link::{Ephemeral, Gap, GapReason, Joined, Member, Page, Presence, ToEdge},
};

use crate::{
    DecodeError, VERSION, decode_position, encode_position, malformed, missing, required_position,
    rights::{decode_refusal, decode_rights, encode_refusal, encode_rights},
};

/// One message to an edge, as it crosses the wire.
pub fn encode_to_edge(message: ToEdge) -> HubMessage {
    let body = match message {
        ToEdge::Welcome {
            epoch,
            request_window,
        } => Body::Welcome(v1::Welcome {
            protocol_version: VERSION,
            epoch,
            request_window,
        }),
        ToEdge::Opened {
            session,
            rights,
            joined,
        } => {
            let joined = joined.into_iter();
            Body::Opened(v1::SessionOpened {
                session,
                joined: joined.map(|one| encode_joined(session, one)).collect(),
                rights: Some(encode_rights(&rights)),
            })
        }
        ToEdge::Refreshed { session, rights } => Body::Refreshed(v1::SessionRefreshed {
            session,
            rights: Some(encode_rights(&rights)),
        }),
        ToEdge::Refused { session, reason } => Body::Refused(v1::SessionRefused {
            session,
            reason: encode_refusal(reason),
        }),
        ToEdge::Ended { session, reason } => Body::Ended(v1::SessionEnded {
            session,
            reason: encode_refusal(reason),
        }),
        ToEdge::Denied { session } => Body::Denied(v1::Denied { session }),
        ToEdge::Done { session } => Body::Done(v1::Done { session }),
        ToEdge::Joined { session, joined } => Body::Joined(encode_joined(session, joined)),
        ToEdge::Page(page) => Body::Page(encode_page(page)),
        ToEdge::Live { stream, event } => Body::Live(v1::Live {
            stream: stream.to_string(),
            event: Some(live::Event::Stored(encode_stored(event))),
        }),
        ToEdge::Ephemeral { stream, event } => Body::Live(v1::Live {
            stream: stream.to_string(),
            event: Some(live::Event::Ephemeral(encode_ephemeral(event))),
        }),
        ToEdge::Behind { stream, head } => Body::Behind(v1::Behind {
            stream: stream.to_string(),
            head,
        }),
        ToEdge::ReceiptsAcked { session } => Body::ReceiptsAcked(v1::ReceiptsAcked { session }),
        ToEdge::PresenceSnapshot { session, presence } => {
            Body::Presence(encode_presence(session, &presence))
        }
        ToEdge::Presence(presence) => Body::Presence(encode_presence(0, &presence)),
        ToEdge::Drain => Body::Drain(v1::Drain {}),
    };
    HubMessage { body: Some(body) }
}

/// One message from the hub; `None`: skip it, it is a heartbeat or of a newer contract.
pub fn decode_to_edge(message: HubMessage) -> Result<Option<ToEdge>, DecodeError> {
    let Some(body) = message.body else {
        return Ok(None);
    };
    Ok(Some(match body {
        Body::Welcome(welcome) => ToEdge::Welcome {
            epoch: welcome.epoch,
            request_window: welcome.request_window,
        },
        Body::Opened(opened) => {
            let joined = opened.joined.into_iter();
            ToEdge::Opened {
                session: opened.session,
                rights: decode_rights("opened.rights", opened.rights)?,
                joined: joined.map(decode_joined).collect::<Result<_, _>>()?,
            }
        }
        Body::Refreshed(refreshed) => ToEdge::Refreshed {
            session: refreshed.session,
            rights: decode_rights("refreshed.rights", refreshed.rights)?,
        },
        Body::Refused(refused) => ToEdge::Refused {
            session: refused.session,
            reason: decode_refusal("refused.reason", refused.reason)?,
        },
        Body::Ended(ended) => ToEdge::Ended {
            session: ended.session,
            reason: decode_refusal("ended.reason", ended.reason)?,
        },
        Body::Denied(denied) => ToEdge::Denied {
            session: denied.session,
        },
        Body::Heartbeat(v1::Heartbeat {}) => return Ok(None),
        Body::Done(done) => ToEdge::Done {
            session: done.session,
        },
        Body::Joined(joined) => ToEdge::Joined {
            session: joined.session,
            joined: decode_joined(joined)?,
        },
        Body::Page(page) => ToEdge::Page(decode_page(page)?),
        Body::Live(live) => match live.event.ok_or_else(|| missing("live.event"))? {
            live::Event::Stored(event) => ToEdge::Live {
                stream: live.stream.into(),
                event: decode_stored(event),
            },
            live::Event::Ephemeral(event) => ToEdge::Ephemeral {
                stream: live.stream.into(),
                event: decode_ephemeral(event),
            },
        },
        Body::Behind(behind) => ToEdge::Behind {
            stream: behind.stream.into(),
            head: behind.head,
        },
        Body::ReceiptsAcked(acked) => ToEdge::ReceiptsAcked {
            session: acked.session,
        },
        Body::Presence(presence) => match presence.session {
            0 => ToEdge::Presence(decode_presence(presence)),
            session => ToEdge::PresenceSnapshot {
                session,
                presence: decode_presence(presence),
            },
        },
        Body::Drain(v1::Drain {}) => ToEdge::Drain,
    }))
}

fn encode_joined(session: u64, joined: Joined) -> v1::StreamJoined {
    v1::StreamJoined {
        session,
        stream: joined.stream.to_string(),
        at: Some(encode_position(joined.at)),
        head: joined.head,
        gap: joined.gap.map(encode_gap),
        latest: joined.latest.into_iter().map(encode_ephemeral).collect(),
        requested_from: joined.requested_from.map(encode_position),
    }
}

fn decode_joined(joined: v1::StreamJoined) -> Result<Joined, DecodeError> {
    Ok(Joined {
        stream: joined.stream.into(),
        requested_from: joined.requested_from.map(decode_position),
        at: required_position("joined.at", joined.at)?,
        head: joined.head,
        gap: joined.gap.map(decode_gap).transpose()?,
        latest: joined.latest.into_iter().map(decode_ephemeral).collect(),
    })
}

fn encode_page(page: Page) -> v1::Page {
    v1::Page {
        session: page.session,
        stream: page.stream.to_string(),
        events: page.events.into_iter().map(encode_stored).collect(),
        head: page.head,
        gap: page.gap.map(encode_gap),
        latest: page.latest.into_iter().map(encode_ephemeral).collect(),
        requested_from: Some(encode_position(page.requested_from)),
    }
}

fn decode_page(page: v1::Page) -> Result<Page, DecodeError> {
    Ok(Page {
        session: page.session,
        stream: page.stream.into(),
        requested_from: required_position("page.requested_from", page.requested_from)?,
        events: page.events.into_iter().map(decode_stored).collect(),
        head: page.head,
        gap: page.gap.map(decode_gap).transpose()?,
        latest: page.latest.into_iter().map(decode_ephemeral).collect(),
    })
}

fn encode_gap(gap: Gap) -> v1::Gap {
    let reason = match gap.reason {
        GapReason::Trimmed => v1::GapReason::Trimmed,
        GapReason::EpochChanged => v1::GapReason::EpochChanged,
        GapReason::Ahead => v1::GapReason::Ahead,
        GapReason::Forked => v1::GapReason::Forked,
    };
    v1::Gap {
        reason: reason.into(),
        from_offset: gap.from,
        to: Some(encode_position(gap.to)),
    }
}

fn decode_gap(gap: v1::Gap) -> Result<Gap, DecodeError> {
    let reason = match v1::GapReason::try_from(gap.reason) {
        Ok(v1::GapReason::Trimmed) => GapReason::Trimmed,
        Ok(v1::GapReason::EpochChanged) => GapReason::EpochChanged,
        Ok(v1::GapReason::Ahead) => GapReason::Ahead,
        Ok(v1::GapReason::Forked) => GapReason::Forked,
        Ok(v1::GapReason::Unspecified) | Err(_) => {
            let number = gap.reason;
            return Err(malformed(
                "gap.reason",
                format!("is {number}, which is no reason that is known"),
            ));
        }
    };
    Ok(Gap {
        reason,
        from: gap.from_offset,
        to: required_position("gap.to", gap.to)?,
    })
}

fn encode_stored(event: StoredEvent) -> v1::StoredEvent {
    v1::StoredEvent {
        offset: event.offset,
        check: event.check,
        envelope: event.payload,
    }
}

fn decode_stored(event: v1::StoredEvent) -> StoredEvent {
    StoredEvent {
        offset: event.offset,
        check: event.check,
        payload: event.envelope,
    }
}

/// On the wire no collapse key is the empty one.
fn encode_ephemeral(event: Ephemeral) -> v1::EphemeralEvent {
    let collapse_key = event.collapse_key.map(|key| key.to_string());
    v1::EphemeralEvent {
        collapse_key: collapse_key.unwrap_or_default(),
        envelope: event.payload,
    }
}

fn decode_ephemeral(event: v1::EphemeralEvent) -> Ephemeral {
    let has_key = !event.collapse_key.is_empty();
    Ephemeral {
        collapse_key: has_key.then(|| Arc::from(event.collapse_key)),
        payload: event.envelope,
    }
}

/// On the wire a message for all sessions of the edge is for session 0.
fn encode_presence(session: u64, presence: &Presence) -> v1::StreamPresence {
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

fn decode_presence(presence: v1::StreamPresence) -> Presence {
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
