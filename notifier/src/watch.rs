//! Watches over gRPC: what is known first, then every change, until the caller
//! goes, falls behind, or the notifier ends.

use std::{sync::Arc, time::SystemTime};

use belfry::{
    reason::Reason,
    v1::{
        self, PresenceChange, WatchPresenceResponse, WatchReceiptsResponse, watch_receipts_request,
    },
};
use delivery::{
    EventId, Millis,
    hub::{Receipt, Subject},
    link::{Member, ReceiptState},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::{
    auth::Caller,
    publish::{job_key, unix_ms},
    refusal::Refusal,
};

/// News that wait for one watch. One that falls further behind is ended: the next
/// one begins with what is known then.
pub(crate) const NEWS: usize = 256;
/// Responses that wait for one caller.
const RESPONSES: usize = 4;
/// Entries in one response.
const A_RESPONSE: usize = 1_000;
const MAX_EVENTS: usize = 100;

/// What a watch of receipts hears.
#[derive(Debug)]
pub(crate) struct ReceiptNews {
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) unknown: Vec<EventId>,
    /// When this was, on the clock of the receipts.
    pub(crate) now: Millis,
}

/// What a watch of presence hears.
#[derive(Debug)]
pub(crate) struct PresenceNews {
    pub(crate) members: Arc<[Member]>,
    pub(crate) snapshot: bool,
    pub(crate) settling: bool,
}

/// Responses of a watch.
pub(crate) type Responses<T> = ReceiverStream<Result<T, Status>>;

/// Turns news into responses, and the end of news into a status.
pub(crate) fn responses<N, T, I>(
    news: mpsc::Receiver<N>,
    caller: Caller,
    draining: CancellationToken,
    respond: impl Fn(N) -> I + Send + 'static,
) -> Responses<T>
where
    N: Send + 'static,
    T: Send + 'static,
    I: IntoIterator<Item = T>,
    I::IntoIter: Send,
{
    let (to_caller, responses) = mpsc::channel(RESPONSES);
    tokio::spawn(async move {
        let status = tell(news, (&caller, &draining), respond, &to_caller).await;
        if let Some(status) = status {
            // A caller that has gone needs no reason.
            let _ = to_caller.send(Err(status)).await;
        }
    });
    ReceiverStream::new(responses)
}

/// Tells the caller all news; says why it ended, if the caller is still there.
async fn tell<N, T, I: IntoIterator<Item = T>>(
    mut news: mpsc::Receiver<N>,
    (caller, draining): (&Caller, &CancellationToken),
    respond: impl Fn(N) -> I,
    to_caller: &mpsc::Sender<Result<T, Status>>,
) -> Option<Status> {
    loop {
        let some = tokio::select! {
            some = news.recv() => some,
            () = to_caller.closed() => return None,
        };
        let Some(some) = some else {
            return Some(ended(draining));
        };
        if caller.is_expired() {
            let message = "the service token has expired, come back with a fresh one";
            return Some(Refusal::new(Reason::TokenExpired, message).into());
        }
        for response in respond(some) {
            to_caller.send(Ok(response)).await.ok()?;
        }
    }
}

fn ended(draining: &CancellationToken) -> Status {
    if draining.is_cancelled() {
        return Refusal::of(Reason::Unavailable).into();
    }
    let message = "there are too many watches, or this one did not read: watch again, it begins \
                   with what is known then";
    Refusal::new(Reason::Overloaded, message).into()
}

