//! Two machines spend from one budget while one's coordinator dies and neither hears the other.

#![expect(clippy::indexing_slicing, reason = "the helpers of tests fail as the tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use domain::id::NodeId;
use domain::units::Money;
use e2e::http::Client;
use e2e::system::{FRONTIER, Options, PATIENCE, Row};
use e2e::upstream::Script;
use e2e::{Link, System, port, wait};
use futures::future::join_all;
use serde_json::{Value, json};
use wire::subject::{BudgetCall, service};
use wire::v1;

const MAIN: &str = "mainpc";
const SECOND: &str = "pc2";
/// Callers on each machine.
const CALLERS: usize = 500;
/// Tokens of an answer: as many as the script's pieces.
const ANSWER_TOKENS: i64 = 100;
/// $10 a million, and $2.50 for the 5 bytes of prompt with all that stands around it.
const CALL_PICODOLLARS: i64 = ANSWER_TOKENS * 10_000_000 + 200 * 2_500_000;
/// A server that lost a source looks for it again after up to so long.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
/// What the budget covers.
const CALLS: i64 = 10;

/// Two systems, each with its own server, and the link between the servers.
struct Machines {
    main: System,
    second: System,
    link: Link,
    _policies: tempfile::TempDir,
}

impl Machines {
    async fn start() -> anyhow::Result<Self> {
        let policies = tempfile::tempdir()?;
        let file = policies.path().join("policies.toml");
        let shipped = std::fs::read_to_string(e2e::workspace::root().join("config/policies.toml"))?;
        let limit = Money::picodollars(CALLS * CALL_PICODOLLARS);
        let budget = format!(
            "[[budget]]\nname = \"cloud-day\"\nscope = \"all\"\nperiod = \"day\"\nlimit = \"{limit}\"\n\
             when_spent = \"reject\"\nmachines = {{ {MAIN} = 0.5, {SECOND} = 0.5 }}\n"
        );
        std::fs::write(&file, format!("{shipped}\n{budget}"))?;
        let file = file.to_str().context("the folder's name is no text")?;
        let options = |machine, peer, nats| {
            let options = Options { machine, peers: vec![peer], nats, ..Options::cloud() };
            // an answer takes a while, so that the coordinator dies while some are under way
            let slow = Script { chunks: 100, delay_before_headers_ms: 4_000, ..Script::default() };
            options
                .script(slow)
                .set("model-manager-suite.policies_file", file)
                .set("request-coordinator.last_word_ms", 1_000)
                .set("request-coordinator.deadline_ms", 15_000)
        };
        let leaf_port = port::free()?;
        let accepts = format!("leafnodes {{ listen: \"127.0.0.1:{leaf_port}\" }}");
        let main = System::start(options(MAIN, SECOND, accepts)).await?;
        let link = Link::open(SocketAddr::from(([127, 0, 0, 1], leaf_port))).await?;
        let dials = format!(
            "leafnodes {{ reconnect: \"250ms\", remotes: [ {{ url: \"nats-leaf://127.0.0.1:{}\" }} ] }}",
            link.port()
        );
        let standby = options(SECOND, MAIN, dials).set("observability-hub.role", "standby");
        let second = System::start(standby).await?;
        Ok(Self { main, second, link, _policies: policies })
    }

    fn both(&self) -> [(&'static str, &System); 2] {
        [(MAIN, &self.main), (SECOND, &self.second)]
    }

    /// What each machine has spent, once nothing is set aside any more.
    async fn settled(&self) -> anyhow::Result<BTreeMap<&'static str, v1::BudgetStanding>> {
        let mut standings = BTreeMap::new();
        for (name, system) in self.both() {
            let caller = system.caller().await?;
            let call = BudgetCall(NodeId::new(name)?);
            let standing = wait::until("every reservation to be settled", PATIENCE, async || {
                let reply = caller.call(&call, &v1::BudgetRequest::default()).await.ok()?;
                reply.budgets.into_iter().next().filter(|standing| standing.reserved_picodollars == 0)
            });
            standings.insert(name, standing.await?);
        }
        Ok(standings)
    }
}

/// What one caller saw.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// An answer, and its request's id.
    Paid(String),
    /// That there is no money.
    Refused,
    /// A connection that broke: the coordinator died.
    Cut,
}

