//! A service account's key file, and the assertion it signs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Url;
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use serde::Deserialize;

use crate::provider::json::Object;

/// Where Google grants tokens.
const HOSTS: [&str; 3] = ["oauth2.googleapis.com", "www.googleapis.com", "accounts.google.com"];
/// Everything that the account itself may do in Google Cloud.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The longest that Google takes, seconds.
const LASTS: u64 = 3_600;

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    token_uri: String,
}

/// A key file that was read. Holds the private key: neither shown nor kept.
pub(crate) struct KeyFile {
    client_email: String,
    private_key_id: String,
    private_key: PrivateKeyDer<'static>,
    token_url: Url,
}

impl KeyFile {
    /// Whether a secret is a key file rather than a token.
    pub(crate) fn is_one(text: &str) -> bool {
        text.trim_start().starts_with('{')
    }

    /// Whether a secret is a key file, and if so whether it can be used.
    pub(crate) fn check(text: &str, own: Option<&Url>) -> Option<Result<(), String>> {
        Self::is_one(text).then(|| Self::parse(text, own)?.assertion(0).map(drop))
    }

    /// Reads the file. `own` is a server of one's own that may grant tokens beside Google.
    ///
    /// # Errors
    /// What is wrong, for people; never the file's values, the names of its fields only.
    pub(crate) fn parse(text: &str, own: Option<&Url>) -> Result<Self, String> {
        let Written { kind, client_email, private_key_id, private_key, token_uri } =
            serde_json::from_str(text).map_err(|error| {
                format!("no JSON of a key file ({:?} error in line {})", error.classify(), error.line())
            })?;
        if kind != "service_account" {
            return Err("type is another than service_account".to_owned());
        }
        if client_email.is_empty() {
            return Err("client_email is missing".to_owned());
        }
        let private_key = PrivateKeyDer::from_pem_slice(private_key.as_bytes())
            .map_err(|_| "private_key is no key in PEM".to_owned())?;
        let token_url = Url::parse(&token_uri).ok().filter(|url| is_known(url, own));
        let Some(token_url) = token_url else {
            return Err(format!("token_uri is another than Google's, expected https and one of {HOSTS:?}"));
        };
        Ok(Self { client_email, private_key_id, private_key, token_url })
    }

    pub(super) const fn token_url(&self) -> &Url {
        &self.token_url
    }

    /// The signed assertion: a JSON web token with RS256.
    ///
    /// # Errors
    /// The key is no RSA key.
    pub(crate) fn assertion(&self, now_unix_s: u64) -> Result<String, String> {
        let encode = |json: &[u8]| URL_SAFE_NO_PAD.encode(json);
        let mut header = Vec::new();
        let mut object = Object::begin(&mut header);
        object.text("alg", "RS256");
        object.text("typ", "JWT");
        if !self.private_key_id.is_empty() {
            object.text("kid", &self.private_key_id);
        }
        object.end();
        let mut claims = Vec::new();
        let mut object = Object::begin(&mut claims);
        object.text("iss", &self.client_email);
        object.text("scope", SCOPE);
        object.text("aud", self.token_url.as_str());
        object.value("iat", &now_unix_s);
        object.value("exp", &(now_unix_s + LASTS));
        object.end();
        let mut assertion = format!("{}.{}", encode(&header), encode(&claims));
        let no_rsa = || "private_key is no RSA key".to_owned();
        let key = any_supported_type(&self.private_key).map_err(|_| no_rsa())?;
        let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(no_rsa)?;
        let signature = signer.sign(assertion.as_bytes()).map_err(|_| no_rsa())?;
        assertion.push('.');
        assertion.push_str(&encode(&signature));
        Ok(assertion)
    }
}

fn is_known(url: &Url, own: Option<&Url>) -> bool {
    let google = url.scheme() == "https"
        && url.port().is_none()
        && url.host_str().is_some_and(|host| HOSTS.contains(&host));
    google || own.is_some_and(|own| own.origin() == url.origin())
}

#[cfg(test)]
mod tests;
