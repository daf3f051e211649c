//! A client of the public protocol, for `listen` and `check`.
//!
//! It speaks `edge/PROTOCOL.md` and nothing else: what it can do, any other
//! client can do.

mod frame;

use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Duration};

use belfry::{
    address::{PlaintextError, check_plaintext},
    tls::{ClientTls, TlsError},
};
pub(crate) use frame::Frame;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};
use url::Url;

use crate::{
    secrets::{self, SecretError},
    token::{self, Subject, TokenError},
};

/// Longest message taken from an edge, in bytes: a page of a replay fits.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// How long connecting may take, up to `connected`.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long a token signed here works.
const SIGNED_TTL: Duration = Duration::from_hours(1);

/// Why a connection is not there, or no longer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("`{0}` is not the address of an edge, write it as `wss://host/ws`")]
    BadUrl(String),
    #[error(transparent)]
    Plaintext(#[from] PlaintextError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("`{url}` cannot be reached: {cause}")]
    Unreachable { url: String, cause: io::Error },
    #[error("`{url}` did not become a WebSocket: {cause}")]
    Refused {
        url: String,
        cause: Box<tungstenite::Error>,
    },
    #[error("nothing was received for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the edge sent something that is not a frame of its protocol: {0}")]
    Nonsense(String),
    #[error("the edge closed the connection with {code} {reason}: {message}")]
    Bye {
        code: u16,
        reason: String,
        message: String,
        reconnect: bool,
        retry_after: Duration,
    },
    #[error("the connection was lost: {0}")]
    Lost(String),
}

impl ClientError {
    /// `Some`: coming back can help, after at least this long.
    pub(crate) fn comes_back_after(&self) -> Option<Duration> {
        match self {
            ClientError::BadUrl(_) | ClientError::Plaintext(_) | ClientError::Tls(_) => None,
            ClientError::Bye {
                reconnect,
                retry_after,
                ..
            } => reconnect.then_some(*retry_after),
            ClientError::Refused { cause, .. } => match cause.as_ref() {
                tungstenite::Error::Http(answer) if is_final(answer.status().as_u16()) => None,
                _ => Some(Duration::ZERO),
            },
            _ => Some(Duration::ZERO),
        }
    }
}

/// 4xx: the same request can only fail again, unless it was too slow, too early or one
/// of too many (408, 425, 429), which a proxy says, too.
fn is_final(http_status: u16) -> bool {
    (400..500).contains(&http_status) && !matches!(http_status, 408 | 425 | 429)
}

/// Where a token comes from.
#[derive(Clone)]
pub(crate) enum Credential {
    /// Read again for each connection.
    File(PathBuf),
    /// Always the same.
    Fixed(String),
    /// Signed again for each connection.
    Signed {
        /// For whom.
        user: String,
        /// The queues it allows.
        queues: Vec<String>,
        /// The secret.
        key: PathBuf,
    },
}

/// Why there is no token.
#[derive(Debug, Error)]
pub(crate) enum CredentialError {
    #[error("the token file `{}` cannot be read: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Credential {
    /// A token for the next connection.
    pub(crate) fn token(&self) -> Result<String, CredentialError> {
        match self {
            Credential::Fixed(token) => Ok(token.clone()),
            Credential::File(path) => match fs::read_to_string(path) {
                Ok(text) => Ok(text.trim().to_owned()),
                Err(cause) => Err(CredentialError::File {
                    path: path.clone(),
                    cause,
                }),
            },
            Credential::Signed { user, queues, key } => {
                let subject = Subject::User {
                    id: user.clone(),
                    queues: queues.clone(),
                };
                Ok(token::sign(&subject, SIGNED_TTL, &secrets::load(key)?)?)
            }
        }
    }
}

/// The first frame.
#[derive(Serialize)]
pub(crate) struct Hello<'a> {
    /// The user's token.
    pub(crate) token: &'a str,
    /// Where the client stands, by stream.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) positions: BTreeMap<&'a str, &'a str>,
    /// Queues to follow.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) queues: &'a [String],
}

/// Where an edge is, and how to get there.
#[derive(Debug, Clone)]
pub(crate) struct EdgeAddress {
    /// `wss://host/ws`, or `ws` for clear text.
    pub(crate) url: String,
    /// Whom to trust.
    pub(crate) tls: ClientTls,
}

/// What a WebSocket runs over.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// An open connection that the edge has answered with `connected`.
pub(crate) struct Connection {
    socket: WebSocketStream<Box<dyn Socket>>,
    /// Where the streams stand, as `connected` said.
    pub(crate) connected: BTreeMap<String, String>,
    /// The public id of the session.
    pub(crate) session: String,
}

impl Connection {
    /// Connects and waits for `connected`.
    pub(crate) async fn open(edge: &EdgeAddress, hello: &Hello<'_>) -> Result<Self, ClientError> {
        match tokio::time::timeout(CONNECT_WITHIN, Self::try_open(edge, hello)).await {
            Ok(opened) => opened,
            Err(_) => Err(ClientError::Silent(CONNECT_WITHIN)),
        }
    }

