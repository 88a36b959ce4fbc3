use super::*;

fn parse(toml: &str) -> Result<Secret, String> {
    let table: toml::Table = toml::from_str(&format!("secret = {toml}")).unwrap();
    table.get("secret").unwrap().clone().try_into().map_err(|error: toml::de::Error| error.to_string())
}

#[test]
fn a_file_is_read_again_at_each_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let secret = Secret::file(&path);
    assert!(matches!(secret.resolve(), Err(SecretError::Unreadable { .. })));

    std::fs::write(&path, "first\r\n").unwrap();
    assert_eq!(secret.resolve().unwrap().expose_secret(), "first");
    std::fs::write(&path, " second \n").unwrap();
    assert_eq!(secret.resolve().unwrap().expose_secret(), " second ");
}

#[test]
fn a_file_without_a_usable_value_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let secret = Secret::file(&path);

    std::fs::write(&path, "\n").unwrap();
    assert!(matches!(secret.resolve(), Err(SecretError::Empty { .. })));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(secret.resolve(), Err(SecretError::NotText { .. })));
    std::fs::write(&path, "x".repeat(64 * 1024 + 1)).unwrap();
    assert!(matches!(secret.resolve(), Err(SecretError::TooLong { .. })));
    std::fs::write(&path, "x".repeat(64 * 1024)).unwrap();
    assert!(secret.resolve().is_ok());
}

#[test]
fn a_variable_is_read_from_the_environment() {
    assert!(!Secret::env("PATH").resolve().unwrap().expose_secret().is_empty());
    let missing = Secret::env("HYBRID_TEST_VARIABLE_THAT_NOBODY_SETS").resolve();
    assert!(matches!(missing, Err(SecretError::NotSet { .. })));
}

#[test]
fn a_secret_is_read_from_and_written_as_its_source() {
    for (toml, secret) in [
        (r#"{ file = "secrets/key" }"#, Secret::file("secrets/key")),
        (r#"{ env = "API_KEY" }"#, Secret::env("API_KEY")),
    ] {
        assert_eq!(parse(toml).unwrap(), secret);
        assert_eq!(toml::Value::try_from(&secret).unwrap().to_string(), toml);
    }
}

#[test]
fn an_inline_value_is_refused_without_repeating_it() {
    let refused = [
        r#""hunter2""#,
        "20222",
        "-20222",
        "2.0222",
        "true",
        r#"["hunter2"]"#,
        "{}",
        r#"{ value = "hunter2" }"#,
        r#"{ env = "A=hunter2" }"#,
        r#"{ env = "" }"#,
        r#"{ file = "" }"#,
        r#"{ file = "secrets/key", env = "API_KEY" }"#,
    ];
    for toml in refused {
        let error = parse(toml).expect_err(toml);
        assert!(!error.contains("hunter2") && !error.contains("0222"), "{toml}: {error}");
    }
}

#[test]
fn no_view_of_a_secret_shows_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "hunter2").unwrap();
    let secret = Secret::file(&path);
    let value = secret.resolve().unwrap();
    let views = [
        format!("{secret:?}"),
        secret.to_string(),
        format!("{value:?}"),
        toml::Value::try_from(&secret).unwrap().to_string(),
    ];
    for view in views {
        assert!(!view.contains("hunter2"), "{view}");
    }
}
