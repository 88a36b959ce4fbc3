//! A budget is not exceeded, whoever races for its last cent and whoever dies.

#![expect(clippy::indexing_slicing, reason = "the helpers of tests fail as the tests do")]

use std::path::PathBuf;

use anyhow::Context as _;
use domain::units::Money;
use e2e::system::{FRONTIER, LOCAL, MACHINE, Options, PATIENCE, Row};
use e2e::upstream::Script;
use e2e::{System, wait};
use futures::future::join_all;
use serde_json::{Value, json};
use wire::subject::{BudgetCall, service};
use wire::v1;

/// Tokens of an answer: as many as the script's pieces.
const ANSWER_TOKENS: i64 = 200;
/// $10 a million.
const ANSWER_PICODOLLARS: i64 = ANSWER_TOKENS * 10_000_000;

/// The shipped policies and one budget.
struct Policies {
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl Policies {
    fn new(limit_picodollars: i64, when_spent: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let this = Self { file: folder.path().join("policies.toml"), _folder: folder };
        this.write(limit_picodollars, when_spent)?;
        Ok(this)
    }

    fn write(&self, limit_picodollars: i64, when_spent: &str) -> anyhow::Result<()> {
        let shipped = std::fs::read_to_string(e2e::workspace::root().join("config/policies.toml"))?;
        let limit = Money::picodollars(limit_picodollars).to_string();
        let budget = format!(
            "[[budget]]\nname = \"cloud-day\"\nscope = \"provider:upstream\"\nperiod = \"day\"\nlimit = \"{limit}\"\n\
             when_spent = \"{when_spent}\"\nmachines = {{ {MACHINE} = 1.0 }}\n"
        );
        std::fs::write(&self.file, format!("{shipped}\n{budget}")).context("policies")
    }

    fn options(&self, options: Options) -> anyhow::Result<Options> {
        let file = self.file.to_str().context("the folder's name is no text")?;
        Ok(options
            .set("model-manager-suite.policies_file", file)
            .script(Script { chunks: 200, ..Script::default() }))
    }
}

fn chat(model: Option<&str>, max_tokens: Option<i64>) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello"}]});
    if let Some(model) = model {
        body["model"] = json!(model);
    }
    if let Some(max_tokens) = max_tokens {
        body["max_tokens"] = json!(max_tokens);
    }
    body
}

async fn standing(system: &System) -> anyhow::Result<v1::BudgetStanding> {
    let machine = domain::id::NodeId::new(MACHINE)?;
    let reply = system.caller().await?.call(&BudgetCall(machine), &v1::BudgetRequest::default()).await?;
    reply.budgets.into_iter().next().context("there is no budget")
}

/// Waits until nothing is set aside any more.
async fn settled(system: &System) -> anyhow::Result<v1::BudgetStanding> {
    wait::until("every reservation to be settled", PATIENCE, async || {
        standing(system).await.ok().filter(|standing| standing.reserved_picodollars == 0)
    })
    .await
}

fn cost(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.cost_picodollars).sum()
}

#[tokio::test]
async fn a_thousand_callers_cannot_overspend_a_budget_for_ten() -> anyhow::Result<()> {
    const CALLERS: usize = 1_000;
    let limit = 10 * ANSWER_PICODOLLARS + 10 * ANSWER_PICODOLLARS / 5;
    let policies = Policies::new(limit, "reject")?;
    let mut system = System::start(policies.options(Options::cloud())?).await?;
    let client = system.client();
    let url = format!("{}/v1/chat/completions", system.url());
    let body = chat(Some(FRONTIER), Some(ANSWER_TOKENS));
    let answers = join_all((0..CALLERS).map(|_| client.post(&url, &body))).await;
    let mut paid = 0;
    for answer in answers {
        let answer = answer?;
        match answer.status.as_u16() {
            200 => paid += 1,
            429 => {
                let error = &answer.json()?["error"];
                assert_eq!(error["code"], "budget_exceeded", "{error}");
                assert!(
                    error["message"]
                        .as_str()
                        .is_some_and(|text| text.contains("budget cloud-day has no room"))
                );
            }
            other => anyhow::bail!("status {other}: {}", answer.text()),
        }
    }
    assert!((1..=12).contains(&paid), "{paid} were paid");
    let standing = settled(&system).await?;
    assert!(standing.spent_picodollars <= limit, "{standing:?}");
    let rows = system.hub().rows_until("every request", |rows| rows.len() >= CALLERS).await?;
    assert_eq!((rows.len(), cost(&rows)), (CALLERS, standing.spent_picodollars));
    assert_eq!(rows.iter().filter(|row| row.outcome == "ok").count(), paid);

    // what is spent is still spent when the keeper of the budgets comes back
    system.kill(service::MODEL_MANAGER_SUITE)?;
    system.restart(service::MODEL_MANAGER_SUITE).await?;
    assert_eq!(settled(&system).await?.spent_picodollars, standing.spent_picodollars);
    Ok(())
}