    async fn try_open(edge: &EdgeAddress, hello: &Hello<'_>) -> Result<Self, ClientError> {
        #[derive(Serialize)]
        struct Connect<'a> {
            r#type: &'static str,
            #[serde(flatten)]
            hello: &'a Hello<'a>,
        }
        let socket = dial(edge).await?;
        let mut connection = Self {
            socket,
            connected: BTreeMap::new(),
            session: String::new(),
        };
        connection
            .send(&Connect {
                r#type: "connect",
                hello,
            })
            .await?;
        let frame = connection.next().await?;
        if frame.kind != "connected" {
            return Err(ClientError::Nonsense(format!(
                "`{}` before `connected`",
                frame.kind
            )));
        }
        connection.take_connected(&frame.raw)?;
        Ok(connection)
    }

    fn take_connected(&mut self, raw: &str) -> Result<(), ClientError> {
        #[derive(Deserialize)]
        struct Stream {
            position: String,
        }
        #[derive(Deserialize)]
        struct Connected {
            session: String,
            streams: BTreeMap<String, Stream>,
        }
        let connected: Connected =
            serde_json::from_str(raw).map_err(|cause| ClientError::Nonsense(cause.to_string()))?;
        let streams = connected.streams.into_iter();
        self.connected = streams.map(|(stream, at)| (stream, at.position)).collect();
        self.session = connected.session;
        Ok(())
    }

    /// The next frame. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Frame, ClientError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = Frame::parse(&text)?;
                    return if frame.kind == "bye" {
                        Err(bye(&frame.raw))
                    } else {
                        Ok(frame)
                    };
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    let code = u16::from(close.code);
                    return Err(ClientError::Bye {
                        code,
                        reason: close.reason.to_string(),
                        message: "no `bye` came before it".to_owned(),
                        reconnect: comes_back(code),
                        retry_after: Duration::ZERO,
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(cause)) => return Err(ClientError::Lost(cause.to_string())),
                None => return Err(ClientError::Lost("the edge ended it".to_owned())),
            }
        }
    }

    /// Asks for a `pong`.
    pub(crate) async fn ping(&mut self) -> Result<(), ClientError> {
        self.send(&serde_json::json!({"type": "ping"})).await
    }

    /// Sends a frame.
    pub(crate) async fn send<T: Serialize>(&mut self, frame: &T) -> Result<(), ClientError> {
        let text = serde_json::to_string(frame)
            .map_err(|cause| ClientError::Nonsense(cause.to_string()))?;
        let sent = self.socket.send(Message::text(text)).await;
        sent.map_err(|cause| ClientError::Lost(cause.to_string()))
    }

    /// Says goodbye and waits for the other side's, two seconds at most. Returns
    /// whether it came.
    pub(crate) async fn close(&mut self) -> bool {
        let goodbye = async {
            self.socket.close(None).await.ok()?;
            while let Some(Ok(message)) = self.socket.next().await {
                if message.is_close() {
                    return Some(());
                }
            }
            None
        };
        matches!(
            tokio::time::timeout(Duration::from_secs(2), goodbye).await,
            Ok(Some(()))
        )
    }
}

/// Connects, in TLS for `wss`.
async fn dial(edge: &EdgeAddress) -> Result<WebSocketStream<Box<dyn Socket>>, ClientError> {
    let url = &edge.url;
    let bad = || ClientError::BadUrl(url.clone());
    let parsed = Url::parse(url).map_err(|_| bad())?;
    let secure = match parsed.scheme() {
        "wss" => Some(edge.tls.load("http/1.1")?),
        "ws" => None,
        _ => return Err(bad()),
    };
    check_plaintext(url, &edge.tls)?;
    let host = parsed.host_str().ok_or_else(bad)?;
    let port = parsed.port_or_known_default().ok_or_else(bad)?;
    let unreachable = |cause| ClientError::Unreachable {
        url: url.clone(),
        cause,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port))
        .await
        .map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let stream: Box<dyn Socket> = match secure {
        None => Box::new(tcp),
        Some(tls) => Box::new(tls.connect(host, tcp).await.map_err(unreachable)?),
    };
    let mut request = url.into_client_request().map_err(|_| bad())?;
    let protocol = tungstenite::http::HeaderValue::from_static("belfry.v1");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let refused = |cause| ClientError::Refused {
        url: url.clone(),
        cause: Box::new(cause),
    };
    let (socket, _) = client_async_with_config(request, stream, Some(limits))
        .await
        .map_err(refused)?;
    Ok(socket)
}

fn bye(raw: &str) -> ClientError {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Bye {
        code: u16,
        reason: String,
        message: String,
        reconnect: bool,
        retry_after_ms: u64,
    }
    match serde_json::from_str::<Bye>(raw) {
        Ok(bye) => ClientError::Bye {
            code: bye.code,
            reason: bye.reason,
            message: bye.message,
            reconnect: bye.reconnect,
            retry_after: Duration::from_millis(bye.retry_after_ms),
        },
        Err(cause) => ClientError::Nonsense(cause.to_string()),
    }
}

/// Whether a close without `bye` leaves a way back. Only codes of our own say "never":
/// proxies and load balancers close with 1000, 1001 or 1009 on their own.
fn comes_back(code: u16) -> bool {
    !matches!(code, 4000 | 4003 | 4009)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bye_says_whether_to_come_back() {
        let stay = bye(r#"{"type":"bye","code":4003,"reason":"forbidden","reconnect":false}"#);
        assert_eq!(stay.comes_back_after(), None);
        let back = bye(r#"{"type":"bye","code":1012,"reconnect":true,"retryAfterMs":700}"#);
        assert_eq!(back.comes_back_after(), Some(Duration::from_millis(700)));
    }

    #[test]
    fn a_close_that_the_edge_did_not_announce_leaves_a_way_back() {
        for code in [
            1000, 1001, 1003, 1006, 1007, 1009, 1011, 1012, 4001, 4008, 4029,
        ] {
            assert!(comes_back(code), "{code}");
        }
        for code in [4000, 4003, 4009] {
            assert!(!comes_back(code), "{code}");
        }
    }

    #[test]
    fn a_refused_upgrade_is_final_only_if_the_same_request_is_refused_again() {
        for status in [400, 401, 403, 404, 426] {
            assert!(is_final(status), "{status}");
        }
        for status in [200, 302, 408, 425, 429, 500, 502, 503, 504] {
            assert!(!is_final(status), "{status}");
        }
    }
}
