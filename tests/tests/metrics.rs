//! What can be seen of a running system from outside, and what must not be seen.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

use std::collections::BTreeMap;

use e2e::http::Client;
use e2e::system::{CHEAP, Options, PATIENCE, PROVIDER_KEY, question, samples, succeeded, sum};
use e2e::upstream::Script;
use e2e::{System, wait};
use wire::subject::service;
use wire::v1;

/// In no log, no metric, no row of the ledger, no dump of a configuration.
const CANARIES: [&str; 5] = [
    PROVIDER_KEY,
    "sk-canary-of-the-caller-93a7d1",
    "canary-of-the-write-token-c2e8b4",
    "canary-in-a-header-7f61aa",
    "canary in a prompt d90c35",
];

#[tokio::test]
async fn the_system_shows_its_state_and_none_of_its_secrets() -> anyhow::Result<()> {
    let [_, caller, token, header, _] = CANARIES;
    let mut headers = toml::Table::new();
    headers.insert("x-canary".to_owned(), header.into());
    let options = Options { api_keys: vec![caller.to_owned()], ..Options::default() }
        .secret("observability-hub.write_token", token)
        .secret("metrics-forwarder.token", token)
        .set("remote-api-adapter.providers.0.extra_headers", headers);
    let mut system = System::start(options).await?;
    traffic(&system).await?;
    every_service_tells_its_health(&system).await?;
    the_forwarder_ships_what_the_services_count(&system).await?;
    the_page_is_strict(&system).await?;
    configurations_are_shown_without_secrets(&system).await?;
    no_secret_is_anywhere(&system).await?;
    a_service_that_dies_is_seen_to_be_down(&mut system).await
}

/// Answers, refusals and failures, each with the prompt that nobody may see.
async fn traffic(system: &System) -> anyhow::Result<()> {
    let caller = system.caller().await?;
    let prompt = CANARIES[4];
    let named = v1::GenerateRequest { model: CHEAP.to_owned(), ..question(prompt) };
    caller.generate(&named).await?.end()?;
    caller.generate(&question(prompt)).await?.end()?;
    caller.with_key(Some("sk-of-somebody-else")).generate(&named).await?.error()?;
    // A provider that repeats the key it refuses, as OpenAI does.
    let repeats = serde_json::json!({"error": {"message": format!("Incorrect API key provided: {PROVIDER_KEY}."),
        "type": "invalid_request_error", "param": null, "code": "invalid_api_key"}});
    let refuse = Script { status: Some(401), body: Some(repeats), next_n: Some(1), ..Script::default() };
    system.upstream.play(&refuse).await?;
    let reply = caller.generate(&named).await?;
    let error = reply.error()?;
    assert_eq!(error.code(), v1::ErrorCode::UpstreamAuth, "{error:?}");
    assert!(!format!("{error:?}").contains(PROVIDER_KEY), "the caller is told the provider's key: {error:?}");
    system.hub().rows_until("the rows of the traffic", |rows| rows.len() == 3).await.map(drop)
}

async fn every_service_tells_its_health(system: &System) -> anyhow::Result<()> {
    let client = Client::default();
    for name in service::ALL {
        let url = system.admin_url(name);
        let health = client.get(&format!("{url}/healthz")).await?;
        assert_eq!(health.status, 200, "{name}: {}", health.text());
        let ready = client.get(&format!("{url}/readyz")).await?;
        let report = ready.json()?;
        let components = report["components"].as_array().map_or(0, Vec::len);
        assert!(ready.status == 200 && components > 0, "{name}: {report}");
        let metrics = client.get(&format!("{url}/metrics")).await?;
        assert_eq!(metrics.status, 200, "{name}");
        assert!(metrics.header("content-type").starts_with("text/plain"), "{name}");
        assert!(!samples(&metrics.text())?.is_empty(), "{name} counts nothing");
        succeeded(&system.run(name, &["--health-check"]).await?)?;
    }
    Ok(())
}

