//! `belfry revoke`, `disconnect` and `leases`: what an operator takes back.

use std::time::{Duration, UNIX_EPOCH};

use belfry::v1::{
    DisconnectRequest, EndLeasesRequest, ListRevocationsRequest, RevokeRequest,
    admin_client::AdminClient, disconnect_request, revoke_request,
};
use clap::{Args, Subcommand};
use serde_json::json;
use settings::any_duration;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{config::process::Data, exit::Failure, publish::At};

const EXAMPLES: &str = "\
Examples:
  belfry revoke user u1 --reason 'lost phone'
      Every token of u1 that was issued until now; a token issued later is accepted
  belfry revoke session 0198c0de-…
      One session that is connected now, and its token
  belfry revoke service reports --holds 90d
      Every token of the service that was issued until now; its streams and links end
  belfry revoke list
      What is revoked, one JSON object a line

Sessions end within 5 s on every edge (4001). It holds across restarts, for 30 days
unless --holds says otherwise: at least as long as the tokens would be accepted.";

/// Takes tokens back before their time.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Revoke {
    #[command(subcommand)]
    subject: Subject,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Subcommand)]
enum Subject {
    /// One token, of a person or a service, by its `jti`
    Token {
        /// The token's `jti`
        id: String,
        #[command(flatten)]
        terms: Conditions,
    },
    /// All tokens of a person that were issued until now
    User {
        /// The user's id
        id: String,
        #[command(flatten)]
        terms: Conditions,
    },
    /// One session that is connected now, and the token that it has
    Session {
        /// The session's public id
        id: String,
        #[command(flatten)]
        terms: Conditions,
    },
    /// All tokens of a service that were issued until now
    Service {
        /// The service's name
        name: String,
        #[command(flatten)]
        terms: Conditions,
    },
    /// Print what is revoked, one JSON object a line
    List,
}

#[derive(Args)]
struct Conditions {
    /// How long it holds: at least as long as the tokens would be accepted
    #[arg(long, default_value = "30d", value_parser = any_duration)]
    holds: Duration,
    /// Why, for people
    #[arg(long, default_value = "")]
    reason: String,
}

/// Closes sessions; their clients may come back.
#[derive(Args)]
pub(crate) struct Disconnect {
    #[command(subcommand)]
    subject: Connected,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Subcommand)]
enum Connected {
    /// All sessions of a person
    User {
        /// The user's id
        id: String,
    },
    /// One session
    Session {
        /// The session's public id
        id: String,
    },
}

/// Looks after leases of jobs.
#[derive(Args)]
pub(crate) struct Leases {
    #[command(subcommand)]
    action: LeaseAction,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Subcommand)]
enum LeaseAction {
    /// Let every open lease of a service lapse now: its jobs fail with `stalled`
    End {
        /// The service's name
        service: String,
    },
}

/// Where the notifier is, and who calls.
#[derive(Args)]
struct Operator {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    secrets: Data,
}

impl Operator {
    async fn connect(&self) -> Result<Admin, Failure> {
        let bearer = self.at.operator(&self.secrets)?;
        let connecting = tokio::time::timeout(self.at.within, self.at.channel());
        let channel = connecting.await.map_err(|_| self.at.nobody())??;
        let channel = channel.ok_or_else(|| self.at.nobody())?;
        Ok(Admin {
            client: AdminClient::new(channel),
            bearer,
        })
    }
}

struct Admin {
    client: AdminClient<Channel>,
    bearer: Option<MetadataValue<Ascii>>,
}

impl Admin {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = self.bearer.clone() {
            request.metadata_mut().insert("authorization", bearer);
        }
        request
    }
}

fn refused(status: &Status) -> Failure {
    Failure::failed(status.message())
}

/// Runs `belfry revoke`.
pub(crate) async fn revoke(options: Revoke) -> Result<(), Failure> {
    use revoke_request::Subject as What;

    let (what, terms) = match options.subject {
        Subject::List => return list(&options.operator).await,
        Subject::Token { id, terms } => (What::TokenId(id), terms),
        Subject::User { id, terms } => (What::UserId(id), terms),
        Subject::Session { id, terms } => (What::SessionId(id), terms),
        Subject::Service { name, terms } => (What::Service(name), terms),
    };
    let holds = terms.holds.try_into();
    let request = RevokeRequest {
        subject: Some(what),
        holds: Some(holds.map_err(|_| Failure::usage("`--holds` is too long"))?),
        reason: terms.reason,
    };
    let mut admin = options.operator.connect().await?;
    let request = admin.request(request);
    let revoked = admin
        .client
        .revoke(request)
        .await
        .map_err(|status| refused(&status))?;
    let ended = revoked.into_inner().sessions_ended;
    println!("revoked; {ended} sessions ended");
    Ok(())
}

async fn list(operator: &Operator) -> Result<(), Failure> {
    let mut admin = operator.connect().await?;
    let request = admin.request(ListRevocationsRequest {});
    let listed = admin.client.list_revocations(request).await;
    for one in listed
        .map_err(|status| refused(&status))?
        .into_inner()
        .revocations
    {
        let line = json!({
            "kind": one.kind,
            "id": one.id,
            "revokedAtUnixMs": unix_ms(one.revoked_at),
            "expiresAtUnixMs": unix_ms(one.expires_at),
            "reason": one.reason,
            "by": one.revoked_by,
        });
        println!("{line}");
    }
    Ok(())
}

fn unix_ms(at: Option<prost_types::Timestamp>) -> Option<u64> {
    let at = std::time::SystemTime::try_from(at?).ok()?;
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Runs `belfry disconnect`.
pub(crate) async fn disconnect(options: Disconnect) -> Result<(), Failure> {
    let subject = match options.subject {
        Connected::User { id } => disconnect_request::Subject::UserId(id),
        Connected::Session { id } => disconnect_request::Subject::SessionId(id),
    };
    let mut admin = options.operator.connect().await?;
    let request = admin.request(DisconnectRequest {
        subject: Some(subject),
    });
    let closed = admin
        .client
        .disconnect(request)
        .await
        .map_err(|status| refused(&status))?;
    println!("{} sessions closed", closed.into_inner().sessions);
    Ok(())
}

/// Runs `belfry leases`.
pub(crate) async fn leases(options: Leases) -> Result<(), Failure> {
    let LeaseAction::End { service } = options.action;
    let mut admin = options.operator.connect().await?;
    let request = admin.request(EndLeasesRequest { service });
    let ended = admin
        .client
        .end_leases(request)
        .await
        .map_err(|status| refused(&status))?;
    println!("{} leases ended", ended.into_inner().leases);
    Ok(())
}
