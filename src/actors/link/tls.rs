//! Who a peer is: mutual TLS 1.3 under the cluster's own CA, or, in dev only, nothing.
//!
//! A node's certificate is signed by the cluster's CA and carries two DNS names: `member.<cluster>`, which says that it is
//! a node of this cluster and is what a dialler checks, and `<name>.<cluster>`, which must match the name that the node
//! gives in its hello. One port serves two protocols, links and the join door, told apart by ALPN under TLS and by the
//! first four bytes in dev.

use super::certificate::first_end;
use super::switch::{Wire, tune};
use crate::replication::transport::{CertificateEnd, CertificateOf};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that every node's certificate carries before the cluster's; no node may be called so.
pub const MEMBER: &str = "member";

/// The name of a node or a cluster, one DNS label: lower-case letters, digits and inner hyphens, at most 40.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// # Errors
    /// The text is not such a name.
    pub fn new(text: &str) -> Result<Self, BadLabel> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = !text.is_empty() && text.len() <= 40 && text.chars().all(inner);
        let edges = !text.starts_with('-') && !text.ends_with('-');
        if good && edges { Ok(Self(text.to_owned())) } else { Err(BadLabel) }
    }
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// This node's name in certificates of the cluster.
    #[must_use]
    pub fn within(&self, cluster: &Label) -> String {
        format!("{self}.{cluster}")
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names are 1 to 40 lower-case letters, digits and inner hyphens")]
pub struct BadLabel;

/// How nodes know each other.
#[derive(Clone, Debug)]
pub enum Security {
    /// No encryption and no proof of who the peer is: for dev, on loopback.
    Plain,
    /// PEM files: this node's certificate (chain) and key, and the cluster's CA.
    Mtls { cert: PathBuf, key: PathBuf, ca: PathBuf },
}

/// Why links do not come up. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("{path}: {cause}")]
    Pem { path: PathBuf, cause: rustls::pki_types::pem::Error },
    #[error("{path} can be read by others: chmod 600 it")]
    TooOpen { path: PathBuf },
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("certificate and key: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{path} names no trustworthy CA")]
    Roots { path: PathBuf },
    #[error("{path} is not a certificate of {wanted}")]
    WrongName { path: PathBuf, wanted: String },
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Link,
    Join,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Link, Self::Join];
    fn alpn(self) -> Vec<u8> {
        match self {
            Self::Link => b"bojagi-link/1".to_vec(),
            Self::Join => b"bojagi-join/1".to_vec(),
        }
    }
    fn preface(self) -> [u8; 4] {
        match self {
            Self::Link => *b"BJL1",
            Self::Join => *b"BJJ1",
        }
    }
}

/// A stream whose other end holds a certificate of the cluster, except in dev.
pub(crate) struct Secured {
    pub(crate) stream: Box<dyn Wire>,
    pub(crate) purpose: Purpose,
    leaf: Option<CertificateDer<'static>>,
}

impl Secured {
    /// Whether the other end may call itself by this name. In dev anyone may.
    pub(crate) fn is_named(&self, name: &Label, cluster: &Label) -> bool {
        self.leaf.as_ref().is_none_or(|leaf| bears(leaf, &name.within(cluster)))
    }
}

fn bears(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(leaf), ServerName::try_from(name.to_owned())) else {
        return false;
    };
    rustls::client::verify_server_name(&parsed, &name).is_ok()
}

