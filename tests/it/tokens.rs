//! One table of tokens, one verdict: edge, notifier and processors as they ship
//! answer each row as the identity module does.

use std::collections::BTreeMap;

use belfry::v1::{GetPresenceRequest, admin_client::AdminClient};
use reqwest::{Client, RequestBuilder, StatusCode};
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

use crate::world::{Browser, World};

#[path = "../vectors/tokens.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the table is shared with the contract crate"
)]
mod table;

use table::{Audience, ROWS, Verdict};

async fn is_accepted_by_processors(request: RequestBuilder, token: &str) -> bool {
    let answer = request.bearer_auth(token).send().await.expect("an answer");
    !matches!(
        answer.status(),
        StatusCode::UNAUTHORIZED | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    )
}

async fn is_accepted_by_notifier(mut admin: AdminClient<Channel>, token: &str) -> bool {
    let mut request = Request::new(GetPresenceRequest {
        user_ids: vec!["u1".to_owned()],
    });
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    match admin.get_presence(request).await {
        Ok(_) => true,
        Err(status) => {
            // A token too long for the transport's headers is refused by it.
            let refused = matches!(status.code(), Code::Unauthenticated | Code::Internal);
            assert!(refused, "{status}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_gives_a_token_the_verdict_of_the_table() {
    let world = World::new();
    let up = world.up();
    let (users, services) = (world.secret("users.key"), world.secret("services.key"));
    let (edge, processors) = (up.address("ws"), up.address("processors"));
    let grpc = format!("http://{}", up.address("grpc"));
    let admin = AdminClient::connect(grpc).await.expect("connected");
    let http = Client::new();
    let mut wrong = Vec::new();
    for row in ROWS {
        let now_s = u64::try_from(crate::world::now_s()).expect("after 1970");
        let token = row.token(Audience::User, now_s, [&users, &users]);
        let accepted = row.user == Verdict::Accepted;
        let none = BTreeMap::new();
        let connected = Browser::try_connect(&edge, &token, &none, &[]).await;
        if connected.is_ok() != accepted {
            wrong.push(format!("edge: {}", row.name));
        }
        let job = http.delete(format!("{processors}/jobs/none"));
        if is_accepted_by_processors(job, &token).await != accepted {
            wrong.push(format!("processors, user: {}", row.name));
        }

        let token = row.token(Audience::Service, now_s, [&services, &services]);
        let accepted = row.service == Verdict::Accepted;
        if is_accepted_by_notifier(admin.clone(), &token).await != accepted {
            wrong.push(format!("notifier: {}", row.name));
        }
        let status = http.post(format!("{processors}/status")).body("{}");
        if is_accepted_by_processors(status, &token).await != accepted {
            wrong.push(format!("processors, operator: {}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
