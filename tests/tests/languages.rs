//! The same from another language: Python over NATS, and OpenAI's own SDK as it comes from PyPI.

#![expect(clippy::indexing_slicing, reason = "the helpers of tests fail as the tests do")]

use std::process::Output;

use anyhow::{Context as _, ensure};
use e2e::System;
use e2e::system::{LOCAL, Options, PATIENCE, succeeded};
use e2e::workspace::root;
use serde_json::{Value, json};
use wire::permission::{User, seed_file};

const KEY: &str = "sk-of-the-caller";

/// Runs a script with the packages of tests/python/requirements.txt.
async fn python(script: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let python = root().join(".tools/venv/bin/python");
    ensure!(
        python.is_file(),
        "{} is missing: run `scripts/setup.sh --test` (`make test` does)",
        python.display()
    );
    let mut command = tokio::process::Command::new(python);
    command.arg(root().join(script)).args(arguments).current_dir(root()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    ended.with_context(|| format!("{script} {arguments:?} does not end"))?.context("cannot start python")
}

#[tokio::test]
async fn python_and_the_openai_sdk_get_answers_over_both_ingresses() -> anyhow::Result<()> {
    let keys = vec![KEY.to_owned()];
    let system = System::start(Options { api_keys: keys, ..Options::cloud_and_local() }).await?;
    the_example_prints_what_is_streamed_to_it(&system).await?;
    the_example_says_what_is_wrong(&system).await?;
    the_sdk_works_as_it_is(&system).await
}

async fn example(system: &System, arguments: &[&str]) -> anyhow::Result<Output> {
    asked(system, &[&["--key", KEY], arguments].concat()).await
}

async fn asked(system: &System, arguments: &[&str]) -> anyhow::Result<Output> {
    let seed = system.nats.credentials().context("no credentials")?.join(seed_file(User::Caller.name()));
    let seed = seed.to_str().context("the folder's name is no text")?;
    python("examples/ask.py", &[&["--server", &system.nats.url(), "--seed", seed], arguments].concat()).await
}

async fn the_example_prints_what_is_streamed_to_it(system: &System) -> anyhow::Result<()> {
    let answered = example(system, &["What is 2+2?"]).await?;
    let told = String::from_utf8_lossy(&answered.stderr).into_owned();
    assert!(succeeded(&answered)?.contains('4'), "{told}");
    assert!(told.contains("local_cpu") && told.contains("why: ") && told.contains("R1"), "{told}");

    let answered = example(system, &["--agent", "CodeGenerator", "Write a queue"]).await?;
    let told = String::from_utf8_lossy(&answered.stderr).into_owned();
    assert_eq!(succeeded(&answered)?.trim(), "echo: Write a queue word1 word2 word3 word4 word5 word6 word7");
    assert!(told.contains("remote_api") && told.contains("CodeGenerator"), "{told}");
    Ok(())
}

async fn the_example_says_what_is_wrong(system: &System) -> anyhow::Result<()> {
    let refused = example(system, &["--agent", "Nobody", "Hello"]).await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("not_found") && told.contains("Nobody"), "{told}");
    let refused = asked(system, &["Hello"]).await?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("unauthenticated"), "{told}");
    Ok(())
}

async fn the_sdk_works_as_it_is(system: &System) -> anyhow::Result<()> {
    let output = python("tests/python/openai_sdk.py", &[&format!("{}/v1", system.url()), KEY]).await?;
    let seen: Value = serde_json::from_str(succeeded(&output)?.trim()).context("not one JSON object")?;
    let text = "echo: Hello from the SDK word1 word2 word3 word4 word5 word6 word7";

    let whole = &seen["whole"];
    assert_eq!((&whole["text"], &whole["role"]), (&json!(text), &json!("assistant")), "{whole}");
    assert_eq!((&whole["finish_reason"], &whole["object"]), (&json!("stop"), &json!("chat.completion")));
    // "Hello from the SDK" has 18 bytes.
    assert_eq!(
        (&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"]),
        (&json!(5), &json!(8))
    );
    assert_eq!(whole["hybrid"]["deployment"], "mainpc/upstream/gpt-4o-mini");

    let stream = &seen["stream"];
    assert_eq!((&stream["text"], &stream["role"]), (&json!(text), &json!("assistant")), "{stream}");
    assert_eq!((&stream["finish_reasons"], &stream["ids"]), (&json!(["stop"]), &json!(1)), "{stream}");
    assert_eq!(stream["usage"]["total_tokens"], 13, "{stream}");
    assert_eq!(stream["pieces"], 8, "pieces were put together or lost: {stream}");

    assert_eq!(seen["local"]["tier"], "local-cpu");
    assert!(seen["local"]["text"].as_str().is_some_and(|text| text.contains('4')), "{}", seen["local"]);
    assert_eq!(seen["agent"]["deployment"], "mainpc/upstream/gpt-4o");
    let arrived = system.upstream.requests().await?;
    assert!(arrived.iter().any(|request| request.body["service_tier"] == "flex"), "extra_body was dropped");

    let expected = json!({"count": 2, "length": 8, "same": true, "different": true, "tokens": 2});
    assert_eq!(seen["embeddings"], expected);
    let listed = |id: &str| seen["models"].as_array().is_some_and(|ids| ids.iter().any(|one| one == id));
    assert!(listed(LOCAL) && listed("cloud/frontier") && listed("gpt-4o"), "{}", seen["models"]);
    assert_eq!(seen["model"], LOCAL);

    let errors = [
        ("wrong key", json!(["AuthenticationError", 401, "unauthenticated", null])),
        ("temperature", json!(["BadRequestError", 400, "invalid_argument", "temperature"])),
        ("messages", json!(["BadRequestError", 400, "invalid_argument", "messages"])),
        ("model", json!(["NotFoundError", 404, "not_found", "model"])),
        ("stream", json!(["NotFoundError", 404, "not_found", "model"])),
        ("retrieve", json!(["NotFoundError", 404, "not_found", "model"])),
        ("embeddings", json!(["BadRequestError", 400, "unsupported", null])),
    ];
    for (what, expected) in errors {
        assert_eq!(seen["errors"][what], expected, "{what}");
    }
    Ok(())
}
