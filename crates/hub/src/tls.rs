//! The TLS configuration, and its exchange while streams go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::ServeError;
use crate::transport::Bordered;

/// The certificate in use. New handshakes take the newest; open streams keep what they have.
pub(crate) struct TlsCell {
    cert: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

impl TlsCell {
    /// Loads certificate chain and key from PEM files.
    pub(crate) fn load(cert: &Path, key: &Path) -> Result<Self, ServeError> {
        let config = read(cert, key)?;
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            config: ArcSwap::from_pointee(config),
        })
    }

    /// Loads the files again; on failure the certificate in use stays.
    pub(crate) fn reload(&self) -> Result<(), ServeError> {
        self.config.store(Arc::new(read(&self.cert, &self.key)?));
        Ok(())
    }

    /// When the files last changed, to notice a renewal.
    pub(crate) fn changed_at(&self) -> Option<SystemTime> {
        let time = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|data| data.modified())
                .ok()
        };
        time(&self.cert).max(time(&self.key))
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<Bordered>> {
        TlsAcceptor::from(self.config.load_full())
            .accept(Bordered::new(stream))
            .await
    }
}

impl std::fmt::Debug for TlsCell {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TlsCell")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, ServeError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| ServeError::setting("--tls-cert", &at(cert, &error)))?;
    if chain.is_empty() {
        return Err(ServeError::setting(
            "--tls-cert",
            &at(cert, &"no certificate in this file"),
        ));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| ServeError::setting("--tls-key", &at(key, &error)))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ServeError::setting("--tls-cert", &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            ServeError::setting(
                "--tls-key",
                &at(key, &format!("does not fit --tls-cert: {error}")),
            )
        })?;
    // A stream goes on without rustls; see `socket/records.rs`.
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn at(path: &Path, reason: &dyn std::fmt::Display) -> String {
    format!("{}: {reason}", path.display())
}
