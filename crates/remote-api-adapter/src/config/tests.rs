use domain::units::Money;

use super::*;

const PROVIDER: &str = r#"
[[providers]]
name = "acme"
kind = "openai"
base_url = "https://api.acme.example/v1"
[[providers.deployments]]
model = "acme/large"
upstream_model = "large-2"
context_length = 128000
capabilities = ["generate", "tools", "json_schema"]
price = { input_per_million = "2.50", output_per_million = 10, cached_input_per_million = 0.625 }
"#;

fn machine() -> NodeId {
    NodeId::new("mainpc").unwrap()
}

fn checked(toml: &str) -> Result<Vec<Provider>, Invalid> {
    let settings: AdapterSettings = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}"));
    check(&settings, &machine())
}

fn refused(toml: &str) -> String {
    checked(toml).expect_err(toml).field
}

#[test]
fn a_provider_is_read_with_its_defaults() {
    let providers = checked(PROVIDER).unwrap();
    let provider = &providers[0];
    assert_eq!((provider.timeouts.connect, provider.retry), (Duration::from_secs(5), Policy::default()));
    let deployment = &provider.deployments[0];
    assert_eq!(deployment.id.as_str(), "mainpc/acme/acme/large");
    assert_eq!(deployment.target.upstream_model, "large-2");
    assert_eq!(deployment.target.max_tokens_field, MaxTokensField::MaxTokens);
    assert_eq!(deployment.price.input, Money::picodollars(2_500_000));
    assert_eq!(deployment.price.output, Money::picodollars(10_000_000));
    assert_eq!(deployment.price.cached_input, Some(Money::picodollars(625_000)));
    assert!(deployment.capabilities.tools && !deployment.capabilities.vision);
}

#[test]
fn openai_itself_gets_its_own_name_for_the_bound() {
    let providers = checked(&PROVIDER.replace("api.acme.example", "api.openai.com")).unwrap();
    assert_eq!(providers[0].deployments[0].target.max_tokens_field, MaxTokensField::MaxCompletionTokens);
}

#[test]
fn each_slip_is_named_with_its_place() {
    let cases = [
        ("name = \"acme\"", "name = \"a.b\"", "providers[0].name"),
        ("https://api.acme.example/v1", "ftp://api.acme.example", "providers[0].base_url"),
        ("https://api.acme.example/v1", "not an address", "providers[0].base_url"),
        ("https://api.acme.example/v1", "http://api.acme.example/v1", "providers[0].base_url"),
        ("https://api.acme.example/v1", "https://user:secret@api.acme.example", "providers[0].base_url"),
        ("https://api.acme.example/v1", "https://api.acme.example/v1?key=1", "providers[0].base_url"),
        ("https://api.acme.example/v1", "https://127.0.0.1:8080/v1", "providers[0].base_url"),
        ("https://api.acme.example/v1", "https://[::1]/v1", "providers[0].base_url"),
        ("https://api.acme.example/v1", "https://2130706433/v1", "providers[0].base_url"),
        (
            "https://api.acme.example/v1",
            "https://169.254.169.254/v1\"\nallow_private = true\n#",
            "providers[0].base_url",
        ),
        ("acme/large", "bad model", "providers[0].deployments[0].model"),
        ("large-2", "", "providers[0].deployments[0].upstream_model"),
        ("128000", "0", "providers[0].deployments[0].context_length"),
        ("128000", "128000\nslots = 0", "providers[0].deployments[0].slots"),
        ("\"generate\", ", "", "providers[0].deployments[0].capabilities"),
        ("128000", "128000\nfree = true", "providers[0].deployments[0].price"),
        ("\"2.50\"", "\"-1\"", "providers[0].deployments[0].price.input_per_million"),
        ("output_per_million = 10, ", "", "providers[0].deployments[0].price.output_per_million"),
        (
            "kind = \"openai\"",
            "kind = \"openai\"\ntimeouts = { idle_ms = 0 }",
            "providers[0].timeouts.idle_ms",
        ),
        (
            "kind = \"openai\"",
            "kind = \"openai\"\nretry = { retries_max = 11 }",
            "providers[0].retry.retries_max",
        ),
        (
            "kind = \"openai\"",
            "kind = \"openai\"\nretry = { budget_percent = 101 }",
            "providers[0].retry.budget_percent",
        ),
        ("kind = \"openai\"", "kind = \"openai\"\norganization = \"a\\r\\nb\"", "providers[0].organization"),
        (
            "kind = \"openai\"",
            "kind = \"openai\"\nextra_headers = { Host = \"x\" }",
            "providers[0].extra_headers.Host",
        ),
        (
            "kind = \"openai\"",
            "kind = \"openai\"\nextra_headers = { \"a b\" = \"x\" }",
            "providers[0].extra_headers.a b",
        ),
    ];
    for (from, to, field) in cases {
        let toml = PROVIDER.replacen(from, to, 1);
        assert_ne!(toml, PROVIDER, "{from} is not in the example");
        assert_eq!(refused(&toml), field, "{to}");
    }
}

