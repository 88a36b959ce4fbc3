//! The dialect's addresses and headers, and how its key is shown.

use std::collections::HashSet;

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
};
use futures::{FutureExt, future::BoxFuture};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use service_runtime::Clock;

use super::{
    encode, error,
    invoke::{Invoked, embed, embed::Embedder, translate},
    keys::Keys,
    sign::{Scope, sign},
    stream::Decoder,
};
use crate::{
    credential::Key,
    provider::{Call, Completion, Dialect, Failure, Prepared, Reader, Refused, jobs::JobDialect, no_audio},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
/// The name that signatures are made for.
const SERVICE: &str = "bedrock";
/// What stays as it is in a model's id: the unreserved characters of RFC 3986. The colons and slashes of an ARN do not.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is asked of Bedrock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Converse,
    ConverseStream,
    InvokeModel,
}

impl Operation {
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Converse => "converse",
            Self::ConverseStream => "converse-stream",
            Self::InvokeModel => "invoke",
        }
    }
}

/// A call in Bedrock's words.
pub(super) struct Encoded {
    pub(super) operation: Operation,
    pub(super) body: Vec<u8>,
    /// Reads the answer.
    pub(super) reader: Box<dyn Reader>,
}

impl Encoded {
    fn invoked(body: Vec<u8>, read: impl FnMut(&[u8]) -> Result<Completion, Fault> + Send + 'static) -> Self {
        Self { operation: Operation::InvokeModel, body, reader: Box::new(Invoked::new(read)) }
    }
}

/// Bedrock's runtime in one region.
pub(crate) struct Bedrock {
    pub(crate) name: String,
    /// Without a slash at its end.
    pub(crate) base_url: String,
    pub(crate) region: String,
    /// What signs; absent where a Bedrock API key is shown instead.
    pub(crate) keys: Option<Keys>,
    /// Upstream models that only translate: NLLB-200.
    pub(crate) translators: HashSet<String>,
    pub(crate) clock: Clock,
}

impl Bedrock {
    /// Writes a call.
    ///
    /// # Errors
    /// What Bedrock or the model cannot do, by the name of the field.
    pub(super) fn encode(&self, call: Call<'_>) -> Result<Encoded, Fault> {
        let model = &call.target.upstream_model;
        let provider = self.name.clone();
        let operation = if call.request.streams() { Operation::ConverseStream } else { Operation::Converse };
        match call.request {
            Request::Generate(request) => {
                let reader = Box::new(Decoder::new(&provider));
                Ok(Encoded { operation, body: encode::converse(request, model)?, reader })
            }
            Request::Translate(request) if self.translators.contains(model) => {
                let read = move |body: &[u8]| translate::decode(&provider, body);
                Ok(Encoded::invoked(translate::encode(request)?, read))
            }
            Request::Translate(request) => {
                let reader = Box::new(Decoder::new(&provider));
                Ok(Encoded { operation, body: encode::translation(request, model)?, reader })
            }
            Request::Embed(request) => {
                let inputs = request.inputs.len();
                let body = Embedder::of(model)?.encode(request)?;
                Ok(Encoded::invoked(body, move |body: &[u8]| embed::decode(&provider, body, inputs)))
            }
            Request::Transcribe(_) | Request::Speak(_) => {
                let why = "neither transcribes nor speaks: at AWS that is Transcribe and Polly";
                Err(no_audio("Bedrock", call.target, why))
            }
        }
    }

    fn url(&self, model: &str, operation: Operation) -> Result<Url, Fault> {
        let model = utf8_percent_encode(model, SEGMENT);
        let url = format!("{}/model/{model}/{}", self.base_url, operation.path());
        // the base URL was one, and nothing in an encoded segment changes that
        Url::parse(&url).map_err(|error| Fault::internal(format!("{}: {url:?}: {error}", self.name)))
    }

    fn show(&self, request: &mut reqwest::Request, key: Option<&Key>) -> Result<(), String> {
        if let Some(key) = key {
            request.headers_mut().insert(AUTHORIZATION, key.bearer.clone());
            return Ok(());
        }
        let Some(keys) = &self.keys else { return Ok(()) };
        let scope = Scope { region: &self.region, service: SERVICE };
        sign(request, keys.current()?, scope, self.clock.now_unix_ms())
    }
}

impl Dialect for Bedrock {
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault> {
        let Encoded { operation, body, reader } = self.encode(call)?;
        let prepared = Prepared {
            url: self.url(&call.target.upstream_model, operation)?,
            headers: HeaderMap::new(),
            content_type: JSON,
            accept: if operation == Operation::ConverseStream { EVENT_STREAM } else { JSON },
            body: body.into(),
        };
        Ok((prepared, reader))
    }

    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let shown = self.show(request, key).map_err(|problem| {
            let message = format!("{} has no key: {problem}", self.name);
            Failure::permanent(Fault::new(Code::UpstreamAuth, Origin::Provider, true, message))
        });
        futures::future::ready(shown).boxed()
    }

    fn available(&self) -> Result<(), String> {
        self.keys.as_ref().map_or(Ok(()), |keys| keys.current().map(drop))
    }

    fn blames_key(&self, status: Option<u16>, key: Option<&str>) -> bool {
        // the key that signs is none of the ring's: it is read again by itself when its files change
        !(matches!(status, None | Some(401 | 403)) && key.is_none() && self.keys.is_some())
    }

    fn jobs(&self) -> Result<&dyn JobDialect, &'static str> {
        Err("its batches and trainings go from and to S3 buckets, which this adapter does not reach")
    }

    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
        let mut secrets = self.keys.as_ref().map(Keys::words).unwrap_or_default();
        secrets.extend(key.map(str::to_owned));
        error::refusal(provider, refused, &secrets)
    }
}
