//! The service on a real nats-server, with executors that announce themselves as real ones do.

// where clippy looks for tests
#[cfg(test)]
mod world;

use std::time::Duration;

use e2e::Nats;
use prost::Message;
use wire::v1::{self, DeploymentState};
use world::{Executor, Manager, deployment, generate};

#[tokio::test]
async fn what_an_executor_registers_is_in_the_snapshot_and_down_when_its_heartbeat_stops() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let executor =
        Executor::start(&nats, "mainpc", vec![deployment("mainpc/llama.cpp/demo", DeploymentState::Cold)])
            .await;

    let snapshot = manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Cold)).await;
    assert!(snapshot.agents.iter().any(|row| row.name == "CodeGenerator"));
    assert!(snapshot.services.iter().any(|status| status.service == "local-model-pool" && status.alive));

    executor.announcement.set_deployments(vec![deployment("mainpc/llama.cpp/demo", DeploymentState::Warm)]);
    manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Warm)).await;

    executor.kill();
    let snapshot = manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Down)).await;
    assert_eq!(snapshot.deployments[0].state_detail, "no heartbeat from local-model-pool on mainpc");
    manager.stop().await;
}

#[tokio::test]
async fn a_registration_of_a_dead_service_is_deleted_after_a_while() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start_with(&nats, |own| own.forget_after_ms = 1_000).await;
    let executor =
        Executor::start(&nats, "mainpc", vec![deployment("mainpc/llama.cpp/demo", DeploymentState::Warm)])
            .await;
    let key = executor.key.clone();
    manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Warm)).await;
    executor.kill();
    manager.snapshot_with(|snapshot| snapshot.deployments.is_empty()).await;
    let gone = async || manager.control.get(&key).await.unwrap().is_none().then_some(());
    e2e::wait::until("the registration's end", Duration::from_secs(10), gone).await.unwrap();
    manager.stop().await;
}

#[tokio::test]
async fn a_flag_is_in_the_snapshot_when_its_call_is_answered_and_survives_a_restart() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let off = v1::Flag {
        name: "tier.remote-api".to_owned(),
        enabled: false,
        updated_by: "a test".to_owned(),
        ..v1::Flag::default()
    };
    let reply = manager.flag(v1::FlagRequest { set: Some(off), remove: String::new() }).await;
    assert_eq!(reply.error, None);
    assert_eq!(reply.flags.len(), 1);
    assert!(reply.flags[0].updated_unix_ms > 0);
    assert_eq!(manager.snapshot().await.flags, reply.flags);
    manager.stop().await;

    let manager = Manager::start(&nats).await;
    assert_eq!(manager.snapshot().await.flags, reply.flags);
    assert_eq!(manager.flag(v1::FlagRequest::default()).await.flags, reply.flags);
    let remove = v1::FlagRequest { set: None, remove: "tier.remote-api".to_owned() };
    let reply = manager.flag(remove.clone()).await;
    assert_eq!((reply.flags.len(), reply.error), (0, None));
    assert!(manager.snapshot().await.flags.is_empty());
    let error = manager.flag(remove).await.error.unwrap();
    assert_eq!((error.code(), error.field.as_str()), (v1::ErrorCode::NotFound, "remove"));
    manager.stop().await;
}

#[tokio::test]
async fn bad_flags_are_answered_with_the_field_and_the_service_goes_on() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let good = || v1::Flag { name: "tier.edge".to_owned(), enabled: true, ..v1::Flag::default() };
    let set = |flag| v1::FlagRequest { set: Some(flag), remove: String::new() };
    for (field, request) in [
        ("flag", set(v1::Flag { name: String::new(), ..good() })),
        ("flag", set(v1::Flag { name: "a b".to_owned(), ..good() })),
        ("flag", set(v1::Flag { name: "tier..edge".to_owned(), ..good() })),
        ("rollout_percent", set(v1::Flag { rollout_percent: 101, ..good() })),
        ("updated_by", set(v1::Flag { updated_by: "a\nb".to_owned(), ..good() })),
        ("remove", v1::FlagRequest { remove: "tier.edge".to_owned(), ..set(good()) }),
    ] {
        let error = manager.flag(request).await.error.unwrap();
        assert_eq!((error.code(), error.field.as_str()), (v1::ErrorCode::InvalidArgument, field));
    }
    let junk = nats.client().await.unwrap().request("llm.v1.req.flag", "\u{7f}junk".into()).await.unwrap();
    let error = v1::FlagReply::decode(junk.payload).unwrap();
    assert_eq!(error.error.unwrap().field, "payload");
    assert_eq!(manager.flag(set(good())).await.error, None);
    manager.stop().await;
}