#[test]
fn names_stand_once() {
    assert_eq!(refused(&format!("{PROVIDER}{PROVIDER}")), "providers[1].name");
    let deployment = PROVIDER.split_once("[[providers.deployments]]").unwrap().1;
    let twice = format!("{PROVIDER}\n[[providers.deployments]]{deployment}");
    assert_eq!(refused(&twice), "providers[0].deployments[1].model");
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let error = checked(&PROVIDER.replace("https://", "https://user:canary@")).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn an_unknown_price_is_an_error_and_a_known_one_comes_from_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("prices.toml");
    let row = |model: &str| {
        format!(
            "[[price]]\nprovider = \"acme\"\nmodel = \"{model}\"\ninput_per_million = 1\noutput_per_million = 2\n"
        )
    };
    let priceless = PROVIDER.lines().filter(|line| !line.starts_with("price")).collect::<Vec<_>>().join("\n");
    let toml = format!("prices_file = {table:?}\n{priceless}");

    assert_eq!(refused(&toml), "prices_file");
    std::fs::write(&table, row("small")).unwrap();
    assert_eq!(refused(&toml), "providers[0].deployments[0].price");
    std::fs::write(&table, row("large-2")).unwrap();
    assert_eq!(checked(&toml).unwrap()[0].deployments[0].price.output, Money::picodollars(2_000_000));
}

#[test]
fn a_server_of_ones_own_may_be_plain_private_and_free() {
    let toml = r#"
[[providers]]
name = "lab"
kind = "openai"
base_url = "http://127.0.0.1:8080/v1/"
allow_private = true
[[providers.deployments]]
model = "tiny"
context_length = 2048
capabilities = ["generate"]
free = true
"#;
    let providers = checked(toml).unwrap();
    assert_eq!(providers[0].deployments[0].price, Price::FREE);
}

#[test]
fn an_unknown_key_is_an_error() {
    for toml in [
        PROVIDER.replace("kind =", "kynd = 1\nkind ="),
        PROVIDER.replace("context_length", "contekst_length"),
        PROVIDER.replace("input_per_million", "input_per_milion"),
    ] {
        assert!(toml::from_str::<AdapterSettings>(&toml).is_err(), "{toml}");
    }
}

#[test]
fn secrets_do_not_come_out_of_the_settings_again() {
    let toml = PROVIDER.replace(
        "kind =",
        "api_key = { env = \"ACME_KEY\" }\nextra_headers = { x-token = \"canary\" }\nkind =",
    );
    let settings: AdapterSettings = toml::from_str(&toml).unwrap();
    let shown = format!("{settings:?}{}{:?}", toml::to_string(&settings).unwrap(), checked(&toml).unwrap());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("ACME_KEY"), "where the key is kept is no secret");
}

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
