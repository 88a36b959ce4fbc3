//! Ollama's addresses, and what its errors mean.

use domain::{
    fault::{Code, Fault},
    inference::Request,
};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use super::{decode, encode, stream::Decoder};
use crate::{
    config::Invalid,
    credential::Key,
    provider::{
        Call, Dialect, Failure, Once, Prepared, Reader, Refused,
        openai::{client::JSON, error::Words},
    },
};

const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// One configured server.
#[derive(Debug)]
pub(crate) struct Ollama {
    name: String,
    root: Url,
    /// Whether missing models are fetched.
    pulls: bool,
}

impl Ollama {
    /// # Errors
    /// The address is not that of the server's root.
    pub(crate) fn new(name: String, base_url: &Url, pulls: bool) -> Result<Self, Invalid> {
        let path = base_url.path().trim_end_matches('/');
        if path.ends_with("/v1") {
            let problem = format!(
                "is \"{base_url}\", expected the server's root, without /v1: that is its other interface"
            );
            return Err(Invalid::new("base_url", problem));
        }
        let mut root = base_url.clone();
        root.set_path(path.strip_suffix("/api").unwrap_or(path));
        Ok(Self { name, root, pulls })
    }

    /// The address of one endpoint.
    pub(super) fn address(&self, endpoint: &str) -> Url {
        let mut url = self.root.clone();
        // an address with a host always has a path
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", endpoint]);
        }
        url
    }
}

impl Dialect for Ollama {
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault> {
        let body = encode::encode(call)?;
        let (endpoint, reader): (_, Box<dyn Reader>) = match call.request {
            Request::Embed(request) => {
                let (provider, inputs) = (self.name.clone(), request.inputs.len());
                ("embed", Box::new(Once(move |body: &[u8]| decode::embeddings(&provider, body, inputs))))
            }
            // the others were refused above
            _ => ("chat", Box::new(Decoder::new(&self.name))),
        };
        let prepared = Prepared {
            url: self.address(endpoint),
            headers: HeaderMap::new(),
            content_type: JSON,
            accept: if call.request.streams() { LINES } else { JSON },
            body: body.into(),
        };
        Ok((prepared, reader))
    }

    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        if let Some(key) = key {
            request.headers_mut().insert(AUTHORIZATION, key.bearer.clone());
        }
        futures::future::ready(Ok(())).boxed()
    }

    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
        let mut failure = meaning(provider, &Words::of_body(refused.body), Some(refused.status), key);
        if failure.fault.code == Code::NotFound && !self.pulls {
            failure.fault.message.push_str("; fetch it there with `ollama pull`, or set ollama.pull = true");
        }
        failure
    }
}

/// What an error of the server means. It has no codes, so its sentences are read.
pub(super) fn meaning(provider: &str, words: &Words, status: Option<u16>, key: Option<&str>) -> Failure {
    let mut refusal = words.refusal(status);
    let text = refusal.message.to_ascii_lowercase();
    if text.contains("context length") || text.contains("context window") {
        refusal.code = "context_length_exceeded";
    } else if text.contains("does not support") {
        refusal.code = "unsupported_value";
    }
    refusal.into_failure(provider, key)
}