async fn the_forwarder_ships_what_the_services_count(system: &System) -> anyhow::Result<()> {
    let hub = system.hub();
    let up = wait::until("every target to be up", PATIENCE, async || {
        let up = hub.query("up").await.ok()?;
        let jobs: BTreeMap<&str, f64> =
            up.iter().filter_map(|series| Some((series.labels.get("job")?.as_str(), series.value))).collect();
        let all = service::ALL.iter().all(|name| jobs.get(name).is_some_and(|value| *value >= 1.0));
        all.then_some(up)
    })
    .await?;
    assert_eq!(up.len(), service::ALL.len(), "a target is there twice: {up:#?}");
    assert!(
        up.iter().all(|series| series.labels.get("machine").is_some_and(|name| name == "mainpc")),
        "{up:#?}"
    );

    // The same number at the source and in the hub, once the next scrape has passed.
    let page =
        Client::default().get(&format!("{}/metrics", system.admin_url(service::REQUEST_COORDINATOR))).await?;
    let counted = sum(&samples(&page.text())?, "hybrid_requests_total", &[]);
    assert!(counted >= 3.0, "the coordinator counts {counted} requests");
    wait::until("the coordinator's count in the hub", PATIENCE, async || {
        let shipped = hub.query("hybrid_requests_total").await.ok()?;
        (sum(&shipped, "hybrid_requests_total", &[]) >= counted).then_some(())
    })
    .await
}

async fn the_page_is_strict(system: &System) -> anyhow::Result<()> {
    let client = Client::default();
    let page = client.get(&format!("{}/", system.hub().url())).await?;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let text = page.text();
    assert!(
        !text.contains("http://") && !text.contains("https://"),
        "the page loads something from elsewhere"
    );
    for tag in text.split("<script").skip(1) {
        assert!(tag.starts_with(" ") && tag.contains("src=\""), "a script inside the page: {tag}");
    }
    let files: Vec<&str> = text
        .split(['"', '\''])
        .filter(|part| [".js", ".css", ".svg"].iter().any(|end| part.ends_with(end)))
        .collect();
    assert!(!files.is_empty(), "the page needs no file: {text}");
    for file in files {
        let address = format!("{}/{}", system.hub().url(), file.trim_start_matches(['.', '/']));
        assert_eq!(client.get(&address).await?.status, 200, "{file}");
    }
    Ok(())
}

async fn configurations_are_shown_without_secrets(system: &System) -> anyhow::Result<()> {
    for name in service::ALL {
        let dump = succeeded(&system.run(name, &["--dump-config"]).await?)?;
        assert!(dump.contains(&format!("[{name}]")), "{name} does not show its section: {dump}");
        clean(&format!("the configuration of {name}"), &dump);
        let key = format!("{name}.no_such_key=1");
        let refused = system.run(name, &["--dump-config", "--set", &key]).await?;
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("no_such_key"), "{name}: {told}");
    }
    Ok(())
}

async fn no_secret_is_anywhere(system: &System) -> anyhow::Result<()> {
    clean("the logs", &system.logs());
    let client = Client::default();
    for name in service::ALL {
        let page = client.get(&format!("{}/metrics", system.admin_url(name))).await?;
        clean(&format!("the metrics of {name}"), &page.text());
    }
    let hub = system.hub();
    for path in ["/api/usage/export?from=0", "/api/usage/recent", "/api/usage/summary?from=0"] {
        let answer = client.get(&format!("{}{path}", hub.url())).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        clean(path, &answer.text());
    }
    clean("the stream", &format!("{:?}", system.caller().await?.ledger_stream().await?));
    Ok(())
}

fn clean(place: &str, text: &str) {
    for canary in CANARIES {
        let at = text.lines().find(|line| line.contains(canary));
        assert!(at.is_none(), "{place} shows {canary:?}: {}", at.expect("just found"));
    }
}

async fn a_service_that_dies_is_seen_to_be_down(system: &mut System) -> anyhow::Result<()> {
    system.kill(service::VRAM_OPTIMIZER)?;
    let hub = system.hub();
    wait::until("the dead service's target to be down", PATIENCE, async || {
        let up = hub.query("up{job=\"vram-optimizer\"}").await.ok()?;
        (up.len() == 1 && up[0].value == 0.0).then_some(())
    })
    .await?;
    let asked = system.run(service::VRAM_OPTIMIZER, &["--health-check"]).await?;
    assert!(!asked.status.success(), "a dead service is healthy");
    Ok(())
}
