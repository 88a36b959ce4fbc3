//! Who may ask: the `Host` header, and tokens.
//!
//! A page of somebody else's can make a browser call this address under a name of its own (DNS rebinding). Its calls
//! carry that name, so names are allowed one by one. Plain addresses need no list: they cannot be rebound.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use service_runtime::{Secret, secret::ExposeSecret};
use subtle::ConstantTimeEq;

use super::error::ApiError;

/// Names and tokens.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Lower case, without ports; `localhost` is allowed anyway.
    pub hosts: BTreeSet<String>,
    /// `None` = reading is open.
    pub read_token: Option<Secret>,
    /// `None` = writing is open.
    pub write_token: Option<Secret>,
}

pub(super) async fn check_host(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let host = host(request.uri(), request.headers());
    if access.allows_host(&host) {
        next.run(request).await
    } else {
        ApiError::forbidden_host(&host).into_response()
    }
}

pub(super) async fn require_read(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match check_token(access.read_token.as_ref(), request.headers(), "read") {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

pub(super) async fn require_write(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match check_token(access.write_token.as_ref(), request.headers(), "write") {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let header = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    uri.host().or(header).unwrap_or_default().to_owned()
}

impl Access {
    fn allows_host(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        name == "localhost" || address.parse::<IpAddr>().is_ok() || self.hosts.contains(name)
    }
}

/// `name:80`, `[::1]:80` and both without a port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// The secret is read at each request, so that a rotated token holds at once and the old one no longer.
fn check_token(token: Option<&Secret>, headers: &HeaderMap, what: &str) -> Result<(), ApiError> {
    let Some(token) = token else { return Ok(()) };
    let expected = token.resolve().map_err(|error| {
        tracing::error!(%error, what, "token cannot be read, refusing everybody");
        ApiError::unavailable(format!("the {what} token is configured and cannot be read"))
    })?;
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token.trim());
    if bool::from(given.as_bytes().ct_eq(expected.expose_secret().as_bytes())) {
        Ok(())
    } else {
        Err(ApiError::unauthenticated(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_listed_names_are_hosts() {
        let access = Access { hosts: BTreeSet::from(["hub.lan".to_owned()]), ..Access::default() };
        for good in
            ["localhost", "LOCALHOST:7076", "127.0.0.1:1", "[::1]:7076", "[::1]", "192.168.1.5", "Hub.lan:80"]
        {
            assert!(access.allows_host(good), "{good}");
        }
        for bad in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "hub.lan.evil", "[::1"]
        {
            assert!(!access.allows_host(bad), "{bad}");
        }
    }
}
