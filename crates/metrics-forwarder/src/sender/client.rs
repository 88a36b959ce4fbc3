//! One remote-write request to one of the hubs.

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret;
use service_runtime::Secret;

use crate::config::Hubs;
use crate::failover::Hub;
use crate::http::{self, ClientError};
use crate::retry::Answer;

/// How much of an answer's body is told in the log.
const DETAIL_BYTES_MAX: usize = 300;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// Sends to the hubs.
#[derive(Debug)]
pub(super) struct HubClient {
    client: Client,
    primary: Url,
    standby: Option<Url>,
    token: Option<Secret>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    /// The beginning of the answer, or why there is none.
    pub(super) detail: String,
    /// The header that was sent.
    pub(super) token: Option<HeaderValue>,
}

impl Reply {
    /// The HTTP status, if there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        match self.answer {
            Answer::Status { code, .. } => Some(code),
            Answer::Silence => None,
        }
    }
}

impl HubClient {
    pub(super) fn new(hubs: &Hubs) -> Result<Self, ClientError> {
        let addresses = std::iter::once(&hubs.primary).chain(&hubs.standby);
        let client = http::client(addresses, hubs.ca_file.as_deref(), hubs.timeout)?;
        let (primary, standby, token) = (hubs.primary.clone(), hubs.standby.clone(), hubs.token.clone());
        Ok(Self { client, primary, standby, token })
    }

    /// Sends a body that is compressed already. Every way to get no answer is an answer here.
    pub(super) async fn send(&self, hub: Hub, body: Bytes) -> Reply {
        let url = match hub {
            Hub::Primary => &self.primary,
            Hub::Standby => self.standby.as_ref().unwrap_or(&self.primary),
        };
        let token = match self.token() {
            Ok(token) => token,
            // Without its token the hub would refuse the samples for good.
            Err(detail) => return Reply { answer: Answer::Silence, detail, token: None },
        };
        let mut headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
            (VERSION, HeaderValue::from_static("0.1.0")),
        ]);
        headers.extend(token.clone().map(|token| (header::AUTHORIZATION, token)));
        match self.client.post(url.clone()).headers(headers).body(body).send().await {
            Ok(response) => Self::read(response, token).await,
            Err(error) => Reply { answer: Answer::Silence, detail: http::reason(error), token },
        }
    }

    async fn read(mut response: Response, token: Option<HeaderValue>) -> Reply {
        let code = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let answer = Answer::Status { code, retry_after: retry_after.map(str::to_owned) };
        let mut detail = Vec::new();
        // The status has decided; a body that breaks off changes nothing.
        while detail.len() < DETAIL_BYTES_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            detail.extend(chunk.into_iter().take(DETAIL_BYTES_MAX - detail.len()));
        }
        Reply { answer, detail: format!("{code} {}", String::from_utf8_lossy(&detail).trim()), token }
    }

    /// The header with the token as it is now, or why there is none.
    pub(super) fn token(&self) -> Result<Option<HeaderValue>, String> {
        let Some(secret) = &self.token else { return Ok(None) };
        let value = secret.resolve().map_err(|error| error.to_string())?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", value.expose_secret()))
            .map_err(|_| format!("the token in {secret} has characters that no header can hold"))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}
