//! TLS: which broker's certificate is believed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::config::Trust;

/// Why there is nothing to check a broker's certificate against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum TrustError {
    /// The file is not there or cannot be read.
    #[error(
        "cannot read the CA file {}: {why}; name the broker's data directory (MILLSTREAM_DATA), a copy of its \
         tls/ca.pem (MILLSTREAM_CA_FILE), or pin its certificate's fingerprint",
        path.display()
    )]
    Unreadable { path: PathBuf, why: String },
    /// The file is there and holds no certificate.
    #[error("{} holds no usable CA certificate: {why}", path.display())]
    NoCertificate { path: PathBuf, why: String },
}

const CA_FILE_VARIABLE: &str = "MILLSTREAM_CA_FILE";
const DATA_VARIABLE: &str = "MILLSTREAM_DATA";
const DEFAULT_DATA: &str = "./millstream-data";

/// A configuration for QUIC: TLS 1.3, our ALPN, `trust`.
pub(crate) fn tls_config(trust: &Trust) -> Result<rustls::ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3");
    let mut config = match trust {
        Trust::Fingerprint(sha256) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { sha256: *sha256, provider }))
            .with_no_client_auth(),
        Trust::Automatic => builder.with_root_certificates(roots(&automatic_file())?).with_no_client_auth(),
        Trust::DataDir(data) => {
            builder.with_root_certificates(roots(&ca_file_in(data))?).with_no_client_auth()
        }
        Trust::CaFile(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
    };
    config.alpn_protocols = vec![net_wire::ALPN.to_vec()];
    Ok(config)
}

fn automatic_file() -> PathBuf {
    match std::env::var_os(CA_FILE_VARIABLE) {
        Some(file) if !file.is_empty() => file.into(),
        Some(_) | None => {
            let data = std::env::var_os(DATA_VARIABLE).filter(|data| !data.is_empty());
            ca_file_in(Path::new(data.as_deref().unwrap_or(DEFAULT_DATA.as_ref())))
        }
    }
}

fn ca_file_in(data: &Path) -> PathBuf {
    data.join("tls").join("ca.pem")
}

fn roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let pem = std::fs::read(path)
        .map_err(|error| TrustError::Unreadable { path: path.into(), why: error.to_string() })?;
    let no_certificate = |why: String| TrustError::NoCertificate { path: path.into(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| no_certificate(error.to_string()))?;
        roots.add(certificate).map_err(|error| no_certificate(error.to_string()))?;
    }
    if roots.is_empty() { Err(no_certificate("no CERTIFICATE section".into())) } else { Ok(roots) }
}

/// Believes one certificate, by its hash. The handshake still proves that the broker has the key to it.
#[derive(Debug)]
struct Pinned {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// Not the certificate that was pinned.
#[derive(thiserror::Error)]
#[error("its fingerprint differs: found {}, expected {}", hex(found), hex(expected))]
struct FingerprintDiffers {
    found: [u8; 32],
    expected: [u8; 32],
}

/// As said to people: rustls writes an error of another's that is in its own by this, and QUIC keeps the text only.
impl fmt::Debug for FingerprintDiffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found: [u8; 32] = Sha256::digest(end_entity.as_ref()).into();
        if found == self.sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            let differs = FingerprintDiffers { found, expected: self.sha256 };
            Err(CertificateError::Other(OtherError(Arc::new(differs))).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken over QUIC".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
