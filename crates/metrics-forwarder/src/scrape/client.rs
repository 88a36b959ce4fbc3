//! Fetching a target's exposition text.

use reqwest::{Client, Url, header};

use crate::config;
use crate::exposition::Format;
use crate::http;
use crate::scrape::ScrapeError;

/// A target's answer, not parsed yet.
#[derive(Debug)]
pub struct Fetched {
    /// The format that it says it has.
    pub format: Format,
    /// The body.
    pub text: Vec<u8>,
}

/// Asks a target for its metrics. The time limit is the client's.
///
/// # Errors
/// It does not answer in time, not with 200, or with too much.
pub async fn fetch(client: &Client, url: &Url, limits: config::Scrape) -> Result<Fetched, ScrapeError> {
    let unreachable = |error| ScrapeError::Unreachable(http::reason(error));
    let request = client
        .get(url.clone())
        .header(header::ACCEPT, Format::ACCEPT)
        .header("X-Prometheus-Scrape-Timeout-Seconds", limits.timeout.as_secs_f64().to_string());
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(ScrapeError::Status { status });
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = Format::from_content_type(content_type);
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if text.len().saturating_add(chunk.len()) > limits.bytes_max {
            return Err(ScrapeError::TooLong { max: limits.bytes_max });
        }
        text.extend_from_slice(&chunk);
    }
    Ok(Fetched { format, text })
}
