//! Checks a Signature Version 4. Source: AWS, "Create a signed AWS API request"
//! (`docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html`).

use std::fmt::Write as _;

use hyper::header::AUTHORIZATION;
use ring::{digest, hmac};

use crate::upstream::format::Call;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Headers that have to be signed wherever they are sent.
const MUST_SIGN: [&str; 4] = ["host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

/// What the `Authorization` header says.
struct Shown<'a> {
    key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Shown<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let fields = text.strip_prefix(ALGORITHM)?;
        let field =
            |name: &str| fields.split(',').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
        let mut scope = field("Credential")?.split('/');
        let (key_id, date, region) = (scope.next()?, scope.next()?, scope.next()?);
        let service = scope.next()?;
        let is_whole = scope.next() == Some("aws4_request") && scope.next().is_none();
        let (signed_headers, signature) = (field("SignedHeaders")?, field("Signature")?);
        is_whole.then_some(Self { key_id, date, region, service, signed_headers, signature })
    }
}

pub(super) fn is_right(call: &Call<'_>, key_id: &str, secret: &str) -> bool {
    let shown = call.headers.get(AUTHORIZATION).and_then(|value| Shown::read(value.to_str().ok()?));
    shown.is_some_and(|shown| {
        shown.key_id == key_id
            && shown.service == "bedrock"
            && expected(call, &shown, secret).is_some_and(|expected| expected == shown.signature)
    })
}

fn expected(call: &Call<'_>, shown: &Shown<'_>, secret: &str) -> Option<String> {
    let names: Vec<&str> = shown.signed_headers.split(';').collect();
    let sent = |name: &&str| call.headers.contains_key(*name);
    if MUST_SIGN.iter().filter(|name| sent(name)).any(|name| !names.contains(name))
        || !names.contains(&"host")
    {
        return None;
    }
    let mut headers = String::new();
    for name in &names {
        let values: Vec<&str> =
            call.headers.get_all(*name).iter().filter_map(|value| value.to_str().ok()).collect();
        let value = values.join(",");
        let words: Vec<&str> = value.split_whitespace().collect();
        writeln!(headers, "{name}:{}", words.join(" ")).ok()?;
    }
    let time = call.header("x-amz-date").filter(|time| time.starts_with(shown.date))?;
    let payload = sha256(call.body);
    if call.header("x-amz-content-sha256").is_some_and(|told| told != payload) {
        return None;
    }
    let request = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload}",
        call.method,
        canonical_path(call.whole_path),
        canonical_query(call.query),
        shown.signed_headers,
    );
    let scope = format!("{}/{}/{}/aws4_request", shown.date, shown.region, shown.service);
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256(request.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [shown.date, shown.region, shown.service, "aws4_request", &to_sign] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    Some(hex(&key))
}

/// The path as it was sent, encoded once more: for every service but S3, reserved characters are encoded twice.
fn canonical_path(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, Method};

    use super::*;

    /// `get-vanilla` of AWS's published test suite, its service name aside: that is why only the expectation is compared.
    #[test]
    fn the_signature_of_awss_example_comes_out() {
        let mut headers = HeaderMap::new();
        headers.insert("host", "example.amazonaws.com".parse().unwrap());
        headers.insert("x-amz-date", "20150830T123600Z".parse().unwrap());
        let call = Call {
            method: &Method::GET,
            path: "/",
            query: "",
            whole_path: "/",
            headers: &headers,
            body: b"",
        };
        let text = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let shown = Shown::read(text).unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert_eq!(expected(&call, &shown, secret).unwrap(), shown.signature);
    }
}
