//! The HTTP client for targets and for hubs: no redirects, no proxies, nothing decompressed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};

/// Sent with every request.
const USER_AGENT: &str = concat!("metrics-forwarder/", env!("CARGO_PKG_VERSION"));
/// A connection that takes longer counts as refused.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates cannot be read.
    #[error("metrics-forwarder.hub_ca_file {} cannot be read: {source}", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file holds no certificates.
    #[error("metrics-forwarder.hub_ca_file {} holds no PEM certificate", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The client cannot be built; the certificates that the machine trusts are missing, for example.
    #[error("the http client cannot be built")]
    Build(#[from] reqwest::Error),
}

/// A client for these addresses, whose requests may take `timeout`.
///
/// # Errors
/// The certificates cannot be read.
pub fn client<'a>(
    addresses: impl IntoIterator<Item = &'a Url>,
    ca_file: Option<&Path>,
    timeout: Duration,
) -> Result<Client, ClientError> {
    // Somebody else in this process may have installed it; it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(USER_AGENT);
    let secure = addresses.into_iter().any(|address| address.scheme() == "https");
    let builder = match ca_file {
        Some(path) => builder.tls_certs_only(certificates(path)?),
        // Without https nothing needs the machine's certificates, which a minimal image does not have.
        None if !secure => builder.tls_certs_only([]),
        None => builder,
    };
    Ok(builder.build()?)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let text = std::fs::read(path).map_err(|source| ClientError::CaFile { path: path.to_owned(), source })?;
    match Certificate::from_pem_bundle(&text) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ClientError::NoCertificate { path: path.to_owned() }),
    }
}

/// What went wrong, without the address (the caller names the target) and with the causes, which reqwest leaves out.
#[must_use]
pub fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
