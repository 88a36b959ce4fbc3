//! The same jobs at providers that want them in other words.

use domain::fault::Code;
use e2e::wait;
use wire::v1::{self, ProviderJobState as State};

use super::{
    answer, mixed, text,
    world::{PATIENCE, World, asks, batch},
};

/// Five requests, of which each way to end is one, come back in their order, at the batch price, and each in the ledger once.
async fn runs_a_mixed_batch(world: &World) -> v1::ProviderJob {
    world.submit(batch("night", mixed())).await.unwrap();
    let job = world.ended("night").await;
    let counts = job.counts.unwrap();
    assert_eq!((counts.total, counts.succeeded, counts.failed, counts.accounted), (5, 2, 3, 5), "{job:?}");
    let (results, _) = world.results("night").await;
    let ids: Vec<&str> = results.iter().map(|result| result.custom_id.as_str()).collect();
    assert_eq!(ids, ["plain", "refused", "late", "lost", "other"]);
    let [plain, refused, late, lost, _] = results.as_slice() else { panic!("{results:?}") };
    let end = answer(plain).unwrap();
    // 2 in at $0.075, 3 out at $0.30 for a million
    assert_eq!((text(end).as_str(), end.cost_picodollars), ("echo: hello", 2 * 75_000 + 3 * 300_000));
    let codes = [refused, late].map(|result| answer(result).unwrap_err().code);
    assert_eq!(codes, [Code::ContextLengthExceeded, Code::Timeout]);
    assert!(answer(lost).is_err());
    let ledger = world.ledger(5).await;
    let cost: i64 = ledger.values().map(|event| event.cost_picodollars).sum();
    assert_eq!((ledger.len(), Some(cost)), (5, job.cost_picodollars));
    job
}

#[tokio::test]
async fn azure_takes_the_same_files_batches_and_trainings_under_its_own_addresses() {
    let world = World::start_as("azure").await;
    let job = runs_a_mixed_batch(&world).await;
    assert_eq!((job.state(), job.provider_state.as_str()), (State::Succeeded, "completed"));
    let created = &world.provider.calls("POST /openai/v1/batches")[0].body;
    assert_eq!(created["endpoint"], "/v1/chat/completions");
    assert!(world.provider.uploads()[0].1.contains("\"model\":\"gpt-4o-mini\""));

    let example =
        r#"{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}"#;
    let part = v1::FineTunePart {
        training_jsonl: format!("{example}\n").repeat(10).into_bytes(),
        ..v1::FineTunePart::default()
    };
    let kind = v1::submit_provider_job_request::Kind::FineTune(part);
    let training = v1::SubmitProviderJobRequest { kind: Some(kind), ..batch("t", Vec::new()) };
    world.submit(training).await.unwrap();
    let job = world.ended("t").await;
    assert_eq!((job.state(), job.fine_tuned_model.as_str()), (State::Succeeded, "ft:gpt-4o-mini:acme::abc"));
    assert_eq!(world.provider.calls("POST /openai/v1/fine_tuning/jobs").len(), 1);
}

#[tokio::test]
async fn anthropic_takes_the_requests_with_the_creation() {
    let world = World::start_as("anthropic").await;
    let job = runs_a_mixed_batch(&world).await;
    // one of its requests had no time
    assert_eq!((job.state(), job.provider_state.as_str()), (State::Expired, "ended"));
    assert!(job.provider_job_id.starts_with("msgbatch-") && job.expires_unix_ms > 2_000_000_000_000);
    let created = &world.provider.calls("POST /v1/messages/batches")[0].body;
    let requests = created["requests"].as_array().unwrap();
    assert_eq!((requests.len(), &requests[0]["params"]["model"]), (5, &"gpt-4o-mini".into()));
    assert_ne!(requests[0]["params"]["stream"], true, "{created}");

    let part = v1::FineTunePart { training_jsonl: b"{}".to_vec(), ..v1::FineTunePart::default() };
    let kind = v1::submit_provider_job_request::Kind::FineTune(part);
    let training = v1::SubmitProviderJobRequest { kind: Some(kind), ..batch("t", Vec::new()) };
    let fault = world.submit(training).await.unwrap_err();
    assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "fine_tune"));
    assert!(fault.message.contains("trains no models"), "{fault}");
}

#[tokio::test]
async fn a_batch_of_anthropics_that_was_not_heard_of_is_found_by_its_results() {
    let mut world = World::start_as("anthropic").await;
    world.submit(batch("other", vec![asks("a", "another batch of one request")])).await.unwrap();
    world.ended("other").await;
    world.provider.play(|script| script.swallow_creations = true);
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    wait::until("the creation", PATIENCE, async || (world.provider.batches() == 2).then_some(()))
        .await
        .unwrap();
    world.provider.play(|script| script.swallow_creations = false);
    world.crash().await;
    let job = world.ended("j").await;
    assert_eq!(job.state(), State::Succeeded);
    assert_eq!((world.provider.batches(), world.provider.calls("POST /v1/messages/batches").len()), (2, 2));
    assert_eq!(text(answer(&world.results("j").await.0[0]).unwrap()), "echo: hello");
    assert_eq!(world.ledger(2).await.len(), 2);
}

#[tokio::test]
async fn a_cancelled_batch_of_anthropics_keeps_what_was_answered() {
    let world = World::start_as("anthropic").await;
    world.provider.play(|script| script.endless = true);
    let items = (0..4).map(|n| asks(&format!("c{n}"), "hello")).collect();
    world.submit(batch("j", items)).await.unwrap();
    world.until("j", "the provider's start", |job| job.provider_state == "in_progress").await;
    assert!(world.cancel("j").await.unwrap().cancelling);
    let job = world.ended("j").await;
    assert_eq!((job.state(), job.counts.unwrap().succeeded), (State::Cancelled, 2));
    let (results, _) = world.results("j").await;
    assert!(answer(&results[1]).is_ok());
    assert_eq!(answer(&results[2]).unwrap_err().code, Code::Cancelled);
}
