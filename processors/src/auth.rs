//! Who sends a request: a user's token gives a user, a service's an operator.
//!
//! What always holds: a token is verified by [`belfry::identity`] alone, and whatever
//! is wrong with one has the same answer.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use belfry::identity::{Role, ServiceKeys, UserKeys};

use crate::{clock::unix_ms, config::Config, revocations::Revocations};

/// The keys of operators' tokens; without them nobody is one.
#[derive(Clone)]
pub(crate) struct Operators {
    keys: Option<ServiceKeys>,
    revocations: Revocations,
}

impl Operators {
    /// The configured keys.
    pub(crate) fn new(config: &Config, revocations: &Revocations) -> Self {
        Self {
            keys: config.service_keys.clone(),
            revocations: revocations.clone(),
        }
    }

    /// Whether anybody could be one.
    pub(crate) fn can_be(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether a request comes from one.
    pub(crate) fn is_one(&self, headers: &HeaderMap) -> bool {
        let Some((keys, token)) = self.keys.as_ref().zip(bearer(headers)) else {
            return false;
        };
        let service = keys.verify(token, unix_ms());
        service.is_ok_and(|service| {
            service.role == Role::Operator && !self.revocations.refuse_service(&service)
        })
    }
}

/// The keys of users' tokens.
#[derive(Clone)]
pub(crate) struct Users {
    keys: Option<UserKeys>,
    revocations: Revocations,
}

impl Users {
    /// The configured keys.
    pub(crate) fn new(config: &Config, revocations: &Revocations) -> Self {
        Self {
            keys: config.user_keys.clone(),
            revocations: revocations.clone(),
        }
    }

    /// The user of a request with `Authorization: Bearer <token>`.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<String> {
        let token = bearer(headers)?;
        let user = self.keys.as_ref()?.verify(token, unix_ms()).ok()?;
        let revoked = self.revocations.refuse_user(&user, token);
        (!revoked).then(|| user.id.to_string())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use belfry::identity::{ServiceGrant, Validity};

    use super::*;

    #[test]
    fn only_the_token_of_an_operator_makes_one_and_only_with_a_secret() {
        let secret = [1; 32];
        let config = Config {
            user_keys: Some(UserKeys::new(&secret, None).unwrap()),
            service_keys: Some(ServiceKeys::new(&secret, None).unwrap()),
            ..Config::default()
        };
        let without = Config {
            service_keys: None,
            ..config.clone()
        };
        let none = Revocations::default();
        let validity = Validity {
            issued_at: u64::try_from(unix_ms() / 1_000).unwrap(),
            lifetime: Duration::from_mins(1),
        };
        let headers = |token: String| {
            HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
        };
        for role in [Role::Publisher, Role::Edge, Role::Operator] {
            let grant = ServiceGrant {
                name: "o".to_owned(),
                role,
                events: Vec::new(),
                targets: Vec::new(),
                token_id: None,
            };
            let keys = ServiceKeys::new(&secret, None).unwrap();
            let headers = headers(keys.sign(&grant, validity).unwrap());
            let operators = Operators::new(&config, &none);
            assert_eq!(operators.is_one(&headers), role == Role::Operator);
            assert!(!Operators::new(&without, &none).is_one(&headers));
            assert_eq!(Users::new(&config, &none).user(&headers), None);
        }
        let keys = UserKeys::new(&secret, None).unwrap();
        let headers = headers(keys.sign("u1", &[], validity).unwrap());
        let user = Users::new(&config, &none).user(&headers);
        assert_eq!(user.as_deref(), Some("u1"));
        assert!(!Operators::new(&config, &none).is_one(&headers));
    }
}
