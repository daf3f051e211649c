//! `Admin` over gRPC: what operators query.

use belfry::{
    limits::MAX_PRESENCE_USERS,
    reason::Reason,
    v1::{
        DisconnectRequest, DisconnectResponse, EndLeasesRequest, EndLeasesResponse,
        GetPresenceRequest, GetPresenceResponse, ListRevocationsRequest, ListRevocationsResponse,
        ListSessionsRequest, ListSessionsResponse, RevokeRequest, RevokeResponse, Session,
        UserPresence, WatchPresenceRequest, WatchPresenceResponse, admin_server::Admin,
    },
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use crate::{
    authenticate::caller, hub::Command, refusal::Refusal, revocations::Revocations, watch,
};

mod revoke;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// `Admin` over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) revocations: Revocations,
}

impl Service {
    async fn query<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command + Send,
    ) -> Result<T, Refusal>
    where
        T: Send,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::of(Reason::Unavailable);
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn bad(field: &str, description: impl Into<String>) -> Refusal {
    Refusal::bad_request(vec![(field.to_owned(), description.into())])
}

/// A page token names the last session of the page before: `<number>@<edge>`.
fn read_token(token: &str) -> Result<Option<(String, u64)>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let fields = token.split_once('@');
    let read = fields.and_then(|(number, edge)| Some((edge.to_owned(), number.parse().ok()?)));
    read.map(Some)
        .ok_or_else(|| bad("page_token", "is not one that a response gave"))
}

#[tonic::async_trait]
impl Admin for Service {
    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let ListSessionsRequest {
            user_id: user,
            page_size,
            page_token,
        } = request.into_inner();
        if page_size > MAX_PAGE {
            let message = format!("is {page_size}, but it has to be {MAX_PAGE} at most");
            return Err(bad("page_size", message).into());
        }
        let page = if page_size == 0 {
            DEFAULT_PAGE
        } else {
            page_size
        } as usize;
        let after = read_token(&page_token)?;
        // One more than requested shows whether there is another page.
        let count = page + 1;
        let mut listed = self
            .query(|reply| Command::Sessions {
                user,
                after,
                count,
                reply,
            })
            .await?;
        let more = listed.len() > page;
        listed.truncate(page);
        let next_page_token = match listed.last().filter(|_| more) {
            Some(last) => format!("{}@{}", last.session, last.edge),
            None => String::new(),
        };
        let sessions = listed.into_iter().map(|session| Session {
            session_id: session.public_id,
            user_id: session.user,
            edge: session.edge,
            streams: session.streams,
        });
        let sessions = sessions.collect();
        Ok(Response::new(ListSessionsResponse {
            sessions,
            next_page_token,
        }))
    }

    async fn get_presence(
        &self,
        request: Request<GetPresenceRequest>,
    ) -> Result<Response<GetPresenceResponse>, Status> {
        let user_ids = request.into_inner().user_ids;
        if user_ids.is_empty() || user_ids.len() > MAX_PRESENCE_USERS {
            let count = user_ids.len();
            let message = format!("has {count} ids, but it has to have 1 to {MAX_PRESENCE_USERS}");
            return Err(bad("user_ids", message).into());
        }
        let users = user_ids.clone();
        let counts = self
            .query(|reply| Command::Presence { users, reply })
            .await?;
        let users = user_ids
            .into_iter()
            .zip(counts)
            .map(|(user_id, sessions)| UserPresence {
                user_id,
                sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            });
        Ok(Response::new(GetPresenceResponse {
            users: users.collect(),
        }))
    }

    async fn revoke(
        &self,
        mut request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, Status> {
        let operator = caller(&mut request)?.name.clone();
        let revoked = self.take_back(request.into_inner(), &operator).await?;
        Ok(Response::new(revoked))
    }

    async fn list_revocations(
        &self,
        _: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        let revocations = self.revocations();
        Ok(Response::new(ListRevocationsResponse { revocations }))
    }

    async fn disconnect(
        &self,
        mut request: Request<DisconnectRequest>,
    ) -> Result<Response<DisconnectResponse>, Status> {
        let operator = caller(&mut request)?.name.clone();
        let sessions = self.close_sessions(request.into_inner(), &operator).await?;
        Ok(Response::new(DisconnectResponse { sessions }))
    }

    async fn end_leases(
        &self,
        mut request: Request<EndLeasesRequest>,
    ) -> Result<Response<EndLeasesResponse>, Status> {
        let operator = caller(&mut request)?.name.clone();
        let leases = self.lapse_leases(request.into_inner(), &operator).await?;
        Ok(Response::new(EndLeasesResponse { leases }))
    }

    type WatchPresenceStream = watch::Responses<WatchPresenceResponse>;

    async fn watch_presence(
        &self,
        mut request: Request<WatchPresenceRequest>,
    ) -> Result<Response<Self::WatchPresenceStream>, Status> {
        let caller = caller(&mut request)?;
        let users = request.into_inner().user_ids;
        if users.len() > MAX_PRESENCE_USERS {
            let message = format!(
                "has {} ids, but it may have {MAX_PRESENCE_USERS}",
                users.len()
            );
            return Err(bad("user_ids", message).into());
        }
        let (watch, watched) = watch::channel();
        let command = Command::WatchPresence {
            service: caller.name.to_arc(),
            users: users.into_iter().map(Into::into).collect(),
            watch,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Refusal::of(Reason::Unavailable))?;
        let commands = self.commands.clone();
        let responses = watch::responses(watched, caller, commands, watch::presence);
        Ok(Response::new(responses))
    }
}
