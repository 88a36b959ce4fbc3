use domain::units::Money;

use super::*;

mod resilience;

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
    let field = |host: &str| {
        let providers = checked(&PROVIDER.replace("api.acme.example", host)).unwrap();
        providers[0].deployments[0].target.max_tokens_field
    };
    for host in ["api.openai.com", "eu.api.openai.com"] {
        assert_eq!(field(host), MaxTokensField::MaxCompletionTokens, "{host}");
    }
    assert_eq!(field("notapi.openai.com.example"), MaxTokensField::MaxTokens);
}

#[test]
fn each_kind_has_its_own_name_for_the_bound_and_its_own_settings() {
    let bound = |from: &str, to: &str| {
        let providers = checked(&PROVIDER.replace(from, to)).unwrap();
        providers[0].deployments[0].target.max_tokens_field
    };
    let kind = "kind = \"openai\"";
    assert_eq!(bound(kind, "kind = \"groq\""), MaxTokensField::MaxCompletionTokens);
    let azure = "kind = \"azure\"\nazure = { api_version = \"2024-10-21\" }";
    assert_eq!(
        bound(
            &format!("{kind}\nbase_url = \"https://api.acme.example/v1\""),
            &format!("{azure}\nbase_url = \"https://res.openai.azure.com\"")
        ),
        MaxTokensField::MaxCompletionTokens
    );
    assert_eq!(bound(kind, "kind = \"ollama\""), MaxTokensField::MaxTokens);
}

#[test]
fn a_server_that_says_what_it_has_needs_no_list() {
    let toml = |more: &str| {
        format!(
            "[[providers]]\nname = \"lab\"\nkind = \"ollama\"\nallow_private = true\nollama = {{ {more} }}\n"
        )
    };
    let providers = checked(&toml("discover = true")).unwrap();
    assert_eq!(providers[0].base_url.as_str(), "http://127.0.0.1:11434/");
    assert!(providers[0].deployments.is_empty());
    assert_eq!(refused(&toml("discover = false")), "providers[0].deployments");
    assert_eq!(refused(&toml("slots = 0")), "providers[0].ollama.slots");
    assert_eq!(refused(&toml("context_length_max = 0")), "providers[0].ollama.context_length_max");
}

#[test]
fn what_is_written_out_can_be_read_again() {
    let toml = "[[providers]]\nname = \"lab\"\nkind = \"ollama\"\nallow_private = true\nollama = { discover = true }\n\
                [[providers.deployments]]\nmodel = \"m\"\ncontext_length = 1\ncapabilities = [\"generate\"]\nfree = true\n\
                api = \"chat\"\ndefaults = { options = { num_gpu = 1 } }\nmax_tokens_field = \"max_tokens\"\n\
                [[providers]]\nname = \"azure\"\nkind = \"azure\"\nbase_url = \"https://res.openai.azure.com\"\n\
                azure = { auth = \"bearer\" }\n[[providers.deployments]]\nmodel = \"m\"\napi = \"responses\"\n\
                context_length = 1\ncapabilities = [\"generate\"]\nfree = true\n";
    let settings: AdapterSettings = toml::from_str(toml).unwrap();
    let again: AdapterSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{settings:?}"));
    check(&again, &machine()).unwrap();
}

