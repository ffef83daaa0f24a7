//! Certificates of a cluster: its CA, and one certificate for each node (`bojagi cluster certs`).
//!
//! A folder holds `cluster` (its name), `ca.crt` and `ca.key`, and for each node `<name>.crt` and `<name>.key`. Keys have
//! mode 0600. Nothing is ever overwritten. The CA's key is needed only here: nodes get `ca.crt` and their own pair.

use crate::actors::link::{BadLabel, Label, MEMBER};
use crate::types::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a CA says that it is valid. TLS here checks the dates of nodes' certificates only, so that a whole cluster
/// never stops at one instant.
pub const CA_DAYS: u32 = 3_650;
/// How long a node's certificate is valid.
pub const NODE_DAYS: u32 = 825;

/// Why no certificate was made. What was there is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{path} is there already; it is never overwritten")]
    Exists { path: PathBuf },
    #[error("{path}: {cause}")]
    Name { path: PathBuf, cause: BadLabel },
    #[error("no node may be called `{MEMBER}`")]
    Reserved,
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the CA in {path} does not vouch for what its key signed: {cause}")]
    Mismatch { path: PathBuf, cause: String },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CertError {
    let path = path.to_owned();
    move |cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => CertError::Exists { path },
        _ => CertError::File { path, cause },
    }
}

fn refuse_existing(paths: &[&Path]) -> Result<(), CertError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(CertError::Exists { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed(path))?;
    file.write_all(text.as_bytes()).map_err(failed(path))?;
    file.sync_all().map_err(failed(path))
}

fn valid(params: &mut CertificateParams, now: Timestamp, days: u32) {
    let since = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let start = rcgen::date_time_ymd(1970, 1, 1) + since;
    // A node whose clock is behind a little takes it all the same.
    params.not_before = start - DAY;
    params.not_after = start + DAY * days;
}

/// What the CA signs by; its name follows from the cluster's.
fn ca_params(cluster: &Label) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("Bojagi CA of {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Makes the cluster's CA in a new or empty place of `dir`.
///
/// # Errors
/// [`CertError`]: there is a CA already, or the folder cannot be written.
pub fn make_ca(dir: &Path, cluster: &Label, now: Timestamp) -> Result<(), CertError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    let (name, cert, key) = (dir.join("cluster"), dir.join("ca.crt"), dir.join("ca.key"));
    refuse_existing(&[&name, &cert, &key])?;
    let pair = KeyPair::generate()?;
    let mut params = ca_params(cluster);
    valid(&mut params, now, CA_DAYS);
    let certificate = params.self_signed(&pair)?;
    write_new(&key, &pair.serialize_pem(), 0o600)?;
    write_new(&cert, &certificate.pem(), 0o644)?;
    write_new(&name, &format!("{cluster}\n"), 0o644)
}

/// The files of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// The name of the cluster whose CA is in `dir`.
///
/// # Errors
/// [`CertError`]: there is none.
pub fn cluster_of(dir: &Path) -> Result<Label, CertError> {
    let path = dir.join("cluster");
    let text = fs::read_to_string(&path).map_err(failed(&path))?;
    Label::new(text.trim()).map_err(|cause| CertError::Name { path, cause })
}

/// Makes a node's certificate under the CA in `dir`. `hosts` are further names or addresses for other tools; links check
/// the node's name only, so a node may move.
///
/// # Errors
/// [`CertError`]: there is no CA, its files do not belong together, or the node has a certificate.
pub fn make_node(dir: &Path, name: &Label, hosts: &[String], now: Timestamp) -> Result<NodeFiles, CertError> {
    // The CA's own files have these names.
    if [MEMBER, "ca", "cluster"].contains(&name.as_str()) {
        return Err(CertError::Reserved);
    }
    let cluster = cluster_of(dir)?;
    let files = NodeFiles {
        cert: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
        ca: dir.join("ca.crt"),
    };
    refuse_existing(&[&files.cert, &files.key])?;
    let ca_key_path = dir.join("ca.key");
    let ca_key = KeyPair::from_pem(&fs::read_to_string(&ca_key_path).map_err(failed(&ca_key_path))?)?;
    let issuer_params = ca_params(&cluster);
    let issuer = Issuer::from_params(&issuer_params, ca_key);
    let mut names = vec![name.within(&cluster), format!("{MEMBER}.{cluster}")];
    names.extend(hosts.iter().cloned());
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name.within(&cluster));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, NODE_DAYS);
    let pair = KeyPair::generate()?;
    let certificate = params.signed_by(&pair, &issuer)?;
    check(&files.ca, certificate.der(), now)?;
    write_new(&files.key, &pair.serialize_pem(), 0o600)?;
    write_new(&files.cert, &certificate.pem(), 0o644)?;
    Ok(files)
}

/// That the CA's certificate vouches for what was just signed: files of two CAs would be found out only by the peers.
fn check(ca: &Path, leaf: &CertificateDer<'_>, now: Timestamp) -> Result<(), CertError> {
    let mismatch = |cause: String| CertError::Mismatch { path: ca.to_owned(), cause };
    let root = CertificateDer::from_pem_file(ca).map_err(|error| mismatch(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add(root).map_err(|error| mismatch(error.to_string()))?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring)
        .build()
        .map_err(|error| mismatch(error.to_string()))?;
    let since = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let verified = verifier.verify_client_cert(leaf, &[], UnixTime::since_unix_epoch(since));
    verified.map(drop).map_err(|error| mismatch(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-12-25T00:00:00Z").unwrap()
    }

    fn label(text: &str) -> Label {
        Label::new(text).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_ca_and_a_node_are_made_once_with_private_keys() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("certs");
        make_ca(&dir, &label("gifts"), now()).unwrap();
        let files = make_node(&dir, &label("seoul-1"), &["10.0.0.1".to_owned()], now()).unwrap();
        assert_eq!(mode(&dir.join("ca.key")), 0o600);
        assert_eq!(mode(&files.key), 0o600);
        assert_eq!(cluster_of(&dir).unwrap(), label("gifts"));
        let before = fs::read(&files.key).unwrap();
        assert!(matches!(make_ca(&dir, &label("gifts"), now()), Err(CertError::Exists { .. })));
        let again = make_node(&dir, &label("seoul-1"), &[], now());
        assert!(matches!(again, Err(CertError::Exists { .. })));
        assert_eq!(fs::read(&files.key).unwrap(), before);
    }

    #[test]
    fn names_that_belong_to_the_ca_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        make_ca(folder.path(), &label("gifts"), now()).unwrap();
        for name in [MEMBER, "ca", "cluster"] {
            assert!(matches!(make_node(folder.path(), &label(name), &[], now()), Err(CertError::Reserved)));
        }
        assert!(Label::new("../up").is_err());
    }

    #[test]
    fn a_node_without_its_ca_or_under_another_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(matches!(make_node(one.path(), &label("a"), &[], now()), Err(CertError::File { .. })));
        make_ca(one.path(), &label("gifts"), now()).unwrap();
        make_ca(two.path(), &label("gifts"), now()).unwrap();
        fs::copy(two.path().join("ca.key"), one.path().join("ca.key")).unwrap();
        assert!(matches!(make_node(one.path(), &label("a"), &[], now()), Err(CertError::Mismatch { .. })));
        assert!(!one.path().join("a.key").exists(), "nothing is left of it");
    }
}
