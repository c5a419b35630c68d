//! The certificate this node shows, made by its own authority or given by the operator.
//!
//! A fresh data directory gets an authority (`tls/ca.pem`, `tls/ca.key`) and a server certificate signed by it
//! (`tls/server.pem`, `tls/server.key`). Clients trust the authority's file, or pin the server certificate's
//! fingerprint: the SHA-256 of its DER. The server certificate is issued anew at a start that finds other names
//! to vouch for or fewer than [`RENEW_DAYS`] days left; the authority stays, so clients that trust it notice
//! nothing, and clients that pinned the fingerprint must be told the new one.
//!
//! `server.pem` says names and expiry in plain words before the certificate, where PEM allows any text; that is
//! what the next start compares. Key files are readable by their owner only, and every file is replaced whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::replace::replace;
use crate::settings::TlsFiles;
use crate::utc;

/// Days a server certificate is good for.
pub const SERVER_DAYS: i64 = 730;
/// A start with fewer days left issues it anew.
pub const RENEW_DAYS: i64 = 60;

const CA_DAYS: i64 = 7300;
const DAY_MS: i64 = 86_400_000;
const KEY_MODE: u32 = 0o600;
const CERT_MODE: u32 = 0o644;

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    #[error("{path} cannot be read ({error}): give this user read access, or correct tls.cert_file and tls.key_file",
        path = path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{path} cannot be written: {error}", path = path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{path} holds no usable PEM {what}: {why}", path = path.display())]
    Pem { path: PathBuf, what: &'static str, why: String },
    #[error("{cert} and {key} cannot be used together: {why}", cert = cert.display(), key = key.display())]
    Pair { cert: PathBuf, key: PathBuf, why: String },
    #[error("{path} is missing beside {other}: restore it, or remove both to get a new authority (clients must \
             then be given the new {ca})", path = path.display(), other = other.display(), ca = CA_CERT)]
    HalfAuthority { path: PathBuf, other: PathBuf },
    #[error("certificate could not be made: {why}")]
    Make { why: String },
}

/// What the listener shows.
#[derive(Debug)]
pub struct ServerTls {
    pub config: Arc<rustls::ServerConfig>,
    /// SHA-256 of the certificate's DER, 64 hex digits.
    pub fingerprint: String,
    /// The file clients may trust; absent with the operator's own certificate.
    pub ca_file: Option<PathBuf>,
    /// Absent with the operator's own certificate.
    pub expires_ms: Option<i64>,
    /// Made by this start.
    pub issued: bool,
}

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const SERVER_CERT: &str = "server.pem";
const SERVER_KEY: &str = "server.key";

/// The certificate of `directory`, made or renewed there where necessary for `names`.
///
/// # Errors
/// [`CertError`].
pub fn own(
    directory: &Path,
    cluster_id: u128,
    names: &BTreeSet<String>,
    now_ms: i64,
) -> Result<ServerTls, CertError> {
    let (ca_params, ca_key) = authority(directory, cluster_id, now_ms)?;
    let (cert, key) = (directory.join(SERVER_CERT), directory.join(SERVER_KEY));
    let stated =
        fs::read_to_string(&cert).ok().filter(|_| key.exists()).and_then(|text| Stated::parse(&text));
    let kept =
        stated.filter(|stated| stated.names == *names && stated.expires_ms - now_ms > RENEW_DAYS * DAY_MS);
    let issued = kept.is_none();
    let expires_ms = match kept {
        Some(stated) => stated.expires_ms,
        None => issue(directory, names, &Issuer::from_params(&ca_params, &ca_key), now_ms)?,
    };
    let files = TlsFiles { cert_file: cert, key_file: key };
    let tls = provided(&files)?;
    let ca_file = Some(directory.join(CA_CERT));
    Ok(ServerTls { ca_file, expires_ms: Some(expires_ms), issued, ..tls })
}

