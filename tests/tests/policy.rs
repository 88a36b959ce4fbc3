//! The owner's policy while everything runs: reloaded under load, switched, tried out, and explained afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use e2e::system::{FRONTIER, Options, PATIENCE, succeeded};
use e2e::upstream::Script;
use e2e::{System, wait};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

async fn ctl(system: &System, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = system.run("hybridctl", arguments).await?;
    serde_json::from_str(&succeeded(&output)?)
        .with_context(|| format!("hybridctl {arguments:?} writes no JSON"))
}

/// The mode in force for everybody.
async fn mode(system: &System) -> anyhow::Result<String> {
    let modes = ctl(system, &["mode", "--json"]).await?;
    let whole = modes.as_array().and_then(|all| all.iter().find(|mode| mode["requests_percent"] == 100));
    Ok(whole.and_then(|mode| mode["name"].as_str()).unwrap_or_default().to_owned())
}

struct Policies {
    _folder: tempfile::TempDir,
    file: PathBuf,
    shipped: String,
}

impl Policies {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let shipped = std::fs::read_to_string(e2e::workspace::root().join("config/policies.toml"))?;
        let this = Self { file: folder.path().join("policies.toml"), _folder: folder, shipped };
        this.write(&this.shipped)?;
        Ok(this)
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        // whole, so that no half of it is ever read
        let next: &Path = &self.file.with_extension("next");
        std::fs::write(next, text)?;
        std::fs::rename(next, &self.file).context("policies")
    }

    fn write_mode(&self, mode: &str) -> anyhow::Result<()> {
        let text = self.shipped.replace("default_mode = \"balanced\"", &format!("default_mode = \"{mode}\""));
        ensure!(mode == "balanced" || text != self.shipped, "the shipped file has another default mode");
        self.write(&text)
    }
}

#[tokio::test]
async fn the_whole_policy_reloads_under_load_without_a_dropped_request() -> anyhow::Result<()> {
    const CALLERS: usize = 8;
    let policies = Policies::new()?;
    let file = policies.file.to_str().context("the folder's name is no text")?;
    let options = Options::cloud()
        .set("model-manager-suite.policies_file", file)
        .set("model-manager-suite.reload_interval_ms", 20)
        .script(Script { chunks: 2, ..Script::default() });
    let system = System::start(options).await?;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, url) = (system.client(), format!("{}/v1/chat/completions", system.url()));
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.post(&url, &chat(FRONTIER, "Hello")).await?;
                ensure!(answer.status == 200, "status {}: {}", answer.status, answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    // there and back, and each time a mistake in between that changes nothing
    for wanted in ["performance", "balanced", "local-preferred", "balanced"] {
        let before = answered.load(Ordering::Relaxed);
        policies.write("[routing]\ndefault_mode = \"turbo\"\n")?;
        wait::until("the mistake to be reported", PATIENCE, async || {
            let ready = system
                .client()
                .get(&format!("{}/readyz", system.admin_url("model-manager-suite")))
                .await
                .ok()?;
            ready.text().contains("turbo").then_some(())
        })
        .await?;
        policies.write_mode(wanted)?;
        wait::until("the new policy to be in force", PATIENCE, async || {
            (mode(&system).await.ok()? == wanted).then_some(())
        })
        .await?;
        wait::until("requests under the new policy", PATIENCE, async || {
            (answered.load(Ordering::Relaxed) > before + CALLERS).then_some(())
        })
        .await?;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test]
async fn a_decision_can_be_looked_at_afterwards() -> anyhow::Result<()> {
    let system = System::start(Options::cloud()).await?;
    let url = format!("{}/v1/chat/completions", system.url());
    let answer = system.client().post(&url, &chat("auto", "What is 2+2?")).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    for (header, value) in
        [("x-hybrid-mode", "balanced"), ("x-hybrid-rule", "simple"), ("x-hybrid-complexity", "simple")]
    {
        assert_eq!(answer.header(header), value, "{header}");
    }
    assert!(answer.header("x-hybrid-estimated-latency-ms").parse::<u64>()? > 0);
    let id = answer.header("x-hybrid-decision-id").to_owned();
    let explained = wait::until("the decision to be kept", PATIENCE, async || {
        ctl(&system, &["explain", "--json", &id]).await.ok()
    })
    .await?;
    assert_eq!(explained["candidates"][0]["deployment"], answer.header("x-hybrid-deployment"));
    assert_eq!((&explained["mode"], &explained["rule"]), (&json!("balanced"), &json!("simple")));
    let reasons: Vec<&str> =
        explained["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(reasons.join("; "), answer.header("x-hybrid-decision"));
    // the embedder is none for text, and stands there with its reason
    let rejected = explained["rejected"].as_array().context("rejected")?;
    assert!(rejected.iter().any(|one| one["reason"] == "capability"), "{explained}");
    let shown = succeeded(&system.run("hybridctl", &["explain", &id]).await?)?;
    assert!(shown.contains("mode balanced (R6)"), "{shown}");
    let unknown = system.run("hybridctl", &["explain", "nobody-asked-this"]).await?;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no decision of it is kept"));
    Ok(())
}

#[tokio::test]
async fn a_mode_is_switched_while_everything_runs_and_a_dry_run_calls_nobody() -> anyhow::Result<()> {
    let system = System::start(Options::cloud()).await?;
    let url = format!("{}/v1/chat/completions", system.url());
    let ask = async || system.client().post(&url, &chat(FRONTIER, "Hello")).await;
    assert_eq!(ask().await?.status, 200);
    ctl(&system, &["mode", "set", "local-only", "--json"]).await?;
    let refused = wait::until("mode local-only to be in force", PATIENCE, async || {
        ask().await.ok().filter(|answer| answer.status == 503)
    })
    .await?;
    assert!(refused.text().contains("mode local-only does not use the cloud"), "{}", refused.text());
    ctl(&system, &["mode", "reset", "--json"]).await?;
    wait::until("mode local-only to be gone", PATIENCE, async || {
        ask().await.ok().filter(|answer| answer.status == 200)
    })
    .await?;

    succeeded(&system.run("hybridctl", &["flags", "set", "dry-run", "on"]).await?)?;
    let dry = wait::until("dry run to be in force", PATIENCE, async || {
        ask().await.ok().filter(|answer| answer.header("x-hybrid-dry-run") == "true")
    })
    .await?;
    let body = dry.json()?;
    let text = body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    assert!(text.starts_with("Dry run, nobody was called. It would go to mainpc/upstream/"), "{body}");
    let id = dry.header("x-hybrid-decision-id").to_owned();
    let rows = system.hub().attempts(&id, 1).await?;
    assert_eq!((rows.len(), rows[0].cost_picodollars, rows[0].deployment.as_str()), (1, 0, ""));
    // one request by itself
    succeeded(&system.run("hybridctl", &["flags", "remove", "dry-run"]).await?)?;
    wait::until("dry run to be over", PATIENCE, async || {
        ask().await.ok().filter(|answer| answer.header("x-hybrid-dry-run").is_empty())
    })
    .await?;
    let one =
        system.client().with_header("x-hybrid-dry-run", "true")?.post(&url, &chat(FRONTIER, "Hello")).await?;
    assert_eq!(one.header("x-hybrid-dry-run"), "true", "{}", one.text());
    Ok(())
}
