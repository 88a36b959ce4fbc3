use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::secret::Secret;

const SECTIONS: [&str; 2] = ["metrics-hub", "other-service"];

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    bus: Bus,
    #[serde(rename = "metrics-hub")]
    own: Own,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bus {
    url: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Own {
    admin_listen: SocketAddr,
    retention_days: u32,
    label: String,
    note: Option<String>,
    api_key: Option<Secret>,
    nested: Nested,
    targets: Vec<Target>,
    providers: BTreeMap<String, Nested>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nested {
    attempts_max: u8,
    enabled: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    name: String,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7076)),
            retention_days: 30,
            label: "hub".to_owned(),
            note: None,
            api_key: None,
            nested: Nested { attempts_max: 3, enabled: true },
            targets: Vec::new(),
            providers: BTreeMap::new(),
        }
    }
}

fn sources(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Sources {
    Sources {
        file: Some((PathBuf::from("config/hybrid.toml"), file.to_owned())),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        set: set.iter().map(|argument| (*argument).to_owned()).collect(),
    }
}

fn read(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Loaded<Settings>, ConfigError> {
    load(&SECTIONS, &sources(file, environment, set))
}

fn refuse(file: &str, environment: &[(&str, &str)], set: &[&str]) -> String {
    read(file, environment, set).expect_err("the configuration is refused").to_string()
}

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = load::<Settings>(&SECTIONS, &Sources::default()).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    let node = Node { machine: "mainpc".to_owned(), data_dir: PathBuf::from("state") };
    assert_eq!(loaded.node(), node);
    assert_eq!(loaded.telemetry, TelemetrySettings::default());
}

#[test]
fn each_layer_covers_those_below_it_key_by_key() {
    let file = r#"
        [node]
        machine = "from-file"
        [bus]
        url = "from-file"
        [metrics-hub]
        retention_days = 1
        label = "from-file"
        nested.attempts_max = 1
    "#;
    let environment = [
        ("HYBRID_CONFIG", "config/hybrid.toml"),
        ("HYBRID_METRICS_HUB__LABEL", "from-env"),
        ("HYBRID_METRICS_HUB__NESTED__ATTEMPTS_MAX", "2"),
        ("HYBRID_BUS__URL", "from-env"),
    ];
    let set = ["bus.url=from-flag", "metrics-hub.targets=[{ name = \"a\" }]"];
    let loaded = read(file, &environment, &set).unwrap();
    let expected = Settings {
        bus: Bus { url: "from-flag".to_owned() },
        own: Own {
            retention_days: 1,
            label: "from-env".to_owned(),
            nested: Nested { attempts_max: 2, enabled: true },
            targets: vec![Target { name: "a".to_owned() }],
            ..Own::default()
        },
    };
    assert_eq!(loaded.settings, expected);
    assert_eq!(loaded.node().machine, "from-file");
}

#[test]
fn the_last_of_equal_flags_holds() {
    let loaded = read("", &[], &["metrics-hub.retention_days=1", "metrics-hub.retention_days=2"]).unwrap();
    assert_eq!(loaded.settings.own.retention_days, 2);
}

#[test]
fn a_string_may_look_like_another_type() {
    let environment = [
        ("HYBRID_METRICS_HUB__LABEL", "007"),
        ("HYBRID_METRICS_HUB__NOTE", "true"),
        ("HYBRID_NODE__MACHINE", "42"),
        ("HYBRID_BUS__URL", ""),
    ];
    let loaded = read("", &environment, &["bus.url=2024-01-01"]).unwrap();
    assert_eq!(loaded.settings.own.label, "007");
    assert_eq!(loaded.settings.own.note.as_deref(), Some("true"));
    assert_eq!(loaded.settings.bus.url, "2024-01-01");
    assert_eq!(loaded.node().machine, "42");
}

#[test]
fn a_value_cannot_smuggle_in_a_second_key() {
    let loaded = read("", &[("HYBRID_METRICS_HUB__LABEL", "1\nnote = 2")], &[]).unwrap();
    assert_eq!(loaded.settings.own.label, "1\nnote = 2");
    assert_eq!(loaded.settings.own.note, None);
}

#[test]
fn variables_find_keys_with_dashes_and_capitals() {
    let file = "[metrics-hub.providers.Open-AI]\nenabled = true\n";
    let environment = [("HYBRID_METRICS_HUB__PROVIDERS__OPEN_AI__ATTEMPTS_MAX", "7")];
    let loaded = read(file, &environment, &[]).unwrap();
    let expected = BTreeMap::from([("Open-AI".to_owned(), Nested { attempts_max: 7, enabled: true })]);
    assert_eq!(loaded.settings.own.providers, expected);
}

#[test]
fn sections_of_other_services_are_skipped() {
    let file = "[other-service]\nanything = { goes = true }\n";
    let environment = [("HYBRID_OTHER_SERVICE__ANYTHING", "goes")];
    let loaded = read(file, &environment, &["other-service.anything=goes"]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
}

#[test]
fn an_unknown_section_names_its_source() {
    let table = [
        (refuse("[metric-hub]\n", &[], &[]), "config/hybrid.toml: unknown section `metric-hub`"),
        (refuse("machine = \"a\"\n", &[], &[]), "config/hybrid.toml: unknown section `machine`"),
        (
            refuse("", &[("HYBRID_METRIC_HUB__LABEL", "a")], &[]),
            "environment variable HYBRID_METRIC_HUB__LABEL: unknown section `metric_hub`",
        ),
        (refuse("", &[], &["metric-hub.label=a"]), "--set metric-hub.label: unknown section `metric-hub`"),
    ];
    for (error, expected) in table {
        assert!(error.starts_with(expected), "{error}");
        assert!(
            error.ends_with("expected one of `bus`, `metrics-hub`, `node`, `other-service`, `telemetry`"),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_key_names_its_source_and_the_keys_there_are() {
    let table = [
        (
            refuse("[node]\nmachin = \"a\"\n", &[], &[]),
            "config/hybrid.toml: unknown key `node.machin`, expected one of `machine`, `data_dir`",
        ),
        (
            refuse("[metrics-hub.nested]\nattempts = 1\n", &[("HYBRID_METRICS_HUB__LABEL", "a")], &[]),
            "config/hybrid.toml: unknown key `metrics-hub.nested.attempts`, expected one of `attempts_max`, `enabled`",
        ),
        (
            refuse("[[metrics-hub.targets]]\nname = \"a\"\nport = 1\n", &[], &[]),
            "config/hybrid.toml: unknown key `metrics-hub.targets.0.port`, expected one of `name`",
        ),
        (
            refuse("", &[("HYBRID_BUS__URI", "a")], &[]),
            "environment variable HYBRID_BUS__URI: unknown key `bus.uri`, expected one of `url`",
        ),
        (
            refuse("", &[("HYBRID_BUS__URL", "a")], &["telemetry.format=json"]),
            "--set telemetry.format: unknown key `telemetry.format`, expected one of `log_format`, `log_filter`, \
             `otlp_endpoint`, `shutdown_deadline_ms`",
        ),
    ];
    for (error, expected) in table {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_wrong_value_names_its_source_the_value_and_what_was_expected() {
    let table = [
        (
            refuse("[metrics-hub]\nretention_days = \"long\"\n", &[], &[]),
            "config/hybrid.toml: `metrics-hub.retention_days` is \"long\", expected u32",
        ),
        (
            refuse("", &[("HYBRID_METRICS_HUB__RETENTION_DAYS", "-1")], &[]),
            "environment variable HYBRID_METRICS_HUB__RETENTION_DAYS: `metrics-hub.retention_days` is -1, expected u32",
        ),
        (
            refuse("[metrics-hub]\nretention_days = 4\n", &[], &["metrics-hub.retention_days=1.5"]),
            "--set metrics-hub.retention_days: `metrics-hub.retention_days` is 1.5, expected u32",
        ),
        (
            refuse("[metrics-hub]\nadmin_listen = \"localhost\"\n", &[], &[]),
            "config/hybrid.toml: `metrics-hub.admin_listen` is \"localhost\": invalid socket address syntax",
        ),
        (
            refuse("[telemetry]\nlog_format = \"xml\"\n", &[], &[]),
            "config/hybrid.toml: `telemetry.log_format` is \"xml\", expected one of text, json",
        ),
        (
            refuse("[metrics-hub]\nnested = 3\n", &[], &[]),
            "config/hybrid.toml: `metrics-hub.nested` is 3, expected struct Nested",
        ),
        (
            refuse("metrics-hub = 3\n", &[], &[]),
            "config/hybrid.toml: `metrics-hub` is 3, expected struct Own",
        ),
        (
            refuse("[metrics-hub]\nlabel = [\"a\"]\n", &[], &[]),
            "config/hybrid.toml: `metrics-hub.label` has the wrong kind of value, expected a string",
        ),
        (
            refuse("[[metrics-hub.targets]]\n", &[], &[]),
            "config/hybrid.toml: `metrics-hub.targets.0.name` is missing",
        ),
    ];
    for (error, expected) in table {
        assert_eq!(error, expected);
    }
}

#[test]
fn common_settings_are_checked_beyond_their_type() {
    let table = [
        ("node.machine=a.b", "expected 1 to 32 letters, digits, `-` or `_`"),
        ("node.machine=", "expected 1 to 32 letters"),
        ("node.data_dir=", "expected a path"),
        ("telemetry.log_filter=bus=loud", "expected a log filter"),
        ("telemetry.otlp_endpoint=mainpc:4317", "expected http://host:port"),
        ("telemetry.shutdown_deadline_ms=99", "expected 100 to 600000"),
    ];
    for (argument, expected) in table {
        let error = refuse("", &[], &[argument]);
        let (key, _) = argument.split_once('=').unwrap();
        assert!(error.starts_with(&format!("--set {key}: `{key}` is ")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_variable_or_flag_that_names_no_key_is_refused() {
    for name in ["HYBRID_NODE_MACHINE", "HYBRID_NODE__", "HYBRID___MACHINE", "HYBRID_"] {
        let error = read("", &[(name, "a")], &[]).unwrap_err();
        assert!(matches!(&error, ConfigError::MalformedVariable { variable } if variable == name), "{error}");
    }
    for argument in ["node.machine", "machine=a", ".machine=a", "node.=a", ""] {
        let error = read("", &[], &[argument]).unwrap_err();
        assert!(matches!(error, ConfigError::MalformedFlag { .. }), "{argument}: {error}");
    }
}

#[test]
fn a_file_that_is_not_toml_names_the_line_but_not_its_text() {
    let error = refuse("[metrics-hub]\napi_key = hunter2\n", &[], &[]);
    assert!(
        error.starts_with("configuration file config/hybrid.toml is not valid TOML: line 2: "),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let error = Sources::gather(Some(std::path::Path::new("no/such/file.toml")), &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
}

#[test]
fn an_inline_secret_is_refused_without_repeating_it() {
    let refused = [
        refuse("[metrics-hub]\napi_key = \"hunter2\"\n", &[], &[]),
        refuse("", &[("HYBRID_METRICS_HUB__API_KEY", "hunter2")], &[]),
        refuse("", &[], &["metrics-hub.api_key={ value = \"hunter2\" }"]),
        refuse("[metrics-hub]\napi_key = [\"hunter2\"]\n", &[], &[]),
    ];
    for error in refused {
        assert!(error.contains("metrics-hub.api_key"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = refuse("[metrics-hub]\napi_key = 20222\n", &[], &[]);
    assert!(error.contains("{ file = \"path\" }") && !error.contains("20222"), "{error}");
}

#[test]
fn a_secret_in_a_higher_layer_replaces_the_source_below() {
    let file = "[metrics-hub]\napi_key = { file = \"secrets/key\" }\n";
    let loaded = read(file, &[("HYBRID_METRICS_HUB__API_KEY__ENV", "API_KEY")], &[]).unwrap();
    assert_eq!(loaded.settings.own.api_key, Some(Secret::env("API_KEY")));
}

#[test]
fn the_dump_shows_every_value_in_force_and_no_secret() {
    let file = r#"
        [bus]
        url = "nats://user:hunter2@localhost:4222"
        [metrics-hub]
        api_key = { env = "API_KEY" }
        [other-service]
        anything = "goes"
    "#;
    let dump = read(file, &[], &["node.machine=pc2"]).unwrap().dump().unwrap();
    assert!(!dump.contains("hunter2"), "{dump}");
    let table: toml::Table = toml::from_str(&dump).unwrap();
    let expected: toml::Table = toml::from_str(
        r#"
        [node]
        machine = "pc2"
        data_dir = "state"
        [telemetry]
        log_format = "text"
        log_filter = "info"
        shutdown_deadline_ms = 10000
        [bus]
        url = "nats://[redacted]@localhost:4222"
        [metrics-hub]
        admin_listen = "127.0.0.1:7076"
        retention_days = 30
        label = "hub"
        api_key = { env = "API_KEY" }
        nested = { attempts_max = 3, enabled = true }
        targets = []
        [metrics-hub.providers]
        "#,
    )
    .unwrap();
    assert_eq!(table, expected);
}

#[test]
fn a_dump_reads_back_as_the_same_configuration() {
    let file =
        "[metrics-hub]\nnote = \"x\"\nproviders.a.enabled = true\n[[metrics-hub.targets]]\nname = \"b\"\n";
    let loaded = read(file, &[], &[]).unwrap();
    let again = read(&loaded.dump().unwrap(), &[], &[]).unwrap();
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn the_running_service_is_asked_at_its_admin_address() {
    let loaded = read("", &[], &["metrics-hub.admin_listen=0.0.0.0:1234"]).unwrap();
    assert_eq!(loaded.admin_listen("metrics-hub").unwrap(), SocketAddr::from(([0, 0, 0, 0], 1234)));
    assert!(matches!(loaded.admin_listen("bus"), Err(ConfigError::NoAdmin { .. })));
}
