//! The person that a hidden field of a form names: `<person>.<expiry>.<tag>`, made by
//! the product that links to the form.
//!
//! What always holds: nobody without the webhook's secret can name another person, and
//! a value names nobody after its expiry. The fields are the person's id in base64url
//! without padding, Unix seconds, and base64url of HMAC-SHA256, keyed with the secret,
//! over `belfry-form-person`, a line feed, and the first two fields with their dot.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use belfry::name;

use crate::config::Secret;

/// The first line of what is signed: no body of an event begins with it.
const PURPOSE: &str = "belfry-form-person\n";

/// Why a hidden field names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PersonError {
    /// Not three fields, or one of them is not as it must be.
    #[error("is not of the form `<person>.<expiry>.<tag>`")]
    Form,
    /// None of the secrets made the tag.
    #[error("is not signed with the webhook's secret")]
    Signature,
    /// The form was submitted after the expiry.
    #[error("had expired when the form was submitted")]
    Expired,
    /// An id that no person can have.
    #[error("does not name a person: 1 to 128 bytes without invisible characters")]
    Name,
}

/// The person of a signed value, in a form that was submitted at `submitted_s` (Unix
/// seconds): a delivery that comes late is still good.
pub(super) fn signed(
    value: &str,
    secrets: &[Secret],
    submitted_s: i64,
) -> Result<String, PersonError> {
    let (head, tag) = value.rsplit_once('.').ok_or(PersonError::Form)?;
    let (person, expiry) = head.split_once('.').ok_or(PersonError::Form)?;
    let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| PersonError::Form)?;
    let message = format!("{PURPOSE}{head}");
    let is_ours = secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        hmac::verify(&key, message.as_bytes(), &tag).is_ok()
    });
    if !is_ours {
        return Err(PersonError::Signature);
    }
    let person = URL_SAFE_NO_PAD.decode(person).ok();
    let person = person.and_then(|person| String::from_utf8(person).ok());
    let expires_s: i64 = expiry.parse().map_err(|_| PersonError::Form)?;
    if submitted_s >= expires_s {
        return Err(PersonError::Expired);
    }
    bare(&person.ok_or(PersonError::Form)?)
}

/// The person of a value that is the id alone.
pub(super) fn bare(value: &str) -> Result<String, PersonError> {
    // A space at an end is the mark of a form that was filled in by hand.
    if name::check(value).is_err() || value.trim() != value {
        return Err(PersonError::Name);
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(person: &[u8], expiry: &str, secret: &str) -> String {
        let head = format!("{}.{expiry}", URL_SAFE_NO_PAD.encode(person));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{PURPOSE}{head}").as_bytes());
        format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    #[test]
    fn only_a_value_made_with_a_secret_names_its_person_until_its_expiry() {
        let secrets = [Secret::new("new secret"), Secret::new("old secret")];
        let check = |value: &str| signed(value, &secrets, 100);
        for secret in ["new secret", "old secret"] {
            let value = made("björn.x".as_bytes(), "101", secret);
            assert_eq!(check(&value).as_deref(), Ok("björn.x"));
        }
        let good = made(b"u1", "101", "new secret");
        for at in 0..good.len() {
            let mut touched = good.clone().into_bytes();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert!(check(&touched).is_err(), "{touched}");
        }
        for (value, error) in [
            (made(b"u1", "100", "new secret"), PersonError::Expired),
            (made(b"u1", "-1", "new secret"), PersonError::Expired),
            (made(b"u1", "101", "other"), PersonError::Signature),
            (made(b"u1", "1e9", "new secret"), PersonError::Form),
            (made(b"u1", "", "new secret"), PersonError::Form),
            (made(b"\xff", "101", "new secret"), PersonError::Form),
            (made(b"", "101", "new secret"), PersonError::Name),
            (made(b"u1 ", "101", "new secret"), PersonError::Name),
            (made(b"u\n1", "101", "new secret"), PersonError::Name),
            ("u1".into(), PersonError::Form),
            (String::new(), PersonError::Form),
            ("..".into(), PersonError::Signature),
        ] {
            assert_eq!(check(&value), Err(error), "{value}");
        }
        assert_eq!(bare("u1").as_deref(), Ok("u1"));
        assert_eq!(bare("u1 "), Err(PersonError::Name));
    }
}