/// The operator's own certificate.
///
/// # Errors
/// [`CertError`] `Read`, `Pem`, `Pair`.
pub fn provided(files: &TlsFiles) -> Result<ServerTls, CertError> {
    let chain = read_chain(&files.cert_file)?;
    let key_bytes = read(&files.key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|e| CertError::Pem {
        path: files.key_file.clone(),
        what: "private key",
        why: e.to_string(),
    })?;
    let fingerprint = fingerprint(&chain[0]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = |e: rustls::Error| CertError::Pair {
        cert: files.cert_file.clone(),
        key: files.key_file.clone(),
        why: e.to_string(),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = Arc::new(config);
    Ok(ServerTls { config, fingerprint, ca_file: None, expires_ms: None, issued: false })
}

const ALPN: &[u8] = b"millstream/1";

/// The names a certificate for this node must vouch for.
#[must_use]
pub fn names(host_name: &str, listen: IpAddr, advertised_host: &str) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !listen.is_unspecified() {
        names.insert(listen.to_string());
    }
    for host in [host_name, advertised_host] {
        let dns = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(dns)) {
            names.insert(host.to_owned());
        }
    }
    names
}

/// 64 hex digits.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `server.pem` says of itself.
struct Stated {
    names: BTreeSet<String>,
    expires_ms: i64,
}

impl Stated {
    fn parse(text: &str) -> Option<Self> {
        let line = |key: &str| text.lines().take(10).find_map(|line| line.strip_prefix(key));
        Some(Self {
            names: line("names: ")?.split(' ').map(str::to_owned).collect(),
            expires_ms: utc::parse(line("expires: ")?)?,
        })
    }
}

fn authority(
    directory: &Path,
    cluster_id: u128,
    now_ms: i64,
) -> Result<(CertificateParams, KeyPair), CertError> {
    let (cert, key) = (directory.join(CA_CERT), directory.join(CA_KEY));
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Millstream CA {cluster_id:032x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now_ms, CA_DAYS);
    match (cert.exists(), key.exists()) {
        (true, true) => {
            let text = String::from_utf8_lossy(&read(&key)?).into_owned();
            let pair = KeyPair::from_pem(&text).map_err(|e| CertError::Pem {
                path: key,
                what: "private key",
                why: e.to_string(),
            })?;
            return Ok((params, pair));
        }
        (false, true) if !directory.join(SERVER_CERT).exists() => {} // A first start that died in between.
        (true, false) => return Err(CertError::HalfAuthority { path: key, other: cert }),
        (false, true) => return Err(CertError::HalfAuthority { path: cert, other: key }),
        (false, false) => {}
    }
    let pair = KeyPair::generate().map_err(make)?;
    let certificate = params.self_signed(&pair).map_err(make)?;
    // The key first: a certificate without its key would be handed to clients for nothing.
    write(&key, pair.serialize_pem().as_bytes(), KEY_MODE)?;
    write(&cert, certificate.pem().as_bytes(), CERT_MODE)?;
    Ok((params, pair))
}

fn issue(
    directory: &Path,
    names: &BTreeSet<String>,
    issuer: &Issuer<'_, &KeyPair>,
    now_ms: i64,
) -> Result<i64, CertError> {
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(make)?;
    params.distinguished_name = name("Millstream broker");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let expires_ms = valid(&mut params, now_ms, SERVER_DAYS);
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.signed_by(&key, issuer).map_err(make)?;
    let said: Vec<&str> = names.iter().map(String::as_str).collect();
    let (said, expires) = (said.join(" "), utc::rfc3339(expires_ms));
    let text =
        format!("Millstream server certificate\nnames: {said}\nexpires: {expires}\n{}", certificate.pem());
    // The old certificate goes first: key and certificate of different issues never stand side by side.
    match fs::remove_file(directory.join(SERVER_CERT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CertError::Write { path: directory.join(SERVER_CERT), error });
        }
        Ok(()) | Err(_) => {}
    }
    write(&directory.join(SERVER_KEY), key.serialize_pem().as_bytes(), KEY_MODE)?;
    write(&directory.join(SERVER_CERT), text.as_bytes(), CERT_MODE)?;
    Ok(expires_ms)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From yesterday, for clients whose clock is behind, to midnight `days` ahead; returns that moment.
