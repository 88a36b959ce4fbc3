use super::*;

/// Made for these tests, good for nothing else.
const RSA: &str = include_str!("test-rsa.pem");
const EC: &str = include_str!("test-ec.pem");
/// What `openssl dgst -sha256 -sign` made of the same claims with the same key.
const ASSERTION: &str = include_str!("assertion.txt");

fn file(token_uri: &str, private_key: &str) -> String {
    serde_json::json!({
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "key-1",
        "private_key": private_key,
        "client_email": "robot@example.iam.gserviceaccount.com",
        "token_uri": token_uri,
    })
    .to_string()
}

#[test]
fn an_assertion_is_what_openssl_signs() {
    let file = KeyFile::parse(&file("https://oauth2.googleapis.com/token", RSA), None).unwrap();
    assert_eq!(file.assertion(1_767_225_600).unwrap(), ASSERTION.trim_end());
}

#[test]
fn only_googles_hosts_grant_tokens() {
    for known in ["https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"] {
        assert!(KeyFile::parse(&file(known, RSA), None).is_ok(), "{known}");
    }
    for other in [
        "https://oauth2.googleapis.com.example.com/token",
        "https://example.com/?oauth2.googleapis.com",
        "http://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com:8443/token",
        "http://127.0.0.1/token",
        "",
    ] {
        assert!(KeyFile::parse(&file(other, RSA), None).is_err(), "{other} was believed");
    }
    let own = Url::parse("http://127.0.0.1:9000/v1").unwrap();
    assert!(KeyFile::parse(&file("http://127.0.0.1:9000/token", RSA), Some(&own)).is_ok());
    assert!(KeyFile::parse(&file("http://127.0.0.1:9001/token", RSA), Some(&own)).is_err());
}

#[test]
fn what_is_no_key_file_is_explained_without_its_content() {
    let google = "https://oauth2.googleapis.com/token";
    let user = file(google, RSA).replace("service_account", "authorized_user");
    let nobody = file(google, RSA).replace("robot@example.iam.gserviceaccount.com", "");
    let cases = [
        ("{\"private_key\": \"canary\"", "no JSON"),
        (&user, "type"),
        (&nobody, "client_email"),
        (&file(google, "canary"), "private_key is no key"),
        (&file(google, EC), "private_key is no RSA key"),
        (&file("https://canary.example", RSA), "token_uri"),
    ];
    for (text, expected) in cases {
        let problem = KeyFile::check(text, None).unwrap().unwrap_err();
        assert!(problem.starts_with(expected), "{problem}");
        assert!(!problem.contains("canary"), "{problem}");
    }
    assert!(KeyFile::check("ya29.token", None).is_none(), "a token is no file");
}