#[tokio::test]
async fn plan_says_where_a_request_would_run_and_why() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let mut remote = deployment("mainpc/openai/gpt-4", DeploymentState::Warm);
    remote.model = "gpt-4".to_owned();
    remote.provider = "openai".to_owned();
    remote.set_tier(v1::Tier::RemoteApi);
    let local = deployment("mainpc/llama.cpp/demo", DeploymentState::Warm);
    let executor = Executor::start(&nats, "mainpc", vec![local, remote]).await;
    manager.snapshot_with(|snapshot| snapshot.deployments.len() == 2).await;

    let decision = manager.plan(generate("CodeGenerator", "", "write a parser")).await.unwrap();
    assert_eq!(decision.agent, "CodeGenerator");
    assert_eq!(decision.workload_class(), v1::WorkloadClass::Heavy);
    let order: Vec<_> = decision.candidates.iter().map(|one| one.deployment.as_str()).collect();
    assert_eq!(order, ["mainpc/openai/gpt-4", "mainpc/llama.cpp/demo"]);
    assert!(decision.reasons.iter().any(|reason| reason.contains("R2")), "{:?}", decision.reasons);

    let decision = manager.plan(generate("", "local/fast", "hello")).await.unwrap();
    assert_eq!(decision.requested_model, "local/fast");
    assert_eq!(decision.candidates[0].deployment, "mainpc/llama.cpp/demo");
    assert_eq!(decision.rejected[0].reason(), v1::RejectReason::ModelMismatch);

    for (field, request) in [
        ("agent", generate("NoSuchAgent", "", "hello")),
        ("model", generate("", "no-such-model", "hello")),
        ("messages", generate("", "", "")),
        ("method", v1::PlanRequest::default()),
    ] {
        let error = manager.plan(request).await.unwrap_err();
        assert!(error.field.starts_with(field), "{field}: {error:?}");
    }
    let junk = nats.client().await.unwrap().request("llm.v1.req.plan", "\u{7f}junk".into()).await.unwrap();
    let reply = v1::PlanReply::decode(junk.payload).unwrap();
    let Some(v1::plan_reply::Result::Error(error)) = reply.result else { panic!("{reply:?}") };
    assert_eq!(error.field, "payload");
    executor.kill();
    manager.stop().await;
}

#[tokio::test]
async fn a_flag_that_switches_a_tier_off_shows_in_the_next_plan() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let executor =
        Executor::start(&nats, "mainpc", vec![deployment("mainpc/llama.cpp/demo", DeploymentState::Warm)])
            .await;
    manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Warm)).await;
    manager.plan(generate("", "", "hello")).await.unwrap();
    let off = v1::Flag { name: "tier.local-cpu".to_owned(), ..v1::Flag::default() };
    manager.flag(v1::FlagRequest { set: Some(off), remove: String::new() }).await;
    let error = manager.plan(generate("", "", "hello")).await.unwrap_err();
    assert_eq!(error.code(), v1::ErrorCode::Unavailable);
    assert!(error.message.contains("flag tier.local-cpu"), "{error:?}");
    executor.kill();
    manager.stop().await;
}

#[tokio::test]
async fn the_revision_grows_across_a_restart_and_nobody_is_down_after_it() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let executor =
        Executor::start(&nats, "mainpc", vec![deployment("mainpc/llama.cpp/demo", DeploymentState::Warm)])
            .await;
    let before = manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Warm)).await;
    manager.stop().await;

    let manager = Manager::start(&nats).await;
    let after = manager.snapshot_with(|snapshot| snapshot.revision > before.revision).await;
    assert_eq!(state(&after), Some(DeploymentState::Warm));
    let history = manager.history().await;
    assert!(history.is_sorted_by(|one, two| one.revision < two.revision));
    assert!(
        history.iter().filter(|one| one.revision >= before.revision).all(|one| state(one) == state(&before))
    );
    executor.kill();
    manager.stop().await;
}

