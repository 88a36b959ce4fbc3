//! Calls to the server that answer no request: what models it has, and fetching one.

use std::time::Duration;

use domain::fault::{Code, Fault, Origin};
use reqwest::{
    Method, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
};
use tokio::time::Instant;

use super::client::meaning;
use crate::{
    credential::{Credential, Key},
    provider::{
        http::{Body, Transport},
        openai::{client::JSON, error::Words},
    },
};

/// How long a question about its models may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) headers: HeaderMap,
    pub(crate) credential: Option<Credential>,
}

impl Side {
    /// Asks a question: a GET without, a POST with a body.
    ///
    /// # Errors
    /// No answer in time, or an error in its place.
    pub(super) async fn ask(&self, url: Url, body: Option<String>) -> Result<Vec<u8>, Fault> {
        let asked = async { self.transport.whole(self.send(url, body).await?).await };
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                let message =
                    format!("{} did not say within {} s what it has", self.name, ANSWER_MAX.as_secs());
                Err(Fault::new(Code::Timeout, Origin::Provider, true, message))
            }
        }
    }

    /// Begins something that takes long.
    ///
    /// # Errors
    /// An error in its place, or none within `patience`.
    pub(super) async fn begin(&self, url: Url, body: String, patience: Duration) -> Result<Body, Fault> {
        let by = Instant::now() + patience;
        match tokio::time::timeout_at(by, self.send(url, Some(body))).await {
            Ok(response) => Ok(self.transport.body(response?)),
            Err(_) => {
                let message = format!("{} was silent for {} s", self.name, patience.as_secs());
                Err(Fault::new(Code::Timeout, Origin::Provider, true, message))
            }
        }
    }

    async fn send(&self, url: Url, body: Option<String>) -> Result<Response, Fault> {
        let key = self.credential.as_ref().map(Credential::current).transpose().map_err(|problem| {
            let message = format!("{} has no key: {problem}", self.name);
            Fault::new(Code::UpstreamAuth, Origin::Provider, true, message)
        })?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = reqwest::Request::new(method, url);
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(key) = &key {
            headers.insert(AUTHORIZATION, key.bearer.clone());
        }
        *request.body_mut() = body.map(Into::into);
        let response = self.transport.send(request).await.map_err(|failure| failure.fault)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let explanation = self.transport.explanation(response).await;
        let key = key.as_deref().map(Key::expose);
        Err(meaning(&self.name, &Words::of_body(&explanation), Some(status), key).fault)
    }
}
