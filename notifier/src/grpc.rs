//! The gRPC side: every service of the contract, its layers and its limits.
//!
//! What always holds: a call is authenticated on its headers before it takes anything of
//! its service's shares, and a deadline that its caller set is kept.

use std::time::Duration;

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
    admission::Admission,
    authenticate::Authenticate,
    deadline::{Deadline, WithDeadline},
    link,
    policy::Policy,
    revocations::Revocations,
    service,
    shares::Shares,
};

/// Requests to `Notifier` and `Admin`; an event is 64 KiB at most.
const MAX_REQUEST_BYTES: usize = 128 << 10;
/// A batch of 256 messages from an edge, each with a token of 8 KiB at most.
const MAX_LINK_REQUEST_BYTES: usize = 8 << 20;
/// Requests about health and the contract, which need no token.
const MAX_OPEN_REQUEST_BYTES: usize = 4 << 10;

/// What answers calls.
pub(crate) struct Services<H: Health> {
    pub(crate) health: HealthServer<H>,
    pub(crate) notifier: service::Service,
    pub(crate) gateway: link::Service,
    pub(crate) admin: admin::Service,
}

impl<H: Health> Services<H> {
    /// All of them as one service.
    pub(crate) fn routes(
        self,
        (keys, revocations): (&belfry::identity::ServiceKeys, &Revocations),
        policy: &Policy,
        shares: &Shares,
        (body_timeout, late): (Duration, Counter),
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
        let v1 = v1.max_decoding_message_size(MAX_OPEN_REQUEST_BYTES);
        // Older tools support this version alone.
        let v1alpha = reflection().build_v1alpha().expect(whole);
        let v1alpha = v1alpha.max_decoding_message_size(MAX_OPEN_REQUEST_BYTES);
        let open = Admission {
            shares: shares.clone(),
            body_timeout,
            max_message: MAX_OPEN_REQUEST_BYTES,
            late,
        };
        let health = self
            .health
            .max_decoding_message_size(MAX_OPEN_REQUEST_BYTES);
        let notifier =
            NotifierServer::new(self.notifier).max_decoding_message_size(MAX_REQUEST_BYTES);
        let calls = open.for_messages(MAX_REQUEST_BYTES);
        let notifier = revocations.layer(calls.layer(notifier));
        let gateway =
            EdgeGatewayServer::new(self.gateway).max_decoding_message_size(MAX_LINK_REQUEST_BYTES);
        let links = open.for_messages(MAX_LINK_REQUEST_BYTES);
        let gateway = revocations.layer(links.layer(gateway));
        let admin = AdminServer::new(self.admin).max_decoding_message_size(MAX_REQUEST_BYTES);
        let admin = revocations.layer(calls.layer(admin));
        let routes = Routes::new(open.layer(health))
            .add_service(open.layer(v1))
            .add_service(open.layer(v1alpha))
            .add_service(authenticate(None).layer(notifier))
            .add_service(authenticate(Some(Role::Edge)).layer(gateway))
            .add_service(authenticate(Some(Role::Operator)).layer(admin));
        Deadline.layer(routes.prepare().into_axum_router())
    }
}
