//! Watches over gRPC: what is known first, then every change, until the caller
//! goes, falls behind, or the notifier ends.

use std::{future::pending, time::SystemTime};

use belfry::{
    limits::MAX_WATCHED_EVENTS,
    name::JobId,
    reason::Reason,
    v1::{
        self, PresenceChange, WatchPresenceResponse, WatchReceiptsResponse, watch_receipts_request,
    },
};
use delivery::{
    EventId, Millis,
    hub::{Receipt, Subject, WatchEnd, WatchId},
    link::{Member, ReceiptState},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use uuid::Uuid;

use crate::{
    auth::Caller,
    hub::Command,
    publish::{job_key, unix_ms},
    refusal::Refusal,
};

/// Updates on their way to one watch: the rules send the next one when the last was
/// taken.
const UPDATES: usize = 1;
/// Responses that wait for one caller.
const RESPONSES: usize = 4;
/// Entries in one response.
const ENTRIES_PER_RESPONSE: usize = 1_000;

/// What a watch of receipts receives.
#[derive(Debug)]
pub(crate) struct ReceiptUpdate {
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) unknown: Vec<EventId>,
    pub(crate) snapshot: bool,
    /// When this was, on the clock of the receipts.
    pub(crate) now: Millis,
}

/// What a watch of presence receives.
#[derive(Debug)]
pub(crate) struct PresenceUpdate {
    pub(crate) members: Vec<Member>,
    pub(crate) snapshot: bool,
    pub(crate) settling: bool,
}

/// The hub's end of a watch.
#[derive(Debug)]
pub(crate) struct Watch<U> {
    pub(crate) updates: mpsc::Sender<U>,
    pub(crate) number: oneshot::Sender<WatchId>,
    /// Dropped if it was not the hub that ended the watch.
    pub(crate) ended: oneshot::Sender<WatchEnd>,
}

/// The caller's end of a watch.
#[derive(Debug)]
pub(crate) struct Watched<U> {
    updates: mpsc::Receiver<U>,
    number: oneshot::Receiver<WatchId>,
    ended: oneshot::Receiver<WatchEnd>,
}

/// Both ends of a watch.
pub(crate) fn channel<U>() -> (Watch<U>, Watched<U>) {
    let (to_watch, updates) = mpsc::channel(UPDATES);
    let (give, number) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let watch = Watch {
        updates: to_watch,
        number: give,
        ended: end,
    };
    let watched = Watched {
        updates,
        number,
        ended,
    };
    (watch, watched)
}

/// Responses of a watch.
pub(crate) type Responses<T> = ReceiverStream<Result<T, Status>>;

/// Turns updates into responses and their end into a status, and detaches from the
/// hub when the caller has gone.
pub(crate) fn responses<U, T, I>(
    watched: Watched<U>,
    caller: Caller,
    commands: mpsc::Sender<Command>,
    respond: impl Fn(U) -> I + Send + 'static,
) -> Responses<T>
where
    U: Send + 'static,
    T: Send + 'static,
    I: Iterator<Item = T> + Send,
{
    let (to_caller, responses) = mpsc::channel(RESPONSES);
    tokio::spawn(async move {
        let Watched {
            updates,
            number,
            ended,
        } = watched;
        // Without a number the notifier has ended.
        let status = if let Ok(watch) = number.await {
            let taken = || commands.send(Command::WatchTaken(watch));
            let status = tokio::select! {
                // What still waits is of no use to a caller that starts again.
                biased;
                () = to_caller.closed() => None,
                status = fault(ended, &caller) => Some(status),
                status = send(updates, respond, &to_caller, taken) => status,
            };
            let _ = commands.send(Command::Unwatch(watch)).await;
            status
        } else {
            Some(Refusal::of(Reason::Unavailable).into())
        };
        if let Some(status) = status {
            let _ = to_caller.send(Err(status)).await;
        }
    });
    ReceiverStream::new(responses)
}

/// Why a watch ends before its updates do.
async fn fault(ended: oneshot::Receiver<WatchEnd>, caller: &Caller) -> Status {
    let message = match timeout(caller.lasts(), ended).await {
        Ok(Ok(WatchEnd::TooMany(share))) => return Refusal::exhausted(&share).into(),
        Ok(Ok(WatchEnd::Behind)) => {
            "this watch did not read its updates: watch again, it begins with what is known then"
        }
        // The notifier ends, and with it the updates.
        Ok(Err(_)) => pending().await,
        Err(_) => {
            let message = "the service token has expired, come back with a fresh one";
            return Refusal::new(Reason::TokenExpired, message).into();
        }
    };
    Refusal::new(Reason::Overloaded, message).into()
}

