//! Fetching a JWK Set over HTTP.

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use super::jwks::FETCH_TIMEOUT;
use super::{KEY_FILE_BYTES_MAX, KeyErrorKind};

/// Asks one URL. It follows no redirects and keeps no connection: it is asked once an hour.
pub(super) struct Fetcher {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// `url` is absolute, `http:` or `https:`. Loads the system's root certificates for the latter.
    pub(super) fn new(url: Uri) -> Result<Self, KeyErrorKind> {
        if url.host().is_none_or(str::is_empty) {
            return Err(KeyErrorKind::Url);
        }
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| KeyErrorKind::NoRoots)?;
        let tls = if url.scheme_str() == Some("https") {
            versions
                .with_native_roots()
                .map_err(|_| KeyErrorKind::NoRoots)?
        } else {
            versions.with_root_certificates(RootCertStore::empty())
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { url, client })
    }

    pub(super) const fn url(&self) -> &Uri {
        &self.url
    }

    /// The body of the answer, which must be 200 and at most [`KEY_FILE_BYTES_MAX`] bytes. Errors
    /// are texts for the operator, without the URL, which may hold a password.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, String> {
        tokio::time::timeout(FETCH_TIMEOUT, self.fetch_unlimited())
            .await
            .unwrap_or_else(|_| Err(format!("no full answer within {FETCH_TIMEOUT:?}")))
    }

    async fn fetch_unlimited(&self) -> Result<Vec<u8>, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.url.clone();
        let accept = "application/jwk-set+json, application/json";
        request
            .headers_mut()
            .insert(header::ACCEPT, http::HeaderValue::from_static(accept));
        let answer = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                "cannot connect"
            } else {
                "no answer"
            }
            .to_owned()
        })?;
        if answer.status() != StatusCode::OK {
            return Err(format!("answered with status {}", answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), KEY_FILE_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|_| "the answer broke off or is over 1 MiB".to_owned())?;
        Ok(body.to_bytes().to_vec())
    }
}
