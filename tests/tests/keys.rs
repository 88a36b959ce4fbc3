//! Virtual keys: who asks, what it is for, how much it may use, and that nobody ever sees it again.

use anyhow::Context as _;
use e2e::http::{Answer, Client};
use e2e::system::{CHEAP, FRONTIER, Options, PATIENCE, question, succeeded};
use e2e::upstream::Script;
use e2e::{System, wait};
use serde_json::{Value, json};
use wire::subject::{BudgetCall, Generate, KeyCall, service};
use wire::v1;

const MASTER: &str = "mk-of-the-owner-5d0a";
/// $0.60 a million, ten tokens: as many as the script's pieces.
const ANSWER_PICODOLLARS: i64 = 10 * 600_000;

async fn started() -> anyhow::Result<System> {
    let options = Options { api_keys: vec![MASTER.to_owned()], ..Options::cloud() };
    let options = options.secret("model-manager-suite.master_key", MASTER);
    System::start(options.script(Script { chunks: 10, ..Script::default() })).await
}

/// `hybridctl keys …`, and what it writes to stdout.
async fn keys(system: &System, arguments: &[&str]) -> anyhow::Result<String> {
    let arguments: Vec<&str> = ["keys"].iter().chain(arguments).copied().collect();
    Ok(succeeded(&system.run("hybridctl", &arguments).await?)?.trim().to_owned())
}

async fn ask(system: &System, key: &str, body: &Value) -> anyhow::Result<Answer> {
    Client::default().with_key(key).post(&format!("{}/v1/chat/completions", system.url()), body).await
}