/// Sends the caller all updates, to their end, and says after each that it was
/// taken.
async fn send<U, T, I, S>(
    mut updates: mpsc::Receiver<U>,
    respond: impl Fn(U) -> I,
    to_caller: &mpsc::Sender<Result<T, Status>>,
    taken: impl Fn() -> S,
) -> Option<Status>
where
    I: Iterator<Item = T>,
    S: Future,
{
    while let Some(update) = updates.recv().await {
        for response in respond(update) {
            to_caller.send(Ok(response)).await.ok()?;
        }
        taken().await;
    }
    Some(Refusal::of(Reason::Unavailable).into())
}

/// Reads which receipts are requested.
pub(crate) fn subject(
    subject: Option<watch_receipts_request::Subject>,
    caller: &Caller,
) -> Result<Subject, Refusal> {
    let bad = |field: &str, description: String| {
        Err(Refusal::bad_request(vec![(field.to_owned(), description)]))
    };
    match subject {
        None => bad("subject", "is missing: set job_id or events".to_owned()),
        Some(watch_receipts_request::Subject::JobId(job)) => match JobId::parse(job) {
            Ok(job) => Ok(Subject::Job(job_key(&caller.name, &job))),
            Err(error) => bad("job_id", error.to_string()),
        },
        Some(watch_receipts_request::Subject::Events(events)) => {
            let ids = events.event_ids;
            if ids.is_empty() || ids.len() > MAX_WATCHED_EVENTS {
                let count = ids.len();
                let rule = format!("has {count} ids, but it has to have 1 to {MAX_WATCHED_EVENTS}");
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

/// Into how many responses so many entries go. The last response of a snapshot is never
/// full: so its reader knows it.
fn response_count(entries: usize, snapshot: bool) -> usize {
    if snapshot {
        entries / ENTRIES_PER_RESPONSE + 1
    } else {
        entries.div_ceil(ENTRIES_PER_RESPONSE)
    }
}

/// Receipts as responses.
pub(crate) fn receipts(update: ReceiptUpdate) -> impl Iterator<Item = WatchReceiptsResponse> {
    let ReceiptUpdate {
        receipts,
        mut unknown,
        snapshot,
        now,
    } = update;
    let wall_ms = unix_ms(SystemTime::now());
    let count = response_count(receipts.len(), snapshot);
    let mut receipts = receipts.into_iter();
    (0..count).map(move |_| {
        let some = receipts.by_ref().take(ENTRIES_PER_RESPONSE);
        let unknown = std::mem::take(&mut unknown).into_iter();
        WatchReceiptsResponse {
            receipts: some.map(|receipt| to_wire(receipt, wall_ms, now)).collect(),
            unknown_event_ids: unknown.map(|id| Uuid::from_u128(id).to_string()).collect(),
            snapshot,
        }
    })
}

fn to_wire(receipt: Receipt, wall_ms: i64, now: Millis) -> v1::Receipt {
    let at = |at: Millis| {
        let ms = wall_ms - i64::try_from(now.saturating_sub(at)).unwrap_or(0);
        prost_types::Timestamp {
            seconds: ms.div_euclid(1_000),
            nanos: i32::try_from(ms.rem_euclid(1_000)).unwrap_or(0) * 1_000_000,
        }
    };
    match receipt {
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

/// Presence as responses.
pub(crate) fn presence(update: PresenceUpdate) -> impl Iterator<Item = WatchPresenceResponse> {
    let PresenceUpdate {
        members,
        snapshot,
        settling,
    } = update;
    (0..response_count(members.len(), snapshot)).map(move |index| {
        let some = members
            .iter()
            .skip(index * ENTRIES_PER_RESPONSE)
            .take(ENTRIES_PER_RESPONSE);
        let users = some.map(|member| PresenceChange {
            user_id: member.user.to_string(),
            online: member.online,
            generation: member.generation,
        });
        WatchPresenceResponse {
            users: users.collect(),
            snapshot,
            settling,
        }
    })
}
