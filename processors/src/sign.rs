//! Links to files that work until a named second and cannot be made by others:
//! HMAC-SHA256 over key and expiry, compared in constant time. The current secret signs;
//! links of those before it work for as long as they are listed.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::config::{Secret, Secrets};

/// Signs and checks links.
#[derive(Clone)]
pub(crate) struct Signer {
    secrets: Secrets,
    /// Without a trailing slash.
    base: String,
}

impl Signer {
    /// Signs links that begin with `public_url`.
    pub(crate) fn new(secrets: Secrets, public_url: &str) -> Self {
        Self {
            secrets,
            base: public_url.trim_end_matches('/').to_owned(),
        }
    }

    /// The link to a file, good until `expires_at_s` (Unix seconds). The same
    /// arguments give the same link.
    pub(crate) fn link(&self, key: &str, expires_at_s: i64) -> String {
        let message = message(key, expires_at_s);
        let secrets = self.secrets.load();
        // The configuration was checked: there is one.
        let secret = secrets.first().map(hmac_key);
        let tag = secret.map(|secret| hmac::sign(&secret, message.as_bytes()));
        let tag = tag.as_ref().map_or(&[][..], AsRef::as_ref);
        let signature = URL_SAFE_NO_PAD.encode(tag);
        format!(
            "{}/files/{key}?exp={expires_at_s}&sig={signature}",
            self.base
        )
    }

    /// Whether a link is ours and still good.
    pub(crate) fn allows(&self, key: &str, expires_at_s: i64, signature: &str, now_s: i64) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        let message = message(key, expires_at_s);
        let ours = |secret| hmac::verify(&hmac_key(secret), message.as_bytes(), &tag).is_ok();
        now_s < expires_at_s && self.secrets.load().iter().any(ours)
    }
}

fn hmac_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.bytes())
}

fn message(key: &str, expires_at_s: i64) -> String {
    // The expiry has no line feed, so no other pair gives the same message.
    format!("file\n{expires_at_s}\n{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(bytes: &[u8]) -> Secrets {
        Secrets::new(bytes.iter().map(|byte| Secret::new([*byte; 32])))
    }

    #[test]
    fn a_link_of_the_secret_before_works_while_it_is_listed() {
        let secrets = secrets(&[7]);
        let signer = Signer::new(secrets.clone(), "http://files.example/");
        let old = signer.link("a", 100);
        let allows = |link: &str| {
            let (_, sig) = link.rsplit_once("sig=").unwrap();
            signer.allows("a", 100, sig, 99)
        };
        secrets.replace(vec![Secret::new([8; 32]), Secret::new([7; 32])]);
        let new = signer.link("a", 100);
        assert!(new != old && allows(&new) && allows(&old));
        secrets.replace(vec![Secret::new([8; 32])]);
        assert!(allows(&new) && !allows(&old));
    }

    #[test]
    fn a_link_works_for_its_file_until_its_second_and_not_when_touched() {
        let signer = Signer::new(secrets(&[7]), "http://files.example/");
        let link = signer.link("originals/a", 100);
        let (head, sig) = link.rsplit_once("sig=").unwrap();
        assert_eq!(head, "http://files.example/files/originals/a?exp=100&");
        assert!(signer.allows("originals/a", 100, sig, 99));
        assert!(!signer.allows("originals/a", 100, sig, 100));
        assert!(!signer.allows("originals/a", 101, sig, 99));
        assert!(!signer.allows("originals/b", 100, sig, 99));
        for at in 0..sig.len() {
            let mut touched = sig.as_bytes().to_vec();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert!(
                !signer.allows("originals/a", 100, &touched, 99),
                "{touched}"
            );
        }
        let other = Signer::new(secrets(&[8]), "http://files.example/");
        assert!(!other.allows("originals/a", 100, sig, 99));
    }
}
