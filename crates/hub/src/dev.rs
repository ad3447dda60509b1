//! `--dev`: a hub to try things with, whose key it makes itself.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{LogSpec, Settings};
use crate::error::ServeError;
use crate::keys;
use crate::secret::Secret;

/// What a person needs to try the hub.
#[derive(Clone, Debug)]
pub struct DevInfo {
    /// A token for publishing and subscribing to everything, valid for a day.
    pub publisher_token: String,
    /// A topic for the example lines.
    pub topic: String,
}

/// How long the token is good.
const TOKEN_SECONDS: u64 = 24 * 60 * 60;

/// Fills in what `--dev` stands for and `Settings::load` cannot: a key where none is set.
///
/// # Errors
///
/// The key file cannot be written or read, or the key in the settings cannot sign.
pub fn apply(settings: &mut Settings, now_unix: u64) -> Result<DevInfo, ServeError> {
    if settings.publisher_key.is_none() {
        let key = match &settings.log {
            LogSpec::Disk(directory) => kept_key(directory)?,
            LogSpec::Memory => random_key()?,
        };
        settings.publisher_key = Some(Secret::new(key));
    }
    if settings.subscriber_key.is_none() {
        settings.subscriber_key = settings.publisher_key.clone();
        settings.subscriber_alg = settings.publisher_alg.clone();
    }
    let claims = json!({
        "mercure": { "publish": ["*"], "subscribe": ["*"] },
        "exp": now_unix + TOKEN_SECONDS,
    });
    let key = settings.publisher_key.as_ref().map_or("", Secret::expose);
    let publisher_token = keys::sign(&claims, key, settings.publisher_alg.as_deref())
        .map_err(|error| ServeError::setting("--dev: --publisher-key", &error))?;
    Ok(DevInfo {
        publisher_token,
        topic: "https://example.com/books/1".to_owned(),
    })
}

/// The key in `<data directory>/dev.key`, made if it is missing, so that tokens outlive a restart.
fn kept_key(directory: &Path) -> Result<String, ServeError> {
    let path = directory.join("dev.key");
    let failed = |error: std::io::Error| {
        ServeError::new(format!("--dev: {} cannot be used: {error}", path.display()))
    };
    match fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => return Ok(key.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    fs::create_dir_all(directory).map_err(failed)?;
    let key = random_key()?;
    write_private(&path, &key).map_err(failed)?;
    Ok(key)
}

fn write_private(path: &PathBuf, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")
}

fn random_key() -> Result<String, ServeError> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| ServeError::new("--dev: the system has no randomness for a key"))?;
    Ok(base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        bytes,
    ))
}