fn chat(model: &str) -> Value {
    json!({"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]})
}

/// Asks until the coordinator knows of the key what `select` waits for: it hears of changes a moment later.
async fn until(system: &System, key: &str, status: u16) -> anyhow::Result<()> {
    wait::until(&format!("status {status}"), PATIENCE, async || {
        let url = format!("{}/v1/models", system.url());
        let answer = Client::default().with_key(key).get(&url).await.ok()?;
        (answer.status.as_u16() == status).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_key_stands_for_somebody_and_holds_to_its_limits_on_both_ingresses() -> anyhow::Result<()> {
    let system = started().await?;
    let create = ["create", "ci", "--requests-per-minute", "3", "--model", CHEAP, "--note", "builds"];
    let key = keys(&system, &create).await?;
    assert!(key.starts_with("hk_ci_") && key.len() > 64, "{key}");
    until(&system, &key, 200).await?;

    let first = ask(&system, &key, &chat(CHEAP)).await?;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("x-ratelimit-limit-requests"), "3");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "2");
    let other = ask(&system, &key, &chat(FRONTIER)).await?;
    assert_eq!((other.status.as_u16(), &other.json()?["error"]["code"]), (403, &json!("permission_denied")));

    // on the bus the key rides in a header; the limit is one for both
    let caller = system.caller().await?.with_key(Some(&key));
    let request = v1::GenerateRequest { model: CHEAP.to_owned(), ..question("Hello") };
    caller.ask(&Generate, &request).await?.end()?;
    let reply = caller.ask(&Generate, &request).await?;
    let refused = reply.error()?;
    assert_eq!((refused.code(), refused.retryable), (v1::ErrorCode::RateLimited, true), "{refused:?}");
    assert!(refused.retry_after_ms > 0 && refused.message.contains("key ci may make 3 requests"));
    let limited = ask(&system, &key, &chat(CHEAP)).await?;
    assert_eq!(
        (limited.status.as_u16(), &limited.json()?["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    let wait: u64 = limited.header("retry-after").parse()?;
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(limited.header("x-ratelimit-remaining-requests"), "0");

    for (what, stranger) in [("none", None), ("unknown", Some("hk_ci_00")), ("of an SDK", Some("sk-x"))] {
        let refused = caller.with_key(stranger).ask(&Generate, &request).await?;
        assert_eq!(refused.error()?.code(), v1::ErrorCode::Unauthenticated, "{what}");
    }

    let rows = system.hub().rows_until("its rows", |rows| rows.len() >= 3).await?;
    assert!(rows.iter().all(|row| row.tenant == "ci"), "{rows:?}");
    let by_key = succeeded(&system.run("hybridctl", &["usage", "--by", "key"]).await?)?;
    assert!(by_key.lines().any(|line| line.starts_with("ci ")), "{by_key}");

    keys(&system, &["limit", "ci", "--requests-per-minute", "none", "--disable"]).await?;
    until(&system, &key, 401).await?;
    keys(&system, &["limit", "ci", "--enable"]).await?;
    until(&system, &key, 200).await?;
    assert_eq!(ask(&system, &key, &chat(CHEAP)).await?.status, 200, "it has no limit any more");
    keys(&system, &["revoke", "ci"]).await?;
    until(&system, &key, 401).await?;
    let again = system.run("hybridctl", &["keys", "create", "ci"]).await?;
    assert!(!again.status.success(), "the name of a revoked key was given away");
    nobody_sees_it_again(&system, &key).await
}

/// The secret stands in no log, no row and not in the bucket.
async fn nobody_sees_it_again(system: &System, key: &str) -> anyhow::Result<()> {
    let secret = key.rsplit('_').next().context("no secret")?;
    let bucket = async_nats::jetstream::new(system.nats.client().await?);
    let store = bucket.get_key_value(wire::subject::CONTROL_BUCKET).await?;
    let kept = store.get("mainpc.key.ci").await?.context("the key is not kept")?;
    for (place, text) in [
        ("a log", system.logs()),
        ("the ledger", format!("{:?}", system.hub().rows().await?)),
        ("the bucket", String::from_utf8_lossy(&kept).into_owned()),
        ("the list", keys(system, &["list", "--json"]).await?),
    ] {
        assert!(!text.contains(secret) && !text.contains(MASTER), "{place} has the key");
    }
    Ok(())
}

#[tokio::test]
async fn the_money_of_a_key_is_a_budget_that_outlives_its_keeper() -> anyhow::Result<()> {
    let mut system = started().await?;
    // what is set aside counts each byte of input as a token, and much around it
    let day = format!("0.{:012}", 20 * ANSWER_PICODOLLARS);
    let key = keys(&system, &["create", "guest", "--per-day", &day, "--concurrency", "64"]).await?;
    until(&system, &key, 200).await?;
    let (mut paid, mut refused) = (0, Vec::new());
    for _ in 0..25 {
        let answer = ask(&system, &key, &chat(CHEAP)).await?;
        match answer.status.as_u16() {
            200 => paid += 1,
            _ => refused.push(answer.json()?["error"]["type"].clone()),
        }
        settled(&system).await?;
    }
    assert!((1..=20).contains(&paid), "{paid}");
    assert!(!refused.is_empty() && refused.iter().all(|kind| kind == "insufficient_quota"), "{refused:?}");
    let before = settled(&system).await?;
    assert_eq!((before.name.as_str(), before.scope.as_str()), ("key:guest:day", "key:guest"));
    assert!(before.spent_picodollars >= i64::from(paid) * ANSWER_PICODOLLARS, "{before:?}");
    system.kill(service::MODEL_MANAGER_SUITE)?;
    system.restart(service::MODEL_MANAGER_SUITE).await?;
    assert_eq!(settled(&system).await?.spent_picodollars, before.spent_picodollars);
    assert_eq!(ask(&system, &key, &chat(CHEAP)).await?.status, 429);
    Ok(())
}

async fn settled(system: &System) -> anyhow::Result<v1::BudgetStanding> {
    let machine = domain::id::NodeId::new(e2e::system::MACHINE)?;
    let caller = system.caller().await?;
    wait::until("every reservation to be settled", PATIENCE, async || {
        let reply = caller.call(&BudgetCall(machine.clone()), &v1::BudgetRequest::default()).await.ok()?;
        reply.budgets.into_iter().next().filter(|standing| standing.reserved_picodollars == 0)
    })
    .await
}

#[tokio::test]
async fn only_the_master_key_makes_keys() -> anyhow::Result<()> {
    let system = started().await?;
    let caller = system.caller().await?;
    let call = KeyCall(domain::id::NodeId::new(e2e::system::MACHINE)?);
    let wanted = v1::VirtualKey { id: "mine".to_owned(), ..Default::default() };
    for master_key in [String::new(), "mk-guess".to_owned()] {
        let request = v1::KeyRequest { master_key, create: Some(wanted.clone()), ..Default::default() };
        let reply = caller.call(&call, &request).await?;
        assert_eq!(reply.error.map(|error| error.code()), Some(v1::ErrorCode::Unauthenticated));
        assert!(reply.secret.is_empty() && reply.keys.is_empty());
    }
    Ok(())
}
