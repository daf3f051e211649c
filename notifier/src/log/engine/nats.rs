//! Logs and keys in NATS, on its streams.
//!
//! A log is a stream of one subject, keys are a bucket as `nats kv` shows it. What always
//! holds: whatever is read comes from the leader of its stream (*direct get* stays off),
//! and nothing is read from a subscription: those only say that a look is worth it, and
//! a look is taken every [`LOOK_PAUSE`] without them.

mod follow;
mod reply;
mod sync_setting;

use std::{fmt::Display, time::Duration};

use async_nats::{
    Client, ConnectOptions, HeaderMap, Request, ServerAddr, Subscriber,
    client::RequestErrorKind,
    connection::State,
    jetstream::{
        self, Context, ErrorCode,
        message::StreamMessage,
        response::Response,
        stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use self::reply::Reply;
use super::{
    AckLevel, AppendError, Engine, EngineError, EntryStream, KeyStream, MAX_ENTRY_BYTES, Pledge,
    PutError, Revision, Seq, Shard, Size,
};

/// The longest wait for one answer of the servers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait before a reader looks again, whether it was notified or not.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Looks at the end of a log after a conflict, until the other entry is there.
const CONFLICT_LOOKS: u32 = 20;
/// The first pause between those looks; it grows by as much each time.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);
/// Between requests to servers that elect a leader.
const ELECTION_PAUSE: Duration = Duration::from_millis(100);
/// Why nothing received a message for longer than an answer may take.
const NO_LEADER: &str = "its stream has no leader at present";
/// The shortest window of duplicates that the servers take; no entry carries an id.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// How to reach the servers, and what to make there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `nats://HOST:PORT`, or several separated by commas; `tls://` for TLS, with
    /// `USER:PASSWORD@` before a host if need be.
    pub servers: String,
    /// Name of the cluster: 1 to 24 letters and digits.
    pub cluster: String,
    /// Copies of each stream: 1, 3 or 5.
    pub replicas: usize,
    /// What an append means as the operator states it, if the servers cannot be read.
    pub stated: Option<AckLevel>,
    /// `HOST:PORT` of the servers' monitoring, all of them, to read their sync setting.
    pub monitors: Vec<String>,
}

/// A connection to NATS servers.
#[derive(Debug, Clone)]
pub struct Nats {
    client: Client,
    context: Context,
    settings: Settings,
}

/// Which message of a stream is requested from its leader.
#[derive(Debug, Serialize)]
struct MessageRequest {
    seq: u64,
    /// The first at or after `seq` that fits this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_by_subj: Option<String>,
}

#[derive(Debug, Serialize)]
struct PurgeRequest {
    /// The oldest message that stays.
    seq: u64,
}

fn unavailable(error: impl Display) -> EngineError {
    EngineError::Unavailable(error.to_string())
}

fn unusable(error: impl Display) -> EngineError {
    EngineError::Unusable(error.to_string())
}

impl Nats {
    /// Connects, and makes the bucket of the cluster's keys if there is none.
    pub async fn connect(settings: Settings) -> Result<Self, EngineError> {
        let cluster = &settings.cluster;
        let is_name = cluster.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_name || !(1..=24).contains(&cluster.len()) {
            let error = format!("cluster `{cluster}` must be 1 to 24 letters and digits");
            return Err(EngineError::Unusable(error));
        }
        let servers = settings.servers.split(',').map(str::parse::<ServerAddr>);
        let servers: Vec<_> = servers.collect::<Result<_, _>>().map_err(unusable)?;
        let options = ConnectOptions::new()
            .name("belfry notifier")
            .connection_timeout(ANSWER_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .ping_interval(LOOK_PAUSE)
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(50 * attempts.min(20) as u64)
            });
        let client = options.connect(servers).await.map_err(unavailable)?;
        let largest = client.server_info().max_payload;
        if largest < MAX_ENTRY_BYTES + (1 << 10) {
            return Err(EngineError::Unusable(format!(
                "`max_payload` of the NATS servers is {largest}, set it to 1048576 or more"
            )));
        }
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_TIMEOUT);
        let engine = Self {
            client,
            context,
            settings,
        };
        engine.make(engine.bucket_config()).await?;
        Ok(engine)
    }

    fn log_name(&self, shard: Shard) -> String {
        format!("BELFRY_{}_{shard}", self.settings.cluster)
    }

    fn log_subject(&self, shard: Shard) -> String {
        format!("belfry.{}.log.{shard}", self.settings.cluster)
    }

    fn bucket_name(&self) -> String {
        format!("KV_BELFRY_{}", self.settings.cluster)
    }

    fn key_subject(&self, key: &str) -> String {
        format!("$KV.BELFRY_{}.{key}", self.settings.cluster)
    }

    /// Where followers of a log are notified; not kept in any stream.
    fn log_wake(&self, shard: Shard) -> String {
        format!("belfry.{}.wake.log.{shard}", self.settings.cluster)
    }

    fn keys_wake(&self) -> String {
        format!("belfry.{}.wake.keys", self.settings.cluster)
    }

    fn stream_config(&self, name: String, subject: String) -> Config {
        Config {
            name,
            subjects: vec![subject],
            storage: StorageType::File,
            num_replicas: self.settings.replicas,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            deny_delete: true,
            allow_direct: false,
            ..Config::default()
        }
    }

    fn log_config(&self, shard: Shard) -> Config {
        self.stream_config(self.log_name(shard), self.log_subject(shard))
    }

    fn bucket_config(&self) -> Config {
        Config {
            max_messages_per_subject: 1,
            allow_rollup: true,
            ..self.stream_config(self.bucket_name(), self.key_subject(">"))
        }
    }

    /// Makes a stream if there is none, and refuses one that could lose what it holds.
    async fn make(&self, config: Config) -> Result<(), EngineError> {
        let subject = format!("STREAM.CREATE.{}", config.name);
        let found = match self.info(&config.name).await? {
            Some(info) => Some(info),
            None => match self.request(subject, &config).await {
                Ok(created) => created,
                // Another process may have made it first.
                Err(error) => Some(self.info(&config.name).await?.ok_or(error)?),
            },
        };
        let created: Config = found.map(|info: Info| info.config).ok_or_else(|| {
            unavailable(format!(
                "stream `{}` was removed while it was made",
                config.name
            ))
        })?;
        let unfit = [
            (created.num_replicas < config.num_replicas, "replicas"),
            (created.storage != StorageType::File, "storage"),
            (created.allow_direct, "allow_direct"),
            (created.discard != DiscardPolicy::New, "discard"),
            (!created.max_age.is_zero(), "max_age"),
            (created.retention != RetentionPolicy::Limits, "retention"),
            (created.subjects != config.subjects, "subjects"),
        ];
        let unfit = unfit.into_iter().find(|(is_unfit, _)| *is_unfit);
        unfit.map_or(Ok(()), |(_, setting)| {
            Err(EngineError::Unusable(format!(
                "stream `{}` has another `{setting}` than Belfry gives it ({} copies, file, discard new, no age limit, no direct get): change it with `nats stream edit`",
                config.name, config.num_replicas
            )))
        })
    }

    /// What the servers answer to a request of their API; `None`: there is no such stream
    /// or message. While they elect, they are requested again.
    async fn request<T: DeserializeOwned>(
        &self,
        subject: String,
        payload: &impl Serialize,
    ) -> Result<Option<T>, EngineError> {
        let start = Instant::now();
        loop {
            let answer = self.context.request(subject.clone(), payload).await;
            let error = match answer.map_err(unavailable)? {
                Response::Ok(answer) => return Ok(Some(answer)),
                Response::Err { error } => error,
            };
            match error.error_code() {
                ErrorCode::STREAM_NOT_FOUND | ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
                ErrorCode::CLUSTER_NOT_AVAILABLE if start.elapsed() < ANSWER_TIMEOUT => {
                    tokio::time::sleep(ELECTION_PAUSE).await;
                }
                _ => return Err(unavailable(error)),
            }
        }
    }

    async fn info(&self, stream: &str) -> Result<Option<Info>, EngineError> {
        self.request(format!("STREAM.INFO.{stream}"), &()).await
    }

    /// A message as the leader of its stream has it; `None` if there is none.
    async fn message(
        &self,
        stream: &str,
        request: MessageRequest,
    ) -> Result<Option<StreamMessage>, EngineError> {
        let answer = self.request(format!("STREAM.MSG.GET.{stream}"), &request);
        let answer: Option<reply::StoredMessage> = answer.await?;
        answer.map(TryInto::try_into).transpose()
    }

    async fn subscribe(&self, subject: String) -> Result<Subscriber, EngineError> {
        self.client.subscribe(subject).await.map_err(unavailable)
    }

    /// Publishes to a stream with a condition. What a client sends while it is not
    /// connected would be sent later, so it is not sent.
    async fn publish(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Reply {
        if self.client.connection_state() != State::Connected {
            return Reply::NotSent("no connection to a NATS server".to_owned());
        }
        let request = Request::new().headers(headers).payload(payload);
        match self.client.send_request(subject, request).await {
            Ok(message) => Reply::parse(&message.payload),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => Reply::NoLeader,
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    Reply::NotSent(error.to_string())
                }
                _ => Reply::Unknown(error.to_string()),
            },
        }
    }

    /// Notifies readers. They look without it too, so it may be lost.
    async fn wake(&self, subject: String, number: u64) {
        let sent = self.client.publish(subject, number.to_string().into());
        if let Err(error) = sent.await {
            tracing::debug!(%error, "readers of the engine are not notified");
        }
    }

    /// What an append after the wrong place is answered with. The entry that is in its
    /// way may be on its way itself: its place is taken, and the log ends before it.
    async fn conflict(&self, shard: Shard, after: Seq) -> AppendError {
        for look in 1..=CONFLICT_LOOKS {
            match self.size(shard).await {
                Ok(size) if size.end != after => return AppendError::Moved { end: size.end },
                Ok(_) => tokio::time::sleep(CONFLICT_PAUSE * look).await,
                Err(EngineError::Missing(shard)) => return AppendError::Missing(shard),
                Err(error) => return AppendError::Full(error.to_string()),
            }
        }
        AppendError::Full("another entry is on its way to the same place".to_owned())
    }

    /// Publishes again while the stream has no leader: nothing received it, so nothing of
    /// it is stored.
    async fn publish_to_leader(
        &self,
        stream: String,
        subject: String,
        message: (HeaderMap, Bytes),
    ) -> Reply {
        let start = Instant::now();
        loop {
            let (headers, payload) = message.clone();
            let reply = self.publish(subject.clone(), headers, payload).await;
            if reply != Reply::NoLeader || start.elapsed() > ANSWER_TIMEOUT {
                return reply;
            }
            if let Ok(None) = self.info(&stream).await {
                return Reply::Missing;
            }
            tokio::time::sleep(ELECTION_PAUSE).await;
        }
    }
}

