//! The host's identity: one ed25519 key, kept for good.
//!
//! TLS uses it as a raw public key (RFC 7250): where the key itself is pinned by a ticket, a
//! certificate adds nothing but parsing. Who holds the file is the host.

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use wormhole_protocol::HostKey;
use wormhole_protocol::version::ALPN;

const FILE: &str = "identity.key";
/// No key file is longer; more is not read.
const FILE_BYTES_MAX: u64 = 1024;
/// What precedes the 32 bytes of an ed25519 key in a SubjectPublicKeyInfo (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use the host's key {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the host's key {} can be read by others: chmod 600 it, or remove it to get a new identity (old tickets then end)", .0.display())]
    Exposed(PathBuf),
    /// No key in it.
    #[error("the host's key {} is damaged: restore it, or remove it to get a new identity (old tickets then end)", .0.display())]
    Malformed(PathBuf),
}

/// A host's key pair.
pub struct Identity {
    pkcs8: Vec<u8>,
    host_key: HostKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.host_key)
    }
}

impl Identity {
    /// The identity kept in `dir`, made now if there is none. The directory must exist.
    ///
    /// # Errors
    /// [`IdentityError`]; an existing file is never replaced.
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(FILE);
        let failed = |source| IdentityError::Io {
            path: path.clone(),
            source,
        };
        match Self::load(&path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| failed(io::Error::other("no randomness to be had")))?;
        // Written aside and linked into place, so that nobody ever sees half a key and the first of
        // two hosts that start at once wins.
        let aside = dir.join(format!("{FILE}.{}", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut file| {
                file.write_all(pkcs8.as_ref())?;
                file.sync_all()
            })
            .and_then(|()| match fs::hard_link(&aside, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            });
        let _ = fs::remove_file(&aside);
        written.map_err(failed)?;
        Self::load(&path)
    }

    /// An identity that is kept nowhere and ends with the process.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn ephemeral() -> io::Result<Self> {
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .ok()
            .and_then(|pkcs8| Self::from_pkcs8(pkcs8.as_ref().to_vec()))
            .ok_or_else(|| io::Error::other("no randomness to be had"))
    }

    fn load(path: &Path) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::Io {
            path: path.to_owned(),
            source,
        };
        let meta = fs::metadata(path).map_err(failed)?;
        if meta.mode() & 0o077 != 0 {
            return Err(IdentityError::Exposed(path.to_owned()));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(IdentityError::Malformed(path.to_owned()));
        }
        let pkcs8 = fs::read(path).map_err(failed)?;
        Self::from_pkcs8(pkcs8).ok_or_else(|| IdentityError::Malformed(path.to_owned()))
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).ok()?;
        let host_key = HostKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pkcs8, host_key })
    }

    /// The public half, as tickets carry it.
    pub fn host_key(&self) -> HostKey {
        self.host_key
    }

    /// The key for stateless resets (RFC 9000 section 10.3). Derived from the identity, so that a host
    /// that was killed and restarted tells old connections at once that they are gone.
    pub(super) fn reset_key(&self) -> hmac::Key {
        let key = blake3::derive_key("wormhole 2026-11 stateless reset", &self.pkcs8);
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }

    /// The key by which the host knows connection ids for its own, in this life or an earlier one.
    pub(super) fn connection_id_key(&self) -> u64 {
        let key = blake3::derive_key("wormhole 2026-11 connection ids", &self.pkcs8);
        key[..8]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// TLS of the host's side.
    pub(super) fn server_crypto(&self) -> Result<QuicServerConfig, rustls::Error> {
        let key = PrivatePkcs8KeyDer::from(self.pkcs8.clone());
        let key = provider::sign::any_eddsa_type(&key)?;
        let spki = CertificateDer::from(spki(self.host_key));
        let certified = Arc::new(CertifiedKey::new(vec![spki], key));
        let mut config = rustls::ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        QuicServerConfig::try_from(config)
            .map_err(|_| rustls::Error::General("no initial cipher suite".into()))
    }
}

/// TLS of a mount's side, pinned to one host. The flag is raised when another host answered.
pub(super) fn client_crypto(
    host: HostKey,
) -> Result<(QuicClientConfig, Arc<AtomicBool>), rustls::Error> {
    let mismatch = Arc::new(AtomicBool::new(false));
    let provider = crypto();
    let verifier = PinnedHost {
        host,
        algorithms: provider.signature_verification_algorithms,
        mismatch: mismatch.clone(),
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Names mean nothing here, so they need not be told to anyone on the way.
    config.enable_sni = false;
    let config = QuicClientConfig::try_from(config)
        .map_err(|_| rustls::Error::General("no initial cipher suite".into()))?;
    Ok((config, mismatch))
}

/// ring, AES-128-GCM first: measured fastest, and as strong as the 128-bit secrets it carries.
fn crypto() -> Arc<CryptoProvider> {
    use provider::{cipher_suite as suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519],
        ..provider::default_provider()
    })
}

fn spki(key: HostKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key.0[..]].concat()
}

/// Accepts exactly one key.
#[derive(Debug)]
struct PinnedHost {
    host: HostKey,
    algorithms: WebPkiSupportedAlgorithms,
    mismatch: Arc<AtomicBool>,
}

impl ServerCertVerifier for PinnedHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == spki(self.host) {
            return Ok(ServerCertVerified::assertion());
        }
        self.mismatch.store(true, SeqCst);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(cert.as_ref()),
            dss,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_stays_the_same_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(dir.path()).unwrap();
        let again = Identity::load_or_create(dir.path()).unwrap();
        assert_eq!(first.host_key(), again.host_key());
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        let other = Identity::load_or_create(other.path()).unwrap();
        assert_ne!(first.host_key(), other.host_key());
    }

    #[test]
    fn an_exposed_or_damaged_key_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Identity::load_or_create(dir.path());
        assert!(matches!(refused, Err(IdentityError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for content in [&b"no key"[..], b"", &[0; 5000]] {
            fs::write(&path, content).unwrap();
            let refused = Identity::load_or_create(dir.path());
            assert!(matches!(refused, Err(IdentityError::Malformed(_))));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn debug_shows_the_public_half_alone() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(dir.path()).unwrap();
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.host_key())
        );
    }
}
