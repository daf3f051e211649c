//! What a token allows, as the rules read it and as it crosses the wire.
//!
//! What always holds: a person may follow their own stream, `everyone`, and the
//! queues that their token grants; this is the one place that says so.

use std::sync::{Arc, LazyLock};

use belfry::{
    identity::User,
    name,
    v1::{self, SessionRefusal},
};
use delivery::{Millis, Refusal, Rights, StreamName, StreamPattern};

use crate::{DecodeError, malformed, missing};

static EVERYONE: LazyLock<StreamName> = LazyLock::new(|| "everyone".into());

/// What a token of `user` allows a session that may live for `ends_in_ms` more.
pub fn rights(user: &User, ends_in_ms: Millis) -> Rights {
    let own = name::StreamName::User(user.id.clone()).to_arc();
    let mut streams = vec![
        StreamPattern::Exact(own),
        StreamPattern::Exact(Arc::clone(&EVERYONE)),
    ];
    streams.extend(
        user.queues
            .iter()
            .map(|grant| match grant.strip_suffix('*') {
                Some(prefix) => StreamPattern::Prefix(format!("queue:{prefix}").into()),
                None => StreamPattern::Exact(format!("queue:{grant}").into()),
            }),
    );
    Rights {
        user: user.id.to_arc(),
        streams: streams.into(),
        exp_unix_ms: user.exp_unix_ms,
        ends_in_ms,
    }
}

pub(crate) fn encode_rights(rights: &Rights) -> v1::SessionRights {
    let (mut streams, mut stream_prefixes) = (Vec::new(), Vec::new());
    for pattern in rights.streams.iter() {
        match pattern {
            StreamPattern::Exact(stream) => streams.push(stream.to_string()),
            StreamPattern::Prefix(prefix) => stream_prefixes.push(prefix.to_string()),
        }
    }
    v1::SessionRights {
        user_id: rights.user.to_string(),
        streams,
        stream_prefixes,
        expires_at_unix_ms: rights.exp_unix_ms,
        ends_in_ms: rights.ends_in_ms,
    }
}

pub(crate) fn decode_rights(
    field: &'static str,
    rights: Option<v1::SessionRights>,
) -> Result<Rights, DecodeError> {
    let rights = rights.ok_or_else(|| missing(field))?;
    let streams = rights.streams.into_iter();
    let streams = streams.map(|stream| StreamPattern::Exact(stream.into()));
    let prefixes = rights.stream_prefixes.into_iter();
    let prefixes = prefixes.map(|prefix| StreamPattern::Prefix(prefix.into()));
    Ok(Rights {
        user: rights.user_id.into(),
        streams: streams.chain(prefixes).collect(),
        exp_unix_ms: rights.expires_at_unix_ms,
        ends_in_ms: rights.ends_in_ms,
    })
}

pub(crate) fn encode_refusal(reason: Refusal) -> i32 {
    let reason = match reason {
        Refusal::NotAccepted => SessionRefusal::NotAccepted,
        Refusal::Expired => SessionRefusal::Expired,
        Refusal::Revoked => SessionRefusal::Revoked,
        Refusal::Limit => SessionRefusal::Limit,
        Refusal::Disconnected => SessionRefusal::Disconnected,
        Refusal::TooManySessions => SessionRefusal::TooManySessions,
    };
    reason.into()
}

pub(crate) fn decode_refusal(field: &'static str, number: i32) -> Result<Refusal, DecodeError> {
    match SessionRefusal::try_from(number) {
        Ok(SessionRefusal::NotAccepted) => Ok(Refusal::NotAccepted),
        Ok(SessionRefusal::Expired) => Ok(Refusal::Expired),
        Ok(SessionRefusal::Revoked) => Ok(Refusal::Revoked),
        Ok(SessionRefusal::Limit) => Ok(Refusal::Limit),
        Ok(SessionRefusal::Disconnected) => Ok(Refusal::Disconnected),
        Ok(SessionRefusal::TooManySessions) => Ok(Refusal::TooManySessions),
        Ok(SessionRefusal::Unspecified) | Err(_) => Err(malformed(
            field,
            format!("is {number}, which is no reason that is known"),
        )),
    }
}
