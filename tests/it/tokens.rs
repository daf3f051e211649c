//! One table of tokens, one verdict: edge, notifier and processors as they ship
//! answer each row as the identity module does.

use std::collections::BTreeMap;

use belfry::v1::{GetPresenceRequest, admin_client::AdminClient};
use reqwest::{Client, RequestBuilder, StatusCode};
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

use crate::world::{Browser, Process, World};

#[path = "../vectors/tokens.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the table is shared with the contract crate"
)]
mod table;

use table::{Audience, PUBLIC_ROWS, PublicKeys, ROWS, Verdict, good_claims};

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

/// Where tokens are presented, and which verdicts were wrong.
struct Verifiers {
    edge: String,
    processors: String,
    admin: AdminClient<Channel>,
    http: Client,
    wrong: Vec<String>,
}

impl Verifiers {
    async fn of(up: &Process) -> Self {
        let grpc = format!("http://{}", up.address("grpc"));
        Self {
            edge: up.address("ws"),
            processors: up.address("processors"),
            admin: AdminClient::connect(grpc).await.expect("connected"),
            http: Client::new(),
            wrong: Vec::new(),
        }
    }

    async fn check_user(&mut self, row: &str, token: &str, verdict: Verdict) {
        let accepted = verdict == Verdict::Accepted;
        let none = BTreeMap::new();
        let connected = Browser::try_connect(&self.edge, token, &none, &[]).await;
        if connected.is_ok() != accepted {
            self.wrong.push(format!("edge: {row}"));
        }
        let job = self.http.delete(format!("{}/jobs/none", self.processors));
        if is_accepted_by_processors(job, token).await != accepted {
            self.wrong.push(format!("processors, user: {row}"));
        }
    }

    async fn check_service(&mut self, row: &str, token: &str, verdict: Verdict) {
        let accepted = verdict == Verdict::Accepted;
        if is_accepted_by_notifier(self.admin.clone(), token).await != accepted {
            self.wrong.push(format!("notifier: {row}"));
        }
        let status = self.http.post(format!("{}/status", self.processors));
        if is_accepted_by_processors(status.body("{}"), token).await != accepted {
            self.wrong.push(format!("processors, operator: {row}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_gives_a_token_the_verdict_of_the_table() {
    let world = World::new();
    let up = world.up();
    let (users, services) = (world.secret("users.key"), world.secret("services.key"));
    let mut verifiers = Verifiers::of(&up).await;
    for row in ROWS {
        let now_s = u64::try_from(crate::world::now_s()).expect("after 1970");
        let token = row.token(Audience::User, now_s, [&users, &users]);
        verifiers.check_user(row.name, &token, row.user).await;
        let token = row.token(Audience::Service, now_s, [&services, &services]);
        verifiers.check_service(row.name, &token, row.service).await;
    }
    assert!(verifiers.wrong.is_empty(), "{:#?}", verifiers.wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_keys_verify_what_they_signed_and_no_forgery_of_it() {
    let world = World::new();
    drop(world.up());
    let keys = PublicKeys::get();
    let files = [("users.pem", keys.pem()), ("users.json", keys.jwks())];
    let mut list = vec![world.dir().join("secrets/users.key")];
    for (name, content) in files {
        list.push(world.dir().join(name));
        std::fs::write(world.dir().join(name), content).expect("written");
    }
    let list: Vec<_> = list.iter().map(|path| path.display().to_string()).collect();
    let up = world.up_with(&["--users-key-file", &list.join(",")]);
    let (users, services) = (world.secret("users.key"), world.secret("services.key"));
    let mut verifiers = Verifiers::of(&up).await;
    for row in PUBLIC_ROWS {
        let now_s = u64::try_from(crate::world::now_s()).expect("after 1970");
        let token = row.token(&good_claims(Audience::User, now_s), &users);
        verifiers.check_user(row.name, &token, row.user).await;
        if !row.is_signed_by_the_secret() {
            let token = row.token(&good_claims(Audience::Service, now_s), &services);
            let refused = Verdict::Refused;
            verifiers.check_service(row.name, &token, refused).await;
        }
    }
    assert!(verifiers.wrong.is_empty(), "{:#?}", verifiers.wrong);
}