async fn ask(client: &Client, url: &str) -> anyhow::Result<Seen> {
    let body: Value = json!({
        "model": FRONTIER, "max_tokens": ANSWER_TOKENS, "messages": [{"role": "user", "content": "Hello"}],
    });
    let Ok(answer) = client.post(&format!("{url}/v1/chat/completions"), &body).await else {
        return Ok(Seen::Cut);
    };
    match answer.status.as_u16() {
        200 => Ok(Seen::Paid(answer.header("x-request-id").to_owned())),
        429 => {
            assert_eq!(answer.json()?["error"]["code"], "budget_exceeded", "{}", answer.text());
            Ok(Seen::Refused)
        }
        other => anyhow::bail!("status {other}: {}", answer.text()),
    }
}

async fn crowd(system: &System) -> anyhow::Result<Vec<Seen>> {
    let (client, url) = (system.client(), system.url());
    join_all((0..CALLERS).map(|_| ask(&client, &url))).await.into_iter().collect()
}

impl Seen {
    /// Of an answer.
    fn request_id(&self) -> Option<&str> {
        match self {
            Self::Paid(id) => Some(id),
            Self::Refused | Self::Cut => None,
        }
    }
}

fn paid(seen: &[Seen]) -> BTreeSet<&str> {
    seen.iter().filter_map(Seen::request_id).collect()
}

fn cost(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.cost_picodollars).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_a_dead_coordinator_and_a_cut_link_cannot_overspend() -> anyhow::Result<()> {
    let mut machines = Machines::start().await?;
    let (main, second) = (&machines.main, &machines.second);
    let disaster = async {
        wait::until("calls under way on both machines", PATIENCE, async || {
            let (one, other) = (main.upstream.requests().await.ok()?, second.upstream.requests().await.ok()?);
            (one.len() >= 2 && other.len() >= 2).then_some(())
        })
        .await?;
        machines.link.cut();
        main.strike(service::REQUEST_COORDINATOR)
    };
    let (on_main, on_second, struck) = tokio::join!(crowd(main), crowd(second), disaster);
    struck?;
    let (on_main, on_second) = (on_main?, on_second?);
    assert!(on_main.contains(&Seen::Cut), "nobody noticed that the coordinator died");
    assert!(!on_second.contains(&Seen::Cut), "the machine that lost nothing lost requests");

    // cut off from each other, both go on, and neither gets more than its part
    machines.main.restart(service::REQUEST_COORDINATOR).await?;
    let again = join_all(machines.both().map(|(_, system)| crowd(system))).await;
    let again: Vec<Seen> =
        again.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    assert!(!again.contains(&Seen::Cut));
    let standings = machines.settled().await?;
    machines.link.heal();

    let spent: i64 = standings.values().map(|standing| standing.spent_picodollars).sum();
    let limit = CALLS * CALL_PICODOLLARS;
    assert!(standings.values().all(|one| one.spent_picodollars <= one.allowed_picodollars), "{standings:#?}");
    assert!(spent <= limit, "{spent} of {limit}");
    let upstreams = [&machines.main.upstream, &machines.second.upstream];
    let mut calls = 0;
    for upstream in upstreams {
        calls += i64::try_from(upstream.requests().await?.len())?;
    }
    assert!(calls * ANSWER_TOKENS * 10_000_000 <= limit, "{calls} calls reached a provider");

    // both hubs have the union, each event once, and it comes to what both books say
    let answered: BTreeSet<&str> =
        paid(&on_main).union(&paid(&on_second)).copied().chain(paid(&again)).collect();
    let refused = [&on_main, &on_second, &again].into_iter().flatten().filter(|seen| **seen == Seen::Refused);
    let at_least = answered.len() + refused.count();
    let mut ledgers = Vec::new();
    for (name, system) in machines.both() {
        let hub = system.hub();
        let whole = async || {
            let rows = hub.rows().await.ok()?;
            (rows.len() >= at_least && cost(&rows) == spent).then_some(rows)
        };
        let rows = match wait::until("the union of both ledgers", HEALED_WITHIN, whole).await {
            Ok(rows) => rows,
            Err(error) => {
                let rows = hub.rows().await?;
                let (count, cost) = (rows.len(), cost(&rows));
                anyhow::bail!("{name} has {count} rows of {at_least} for {cost} of {spent}: {error}");
            }
        };
        ledgers.push(rows);
    }
    let events = |rows: &[Row]| rows.iter().map(|row| row.event_id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(events(&ledgers[0]), events(&ledgers[1]));
    let ok: BTreeSet<&str> =
        ledgers[0].iter().filter(|row| row.outcome == "ok").map(|row| row.request_id.as_str()).collect();
    assert!(answered.is_subset(&ok), "an answer is not in the ledger");
    assert!(ledgers[0].iter().any(|row| row.estimated && row.cost_picodollars > 0), "the dead left nothing");
    Ok(())
}
