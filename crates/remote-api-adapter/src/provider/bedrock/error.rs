//! Errors of AWS: a name, in a header, an event or the body, and a message.
//!
//! | name | means |
//! | --- | --- |
//! | `ThrottlingException` | rate limited; for a day's quota there is no use in trying again |
//! | `ServiceQuotaExceededException` | the same, without a try |
//! | `ModelNotReadyException` | unavailable, in a moment no longer |
//! | `ModelTimeoutException` | timeout |
//! | `ModelErrorException`, `ModelStreamErrorException` | the status of the model itself, else 500 |
//! | `ValidationException` | by its message: too long, not offered, no such model, else the caller's mistake |
//! | `AccessDenied…`, `UnrecognizedClient…`, `ExpiredToken…`, `InvalidSignature…` | the key |
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html>.

use domain::fault::{Code, Fault, Origin};
use serde::Deserialize;

use crate::provider::{
    Failure, Refused,
    json::Text,
    refusal::{Refusal, scrub},
};

/// Where AWS names an error.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// The provider broke its own rules.
pub(super) fn broken(message: String) -> Fault {
    Fault::new(Code::Upstream, Origin::Provider, true, message)
}

/// What an error's body holds. The capital letter is that of the gateway in front of the service.
#[derive(Debug, Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, alias = "Message")]
    message: Option<Text<'a>>,
    #[serde(borrow, default, rename = "__type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default, rename = "originalMessage", alias = "OriginalMessage")]
    original_message: Option<Text<'a>>,
    #[serde(default, rename = "originalStatusCode", alias = "OriginalStatusCode")]
    original_status: Option<u16>,
}

/// A response without success. `secrets` are what must not be repeated: AWS quotes a request whose signature it refuses.
pub(super) fn refusal(provider: &str, refused: Refused<'_>, secrets: &[String]) -> Failure {
    let named = refused.headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    failure(provider, named.unwrap_or_default(), Some(refused.status), refused.body, secrets)
}

/// An error inside a stream.
pub(super) fn exception(provider: &str, name: &str, payload: &[u8]) -> Fault {
    failure(provider, name, None, payload, &[]).fault
}

fn failure(provider: &str, name: &str, status: Option<u16>, body: &[u8], secrets: &[String]) -> Failure {
    let read: Option<Body<'_>> = serde_json::from_slice(body).ok();
    let plain = if read.is_none() { String::from_utf8_lossy(body) } else { Default::default() };
    let said = read.unwrap_or_default();
    let name = if name.is_empty() { said.kind.as_deref().unwrap_or_default() } else { name };
    // `ValidationException:http://…` in the header, `com.amazon…#ValidationException` in the body
    let name = name.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default();
    let message = said.original_message.as_deref().or(said.message.as_deref()).unwrap_or(&plain);
    let mut message = message.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        message = message.replace(secret.as_str(), "[redacted]");
    }
    let kind = name.to_ascii_lowercase();
    let original = said.original_status.filter(|status| (400..600).contains(status));
    let status = meant(&kind, original).or(status).or(Some(500));
    let refusal = Refusal { status, message: &message, kind: name, ..Refusal::default() };
    refine(refusal.into_failure(provider, None), &kind, &message)
}

/// The status that a name stands for, where AWS's own says less.
fn meant(kind: &str, original: Option<u16>) -> Option<u16> {
    Some(match kind {
        "throttlingexception" | "toomanyrequestsexception" | "servicequotaexceededexception" => 429,
        "modeltimeoutexception" => 408,
        "modelerrorexception" | "modelstreamerrorexception" => original.unwrap_or(500),
        "modelnotreadyexception" | "serviceunavailableexception" => 503,
        "internalserverexception" | "internalfailure" => 500,
        "validationexception" => 400,
        "accessdeniedexception"
        | "unrecognizedclientexception"
        | "expiredtokenexception"
        | "invalidsignatureexception"
        | "incompletesignatureexception"
        | "missingauthenticationtokenexception"
        | "optinrequired" => 403,
        "resourcenotfoundexception" => 404,
        _ => return None,
    })
}

/// What a status cannot say.
fn refine(mut failure: Failure, kind: &str, message: &str) -> Failure {
    let text = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let fault = &mut failure.fault;
    let mut is = |code: Code, origin: Origin, retryable: bool| {
        (fault.code, fault.origin, fault.retryable) = (code, origin, retryable);
    };
    match kind {
        "modelnotreadyexception" => is(Code::Unavailable, Origin::Provider, true),
        "servicequotaexceededexception" => failure.transient = false,
        "throttlingexception" if says(&["per day", "daily"]) => failure.transient = false,
        "validationexception"
            if says(&[
                "input is too long",
                "prompt is too long",
                "too many input tokens",
                "too many total text bytes",
                "context limit",
                "context length",
                "context window",
            ]) =>
        {
            is(Code::ContextLengthExceeded, Origin::Caller, false);
        }
        // the model's name is the owner's setting, not the caller's
        "validationexception" if says(&["model identifier is invalid", "on-demand throughput"]) => {
            is(Code::NotFound, Origin::Provider, true);
        }
        "validationexception"
            if says(&["doesn't support", "does not support", "isn't supported", "not supported"]) =>
        {
            is(Code::Unsupported, Origin::Caller, true);
        }
        _ => {}
    }
    failure
}

/// A text of the provider's for people.
pub(super) fn shown(text: &str) -> String {
    scrub(&text.chars().take(64).collect::<String>(), None)
}

#[cfg(test)]
mod tests;
