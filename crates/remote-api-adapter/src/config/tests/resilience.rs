//! Keys, breaker and probes.

use super::*;

fn with(line: &str) -> String {
    PROVIDER.replace("kind =", &format!("{line}\nkind ="))
}

#[test]
fn several_keys_are_read_with_their_limits() {
    let toml = with(
        "api_keys = [{ env = \"FREE\", requests_per_minute = 60, requests_per_day = 1500, free = true }, \
         { file = \"secrets/paid\", tokens_per_minute = 14400 }]",
    );
    let keys = &checked(&toml).unwrap()[0].keys;
    let rules: Vec<_> = keys.iter().map(|key| key.rules).collect();
    assert_eq!((rules[0].free, rules[0].limits.requests_per_minute), (true, Some(60)));
    assert_eq!(rules[0].limits.requests_per_day, Some(1_500));
    assert_eq!((rules[1].free, rules[1].limits.tokens_per_minute), (false, Some(14_400)));
    assert_eq!(keys[1].secret.path().unwrap().to_str(), Some("secrets/paid"));
    // what is dumped can be read again
    let settings: AdapterSettings = toml::from_str(&toml).unwrap();
    let again: AdapterSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
    assert_eq!(again.providers[0].api_keys, settings.providers[0].api_keys);
}

#[test]
fn slips_in_keys_breaker_and_probes_are_named_with_their_place() {
    let cases = [
        ("api_key = { env = \"A\" }\napi_keys = [{ env = \"B\" }]", "api_keys"),
        ("api_keys = [{ env = \"A\" }, { env = \"A\" }]", "api_keys[1]"),
        ("api_keys = [{ env = \"A\", requests_per_minute = 0 }]", "api_keys[0].requests_per_minute"),
        ("api_keys = [{ env = \"A\", tokens_per_minute = 0 }]", "api_keys[0].tokens_per_minute"),
        (
            "extra_headers = { Authorization = \"x\" }\napi_keys = [{ env = \"A\" }]",
            "extra_headers.Authorization",
        ),
        ("breaker = { failure_percent = 101 }", "breaker.failure_percent"),
        ("breaker = { open_ms = 0 }", "breaker.open_ms"),
        ("breaker = { open_ms = 2000, open_max_ms = 1000 }", "breaker.open_max_ms"),
        ("breaker = { window_ms = 0 }", "breaker.window_ms"),
        ("health_interval_s = 86401", "health_interval_s"),
        ("health_interval_s = 5\nhealth_path = \"//other.example/x?y\"", "health_path"),
        ("health_interval_s = 5\nhealth_path = \"../../admin\"", "health_path"),
    ];
    for (line, field) in cases {
        assert_eq!(refused(&with(line)), format!("providers[0].{field}"), "{line}");
    }
}

#[test]
fn a_key_written_in_place_of_its_place_is_not_repeated() {
    for value in [
        "[\"sk-canary\"]",
        "[{ key = \"sk-canary\" }]",
        "[{ file = \"a\", env = \"B\" }]",
        "[{ free = true }]",
        "[7]",
    ] {
        let error = toml::from_str::<AdapterSettings>(&with(&format!("api_keys = {value}"))).unwrap_err();
        assert!(!error.message().contains("canary"), "{value}: {}", error.message());
    }
}

#[test]
fn only_servers_of_ones_own_are_probed_unless_it_is_said() {
    let interval = |toml: &str| {
        checked(toml).unwrap().remove(0).health.map(|health| (health.url.to_string(), health.every))
    };
    assert_eq!(interval(PROVIDER), None);
    let own = PROVIDER
        .replace("https://api.acme.example/v1", "http://127.0.0.1:8080/v1/")
        .replace("kind =", "allow_private = true\nkind =");
    assert_eq!(interval(&own), Some(("http://127.0.0.1:8080/v1/models".to_owned(), Duration::from_secs(30))));
    assert_eq!(interval(&own.replace("kind =", "health_interval_s = 0\nkind =")), None);
    let said = with("health_interval_s = 300\nhealth_path = \"status\"");
    assert_eq!(
        interval(&said),
        Some(("https://api.acme.example/v1/status".to_owned(), Duration::from_secs(300)))
    );
}