/// The loaded side of [`Security`], shared by all connections.
#[derive(Clone)]
pub(crate) enum Guard {
    Plain,
    Mtls {
        server: TlsAcceptor,
        link: TlsConnector,
        join: TlsConnector,
        member: ServerName<'static>,
        ends: Vec<CertificateEnd>,
    },
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let failed = |cause| SecurityError::Pem { path: path.to_owned(), cause };
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, SecurityError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |cause| SecurityError::File { path: path.to_owned(), cause };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SecurityError::TooOpen { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_file(path).map_err(|cause| SecurityError::Pem { path: path.to_owned(), cause })
}

fn roots(path: &Path, certificates: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>, SecurityError> {
    let mut store = RootCertStore::empty();
    for root in certificates {
        store.add(root).map_err(|_| SecurityError::Roots { path: path.to_owned() })?;
    }
    if store.is_empty() {
        return Err(SecurityError::Roots { path: path.to_owned() });
    }
    Ok(Arc::new(store))
}

impl Guard {
    /// Reads the files, and checks that the certificate is this node's.
    ///
    /// # Errors
    /// [`SecurityError`].
    pub(crate) fn load(security: &Security, name: &Label, cluster: &Label) -> Result<Self, SecurityError> {
        let Security::Mtls { cert, key, ca } = security else { return Ok(Self::Plain) };
        let (chain, key, authorities) = (certificates(cert)?, private_key(key)?, certificates(ca)?);
        let ends = [(CertificateOf::Node, &chain), (CertificateOf::Ca, &authorities)];
        let ends = ends.into_iter().filter_map(|(of, certificates)| first_end(of, certificates)).collect();
        let roots = roots(ca, authorities)?;
        for wanted in [name.within(cluster), format!("{MEMBER}.{cluster}")] {
            if !chain.first().is_some_and(|leaf| bears(leaf, &wanted)) {
                return Err(SecurityError::WrongName { path: cert.clone(), wanted });
            }
        }
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&ring))
            .build()
            .map_err(|_| SecurityError::Roots { path: ca.clone() })?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&ring))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = Purpose::ALL.map(Purpose::alpn).to_vec();
        // No session is ever resumed: each link proves both certificates anew.
        server.send_tls13_tickets = 0;
        let client = |purpose: Purpose| -> Result<TlsConnector, SecurityError> {
            let mut client = ClientConfig::builder_with_provider(Arc::clone(&ring))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(Arc::clone(&roots))
                .with_client_auth_cert(chain.clone(), key.clone_key())?;
            client.alpn_protocols = vec![purpose.alpn()];
            client.resumption = rustls::client::Resumption::disabled();
            Ok(TlsConnector::from(Arc::new(client)))
        };
        let member = ServerName::try_from(format!("{MEMBER}.{cluster}")).expect("labels make a DNS name");
        Ok(Self::Mtls {
            server: TlsAcceptor::from(Arc::new(server)),
            link: client(Purpose::Link)?,
            join: client(Purpose::Join)?,
            member,
            ends,
        })
    }

    /// When what was loaded ends.
    pub(crate) fn certificates(&self) -> Vec<CertificateEnd> {
        match self {
            Self::Plain => Vec::new(),
            Self::Mtls { ends, .. } => ends.clone(),
        }
    }

    /// The accepting side. The caller sets a deadline.
    ///
    /// # Errors
    /// The other end speaks neither protocol, or has no certificate of this cluster's CA.
    pub(crate) async fn accept(&self, mut tcp: TcpStream) -> io::Result<Secured> {
        tune(&tcp)?;
        let known = |found: &[u8], mark: fn(Purpose) -> Vec<u8>| {
            Purpose::ALL.into_iter().find(|purpose| mark(*purpose) == found).ok_or(io::ErrorKind::InvalidData)
        };
        match self {
            Self::Plain => {
                let mut preface = [0u8; 4];
                tcp.read_exact(&mut preface).await?;
                let purpose = known(&preface, |purpose| purpose.preface().to_vec())?;
                Ok(Secured { stream: Box::new(tcp), purpose, leaf: None })
            }
            Self::Mtls { server, .. } => {
                let tls = server.accept(tcp).await?;
                let session = tls.get_ref().1;
                let purpose = known(session.alpn_protocol().unwrap_or_default(), Purpose::alpn)?;
                let leaf = session.peer_certificates().and_then(|chain| chain.first()).cloned();
                let leaf = Some(leaf.ok_or(io::ErrorKind::PermissionDenied)?);
                Ok(Secured { stream: Box::new(tls), purpose, leaf })
            }
        }
    }

    /// The dialling side. The caller sets a deadline.
    ///
    /// # Errors
    /// The other end is not reached, or is no member of this cluster.
    pub(crate) async fn dial(&self, address: &str, purpose: Purpose) -> io::Result<Secured> {
        let mut tcp = TcpStream::connect(address).await?;
        tune(&tcp)?;
        match self {
            Self::Plain => {
                tcp.write_all(&purpose.preface()).await?;
                Ok(Secured { stream: Box::new(tcp), purpose, leaf: None })
            }
            Self::Mtls { link, join, member, .. } => {
                let connector = match purpose {
                    Purpose::Link => link,
                    Purpose::Join => join,
                };
                let tls = connector.connect(member.clone(), tcp).await?;
                let session = tls.get_ref().1;
                if session.alpn_protocol() != Some(&purpose.alpn()) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let leaf = session.peer_certificates().and_then(|chain| chain.first()).cloned();
                let leaf = Some(leaf.ok_or(io::ErrorKind::PermissionDenied)?);
                Ok(Secured { stream: Box::new(tls), purpose, leaf })
            }
        }
    }
}
