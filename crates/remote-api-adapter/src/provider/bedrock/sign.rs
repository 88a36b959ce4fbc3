//! Signatures (SigV4), by AWS's own crate.
//!
//! Signed are the host, `content-type`, all `x-amz-*` headers and the body; other headers may change on the way.
//! Reference: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign as signature},
    sign::v4::SigningParams,
};
use aws_smithy_runtime_api::client::identity::Identity;
use reqwest::{
    Request,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

/// What a signature is valid for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// Adds `x-amz-date`, `authorization` and, for keys that expire, `x-amz-security-token`.
///
/// # Errors
/// What cannot be signed, without the key.
pub(super) fn sign(
    request: &mut Request,
    key: Credentials,
    scope: Scope<'_>,
    now_unix_ms: u64,
) -> Result<(), String> {
    let identity = Identity::from(key);
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(time(now_unix_ms))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let signed = request.headers().iter().filter(|(name, _)| {
        let name = name.as_str();
        name == CONTENT_TYPE.as_str() || name.starts_with("x-amz")
    });
    let signed: Option<Vec<(&str, &str)>> =
        signed.map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let signed = signed.ok_or("a header is not visible ASCII")?;
    let body = request.body().map_or(Some(&b""[..]), reqwest::Body::as_bytes);
    let body = body.ok_or("the body cannot be read before it is sent")?;
    let made = SignableRequest::new(
        request.method().as_str(),
        request.url().as_str(),
        signed.into_iter(),
        SignableBody::Bytes(body),
    )
    // the crate traces the request and the session token: nobody listens while it works
    .and_then(|signable| {
        let none = tracing::Dispatch::none();
        tracing::dispatcher::with_default(&none, || signature(signable, &params))
    });
    let (headers, _) = made.map_err(|error| error.to_string())?.into_parts().0.into_parts();
    for header in headers {
        let bad = |_| format!("{} would hold characters that no header can carry", header.name());
        let mut value = HeaderValue::from_str(header.value()).map_err(bad)?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(header.name().as_bytes()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(name, value);
    }
    Ok(())
}

fn time(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

#[cfg(test)]
mod tests;
