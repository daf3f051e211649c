//! What sessions are allowed: every request of an edge is checked against the token
//! of the session that it is for (guarantee G34).
//!
//! What always holds: a session is opened by a token that was verified, and by
//! nothing that its edge says; it follows and reads only what [`Rights::allow`]
//! allows; and it gets nothing after its token's end, whatever its edge does. A
//! session that ends here stays known by its number until the edge closes it, so
//! that requests which were on their way are answered.
//!
//! [`Rights::allow`]: crate::Rights::allow

use alloc::vec::Vec;

use super::{
    LinkId, Output, SessionSelector, State, Turn,
    route::{Session, session_of},
};
use crate::{
    Credential, Millis, Refusal, StreamName, Verdict,
    link::{LinkFault, SessionId, ToEdge, ToHub},
};

/// Denials of one link that are reported; further ones are only counted.
const REPORTED_DENIALS: u32 = 1_000;

pub(super) fn answer_denied(link: LinkId, session: SessionId, turn: &mut Turn<'_>) {
    let message = ToEdge::Denied { session };
    turn.push(Output::Send { link, message });
}

impl SessionSelector {
    fn selects(&self, session: &Session) -> bool {
        let credential = &session.credential;
        match self {
            SessionSelector::User(user) => session.user() == user,
            SessionSelector::PublicId(id) => session.public_id == *id,
            SessionSelector::TokenId(id) => credential.token_id.as_ref() == Some(id),
            SessionSelector::Digest(digest) => credential.digest == *digest,
            SessionSelector::Key(key) => credential.key == *key,
        }
    }
}

impl State {
    /// Answers what is not allowed; gives back what is.
    pub(super) fn authorize(
        &mut self,
        link: LinkId,
        message: ToHub<Verdict>,
        turn: &mut Turn<'_>,
    ) -> Option<ToHub<Verdict>> {
        let state = self.links.get_mut(&link)?;
        let Some(number) = message.session() else {
            return Some(message);
        };
        if let Some(reason) = state.ended.get(&number).copied() {
            let answer = match message {
                ToHub::Open { .. } => {
                    self.end(link, LinkFault::UnknownSession, turn);
                    return None;
                }
                ToHub::Close { session } => {
                    state.ended.remove(&session);
                    ToEdge::Done { session }
                }
                ToHub::Refresh { session, .. } => ToEdge::Refused { session, reason },
                _ => ToEdge::Denied { session: number },
            };
            turn.push(Output::Send {
                link,
                message: answer,
            });
            return None;
        }
        if let Some(stream) = message.reads()
            && let Some(session) = state.sessions.get(&number)
            && !session.credential.rights.allow(stream)
        {
            self.note_denial(link, number, Some(stream), turn);
            answer_denied(link, number, turn);
            return None;
        }
        Some(message)
    }

    /// Counts a denial, and reports it unless it comes of a refresh.
    pub(super) fn note_denial(
        &mut self,
        link: LinkId,
        number: SessionId,
        stream: Option<&StreamName>,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(session) = state.sessions.get(&number) else {
            return;
        };
        if let (Some(stream), Some(before)) = (stream, &session.allowed_before)
            && before.iter().any(|pattern| pattern.covers(stream))
        {
            return;
        }
        self.stats.denied += 1;
        state.denied = state.denied.saturating_add(1);
        if state.denied <= REPORTED_DENIALS {
            turn.push(Output::Denied {
                link,
                edge: state.name.clone(),
                user: session.user().clone(),
                stream: stream.cloned(),
            });
        }
    }

    /// Refuses to open a session.
    pub(super) fn refuse(
        &mut self,
        link: LinkId,
        session: SessionId,
        reason: Refusal,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let state = self.links.get_mut(&link).ok_or(LinkFault::UnknownSession)?;
        if state.sessions.contains_key(&session) {
            return Err(LinkFault::UnknownSession);
        }
        if state.ended.len() >= turn.limits.sessions {
            return Err(LinkFault::Overflow);
        }
        state.ended.insert(session, reason);
        let message = ToEdge::Refused { session, reason };
        turn.push(Output::Send { link, message });
        Ok(())
    }

    /// A new token of the same user takes the place of the old one (guarantee G16);
    /// any other ends the session.
    pub(super) fn refresh(
        &mut self,
        link: LinkId,
        number: SessionId,
        token: Verdict,
        turn: &mut Turn<'_>,
    ) -> Result<(), LinkFault> {
        let session = session_of(&mut self.links, link, number)?;
        let credential = match token {
            Ok(credential) if credential.rights.user == *session.user() => credential,
            Ok(_) => {
                self.note_denial(link, number, None, turn);
                self.refuse_refresh(link, number, Refusal::NotAccepted, turn);
                return Ok(());
            }
            Err(reason) => {
                self.refuse_refresh(link, number, reason, turn);
                return Ok(());
            }
        };
        self.ends.remove(&(session.ends, link, number));
        let Credential { rights, .. } = &credential;
        let rights = rights.clone();
        session.ends = turn.now.saturating_add(rights.ends_in_ms);
        self.ends.insert((session.ends, link, number));
        let before = core::mem::replace(&mut session.credential, credential);
        session.allowed_before = Some(before.rights.streams);
        let streams = session.streams.iter();
        let lost: Vec<_> = streams.filter(|s| !rights.allow(s)).cloned().collect();
        for stream in &lost {
            self.stop_following(link, number, stream, turn)?;
        }
        let session = number;
        let message = ToEdge::Refreshed { session, rights };
        turn.push(Output::Send { link, message });
        Ok(())
    }

    fn refuse_refresh(
        &mut self,
        link: LinkId,
        session: SessionId,
        reason: Refusal,
        turn: &mut Turn<'_>,
    ) {
        self.end_session(link, session, reason, turn);
        let message = ToEdge::Refused { session, reason };
        turn.push(Output::Send { link, message });
    }

    /// Ends a session here; its edge is not notified.
    pub(super) fn end_session(
        &mut self,
        link: LinkId,
        number: SessionId,
        reason: Refusal,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if let Some(session) = state.sessions.remove(&number) {
            state.ended.insert(number, reason);
            self.stats.sessions_ended += 1;
            self.forget_session(link, number, &session, turn);
        }
    }

    /// Ends sessions and notifies their edges.
    pub(super) fn end_sessions(
        &mut self,
        selector: &SessionSelector,
        reason: Refusal,
        turn: &mut Turn<'_>,
    ) {
        let mut selected = Vec::new();
        for (link, state) in &self.links {
            let sessions = state.sessions.iter();
            let sessions = sessions.filter(|(_, session)| selector.selects(session));
            selected.extend(sessions.map(|(number, _)| (*link, *number)));
        }
        for (link, session) in selected {
            self.end_session(link, session, reason, turn);
            let message = ToEdge::Ended { session, reason };
            turn.push(Output::Send { link, message });
        }
    }

    /// When the next session's token ends.
    pub(super) fn session_deadline(&self) -> Option<Millis> {
        self.ends.first().map(|(at, ..)| *at)
    }

    /// Their edges end them too, by the same time.
    pub(super) fn end_overdue_sessions(&mut self, turn: &mut Turn<'_>) {
        while let Some((_, link, session)) = self
            .ends
            .first()
            .copied()
            .filter(|(at, ..)| *at <= turn.now)
        {
            self.end_session(link, session, Refusal::Expired, turn);
        }
    }
}
