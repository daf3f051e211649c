//! A notifier of a test's own, on free ports.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use belfry::identity::{ServiceKeys, UserKeys, Validity};
use belfry::v1::{
    Event, PublishRequest, StatusUpdate, event::Body, notifier_client::NotifierClient,
    publish_request::Target,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use notifier::{Config, Gateway, Keys, Listeners, Notifier, Policy, RunError, Store};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-s";
pub(crate) const SOON: Duration = Duration::from_mins(1);

pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) http: SocketAddr,
    pub(crate) gateway: Gateway,
    pub(crate) policy: Policy,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), RunError>>,
}

#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Bearer {
    /// As it is in a header.
    pub(crate) fn header(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

pub(crate) fn bearer(name: &str, role: &str) -> Bearer {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = json!({"sub": name, "aud": "belfry-internal", "exp": now + 600, "role": role,
                        "events": ["*"], "targets": ["*"]});
    let token = encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET),
    )
    .unwrap();
    Bearer(format!("Bearer {token}").parse().unwrap())
}

pub(crate) const USER_SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-u";

fn user_keys() -> UserKeys {
    UserKeys::new(USER_SECRET, None).unwrap()
}

/// A token of a person that lasts so many seconds, and the leeway.
pub(crate) fn token_for(user: &str, queues: &[&str], seconds: i64) -> Arc<str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
    // A token lives for a second at least: one that has ended was made before that.
    let validity = Validity {
        issued_at: now.as_secs().checked_add_signed(seconds - 3_600).unwrap(),
        lifetime: Duration::from_hours(1),
    };
    user_keys().sign(user, &queues, validity).unwrap().into()
}

/// A token of a person who may follow every queue.
pub(crate) fn user_token(user: &str) -> Arc<str> {
    token_for(user, &["*"], 3_600)
}

pub(crate) fn config(store: Store) -> Config {
    Config {
        store,
        require_ack: store.ack(),
        ..Config::default()
    }
}

/// Settings of a notifier that keeps its log in `dir`.
pub(crate) fn embedded(dir: &Path) -> Config {
    Config {
        log_dir: dir.to_owned(),
        ..config(Store::Embedded)
    }
}

impl World {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_with(config, user_keys()).await
    }

    /// A notifier that verifies the tokens of persons with these keys.
    pub(crate) async fn start_with(config: Config, users: UserKeys) -> Self {
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", grpc.local_addr().unwrap());
        let address = http.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let keys = Keys {
            services: ServiceKeys::new(SECRET, None).unwrap(),
            users,
        };
        let notifier = Notifier::start(config, keys).await.unwrap();
        let gateway = notifier.gateway();
        let policy = notifier.policy();
        let listeners = Listeners {
            grpc,
            http,
            local: None,
        };
        let ended = tokio::spawn(notifier.serve(listeners, shutdown.clone()));
        Self {
            url,
            http: address,
            gateway,
            policy,
            shutdown,
            ended,
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone())
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn publisher(&self) -> NotifierClient<Authorized> {
        self.publisher_as("tests").await
    }

    pub(crate) async fn publisher_as(&self, name: &str) -> NotifierClient<Authorized> {
        NotifierClient::with_interceptor(self.channel().await, bearer(name, "publisher"))
    }

    /// What a scrape sees.
    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await
    }

    /// What `GET` of a path is answered.
    pub(crate) async fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Ends in an orderly way, and says how that went.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        drop(self.gateway);
        let ended = tokio::time::timeout(SOON, self.ended)
            .await
            .expect("it ends in time");
        ended.unwrap().unwrap();
    }
}

pub(crate) fn status(user: &str, text: &str) -> PublishRequest {
    let body = Body::StatusUpdate(StatusUpdate {
        update_type: "test".into(),
        resource: "test".into(),
        status: text.into(),
        ..StatusUpdate::default()
    });
    PublishRequest {
        target: Some(Target::UserId(user.into())),
        event: Some(Event { body: Some(body) }),
        ..PublishRequest::default()
    }
}
