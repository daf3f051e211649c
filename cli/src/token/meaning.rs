//! What a service's token may not be, although it could be signed: one whose name means
//! something else, or that grants nothing.
//!
//! What always holds: whatever passes here is also checked by
//! [`ServiceKeys::sign`](belfry::identity::ServiceKeys::sign).

use belfry::identity::{Role, ServiceGrant};
use thiserror::Error;

/// Names that stand for something else wherever services are named.
const RESERVED: [&str; 10] = [
    "admin",
    "all",
    "any",
    "edge",
    "everyone",
    "none",
    "nobody",
    "operator",
    "publisher",
    "service",
];
/// What patterns are written with; no name is one.
const PATTERN: [char; 6] = ['*', '?', '>', '[', '{', '('];

/// Why such a token means nothing.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Meaningless {
    #[error("the service `{0}` looks like a pattern, but names are compared byte for byte")]
    Pattern(String),
    #[error(
        "the service `{0}` has the name of a role or of a group, write what it is, such as \
         `{0}-1`"
    )]
    Reserved(String),
    #[error(
        "the service `{0}` has no letter and no digit, which nobody finds in a log, write a name \
         such as `reports`"
    )]
    NoLetter(String),
    #[error("a publisher without `{0}` may publish nothing, add it")]
    NoGrant(&'static str),
    #[error("`{flag}` is for publishers: {role} {what}, leave it out")]
    Unused {
        flag: &'static str,
        role: &'static str,
        what: &'static str,
    },
}

/// Refuses a grant that means nothing.
pub(super) fn check(grant: &ServiceGrant) -> Result<(), Meaningless> {
    check_name(&grant.name)?;
    let lists = [("--events", &grant.events), ("--targets", &grant.targets)];
    let (role, what) = match grant.role {
        Role::Publisher => {
            let missing = lists.iter().find(|(_, list)| list.is_empty());
            return missing.map_or(Ok(()), |(flag, _)| Err(Meaningless::NoGrant(flag)));
        }
        Role::Edge => ("an edge", "publishes nothing"),
        Role::Operator => ("an operator", "may publish everything"),
    };
    match lists.iter().find(|(_, list)| !list.is_empty()) {
        Some((flag, _)) => Err(Meaningless::Unused { flag, role, what }),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), Meaningless> {
    if name.contains(PATTERN) {
        return Err(Meaningless::Pattern(name.escape_debug().to_string()));
    }
    if RESERVED
        .iter()
        .any(|name_of_role| name_of_role.eq_ignore_ascii_case(name))
    {
        return Err(Meaningless::Reserved(name.to_owned()));
    }
    // What is empty, invisible or not ASCII is refused when it is signed.
    let is_ascii = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    if is_ascii && !name.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Meaningless::NoLetter(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(name: &str, role: Role, lists: &[&str]) -> ServiceGrant {
        let list: Vec<_> = lists.iter().map(|&item| item.to_owned()).collect();
        ServiceGrant {
            name: name.to_owned(),
            role,
            events: list.clone(),
            targets: list,
            token_id: None,
        }
    }

    #[test]
    fn names_of_services_pass_and_patterns_roles_and_punctuation_do_not() {
        for name in ["reports", "edge-1", "eu/reports.v2", "operators-desk", "7"] {
            let grant = grant(name, Role::Publisher, &["*"]);
            assert_eq!(check(&grant), Ok(()), "{name}");
        }
        for name in [
            "*",
            "reports*",
            "reports.>",
            "r?",
            "[a-z]",
            "{a,b}",
            "(others)",
            "edge",
            "Operator",
            "publisher",
            "everyone",
            "-",
            "...",
            "_",
        ] {
            let grant = grant(name, Role::Publisher, &["*"]);
            assert!(check(&grant).is_err(), "{name}");
        }
    }

    #[test]
    fn grants_fit_the_role() {
        let refused = |role, lists: &[&str]| check(&grant("reports", role, lists)).is_err();
        assert!(refused(Role::Publisher, &[]));
        assert!(refused(Role::Edge, &["*"]) && !refused(Role::Edge, &[]));
        assert!(refused(Role::Operator, &["*"]) && !refused(Role::Operator, &[]));
    }
}
