//! A publisher that never retries: it returns each answer as it came.

use belfry::{publisher::Publish, v1::notifier_client::NotifierClient};
use tokio::task::JoinSet;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{Process, World, numbered, wait_for};

#[derive(Clone)]
pub(crate) struct Caller {
    client: NotifierClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Caller {
    pub(crate) async fn connect(world: &World, grpc: &str) -> Self {
        let channel = Channel::from_shared(format!("http://{grpc}")).expect("an address");
        let bearer = format!("Bearer {}", world.service_token("publisher"));
        Self {
            client: NotifierClient::new(channel.connect().await.expect("connected")),
            bearer: bearer.parse().expect("ASCII"),
        }
    }

    /// A request with the credential.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = self.bearer.clone();
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// The offset of the event, or the error.
    pub(crate) async fn publish(&self, publish: &Publish) -> Result<u64, Status> {
        let request = self.request(publish.request().clone());
        let answer = self.client.clone().publish(request).await?.into_inner();
        Ok(answer.placements[0].position.expect("a position").offset)
    }

    /// Sends `count` publishes at once, for a notifier whose next sync is slow;
    /// returns once all of them wait for the disk.
    pub(crate) async fn publish_until_unsynced(
        &self,
        notifier: &Process,
        count: u64,
    ) -> JoinSet<Result<u64, Status>> {
        let mut calls = JoinSet::new();
        for number in 0..count {
            let caller = self.clone();
            calls.spawn(async move { caller.publish(&numbered("u1", number)).await });
        }
        let unsynced = "belfry_notifier_unsynced_records";
        let observe = async || notifier.metric(unsynced).await;
        wait_for("all to wait for the disk", observe, |n| *n >= count).await;
        calls
    }
}
