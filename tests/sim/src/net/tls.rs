//! A node's certificate, the same in every run.
//!
//! Handshakes have the same sizes whenever they run: Ed25519's keys and signatures have one size, and serial, names
//! and dates are fixed. What is encrypted by them differs from run to run, for TLS draws its keys from the system.

use std::sync::{Arc, OnceLock};

use millstream_client::Trust;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

struct Certificate {
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

/// Made once for each process: one certificate is as good as another of its size.
fn certificate() -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("ring makes Ed25519 keys");
        let mut params = rcgen::CertificateParams::new(vec!["node".to_owned()]).expect("a DNS name");
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x42; 8]));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2120, 1, 1);
        let made = params.self_signed(&key).expect("a certificate for itself");
        Certificate { der: made.der().clone(), key: key.serialize_der() }
    })
}

/// A node's TLS of one life: sessions of an earlier one are not known to it.
///
/// # Panics
/// Never: key and certificate were made for each other.
#[must_use]
pub fn server() -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate().key.clone()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate().der.clone()], key)
        .expect("key and certificate belong together");
    config.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    Arc::new(config)
}

/// A client's TLS without the SDK. Its sessions are its own.
///
/// # Panics
/// Never: the certificate is a good one.
#[must_use]
pub fn client() -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate().der.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    config
}

/// What clients are told to believe.
#[must_use]
pub fn trust() -> Trust {
    Trust::Fingerprint(Sha256::digest(&certificate().der).into())
}
