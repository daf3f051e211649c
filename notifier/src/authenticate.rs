//! Authentication of calls: a layer around each gRPC service.
//!
//! What always holds: a call without a token that is accepted, or with one of
//! another role than the service needs, reaches no handler and none of its messages
//! is decoded. A certificate that names a service stands for a token; with both they
//! are of one service. A handler finds its [`Caller`] in the request's extensions.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    mem,
    task::{Context, Poll},
};

use belfry::{
    identity::{Role, Service as Identity, ServiceKeys, certified},
    reason::Reason,
};
use futures_util::future::Either;
use listener::ClientCertificate;
use tonic::{
    Request, Status, body::Body, codegen::http, metadata::MetadataMap, server::NamedService,
};
use tower::{Layer, Service};

use crate::{
    auth::{Caller, authenticate, require},
    policy::Policy,
    refusal::Refusal,
};

/// Who may call a service.
#[derive(Debug, Clone)]
pub(crate) struct Authenticate {
    pub(crate) keys: ServiceKeys,
    pub(crate) policy: Policy,
    /// The one role that may call it; `None`: the handlers check.
    pub(crate) role: Option<Role>,
}

impl Authenticate {
    /// Who calls `method`. A call that is refused, and each of an operator, is an entry of
    /// the audit log.
    fn check(
        &self,
        metadata: &MetadataMap,
        certificate: Option<&ClientCertificate>,
        method: &str,
    ) -> Result<Caller, Refusal> {
        let audit = |action, actor, reason| {
            tracing::info!(target: "audit", action, actor, subject = method, reason, "gRPC call");
        };
        let service = self
            .identify(metadata, certificate)
            .inspect_err(|_| audit("call.denied", "", "no accepted token or certificate"))?;
        let caller = Caller::admit(service, &self.policy, method)?;
        if let Some(role) = self.role {
            require(&caller, role, method)?;
        }
        if self.role == Some(Role::Operator) {
            audit("admin.called", &caller.name, "allowed");
        }
        Ok(caller)
    }
}

impl Authenticate {
    /// The service that token, certificate or both say this is.
    fn identify(
        &self,
        metadata: &MetadataMap,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Identity, Refusal> {
        let shown = certificate.and_then(|shown| certified(shown.uris.iter().map(|uri| &**uri)));
        let Some(shown) = shown else {
            return authenticate(&self.keys, metadata);
        };
        if !metadata.contains_key("authorization") {
            return Ok(shown);
        }
        let service = authenticate(&self.keys, metadata)?;
        // A token that was taken from another service works nowhere but there.
        if service.role != shown.role || service.name != shown.name {
            return Err(Refusal::new(
                Reason::Unauthenticated,
                "the service token and the certificate are of two services",
            ));
        }
        Ok(service)
    }
}

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        let rule = self.clone();
        Authenticated { inner, rule }
    }
}

/// A service that only authenticated calls reach.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated<S> {
    inner: S,
    rule: Authenticate,
}

type Answer = Result<http::Response<Body>, Infallible>;

impl<S, B> Service<http::Request<B>> for Authenticated<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        // Moved there and back: nothing is copied on the way of an event.
        let metadata = MetadataMap::from_headers(mem::take(request.headers_mut()));
        let certificate = request.extensions().get::<ClientCertificate>();
        let path = request.uri().path();
        let checked = self.rule.check(&metadata, certificate, path);
        *request.headers_mut() = metadata.into_headers();
        match checked {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => Either::Right(ready(Ok(Status::from(refusal).into_http()))),
        }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

/// The caller that the layer found.
pub(crate) fn caller<T>(request: &mut Request<T>) -> Result<Caller, Refusal> {
    // Without the layer nobody is let in.
    let caller = request.extensions_mut().remove::<Caller>();
    caller.ok_or_else(|| Refusal::of(Reason::Unauthenticated))
}