fn valid(params: &mut CertificateParams, now_ms: i64, days: i64) -> i64 {
    let end = (now_ms.div_euclid(DAY_MS) + days) * DAY_MS;
    let day = |ms| {
        let (year, month, day) = utc::date(ms);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = day(now_ms - DAY_MS);
    params.not_after = day(end);
    end
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let pem = |why: String| CertError::Pem { path: path.to_owned(), what: "certificate", why };
    let bytes = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|e| pem(e.to_string()))?;
    if chain.is_empty() { Err(pem("none found".to_owned())) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, CertError> {
    fs::read(path).map_err(|error| CertError::Read { path: path.to_owned(), error })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertError> {
    replace(path, bytes, mode).map_err(|error| CertError::Write { path: path.to_owned(), error })
}

fn make(error: rcgen::Error) -> CertError {
    CertError::Make { why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn some_names() -> BTreeSet<String> {
        names("box", "10.0.0.7".parse().unwrap(), "broker.example")
    }

    #[test]
    fn a_fresh_directory_gets_an_authority_and_a_certificate_that_stay() {
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path(), 7, &some_names(), NOW_MS).unwrap();
        assert!(first.issued);
        assert_eq!(first.fingerprint.len(), 64);
        for (file, mode) in
            [("ca.key", 0o600), ("server.key", 0o600), ("ca.pem", 0o644), ("server.pem", 0o644)]
        {
            let found = fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{file}");
        }
        let again = own(dir.path(), 7, &some_names(), NOW_MS).unwrap();
        assert!(!again.issued);
        assert_eq!(again.fingerprint, first.fingerprint);
        assert_eq!(again.config.alpn_protocols, vec![b"millstream/1".to_vec()]);
    }

    #[test]
    fn other_names_or_a_near_end_bring_a_new_certificate_of_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path(), 7, &some_names(), NOW_MS).unwrap();
        let ca = fs::read(dir.path().join(CA_CERT)).unwrap();
        let other = names("box", "10.0.0.8".parse().unwrap(), "broker.example");
        let renamed = own(dir.path(), 7, &other, NOW_MS).unwrap();
        assert!(renamed.issued && renamed.fingerprint != first.fingerprint);
        let late = NOW_MS + (SERVER_DAYS - RENEW_DAYS + 1) * DAY_MS;
        assert!(own(dir.path(), 7, &other, late).unwrap().issued);
        assert_eq!(fs::read(dir.path().join(CA_CERT)).unwrap(), ca);
    }

    #[test]
    fn half_an_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        own(dir.path(), 7, &some_names(), NOW_MS).unwrap();
        fs::remove_file(dir.path().join(CA_KEY)).unwrap();
        assert!(matches!(own(dir.path(), 7, &some_names(), NOW_MS), Err(CertError::HalfAuthority { .. })));
    }

    #[test]
    fn a_lost_key_is_made_anew_with_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        own(dir.path(), 7, &some_names(), NOW_MS).unwrap();
        fs::remove_file(dir.path().join(SERVER_KEY)).unwrap();
        assert!(own(dir.path(), 7, &some_names(), NOW_MS).unwrap().issued);
    }

    #[test]
    fn the_operators_files_are_named_when_they_are_no_good() {
        let dir = tempfile::tempdir().unwrap();
        own(dir.path(), 7, &some_names(), NOW_MS).unwrap();
        let file = |name: &str| dir.path().join(name);
        let tls =
            provided(&TlsFiles { cert_file: file("server.pem"), key_file: file("server.key") }).unwrap();
        assert!(tls.ca_file.is_none());
        let check =
            |cert: &str, key: &str| provided(&TlsFiles { cert_file: file(cert), key_file: file(key) });
        assert!(matches!(check("none.pem", "server.key"), Err(CertError::Read { .. })));
        assert!(matches!(check("server.key", "server.key"), Err(CertError::Pem { .. })));
        assert!(matches!(check("server.pem", "ca.key"), Err(CertError::Pair { .. })));
    }

    #[test]
    fn names_hold_what_clients_may_dial() {
        let names: Vec<_> = some_names().into_iter().collect();
        assert_eq!(names, ["10.0.0.7", "127.0.0.1", "::1", "box", "broker.example", "localhost"]);
        assert_eq!(super::names("b x", "0.0.0.0".parse().unwrap(), "").len(), 3);
    }
}
