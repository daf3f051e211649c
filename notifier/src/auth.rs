//! Who calls: the service token in a call's metadata.
//!
//! What always holds: a token is verified by [`belfry::identity`] alone, every fault
//! of one has the same answer, and a caller is refused what its token does not allow
//! (guarantee G7).

use belfry::{
    identity::{Role, Service, ServiceKeys},
    reason::Reason,
};
use tonic::metadata::MetadataMap;

use crate::refusal::Refusal;

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
pub(crate) fn require(caller: &Service, role: Role) -> Result<(), Refusal> {
    if caller.role == role {
        return Ok(());
    }
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
