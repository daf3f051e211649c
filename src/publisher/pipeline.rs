//! Many publishes over one stream, with bounded memory.
//!
//! What always holds: requests are sent in the order of the calls, answers are
//! matched by that order, and after a broken stream the unanswered ones are sent
//! again in the same order with the same keys, before any newer one. One
//! exception, because nothing can hold it: a publish that the notifier refuses as
//! overloaded is sent again after the ones that were already under way.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Failure, Kind, Publish, PublishError, Published, Publisher};
use crate::{
    backoff::Backoff,
    notifiers::Notifier,
    v1::{PublishStreamRequest, PublishStreamResponse, publish_stream_response::Answer as Wire},
};

/// A stream of publishes. Dropping it lets what is under way finish in the
/// background, until its deadline at the latest; [`Pipeline::close`] waits for that.
#[derive(Debug)]
pub struct Pipeline {
    inbox: mpsc::Sender<Entry>,
    permits: Arc<Semaphore>,
    deadline: Duration,
    task: JoinHandle<()>,
}

/// The answer to one publish of a pipeline. Dropping it does not withdraw the
/// publish.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Result<Published, PublishError>>);

impl Future for Answer {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(PublishError::Closed)))
    }
}

#[derive(Debug)]
struct Entry {
    publish: Publish,
    deadline: Instant,
    attempts: u32,
    reply: oneshot::Sender<Result<Published, PublishError>>,
    // Released when the entry is answered: this bounds everything here.
    _permit: OwnedSemaphorePermit,
}

impl Entry {
    fn answer(self, answer: Result<Published, PublishError>) {
        // The caller may have dropped its `Answer`.
        let _ = self.reply.send(answer);
    }
}

impl Pipeline {
    pub(super) fn start(publisher: Publisher) -> Self {
        let in_flight = publisher.config.in_flight;
        // Its capacity is the number of permits: sending never waits.
        let (inbox, calls) = mpsc::channel(in_flight);
        let deadline = publisher.config.deadline;
        let driver = Driver {
            backoff: publisher.backoff.clone(),
            used: publisher.notifiers.current(),
            publisher,
            calls,
            unanswered: VecDeque::new(),
        };
        Self {
            inbox,
            permits: Arc::new(Semaphore::new(in_flight)),
            deadline,
            task: tokio::spawn(driver.run()),
        }
    }

    /// Queues a publish and returns its future answer. Waits while
    /// [`PublisherConfig::in_flight`](super::PublisherConfig::in_flight) publishes are
    /// unanswered: that is the backpressure.
    ///
    /// # Errors
    /// [`PublishError::Closed`] if the pipeline's task has ended.
    pub async fn publish(&self, publish: Publish) -> Result<Answer, PublishError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        let entry = Entry {
            publish,
            deadline: Instant::now() + self.deadline,
            attempts: 0,
            reply,
            _permit: permit.map_err(|_| PublishError::Closed)?,
        };
        self.inbox
            .try_send(entry)
            .map_err(|_| PublishError::Closed)?;
        Ok(Answer(answer))
    }

    /// Waits until everything under way has its answer, then ends the stream.
    pub async fn close(self) {
        drop(self.inbox);
        // An error is a panic in the task: its answers say `Closed` then.
        let _ = self.task.await;
    }
}

/// Why a stream ended.
enum End {
    /// Nothing is unanswered and no caller is left.
    Done,
    /// It broke, was refused, or has to pause.
    Failed(Failure),
}

struct Driver {
    publisher: Publisher,
    /// Where the last stream went.
    used: Notifier,
    calls: mpsc::Receiver<Entry>,
    /// In the order in which they were sent.
    unanswered: VecDeque<Entry>,
    backoff: Backoff,
}

impl Driver {
    async fn run(mut self) {
        loop {
            // No stream is opened before there is something to send.
            if self.unanswered.is_empty() {
                let Some(entry) = self.calls.recv().await else {
                    return;
                };
                self.unanswered.push_back(entry);
            }
            let failure = match self.stream().await {
                End::Done => return,
                End::Failed(failure) => failure,
            };
            match failure.kind {
                Kind::Final => {
                    for entry in self.unanswered.drain(..) {
                        entry.answer(Err(failure.clone().into_final()));
                    }
                }
                Kind::Retry { retry_after } => {
                    let why = (&failure, retry_after);
                    let pause = (self.publisher).pause_after(&self.used, why, &mut self.backoff);
                    let resume = Instant::now() + pause;
                    self.give_up_before(resume, &failure);
                    if !self.unanswered.is_empty() {
                        tracing::debug!(?pause, error = %failure.message, "publish stream again");
                        tokio::time::sleep_until(resume).await;
                    }
                }
            }
        }
    }

    fn give_up_before(&mut self, resume: Instant, failure: &Failure) {
        let (late, rest): (VecDeque<_>, VecDeque<_>) = self
            .unanswered
            .drain(..)
            .partition(|entry| entry.deadline <= resume);
        self.unanswered = rest;
        for entry in late {
            let error = failure
                .clone()
                .into_gave_up(entry.attempts, entry.publish.key());
            entry.answer(Err(error));
        }
    }

