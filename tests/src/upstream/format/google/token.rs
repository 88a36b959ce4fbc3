//! Google's OAuth endpoint for service accounts: a signed assertion for an access token.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::upstream::problem::Problem;
use crate::upstream::read::{self, Fields};
use crate::upstream::world::World;

const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
/// The endpoint's public name: Google's own library says this whatever the key file has as `token_uri`.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// The fields of a request for a token; errors about them are OAuth's (RFC 6749, 5.2).
pub(super) const FIELDS: [&str; 2] = ["grant_type", "assertion"];
const LIFE_S: u64 = 3_600;

/// Who may have tokens.
pub(in crate::upstream) struct ServiceAccount {
    email: String,
    token_uri: String,
    public_key: Vec<u8>,
}

impl ServiceAccount {
    /// Reads a key file as Google hands it out; the assertions have to be signed with its key.
    pub(in crate::upstream) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let key: Value = serde_json::from_slice(&text).context("the key file is no JSON")?;
        let field = |name: &str| {
            key.get(name).and_then(Value::as_str).with_context(|| format!("the key file has no {name}"))
        };
        let pem: String = field("private_key")?.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(pem).context("the private key is no PEM")?;
        let pair = KeyPair::from_pkcs8(&der).map_err(|error| anyhow::anyhow!("the private key: {error}"))?;
        Ok(Self {
            email: field("client_email")?.to_owned(),
            token_uri: field("token_uri")?.to_owned(),
            public_key: pair.public_key().as_ref().to_vec(),
        })
    }

    /// Checks an assertion (RFC 7523): signature, issuer, audience, lifetime and scope.
    fn accepts(&self, assertion: &str) -> Result<(), Problem> {
        let wrong = |what: &str| Problem::invalid_field("assertion", format!("Invalid JWT: {what}"));
        let (signed, sign) = assertion.rsplit_once('.').ok_or_else(|| wrong("no signature"))?;
        let (head, claims) = signed.split_once('.').ok_or_else(|| wrong("no claims"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong("no base64"));
        let head = read::body(&decode(head)?)?;
        if Fields::of(&head, "")?.must_text("alg")? != "RS256" {
            return Err(wrong("alg"));
        }
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(signed.as_bytes(), &decode(sign)?)
            .map_err(|_| wrong("signature"))?;
        let claims = read::body(&decode(claims)?)?;
        let claims = Fields::of(&claims, "")?;
        let audience = claims.must_text("aud")?;
        if audience != self.token_uri && audience != AUDIENCE {
            return Err(wrong("aud"));
        }
        if claims.must_text("iss")? != self.email {
            return Err(wrong("iss"));
        }
        if !claims.must_text("scope")?.contains("https://www.googleapis.com/auth/cloud-platform") {
            return Err(wrong("scope"));
        }
        let (from, until) = (claims.whole("iat")?.unwrap_or(0), claims.whole("exp")?.unwrap_or(0));
        if until <= from || until - from > LIFE_S {
            return Err(wrong("iat and exp"));
        }
        Ok(())
    }
}

/// Answers `POST /token`.
pub(super) fn issue(body: &[u8], world: &World) -> Result<Value, Problem> {
    let body = String::from_utf8_lossy(body);
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if field("grant_type").is_none_or(|grant| grant != GRANT && grant != GRANT.replace("%3A", ":")) {
        return Err(Problem::invalid_field("grant_type", "unsupported_grant_type"));
    }
    let assertion = field("assertion").ok_or_else(|| Problem::invalid_field("assertion", "is missing"))?;
    if let Some(account) = world.service_account() {
        account.accepts(assertion)?;
    }
    Ok(json!({"access_token": world.issue(), "expires_in": LIFE_S - 1, "token_type": "Bearer"}))
}
