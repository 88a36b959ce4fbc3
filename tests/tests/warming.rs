//! Two machines: what is cold here and warm there is answered there while it warms up here, and here from then on.

use domain::id::NodeId;
use e2e::system::{LOCAL, MACHINE, Options, PATIENCE, SECOND, SecondMachine, question};
use e2e::{System, port, wait};
use wire::subject::{ModelCall, Plan, service};
use wire::v1::{self, ModelPhase, plan_reply, plan_request};

const MODEL: &str = r#"
    [[local-model-pool.models]]
    name = "demo"
    file = "demo.gguf"
    slots = 2
"#;

fn ask() -> v1::GenerateRequest {
    v1::GenerateRequest { model: LOCAL.to_owned(), ..question("What is 2+2?") }
}

/// Machines and reasons of the candidates, best first.
async fn plan(system: &System) -> anyhow::Result<Vec<(String, String)>> {
    let request = v1::PlanRequest { method: Some(plan_request::Method::Generate(ask())) };
    let reply = system.caller().await?.call(&Plan, &request).await?;
    let Some(plan_reply::Result::Decision(decision)) = reply.result else { return Ok(vec![]) };
    Ok(decision.candidates.into_iter().map(|candidate| (candidate.machine, candidate.reason)).collect())
}

async fn plan_until(
    system: &System,
    what: &str,
    is: impl Fn(&[(String, String)]) -> bool,
) -> anyhow::Result<()> {
    wait::until(what, PATIENCE, async || plan(system).await.ok().filter(|plan| is(plan)).map(drop)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_cold_model_is_answered_by_pc2_while_it_warms_up_and_later_ones_locally()
-> anyhow::Result<()> {
    let ports = port::Block::reserve()?;
    let leaf = ports.all().next().unwrap();
    let mut options =
        Options::of(&[service::MODEL_MANAGER_SUITE, service::LOCAL_MODEL_POOL, service::REQUEST_COORDINATOR])
            .set("local-model-pool.vram_lease", false)
            .set("local-model-pool.models.0.preload", false)
            .set("bus.peers", vec![SECOND]);
    options.nats = SecondMachine::hub(leaf);
    let system = System::start(options).await?;
    let second = SecondMachine::start(leaf, MODEL).await?;
    plan_until(&system, "both machines in the plan, the second one warm", |plan| {
        let warm = |machine: &str, warm: bool| {
            plan.iter().any(|(other, reason)| other == machine && reason.contains("warm") == warm)
        };
        warm(SECOND, true) && warm(MACHINE, false)
    })
    .await
    .inspect_err(|_| println!("{}", second.logs()))?;

    let caller = system.caller().await?;
    let first = caller.generate(&ask()).await?;
    let end = first.end()?;
    assert_eq!(end.machine, SECOND, "{:?}", first.decision()?);
    assert!(first.text().contains('4'), "{}", first.text());
    assert_eq!(end.attempt, 1, "it was tried elsewhere first");

    // Nobody has asked for it here: the miss has.
    let status = v1::ModelRequest { model: LOCAL.to_owned(), ..v1::ModelRequest::default() };
    let here = ModelCall(NodeId::new(MACHINE)?);
    wait::until("the model to be warm here", PATIENCE, async || {
        let reply = caller.call(&here, &status).await.ok()?;
        (reply.models.first()?.phase() == ModelPhase::Warm).then_some(())
    })
    .await?;
    // The coordinator hears of it a moment after the pool has said so.
    let later = wait::until("an answer of this machine", PATIENCE, async || {
        let reply = caller.generate(&ask()).await.ok()?;
        (reply.end().ok()?.machine == MACHINE).then_some(reply)
    });
    let later = later.await?;
    assert!(later.text().contains('4'), "{}", later.text());
    Ok(())
}