    /// One stream from its opening to its end.
    async fn stream(&mut self) -> End {
        let timeout = self.publisher.config.attempt_timeout;
        // Its capacity is the number of permits: sending never waits.
        let (requests, outgoing) = mpsc::channel(self.publisher.config.in_flight);
        for entry in &mut self.unanswered {
            send(&requests, entry);
        }
        let request = match self
            .publisher
            .authorized(ReceiverStream::new(outgoing))
            .await
        {
            Ok(request) => request,
            Err(failure) => return End::Failed(failure),
        };
        self.used = self.publisher.notifiers.current();
        let mut client = Publisher::client(&self.used);
        let mut answers =
            Answers::Opening(Box::pin(
                async move { client.publish_stream(request).await },
            ));
        let mut overloaded: Option<(Failure, VecDeque<Entry>)> = None;
        let mut open = true;
        let mut last_answer = Instant::now();
        loop {
            if self.unanswered.is_empty() {
                if let Some((failure, retries)) = overloaded {
                    self.unanswered = retries;
                    return End::Failed(failure);
                }
                if !open {
                    return End::Done;
                }
            }
            tokio::select! {
                entry = self.calls.recv(), if open && overloaded.is_none() => match entry {
                    Some(mut entry) => {
                        if self.unanswered.is_empty() {
                            last_answer = Instant::now();
                        }
                        send(&requests, &mut entry);
                        self.unanswered.push_back(entry);
                    }
                    None => open = false,
                },
                answer = answers.next() => {
                    let (entry, answer) = match (answer, self.unanswered.pop_front()) {
                        (Ok(answer), Some(entry)) => (entry, answer),
                        // A stream may end while it is idle; an answer without a
                        // request ends it here.
                        (_, None) => {
                            let failure = Failure::broken("the stream ended while it was idle");
                            return self.broken(failure, overloaded);
                        }
                        (Err(failure), Some(entry)) => {
                            self.unanswered.push_front(entry);
                            return self.broken(failure, overloaded);
                        }
                    };
                    last_answer = Instant::now();
                    if let Some((failure, entry)) = self.settle(entry, answer) {
                        overloaded.get_or_insert_with(|| (failure, VecDeque::new())).1.push_back(entry);
                    }
                }
                () = tokio::time::sleep_until(last_answer + timeout), if !self.unanswered.is_empty() => {
                    return self.broken(Failure::timed_out(timeout), overloaded);
                }
            }
        }
    }

    /// Answers an entry, or gives it back if it is to be sent again.
    fn settle(&mut self, entry: Entry, answer: PublishStreamResponse) -> Option<(Failure, Entry)> {
        let failure = match answer.answer {
            Some(Wire::Accepted(response)) => {
                self.backoff.reset();
                entry.answer(Ok(response.into()));
                return None;
            }
            Some(Wire::Refused(refusal)) => Failure::from_refusal(refusal),
            None => Failure::broken("an answer of a kind that this client does not support"),
        };
        if failure.kind == Kind::Final {
            entry.answer(Err(failure.into_final()));
            return None;
        }
        Some((failure, entry))
    }

    /// The stream broke: what was refused as overloaded was sent before the rest.
    fn broken(&mut self, failure: Failure, overloaded: Option<(Failure, VecDeque<Entry>)>) -> End {
        if let Some((_, mut retries)) = overloaded {
            retries.append(&mut self.unanswered);
            self.unanswered = retries;
        }
        End::Failed(failure)
    }
}

fn send(requests: &mpsc::Sender<PublishStreamRequest>, entry: &mut Entry) {
    entry.attempts += 1;
    let message = PublishStreamRequest {
        publish: Some(entry.publish.request().clone()),
    };
    // It cannot be full: its capacity is the number of permits. It can be closed: the
    // stream is broken then, so its answers end too, and the entry is sent again.
    let _ = requests.try_send(message);
}

type Opening = Pin<
    Box<dyn Future<Output = Result<Response<Streaming<PublishStreamResponse>>, Status>> + Send>,
>;

/// The answers of a stream, from before the notifier has accepted it: some
/// servers send their headers with the first answer only.
enum Answers {
    Opening(Opening),
    Open(Box<Streaming<PublishStreamResponse>>),
}

impl Answers {
    /// The next answer. Safe to cancel: all progress is kept in `self`.
    async fn next(&mut self) -> Result<PublishStreamResponse, Failure> {
        if let Answers::Opening(opening) = self {
            let opened = opening.await;
            let opened = opened.map_err(|status| Failure::from_status(&status))?;
            *self = Answers::Open(Box::new(opened.into_inner()));
        }
        let Answers::Open(answers) = self else {
            unreachable!("opened above");
        };
        match answers.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Failure::broken("the notifier ended the stream")),
            Err(status) => Err(Failure::from_status(&status)),
        }
    }
}
