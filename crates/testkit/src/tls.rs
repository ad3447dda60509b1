//! Certificates for tests.

use crate::{Failure, Outcome};
use std::path::{Path, PathBuf};

/// Where a certificate and its key were written.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// PEM file of the self-signed certificate.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// Makes a self-signed certificate for `name`, `localhost` and 127.0.0.1, and writes
/// `cert.pem` and `key.pem` into `directory`, each replaced by a rename so that a hub that reloads
/// never reads half a file.
pub fn write_certificate(directory: &Path, name: &str) -> Outcome<CertificateFiles> {
    let names = vec![
        name.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|e| Failure::new(format!("cannot make a certificate: {e}")))?;
    let files = CertificateFiles {
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    };
    replace(&files.certificate, &made.cert.pem())?;
    replace(&files.key, &made.signing_key.serialize_pem())?;
    Ok(files)
}

fn replace(path: &Path, text: &str) -> Outcome<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    Ok(std::fs::rename(draft, path)?)
}
