//! Who calls: the service token in a call's metadata.
//!
//! What always holds: a token is verified by [`belfry::identity`] alone, every fault
//! of one has the same answer, and a caller is refused what its token or the services'
//! policy does not allow (guarantee G7). Whatever is denied is audited and counted.

use std::ops::Deref;

use belfry::{
    identity::{Role, Service, ServiceKeys},
    reason::Reason,
};
use tonic::metadata::MetadataMap;

use crate::{
    policy::{Denial, Policy},
    refusal::Refusal,
};

/// A service that was authenticated, and the policy that holds for it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    service: Service,
    policy: Policy,
}

impl Deref for Caller {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl Caller {
    /// Admits a service, if the policy lists it with its role.
    pub(crate) fn admit(service: Service, policy: &Policy, method: &str) -> Result<Self, Refusal> {
        let caller = Self {
            service,
            policy: policy.clone(),
        };
        let Err(denial) = policy.admits(&caller.service) else {
            return Ok(caller);
        };
        let reason = match denial {
            Denial::NotListed => "the services' policy does not list it",
            Denial::OtherRole => "the services' policy lists it with another role",
        };
        caller.denied("call.denied", &method, reason);
        let message = format!("the service `{}` may not call: {reason}", caller.name);
        Err(Refusal::new(Reason::Forbidden, message))
    }

    /// Whether token and policy let it publish this event to this stream.
    pub(crate) fn may_publish(&self, event: &str, stream: &str) -> bool {
        // A certificate says who a service is, and the policy alone what it may.
        let by_policy = self.service.role == Role::Publisher
            && self.service.is_certified()
            && self.policy.is_in_force();
        (by_policy || self.service.may_publish(event, stream))
            && self.policy.allows(&self.service, event, stream)
    }

    /// Counts and audits what it was denied.
    pub(crate) fn denied(&self, action: &str, subject: &dyn std::fmt::Display, reason: &str) {
        self.policy.denied.inc();
        tracing::info!(
            target: "audit",
            action,
            actor = %self.name,
            role = ?self.role,
            %subject,
            reason,
            "a service was denied what it requested"
        );
    }
}

/// Reads `authorization: Bearer …` and verifies it.
pub(crate) fn authenticate(keys: &ServiceKeys, metadata: &MetadataMap) -> Result<Service, Refusal> {
    let header = metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let now_unix_ms = crate::publish::unix_ms(std::time::SystemTime::now());
    token
        .and_then(|token| keys.verify(token, now_unix_ms).ok())
        .ok_or_else(|| {
            Refusal::new(
                Reason::Unauthenticated,
                "the service token is missing or not accepted: send `authorization: Bearer \
                 <token>`, a token made by `belfry token service`",
            )
        })
}

/// Refuses every role but one.
pub(crate) fn require(caller: &Caller, role: Role, method: &str) -> Result<(), Refusal> {
    if caller.role == role {
        return Ok(());
    }
    caller.denied("call.denied", &method, "another role is needed");
    let message = format!(
        "the service `{}` has the role {:?}, but this call needs {role:?}",
        caller.name, caller.role
    );
    Err(Refusal::new(Reason::Forbidden, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_bearer_token_has_the_answer_of_a_bad_one() {
        let keys = ServiceKeys::new(&[1; 32], None).unwrap();
        let missing = authenticate(&keys, &MetadataMap::new()).unwrap_err();
        for header in ["", "Bearer", "Bearer x", "Basic x", "bearer  x"] {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", header.parse().unwrap());
            assert_eq!(
                authenticate(&keys, &metadata).unwrap_err(),
                missing,
                "{header}"
            );
        }
    }
}