#[tokio::test]
async fn one_bad_registration_stops_nobody_else() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let client = nats.client().await.unwrap();
    for key in ["mainpc.reg.junk.1", "mainpc.flag.junk"] {
        client.publish(format!("$KV.ctl.{key}"), "\u{7f}junk".into()).await.unwrap();
    }
    client.publish("llm.v1.hb.mainpc.junk.1", "junk".into()).await.unwrap();
    client.flush().await.unwrap();
    let mut damaged = deployment("mainpc/llama.cpp/damaged", DeploymentState::Warm);
    damaged.tier = 99;
    let good = deployment("mainpc/llama.cpp/demo", DeploymentState::Warm);
    let executor = Executor::start(&nats, "mainpc", vec![damaged, good]).await;
    let snapshot = manager.snapshot_with(|snapshot| !snapshot.deployments.is_empty()).await;
    assert_eq!(snapshot.deployments.len(), 1);
    assert_eq!(snapshot.deployments[0].id, "mainpc/llama.cpp/demo");
    executor.kill();
    manager.stop().await;
}

#[tokio::test]
async fn files_are_read_again_and_a_bad_one_changes_nothing() {
    let nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let policies = manager.files.path().join("policies.toml");
    std::fs::write(&policies, "[thresholds]\nheavy_tokens = 77\n").unwrap();
    manager.snapshot_with(|snapshot| snapshot.thresholds.is_some_and(|all| all.heavy_tokens == 77)).await;

    let agents = manager.files.path().join("agents.toml");
    std::fs::write(&agents, "[[agent]]\nname = \"A\"\nclass = \"huge\"\ntiers = [\"edge\"]\n").unwrap();
    std::fs::write(&policies, "[thresholds]\nheavy_tokens = 78\n").unwrap();
    // the two are one: with the agents wrong, the thresholds stay as well, until both are right
    let one_row = "[[agent]]\nname = \"A\"\nclass = \"light\"\ntiers = [\"edge\"]\n";
    let waiting = manager.snapshot_with(|snapshot| snapshot.agents.len() == 1);
    let mending = async {
        manager.reload_failed().await;
        let thresholds = manager.snapshot().await.thresholds.unwrap();
        assert_eq!(thresholds.heavy_tokens, 77);
        std::fs::write(&agents, one_row).unwrap();
    };
    let (snapshot, ()) = tokio::join!(waiting, mending);
    assert_eq!(snapshot.thresholds.unwrap().heavy_tokens, 78);
    manager.stop().await;
}

#[tokio::test]
async fn a_bad_file_at_the_start_is_refused_with_its_place() {
    let nats = Nats::start().await.unwrap();
    let error =
        Manager::refused(&nats, "[[agent]]\nname = \"A\"\nclass = \"huge\"\ntiers = [\"edge\"]\n").await;
    assert!(error.contains("agents.toml: agent 1 (A): class is \"huge\""), "{error}");
}

#[tokio::test]
async fn a_nats_server_that_crashes_and_comes_back_takes_nobody_down() {
    let mut nats = Nats::start().await.unwrap();
    let manager = Manager::start(&nats).await;
    let executor =
        Executor::start(&nats, "mainpc", vec![deployment("mainpc/llama.cpp/demo", DeploymentState::Warm)])
            .await;
    let before = manager.snapshot_with(|snapshot| state(snapshot) == Some(DeploymentState::Warm)).await;
    nats.kill().unwrap();
    nats.restart().await.unwrap();
    let after = manager.snapshot_with(|snapshot| snapshot.revision > before.revision + 1).await;
    assert_eq!(state(&after), Some(DeploymentState::Warm));
    assert!(manager.history().await.iter().all(|one| state(one) != Some(DeploymentState::Down)));
    executor.kill();
    manager.stop().await;
}

fn state(snapshot: &v1::RoutingSnapshot) -> Option<DeploymentState> {
    snapshot.deployments.first().map(v1::Deployment::state)
}