#[tokio::test]
async fn a_coordinator_that_dies_leaves_the_money_for_its_calls_set_aside() -> anyhow::Result<()> {
    let policies = Policies::new(100 * ANSWER_PICODOLLARS, "reject")?;
    let mut system = System::start(policies.options(Options::cloud())?).await?;
    let slow = Script { chunks: 200, chunk_delay_ms: 100, ..Script::default() };
    system.upstream.play(&slow).await?;
    let mut body = chat(Some(FRONTIER), Some(ANSWER_TOKENS));
    body["stream"] = json!(true);
    let client = system.client().with_header("x-hybrid-deadline-ms", "3000")?;
    let url = format!("{}/v1/chat/completions", system.url());
    let mut stream = client.send(hyper::Method::POST, &url, body.to_string()).await?;
    stream.next().await?;
    let during = standing(&system).await?;
    assert!(during.reserved_picodollars >= ANSWER_PICODOLLARS, "{during:?}");
    system.kill(service::REQUEST_COORDINATOR)?;
    system.restart(service::REQUEST_COORDINATOR).await?;
    system.ready().await?;
    // the reservation outlives the coordinator: nobody else can spend the money meanwhile
    assert_eq!(standing(&system).await?.reserved_picodollars, during.reserved_picodollars);
    Ok(())
}

#[tokio::test]
async fn a_budget_that_is_spent_sends_work_home_and_a_larger_one_lets_it_out_again() -> anyhow::Result<()> {
    let policies = Policies::new(1_000, "local")?;
    let mut options = policies.options(Options::cloud_and_local())?;
    options = options.set("model-manager-suite.reload_interval_ms", 200);
    let system = System::start(options).await?;
    let heavy = json!({"messages": [{"role": "user", "content": "word ".repeat(3_500)}], "max_tokens": 16});
    let answer = system.post("chat/completions", &heavy).await?;
    // the tiny model's context is too small for it: the budget is what the caller hears of
    assert_eq!(answer.status.as_u16(), 429, "{}", answer.text());

    // an agent that may run in both places goes home
    let body = chat(None, Some(8));
    let client = system.client().with_header("x-hybrid-agent", "CodeGenerator")?;
    let url = format!("{}/v1/chat/completions", system.url());
    let home = client.post(&url, &body).await?.json()?;
    assert_eq!(
        (&home["hybrid"]["tier"], &home["hybrid"]["cost_usd"]),
        (&json!("local-cpu"), &json!("0.00")),
        "{home}"
    );
    assert!(home["model"].as_str().is_some_and(|model| model.contains(LOCAL)), "{home}");

    policies.write(1_000_000_000_000, "local")?;
    wait::until("the larger budget", PATIENCE, async || {
        let answer = client.post(&url, &body).await.ok()?.json().ok()?;
        (answer["hybrid"]["tier"] == "remote-api").then_some(())
    })
    .await
}

#[tokio::test]
async fn what_has_to_wait_for_money_waits_and_what_has_no_bound_is_given_one() -> anyhow::Result<()> {
    // room for one call at a time
    let policies = Policies::new(40 * ANSWER_PICODOLLARS, "queue")?;
    let options = policies.options(Options::cloud())?;
    let bound = 30 * ANSWER_TOKENS;
    let system = System::start(options.set("request-coordinator.output_tokens_when_budgeted", bound)).await?;
    let body = chat(Some(FRONTIER), None);
    for answer in join_all((0..4).map(|_| system.post("chat/completions", &body))).await {
        let answer = answer?;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    }
    let asked = system.upstream.requests().await?;
    let asked: Vec<_> = asked.iter().filter_map(|request| request.body.get("max_tokens").cloned()).collect();
    assert_eq!(asked, vec![json!(bound); 4]);
    Ok(())
}