/// Reads whose receipts are asked for.
pub(crate) fn subject(
    subject: Option<watch_receipts_request::Subject>,
    caller: &Caller,
) -> Result<Subject, Refusal> {
    let bad = |field: &str, description: String| {
        Err(Refusal::bad_request(vec![(field.to_owned(), description)]))
    };
    match subject {
        None => bad("subject", "is missing: set job_id or events".to_owned()),
        Some(watch_receipts_request::Subject::JobId(job)) => match job.len() {
            1..=128 => Ok(Subject::Job(job_key(&caller.name, &job))),
            bytes => bad(
                "job_id",
                format!("has {bytes} bytes, but it has to have 1 to 128"),
            ),
        },
        Some(watch_receipts_request::Subject::Events(events)) => {
            let ids = events.event_ids;
            if ids.is_empty() || ids.len() > MAX_EVENTS {
                let count = ids.len();
                let rule = format!("has {count} ids, but it has to have 1 to {MAX_EVENTS}");
                return bad("events.event_ids", rule);
            }
            let mut read = Vec::with_capacity(ids.len());
            for (index, id) in ids.iter().enumerate() {
                let Ok(id) = Uuid::try_parse(id) else {
                    let rule = "is not the id of an event, use it as a response gave it";
                    return bad(&format!("events.event_ids[{index}]"), rule.to_owned());
                };
                read.push(id.as_u128());
            }
            Ok(Subject::Events(read))
        }
    }
}

/// Receipts as responses, the first of them even if there is nothing to say.
pub(crate) fn receipts(news: ReceiptNews) -> Vec<WatchReceiptsResponse> {
    let wall_ms = unix_ms(SystemTime::now());
    let at = |at: Millis| {
        let ms = wall_ms - i64::try_from(news.now.saturating_sub(at)).unwrap_or(0);
        prost_types::Timestamp {
            seconds: ms.div_euclid(1_000),
            nanos: i32::try_from(ms.rem_euclid(1_000)).unwrap_or(0) * 1_000_000,
        }
    };
    let mut all = news.receipts.into_iter().map(|receipt| match receipt {
        Receipt::Device {
            event,
            state,
            user,
            device,
            at: when,
        } => v1::Receipt {
            event_id: Uuid::from_u128(event).to_string(),
            state: state_of(state).into(),
            user_id: user.to_string(),
            device: device.to_string(),
            stream: String::new(),
            at: Some(at(when)),
        },
        Receipt::Expired {
            event,
            stream,
            at: when,
        } => v1::Receipt {
            event_id: Uuid::from_u128(event).to_string(),
            state: v1::ReceiptState::Expired.into(),
            stream: stream.to_string(),
            at: Some(at(when)),
            ..v1::Receipt::default()
        },
    });
    let unknown = news.unknown.into_iter();
    let mut responses = vec![WatchReceiptsResponse {
        receipts: all.by_ref().take(A_RESPONSE).collect(),
        unknown_event_ids: unknown.map(|id| Uuid::from_u128(id).to_string()).collect(),
    }];
    loop {
        let some: Vec<_> = all.by_ref().take(A_RESPONSE).collect();
        if some.is_empty() {
            return responses;
        }
        responses.push(WatchReceiptsResponse {
            receipts: some,
            unknown_event_ids: Vec::new(),
        });
    }
}

fn state_of(state: ReceiptState) -> v1::ReceiptState {
    match state {
        ReceiptState::Delivered => v1::ReceiptState::Delivered,
        ReceiptState::Displayed => v1::ReceiptState::Displayed,
        ReceiptState::Dismissed => v1::ReceiptState::Dismissed,
        ReceiptState::Read => v1::ReceiptState::Read,
    }
}

/// Presence as responses, the first of them even if nobody is there.
pub(crate) fn presence(
    PresenceNews {
        members,
        snapshot,
        settling,
    }: PresenceNews,
) -> Vec<WatchPresenceResponse> {
    let response = |members: &[Member]| WatchPresenceResponse {
        users: members
            .iter()
            .map(|member| PresenceChange {
                user_id: member.user.to_string(),
                online: member.online,
                generation: member.generation,
            })
            .collect(),
        snapshot,
        settling,
    };
    if members.is_empty() {
        return vec![response(&[])];
    }
    members.chunks(A_RESPONSE).map(response).collect()
}
