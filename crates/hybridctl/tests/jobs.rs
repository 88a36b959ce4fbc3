//! `hybridctl jobs` against the adapter's own process, a nats-server, and a provider that runs jobs.

use std::process::{Command, Output};

use anyhow::Context as _;
use e2e::system::{PATIENCE, succeeded};
use e2e::{Child, JobUpstream, Nats, port, wait, workspace};
use serde_json::Value;
use tempfile::TempDir;

struct World {
    nats: Nats,
    _adapter: Child,
    _provider: JobUpstream,
    folder: TempDir,
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let (nats, provider) = (Nats::start().await?, JobUpstream::start("key").await?);
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("key"), "key")?;
        let config = format!(
            r#"
            [node]
            machine = "mainpc"
            data_dir = "{folder}/data"
            [bus]
            url = "{url}"
            [remote-api-adapter]
            admin_listen = "127.0.0.1:{admin}"
            jobs = {{ poll_min_ms = 20, poll_max_ms = 200 }}
            [[remote-api-adapter.providers]]
            name = "fake"
            kind = "openai"
            base_url = "{base}"
            allow_private = true
            api_key = {{ file = "{folder}/key" }}
            [[remote-api-adapter.providers.deployments]]
            model = "small"
            context_length = 128000
            capabilities = ["generate"]
            price = {{ input_per_million = "2", output_per_million = "8", batch_input_per_million = "1", batch_output_per_million = "4", training_per_million = "3" }}
            "#,
            folder = folder.path().display(),
            url = nats.url(),
            admin = port::free()?,
            base = provider.base_url(),
        );
        std::fs::write(folder.path().join("hybrid.toml"), config)?;
        let mut command = Command::new(workspace::binary("remote-api-adapter")?);
        command.arg("--config").arg(folder.path().join("hybrid.toml"));
        let adapter = Child::spawn("remote-api-adapter", &mut command)?;
        let world = Self { nats, _adapter: adapter, _provider: provider, folder };
        wait::until("the jobs", PATIENCE, async || {
            world.run(&["list"]).await.ok()?.status.success().then_some(())
        })
        .await?;
        Ok(world)
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(workspace::binary("hybridctl")?);
        command.args(["jobs", "--nats", &self.nats.url(), "--machine", "mainpc"]).args(arguments);
        let running = command.current_dir(self.folder.path()).kill_on_drop(true).output();
        tokio::time::timeout(PATIENCE, running).await?.context("hybridctl did not start")
    }

    async fn text(&self, arguments: &[&str]) -> anyhow::Result<String> {
        succeeded(&self.run(arguments).await?)
    }

    async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text(&[arguments, &["--json"]].concat()).await?)?)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folder.path().join(name), text)?)
    }
}

#[tokio::test]
async fn a_file_of_requests_is_handed_in_watched_and_fetched() -> anyhow::Result<()> {
    let world = World::start().await?;
    assert_eq!(world.text(&["list"]).await?, "there is no job\n");
    let line = |id: &str, text: &str| {
        let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        serde_json::json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
    };
    world.write("night.jsonl", &[line("a", "hello"), line("b", "refuse this")].join("\n"))?;
    let submit = ["submit", "night.jsonl", "--model", "small"];
    let shown = world.text(&[&submit[..], &["--wait"]].concat()).await?;
    assert!(
        shown.contains("succeeded") && shown.contains("1 answered, 1 failed, 2 in the ledger"),
        "{shown}"
    );

    // the same file is the same job
    let again = world.json(&submit).await?;
    assert_eq!((&again["state"], &again["counts"]["total"]), (&"succeeded".into(), &2.into()));
    let id = again["job_id"].as_str().context("no id")?;
    assert!(id.starts_with("night-"), "{id}");
    assert_eq!(world.json(&["list"]).await?.as_array().map(Vec::len), Some(1));
    assert_eq!(world.json(&["get", id]).await?["cost_picodollars"], again["cost_picodollars"]);

    let results = world.text(&["results", id]).await?;
    let results: Vec<Value> = results.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!((&results[0]["custom_id"], &results[0]["text"]), (&"a".into(), &"echo: hello".into()));
    assert_eq!(results[1]["error"]["code"], "context_length_exceeded");
    Ok(())
}

#[tokio::test]
async fn a_model_is_trained_and_mistakes_are_told_before_anything_is_sent() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.write(
        "chats.jsonl",
        &"{\"messages\": [{\"role\": \"user\", \"content\": \"2+2?\"}]}\n".repeat(10),
    )?;
    let trained = world
        .json(&[
            "submit",
            "chats.jsonl",
            "--model",
            "small",
            "--fine-tune",
            "--suffix",
            "sums",
            "--id",
            "t",
            "--wait",
        ])
        .await?;
    assert_eq!((&trained["kind"], &trained["state"]), (&"fine-tune".into(), &"succeeded".into()));
    assert_eq!(trained["fine_tuned_model"], "ft:small:acme:sums:abc");
    assert!(trained["events"].as_array().is_some_and(|events| !events.is_empty()));

    world.write("broken.jsonl", "{\"custom_id\": \"a\"}\n")?;
    for (arguments, why) in [
        (&["submit", "nowhere.jsonl", "--model", "small"][..], "nowhere.jsonl"),
        (&["submit", "broken.jsonl", "--model", "small"], "line 1"),
        (&["submit", "chats.jsonl", "--model", "nobody", "--fine-tune"], "field model"),
        (&["submit", "chats.jsonl", "--fine-tune", "--model", "small", "--id", "a b"], "job_id"),
        (&["get", "nobody"], "not_found"),
        (&["results", "t"], "has no results"),
        (&["cancel", "nobody"], "not_found"),
    ] {
        let output = world.run(arguments).await?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(why), "{arguments:?}: {told}");
    }
    Ok(())
}
