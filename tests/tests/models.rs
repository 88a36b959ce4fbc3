//! Models come, are tried, switched to and back; an engine that is killed costs one model.

use e2e::System;
use e2e::system::{LOCAL, Options, PATIENCE, question, samples, succeeded, sum};
use e2e::{wait, workspace};
use rustix::process::Signal;
use serde_json::Value;
use wire::subject::service;
use wire::v1::{self, ErrorCode, reply_frame::Kind};

/// A machine whose models folder is its own.
async fn machine() -> anyhow::Result<(System, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    std::fs::copy(workspace::root().join("models/demo.gguf"), folder.path().join("demo.gguf"))?;
    let options = Options::of(&[
        service::OBSERVABILITY_HUB,
        service::MODEL_MANAGER_SUITE,
        service::LOCAL_MODEL_POOL,
        service::REQUEST_COORDINATOR,
    ])
    .set("local-model-pool.vram_lease", false)
    .set("local-model-pool.models_dir", folder.path().display().to_string());
    Ok((System::start(options).await?, folder))
}

async fn hybridctl(system: &System, arguments: &[&str]) -> anyhow::Result<Value> {
    let text = succeeded(&system.run("hybridctl", &[arguments, &["--json"][..]].concat()).await?)?;
    Ok(serde_json::from_str(&text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_installed_beside_the_old_one_evaluated_switched_to_and_rolled_back() -> anyhow::Result<()>
{
    let (mut system, folder) = machine().await?;
    let suite = workspace::root().join("config/evaluations/demo.toml");
    let suite = suite.to_str().unwrap();
    let report = hybridctl(&system, &["models", "evaluate", LOCAL, "--suite", suite]).await?;
    assert_eq!(report["passes"], true, "{report:#}");

    let file = folder.path().join("demo.gguf");
    let installed =
        hybridctl(&system, &["models", "install", file.to_str().unwrap(), "--as", "demo-2", "--like", LOCAL])
            .await?;
    assert_eq!((&installed[0]["phase"], &installed[0]["installed"]), (&"cold".into(), &true.into()));
    let known = wait::until("the new model in the list", PATIENCE, async || {
        let models = hybridctl(&system, &["models"]).await.ok()?;
        models["deployments"].as_array()?.iter().find(|model| model["model"] == "demo-2").cloned()
    });
    assert_eq!(known.await?["state"], "cold");

    // One that fails its suite is not switched to.
    let strict = folder.path().join("strict.jsonl");
    std::fs::write(
        &strict,
        r#"{"name": "impossible", "prompt": "Hello", "checks": [{"exact": "no model says this"}]}"#,
    )?;
    let strict = strict.to_str().unwrap();
    let refused =
        system.run("hybridctl", &["models", "switch", "local/fast", "demo-2", "--suite", strict]).await?;
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(answered_by(&system, "local/fast").await?, LOCAL);

    let switched = hybridctl(
        &system,
        &["models", "switch", "local/fast", "demo-2", "--suite", suite, "--threshold", "80"],
    )
    .await?;
    assert_eq!(switched["switched"][0]["targets"][0], "demo-2", "{switched:#}");
    assert_eq!(switched["evaluation"]["passes"], true, "{switched:#}");
    assert_eq!(answered_by(&system, "local/fast").await?, "demo-2");

    // It is kept: over a restart of the one who keeps it.
    system.kill(service::MODEL_MANAGER_SUITE)?;
    system.restart(service::MODEL_MANAGER_SUITE).await?;
    assert_eq!(answered_by(&system, "local/fast").await?, "demo-2");
    let back = hybridctl(&system, &["models", "rollback", "local/fast"]).await?;
    assert_eq!(back["switched"], Value::Array(vec![]));
    assert_eq!(answered_by(&system, "local/fast").await?, LOCAL);
    let again = system.run("hybridctl", &["models", "rollback", "local/fast"]).await?;
    assert!(!again.status.success(), "{again:?}");
    Ok(())
}

async fn answered_by(system: &System, model: &str) -> anyhow::Result<String> {
    let request = v1::GenerateRequest { model: model.to_owned(), ..question("What is 2+2?") };
    let reply = system.caller().await?.generate(&request).await?;
    let end = reply.end()?;
    anyhow::ensure!(reply.text().contains('4'), "{}", reply.text());
    Ok(end.model.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_killed_in_the_middle_of_a_stream_is_an_error_a_metric_and_a_reload() -> anyhow::Result<()>
{
    let (system, _folder) = machine().await?;
    let metrics = format!("{}/metrics", system.admin_url(service::LOCAL_MODEL_POOL));
    let failures = async || {
        let text = system.client().get(&metrics).await.ok()?.text();
        Some(sum(&samples(&text).ok()?, "local_model_pool_engine_failures_total", &[]))
    };
    let engines = system.engines(1).await?;
    let caller = system.caller().await?;
    let format = v1::ResponseFormat {
        kind: v1::response_format::Kind::JsonSchema.into(),
        schema_json: r#"{"type":"array","items":{"type":"string"},"minItems":400}"#.to_owned(),
        ..v1::ResponseFormat::default()
    };
    let request = v1::GenerateRequest {
        model: LOCAL.to_owned(),
        stream: true,
        response_format: Some(format),
        sampling: Some(v1::Sampling { temperature: Some(2.0), seed: Some(3), ..v1::Sampling::default() }),
        ..question("Tell me a long story")
    };
    let mut stream = caller.open(&wire::subject::Generate, &request).await?;
    // Stopped first, so that it cannot finish before it is killed.
    stream.until(|kind| matches!(kind, Kind::Delta(_)).then_some(())).await?;
    engines[0].signal(Signal::STOP)?;
    engines[0].signal(Signal::KILL)?;
    let reply = stream.rest().await?;
    let error = reply.error()?;
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error:?}");
    wait::until("the failure in the metrics", PATIENCE, async || {
        failures().await.filter(|count| *count >= 1.0)
    })
    .await?;
    // It is loaded again, and answers.
    wait::until("an answer", PATIENCE, async || answered_by(&system, LOCAL).await.ok()).await?;
    assert_ne!(system.engines(1).await?, engines);
    let hub = system.hub();
    let failed = |rows: &[e2e::system::Row]| {
        rows.iter().any(|row| row.outcome == "failed" && row.error_code == "unavailable")
    };
    hub.rows_until("the failed attempt", failed).await?;
    Ok(())
}
