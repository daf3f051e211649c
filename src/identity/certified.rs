//! Services that prove who they are by a certificate.
//!
//! What always holds: role and name are in one URI of the certificate's alternative
//! names, `belfry://<role>/<name>`; a certificate with none, or with two, is no
//! service's. It grants no events and no targets by itself.

use std::time::{Duration, SystemTime};

use super::{KeyId, Role, Service};
use crate::name::ServiceName;

/// How long a connection is taken for the service before it has to be made again.
const LASTS: Duration = Duration::from_hours(24);

/// The service that a verified certificate with these URIs belongs to.
pub fn certified<'a>(uris: impl Iterator<Item = &'a str>) -> Option<Service> {
    let mut ours = uris.filter_map(|uri| uri.strip_prefix("belfry://"));
    let (role, name) = ours.next()?.split_once('/')?;
    if ours.next().is_some() {
        return None;
    }
    let role = match role {
        "publisher" => Role::Publisher,
        "edge" => Role::Edge,
        "operator" => Role::Operator,
        _ => return None,
    };
    Some(Service {
        name: ServiceName::parse(name).ok()?,
        role,
        ends_at: SystemTime::now() + LASTS,
        token_id: None,
        issued_at_unix_ms: None,
        key: KeyId::CERTIFICATE,
        events: [].into(),
        targets: [].into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uri_states_role_and_name() {
        let found = |uris: &[&str]| {
            let service = certified(uris.iter().copied())?;
            Some((service.role, service.name.to_string()))
        };
        let edge = Some((Role::Edge, "edge-1".to_owned()));
        assert_eq!(found(&["belfry://edge/edge-1"]), edge);
        assert_eq!(found(&["spiffe://a/b", "belfry://edge/edge-1"]), edge);
        for bad in [
            &[][..],
            &["spiffe://a/b"],
            &["belfry://edge"],
            &["belfry://edge/"],
            &["belfry://admin/x"],
            &["belfry://Edge/x"],
            &["belfry://edge/a", "belfry://publisher/a"],
            &["belfry://edge/a b"],
        ] {
            assert_eq!(found(bad), None, "{bad:?}");
        }
        let publisher = certified(["belfry://publisher/images"].into_iter()).unwrap();
        assert!(!publisher.may_publish("status_update", "user:u1"));
    }
}
