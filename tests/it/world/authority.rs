//! An authority of a test's own, and the certificates that it signs.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

use super::World;

/// An authority, and the files it made in a directory of its own.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let dir = world.dir().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("signed");
        std::fs::write(dir.join("ca.pem"), own.pem()).expect("written");
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    /// The file with its own certificate.
    pub(crate) fn ca(&self) -> String {
        self.path("ca.pem")
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    /// A certificate in `<name>.pem` and its key in `<name>.key`.
    fn sign(&self, name: &str, subject: SanType) {
        let mut params = CertificateParams::new([]).expect("no names");
        params.subject_alt_names = vec![subject];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.dir.join(format!("{name}.pem")), signed.pem()).expect("written");
        std::fs::write(self.dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    /// A certificate for `127.0.0.1` in `server.pem`; the arguments that serve TLS with
    /// it.
    pub(crate) fn sign_server(&self) -> [String; 4] {
        self.sign("server", SanType::IpAddress([127, 0, 0, 1].into()));
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        ["--tls-cert".into(), cert, "--tls-key".into(), key]
    }

    /// A certificate for a service, such as `edge/edge-1`; the arguments that present it
    /// and trust this authority.
    pub(crate) fn sign_service(&self, service: &str) -> [String; 6] {
        let file = service.replace('/', "-");
        let uri = format!("belfry://{service}");
        self.sign(&file, SanType::URI(uri.try_into().expect("ASCII")));
        [
            "--tls-ca".into(),
            self.ca(),
            "--tls-client-cert".into(),
            self.path(&format!("{file}.pem")),
            "--tls-client-key".into(),
            self.path(&format!("{file}.key")),
        ]
    }
}