#[test]
fn a_deployments_defaults_are_kept_as_json() {
    let toml = PROVIDER
        .replace("context_length", "defaults = { reasoning_format = \"parsed\", n = [1] }\ncontext_length");
    let target = &checked(&toml).unwrap()[0].deployments[0].target;
    assert_eq!(target.defaults, r#"{"n":[1],"reasoning_format":"parsed"}"#);
}

#[test]
fn anthropic_has_an_address_and_a_bound_of_its_own() {
    let toml = PROVIDER.replace("kind = \"openai\"", "kind = \"anthropic\"");
    let toml = toml.replace("base_url = \"https://api.acme.example/v1\"\n", "");
    let providers = checked(&toml.replace("128000", "128000\nmax_output_tokens = 500")).unwrap();
    assert_eq!(providers[0].base_url.as_str(), "https://api.anthropic.com/v1");
    assert_eq!(providers[0].deployments[0].target.max_output_tokens, Some(500));
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
        ("128000", "128000\nmax_output_tokens = 0", "providers[0].deployments[0].max_output_tokens"),
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
    let more_cases = [
        ("kind = \"openai\"", "kind = \"openai\"\nazure = {}", "providers[0].azure"),
        ("kind = \"openai\"", "kind = \"openai\"\nollama = {}", "providers[0].ollama"),
        (
            "kind = \"openai\"",
            "kind = \"azure\"\nazure = { api_version = \"x\" }",
            "providers[0].azure.api_version",
        ),
        (
            "kind = \"openai\"\nbase_url = \"https://api.acme.example/v1\"\n[[providers.deployments]]",
            "kind = \"ollama\"\nbase_url = \"https://api.acme.example\"\n[[providers.deployments]]\napi = \"responses\"",
            "providers[0].deployments[0].api",
        ),
    ];
    for (from, to, field) in cases.into_iter().chain(more_cases) {
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

const VERTEX: &str = r#"
[[providers]]
name = "vertex"
kind = "vertex"
api_key = { file = "secrets/vertex.json" }
vertex = { project = "example.com:my-project", location = "europe-west4" }
[[providers.deployments]]
model = "gemini-3.5-flash"
context_length = 1048576
capabilities = ["generate"]
free = true
"#;

#[test]
fn vertex_has_a_place_and_the_address_of_it() {
    let providers = checked(VERTEX).unwrap();
    assert_eq!(providers[0].base_url.as_str(), "https://europe-west4-aiplatform.googleapis.com/v1");
    let Speaks::Vertex(place) = &providers[0].speaks else { panic!("{:?}", providers[0].speaks) };
    assert_eq!((place.project.as_str(), place.location.as_str()), ("example.com:my-project", "europe-west4"));
    let several = VERTEX.replace("api_key = { file", "api_keys = [{ file").replace(".json\" }", ".json\" }]");
    assert_eq!(checked(&several).unwrap()[0].keys.len(), 1);
    let global = checked(&VERTEX.replace("europe-west4", "global")).unwrap();
    assert_eq!(global[0].base_url.as_str(), "https://aiplatform.googleapis.com/v1");
}

#[test]
fn slips_of_googles_services_are_named() {
    let vertex_line = VERTEX.lines().find(|line| line.starts_with("vertex =")).unwrap();
    let key_line = VERTEX.lines().find(|line| line.starts_with("api_key =")).unwrap();
    let cases = [
        (vertex_line, "", "providers[0].vertex"),
        (key_line, "", "providers[0].api_key"),
        ("kind = \"vertex\"", "kind = \"gemini\"", "providers[0].vertex"),
        ("europe-west4", "evil.example/", "providers[0].vertex.location"),
        ("europe-west4", "", "providers[0].vertex.location"),
        ("example.com:my-project", "../other", "providers[0].vertex.project"),
    ];
    for (from, to, field) in cases {
        assert_eq!(refused(&VERTEX.replacen(from, to, 1)), field, "{to}");
    }
}

#[test]
fn the_gemini_api_has_its_own_address() {
    let toml = VERTEX.replace("kind = \"vertex\"", "kind = \"gemini\"");
    let toml = toml.lines().filter(|line| !line.starts_with("vertex =")).collect::<Vec<_>>().join("\n");
    assert_eq!(
        checked(&toml).unwrap()[0].base_url.as_str(),
        "https://generativelanguage.googleapis.com/v1beta"
    );
}

const BEDROCK: &str = r#"
[[providers]]
name = "aws"
kind = "bedrock"
bedrock = { region = "eu-central-1", access_key_id = { env = "ID" }, secret_access_key = { env = "SECRET" } }
[[providers.deployments]]
model = "nova"
upstream_model = "eu.amazon.nova-pro-v1:0"
context_length = 300000
capabilities = ["generate"]
price = { input_per_million = "0.80", output_per_million = "3.20" }
"#;

#[test]
fn bedrocks_address_follows_from_its_region() {
    let providers = checked(BEDROCK).unwrap();
    assert_eq!(providers[0].base_url.as_str(), "https://bedrock-runtime.eu-central-1.amazonaws.com/");
    let other = BEDROCK.replace("kind =", "base_url = \"https://vpce-1.example.com\"\nkind =");
    assert_eq!(checked(&other).unwrap()[0].base_url.as_str(), "https://vpce-1.example.com/");
    checked(
        &BEDROCK.replace(", access_key_id = { env = \"ID\" }, secret_access_key = { env = \"SECRET\" }", ""),
    )
    .unwrap();
}

#[test]
fn each_slip_in_bedrocks_settings_is_named_with_its_place() {
    let cases = [
        ("\"eu-central-1\"", "\"eu.evil.com/\"", "providers[0].bedrock.region"),
        ("\"eu-central-1\"", "\"\"", "providers[0].bedrock.region"),
        (", access_key_id = { env = \"ID\" }", "", "providers[0].bedrock.access_key_id"),
        (", secret_access_key = { env = \"SECRET\" }", "", "providers[0].bedrock.secret_access_key"),
        ("kind =", "api_key = { env = \"KEY\" }\nkind =", "providers[0].bedrock.access_key_id"),
        ("kind =", "api_keys = [{ env = \"KEY\" }]\nkind =", "providers[0].bedrock.access_key_id"),
        ("\"bedrock\"", "\"openai\"", "providers[0].bedrock"),
    ];
    for (from, to, field) in cases {
        let toml = BEDROCK.replacen(from, to, 1);
        assert_ne!(toml, BEDROCK, "{from} is not in the example");
        assert_eq!(refused(&toml), field, "{to}");
    }
    let none: String =
        BEDROCK.lines().filter(|line| !line.starts_with("bedrock")).collect::<Vec<_>>().join("\n");
    assert_eq!(refused(&none), "providers[0].bedrock.region");
}