impl Engine for Nats {
    async fn pledge(&self) -> Result<Pledge, EngineError> {
        let info = self.info(&self.bucket_name()).await?;
        let info = info.ok_or_else(|| unavailable("the bucket of keys was deleted"))?;
        let is_quorum = info.config.num_replicas >= 3;
        let of = |synced| match (is_quorum, synced) {
            (true, true) => AckLevel::SyncedQuorum,
            (true, false) => AckLevel::Quorum,
            (false, true) => AckLevel::Synced,
            (false, false) => AckLevel::Primary,
        };
        let monitors = &self.settings.monitors;
        if !monitors.is_empty() {
            let synced = sync_setting::is_always(monitors).await?;
            return Ok(Pledge {
                level: of(synced),
                stated: false,
            });
        }
        // The number of copies is known, whatever is stated about their disks.
        let states_sync = self.settings.stated >= Some(AckLevel::Synced);
        Ok(Pledge {
            level: of(states_sync),
            stated: states_sync,
        })
    }

    async fn create(&self, shard: Shard) -> Result<(), EngineError> {
        self.make(self.log_config(shard)).await
    }

    async fn append(&self, shard: Shard, after: Seq, entry: Bytes) -> Result<Seq, AppendError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.log_name(shard).as_str());
        headers.insert("Nats-Expected-Last-Sequence", after.to_string().as_str());
        let (stream, subject) = (self.log_name(shard), self.log_subject(shard));
        let reply = self.publish_to_leader(stream, subject, (headers, entry));
        match reply.await {
            Reply::Stored(seq) => {
                self.wake(self.log_wake(shard), seq).await;
                Ok(seq)
            }
            Reply::Conflict => Err(self.conflict(shard, after).await),
            Reply::Missing => Err(AppendError::Missing(shard)),
            Reply::NoLeader => Err(AppendError::Full(NO_LEADER.to_owned())),
            Reply::NotSent(reason) => Err(AppendError::Full(reason)),
            Reply::Unknown(reason) => Err(AppendError::Unknown(reason)),
        }
    }

    fn follow(&self, shard: Shard, from: Seq) -> EntryStream {
        follow::entries(self.clone(), shard, from)
    }

    async fn cut(&self, shard: Shard, first: Seq) -> Result<(), EngineError> {
        let size = self.size(shard).await?;
        let first = first.min(size.end);
        if first <= size.first {
            return Ok(());
        }
        let subject = format!("STREAM.PURGE.{}", self.log_name(shard));
        let answer: Option<serde_json::Value> =
            self.request(subject, &PurgeRequest { seq: first }).await?;
        answer.map(drop).ok_or(EngineError::Missing(shard))
    }

    async fn put(&self, key: &str, value: Bytes, expected: Revision) -> Result<Revision, PutError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.bucket_name().as_str());
        headers.insert(
            "Nats-Expected-Last-Subject-Sequence",
            expected.to_string().as_str(),
        );
        let (stream, subject) = (self.bucket_name(), self.key_subject(key));
        let reply = self.publish_to_leader(stream, subject, (headers, value));
        match reply.await {
            Reply::Stored(revision) => {
                self.wake(self.keys_wake(), revision).await;
                Ok(revision)
            }
            Reply::Conflict => Err(PutError::Conflict),
            Reply::Missing => {
                // A bucket that somebody deleted is made again, empty.
                let made = self.make(self.bucket_config()).await;
                let deleted = || "the bucket of keys was deleted, it is made again".to_owned();
                let reason = made.err().map_or_else(deleted, |error| error.to_string());
                Err(PutError::Unavailable(reason))
            }
            Reply::NoLeader => Err(PutError::Unavailable(NO_LEADER.to_owned())),
            Reply::NotSent(reason) => Err(PutError::Unavailable(reason)),
            Reply::Unknown(reason) => Err(PutError::Unknown(reason)),
        }
    }

    fn watch(&self, prefix: &str) -> KeyStream {
        follow::keys(self.clone(), prefix.to_owned())
    }

    async fn size(&self, shard: Shard) -> Result<Size, EngineError> {
        let info = self.info(&self.log_name(shard)).await?;
        let state = info.ok_or(EngineError::Missing(shard))?.state;
        let is_empty = state.messages == 0;
        Ok(Size {
            bytes: state.bytes,
            first: if is_empty {
                state.last_sequence + 1
            } else {
                state.first_sequence
            },
            end: state.last_sequence,
        })
    }
}

/// Waits until a reader is notified or [`LOOK_PAUSE`] is over; the number it is notified
/// of.
async fn notified(wake: &mut Subscriber) -> Option<u64> {
    let message = tokio::time::timeout(LOOK_PAUSE, wake.next()).await;
    let message = message.ok()??;
    std::str::from_utf8(&message.payload).ok()?.parse().ok()
}
