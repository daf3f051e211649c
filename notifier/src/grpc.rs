//! The gRPC side: every service of the contract, its layers and its limits.
//!
//! What always holds: a call is authenticated before it takes one of the
//! [`MAX_CALLS`], and a deadline that its caller set is kept.

use belfry::{
    identity::Role,
    v1::{
        admin_server::AdminServer, edge_gateway_server::EdgeGatewayServer,
        notifier_server::NotifierServer,
    },
};
use prometheus_client::metrics::counter::Counter;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Layer;

use crate::{
    admin,
    authenticate::Authenticate,
    deadline::{Deadline, WithDeadline},
    link,
    load_shed::LoadShed,
    policy::Policy,
    revocations::Revocations,
    service,
};

/// Calls to `Notifier` that may be unanswered, over all connections: each holds a
/// request of [`MAX_REQUEST_BYTES`] at most.
const MAX_CALLS: usize = 4_096;
/// Requests to `Notifier` and `Admin`; an event is 64 KiB at most.
const MAX_REQUEST_BYTES: usize = 128 << 10;
/// A batch of 256 messages from an edge, each with a token of 8 KiB at most.
const MAX_LINK_REQUEST_BYTES: usize = 8 << 20;

/// What answers calls.
pub(crate) struct Services<H: Health> {
    pub(crate) health: HealthServer<H>,
    pub(crate) notifier: service::Service,
    pub(crate) gateway: link::Service,
    pub(crate) admin: admin::Service,
}

impl<H: Health> Services<H> {
    /// All of them as one service; `shed` counts calls that were too many.
    pub(crate) fn routes(
        self,
        (keys, revocations): (&belfry::identity::ServiceKeys, &Revocations),
        policy: &Policy,
        shed: Counter,
    ) -> WithDeadline<axum::Router> {
        let authenticate = |role| Authenticate {
            keys: keys.clone(),
            policy: policy.clone(),
            role,
        };
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(belfry::DESCRIPTORS)
                // Lets tools show the details of a status.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let whole = "the contract's own descriptors are whole";
        let v1 = reflection().build_v1().expect(whole);
        // Older tools speak this version alone.
        let v1alpha = reflection().build_v1alpha().expect(whole);
        let notifier =
            NotifierServer::new(self.notifier).max_decoding_message_size(MAX_REQUEST_BYTES);
        let notifier = LoadShed::new(MAX_CALLS, shed).layer(notifier);
        let gateway =
            EdgeGatewayServer::new(self.gateway).max_decoding_message_size(MAX_LINK_REQUEST_BYTES);
        let admin = AdminServer::new(self.admin).max_decoding_message_size(MAX_REQUEST_BYTES);
        let routes = Routes::new(self.health)
            .add_service(v1)
            .add_service(v1alpha)
            .add_service(authenticate(None).layer(revocations.layer(notifier)))
            .add_service(authenticate(Some(Role::Edge)).layer(revocations.layer(gateway)))
            .add_service(authenticate(Some(Role::Operator)).layer(revocations.layer(admin)));
        Deadline.layer(routes.prepare().into_axum_router())
    }
}
