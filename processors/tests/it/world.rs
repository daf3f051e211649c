//! Processors with a fake notifier, a data directory, and a user who calls over HTTP.

use std::{
    io::Cursor,
    net::SocketAddr,
    ops::Deref,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use belfry::{
    event::EventKind,
    fake_notifier::FakeNotifier,
    identity::{ServiceKeys, UserKeys},
    publisher::Credential,
    v1::{PublishRequest, event::Body},
};
use image::{ImageFormat, Rgb, RgbImage};
use jsonwebtoken::{EncodingKey, Header};
use processors::{Config, Ports, Secret, Secrets};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::wait::wait_for;

/// Far longer than anything in these tests takes; a test that waits so long has failed.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Does what the hidden commands of `belfry` do.
pub(crate) const CHILD: &str = env!("CARGO_BIN_EXE_child");

const USER_SECRET: [u8; 32] = [1; 32];
const SERVICE_SECRET: [u8; 32] = [3; 32];

/// A notifier that events of the processors are awaited from.
pub(crate) struct Notifier(FakeNotifier);

impl Deref for Notifier {
    type Target = FakeNotifier;

    fn deref(&self) -> &FakeNotifier {
        &self.0
    }
}

impl Notifier {
    pub(crate) fn count(&self) -> usize {
        self.events().len()
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        let enough = |events: &[PublishRequest]| events.len() >= count;
        self.wait_until(enough).await;
    }

    /// The events of a document, once its terminal one is there. Progress goes out on
    /// another connection than what ends a job, so a report that was in flight may
    /// arrive after the end: the hub drops it, and so does this.
    pub(crate) async fn events_of(&self, id: &str) -> Vec<PublishRequest> {
        let of_it = |event: &PublishRequest| document_id(event) == id;
        let ended = |events: &[PublishRequest]| events.iter().any(|e| of_it(e) && is_terminal(e));
        let mut events = self.wait_until(ended).await;
        events.retain(of_it);
        let mut ended = false;
        events.retain(|event| {
            ended |= is_terminal(event);
            !(ended && matches!(body(event), Body::JobProgress(_)))
        });
        events
    }
}

fn document_id(request: &PublishRequest) -> &str {
    match body(request) {
        Body::ImageProcessingStarted(b) => &b.document_id,
        Body::ImageProcessed(b) => &b.document_id,
        Body::ImageProcessingFailed(b) => &b.document_id,
        Body::PdfGenerationStarted(b) => &b.report_id,
        Body::PdfGenerated(b) => &b.report_id,
        Body::PdfGenerationFailed(b) => &b.report_id,
        Body::TranscriptionStarted(b) => &b.transcription_id,
        Body::TranscriptionComplete(b) => &b.transcription_id,
        Body::TranscriptionFailed(b) => &b.transcription_id,
        Body::JobProgress(b) => &b.resource_id,
        _ => "",
    }
}

pub(crate) fn body(request: &PublishRequest) -> &Body {
    request.event.as_ref().unwrap().body.as_ref().unwrap()
}

/// Returns once no task of the runtime runs any more, as if a process had been killed.
fn kill(runtime: Runtime) {
    let end = std::thread::spawn(|| runtime.shutdown_timeout(TEST_TIMEOUT));
    end.join().unwrap();
}

pub(crate) fn is_terminal(request: &PublishRequest) -> bool {
    EventKind::of(body(request)).is_terminal()
}

/// The processors, in a runtime of their own that can be dropped like a process.
struct Running {
    runtime: Runtime,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), processors::Error>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) struct World {
    pub(crate) notifier: Notifier,
    pub(crate) data: TempDir,
    pub(crate) config: Config,
    /// If it is not in the data directory.
    pub(crate) database_url: Option<String>,
    pub(crate) http: reqwest::Client,
    running: Option<Running>,
    address: Option<SocketAddr>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let notifier = Notifier(FakeNotifier::start().await.unwrap());
        let data = TempDir::new().unwrap();
        let config = Config {
            data_dir: data.path().to_owned(),
            notifier: notifier.url(),
            credential: Credential::token("service-token"),
            user_keys: Some(UserKeys::new(&USER_SECRET, None).unwrap()),
            signing_secrets: Secrets::new([Secret::new([2; 32])]),
            service_keys: Some(ServiceKeys::new(&SERVICE_SECRET, None).unwrap()),
            fetch_ports: Ports::new(&[]),
            retry_pause: Duration::from_millis(10),
            outbox_poll: Duration::from_millis(200),
            allowed_origins: vec!["https://app.example".into()],
            document_types: ["image", "passport", "driving_license_picture"]
                .map(str::to_owned)
                .to_vec(),
            typeset_command: [CHILD, "typeset-report"].map(str::to_owned).to_vec(),
            decode_command: [CHILD, "decode-picture"].map(str::to_owned).to_vec(),
            ..Config::default()
        };
        Self {
            notifier,
            data,
            config,
            database_url: None,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            running: None,
            address: None,
        }
    }

    pub(crate) async fn started() -> Self {
        let mut world = Self::new().await;
        world.start().await;
        world
    }

    pub(crate) async fn start(&mut self) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .spawn(TcpListener::bind("127.0.0.1:0"))
            .await
            .unwrap()
            .unwrap();
        let address = listener.local_addr().unwrap();
        self.address = Some(address);
        self.config.public_url = format!("http://{address}");
        let shutdown = CancellationToken::new();
        let running = processors::run(self.config.clone(), listener, shutdown.clone());
        let task = runtime.spawn(running);
        self.running = Some(Running {
            runtime,
            shutdown,
            task,
        });
    }

    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.shutdown.cancel();
        let ended = tokio::time::timeout(TEST_TIMEOUT, running.task).await;
        kill(running.runtime);
        ended.unwrap().unwrap().unwrap();
    }

    /// Nothing is finished, as if the process had been killed. Returns once nothing
    /// of it runs any more.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            kill(running.runtime);
        }
    }

    /// The number of files in a folder of the store.
    pub(crate) fn stored(&self, folder: &str) -> usize {
        let folder = self.data.path().join("files").join(folder);
        std::fs::read_dir(folder).unwrap().count()
    }

    /// The processors' database, as another program opens it.
    pub(crate) async fn database(&self) -> sqlx::AnyPool {
        sqlx::any::install_default_drivers();
        let file = self.data.path().join("records.sqlite");
        let own = format!("sqlite://{}", file.display());
        let url = self.database_url.as_ref().unwrap_or(&own);
        sqlx::AnyPool::connect(url).await.unwrap()
    }

    /// Waits until the outbox is empty, and checks that nothing is parked.
    pub(crate) async fn settled(&self) {
        let is = |metrics: &str, line| metrics.lines().any(|other| other == line);
        let (metrics, _) = wait_for(
            "an empty outbox",
            async || (self.metrics().await, self.waiting().await),
            // The metrics are counted at each look into the outbox.
            |(metrics, waiting)| {
                is(metrics, "belfry_processors_outbox_waiting 0")
                    && is(metrics, "belfry_processors_jobs_active{kind=\"image\"} 0")
                    && *waiting == 0
            },
        )
        .await;
        assert!(
            is(&metrics, "belfry_processors_outbox_parked 0"),
            "{metrics}"
        );
    }

    async fn metrics(&self) -> String {
        let answer = self.http.get(self.url("/metrics")).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// What the metrics say of it, 0 if nothing.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics().await;
        let name = format!("belfry_processors_{name} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().unwrap())
    }

    async fn waiting(&self) -> i64 {
        let database = self.database().await;
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM belfry_outbox");
        let count = count.fetch_one(&database).await.unwrap();
        database.close().await;
        count
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address.unwrap())
    }

    pub(crate) fn token(user: &str) -> String {
        sign(
            &json!({"sub": user, "exp": soon(), "aud": "belfry"}),
            &USER_SECRET,
        )
    }

    pub(crate) fn service_token(role: &str) -> String {
        let claims = json!({"sub": "s", "exp": soon(), "aud": "belfry-internal", "role": role});
        sign(&claims, &SERVICE_SECRET)
    }

    pub(crate) fn get(&self, path: &str, user: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(path)).bearer_auth(Self::token(user))
    }

    pub(crate) async fn json(&self, path: &str, user: &str) -> Value {
        self.get(path, user)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub(crate) fn upload(&self, user: &str, file: &[u8]) -> reqwest::RequestBuilder {
        let mut body = b"--b0undary\r\nContent-Disposition: form-data; name=\"documentType\"\r\n\r\npassport\r\n\
            --b0undary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../x.exe\"\r\n\
            Content-Type: text/html\r\n\r\n".to_vec();
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n--b0undary--\r\n");
        self.http
            .post(self.url("/images"))
            .bearer_auth(Self::token(user))
            .header("content-type", "multipart/form-data; boundary=b0undary")
            .body(body)
    }

    /// Uploads and returns document id and job id.
    pub(crate) async fn accepted(&self, user: &str, file: &[u8]) -> (String, String) {
        let response = self.upload(user, file).send().await.unwrap();
        accepted(response).await
    }

    pub(crate) async fn by_url(&self, url: &str) -> reqwest::Response {
        self.post_url("u1", url).send().await.unwrap()
    }

    pub(crate) fn post_url(&self, user: &str, url: &str) -> reqwest::RequestBuilder {
        let post = self.http.post(self.url("/images"));
        let body = json!({"url": url, "documentType": "passport"});
        post.bearer_auth(Self::token(user)).json(&body)
    }
}

fn soon() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs() + 600
}

fn sign(claims: &Value, secret: &[u8]) -> String {
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

/// Answers a request with a file.
pub(crate) async fn serve_one(mut socket: TcpStream, file: &[u8]) {
    let _ = socket.read(&mut [0; 1024]).await;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        file.len()
    );
    let answer = [head.as_bytes(), file].concat();
    socket.write_all(&answer).await.unwrap();
}

pub(crate) async fn accepted(response: reqwest::Response) -> (String, String) {
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        (status.as_u16(), &body["status"]),
        (202, &json!("pending")),
        "{body}"
    );
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (text("documentId"), text("jobId"))
}

pub(crate) fn picture(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(400, 100, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}
