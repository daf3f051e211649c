//! Files that are right, and every way to be wrong.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

struct Pair {
    cert: String,
    key: String,
}

fn pair(first_year: i32, last_year: i32) -> Pair {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(first_year, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    Pair {
        cert: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn files(dir: &Path, cert: &str, key: &str) -> CertificateFiles {
    let files = CertificateFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    };
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
    files
}

#[test]
fn a_pair_is_accepted_and_each_fault_names_file_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (pair(2000, 4000), pair(2000, 4000));
    let chain = format!("{}{}", good.cert, other.cert);
    let loaded = files(dir.path(), &chain, &good.key).load().unwrap();
    assert_eq!(loaded.cert.len(), 2);

    let (over, early) = (pair(2000, 2001), pair(3999, 4000));
    let broken = good.cert.replace("MII", "M!I");
    for (cert, key, file, says) in [
        (&good.cert, &other.key, "key.pem", "one pair"),
        (&over.cert, &over.key, "cert.pem", "has expired: renew it"),
        (&early.cert, &early.key, "cert.pem", "not valid yet"),
        (&good.key, &good.key, "cert.pem", "no certificate in PEM"),
        (&good.cert, &good.cert, "key.pem", "no private key in PEM"),
        (&broken, &good.key, "cert.pem", "cannot be parsed"),
    ] {
        let error = files(dir.path(), cert, key).load().unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(says), "{error}");
    }

    let mut missing = files(dir.path(), &good.cert, &good.key);
    missing.key = dir.path().join("none.pem");
    let error = missing.load().unwrap_err().to_string();
    assert!(error.contains("none.pem` cannot be read"), "{error}");
}

#[test]
fn a_renewed_certificate_is_presented_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let good = pair(2000, 4000);
    let own = files(dir.path(), &good.cert, &good.key);
    let tls = ClientTls {
        authorities: Some(own.cert.clone()),
        own: Some(own),
        insecure_plaintext: false,
    };
    let connector = tls.load("h2").unwrap();
    let first = connector.0.newest();
    let renewed = pair(2000, 4000);
    files(dir.path(), &renewed.cert, &renewed.key);
    let second = connector.0.newest();
    assert!(!Arc::ptr_eq(&first, &second));
    files(dir.path(), &renewed.cert, "");
    assert!(Arc::ptr_eq(&connector.0.newest(), &second));
}
