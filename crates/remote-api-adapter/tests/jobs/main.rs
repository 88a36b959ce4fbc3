//! Batches and fine-tuning on the real program, with a real nats-server and a provider that runs jobs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as the tests do")]

mod others;
mod refusals;
mod training;
mod world;

use domain::fault::{Code, Fault};
use e2e::{job_upstream::Failure, wait};
use wire::v1::{self, ProviderJobState as State, batch_result::Outcome};

use world::{KEY, PATIENCE, World, asks, batch};

fn text(end: &v1::End) -> String {
    end.last_delta.iter().flat_map(|delta| &delta.items).map(|item| item.text.as_str()).collect()
}

fn answer(result: &v1::BatchResult) -> Result<&v1::End, Fault> {
    match result.outcome.as_ref().unwrap() {
        Outcome::End(end) => Ok(end),
        Outcome::Error(error) => Err(error.clone().into()),
    }
}

/// Requests that are answered, and one of each way not to be.
fn mixed() -> Vec<v1::BatchItem> {
    vec![
        asks("plain", "hello"),
        asks("refused", "please refuse"),
        asks("late", "please expire"),
        asks("lost", "please lose"),
        asks("other", "good bye"),
    ]
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_at_the_batch_price_and_each_request_is_in_the_ledger_once() {
    let world = World::start().await;
    let job = world.submit(batch("night", mixed())).await.unwrap();
    assert_eq!((job.deployment.as_str(), job.model.as_str()), ("mainpc/fake/small", "gpt-4o-mini"));
    let job = world.ended("night").await;
    assert_eq!((job.state(), job.provider_state.as_str()), (State::Succeeded, "completed"));
    let counts = job.counts.unwrap();
    assert_eq!((counts.total, counts.succeeded, counts.failed, counts.accounted), (5, 2, 3, 5));
    assert!(job.provider_job_id.starts_with("batch-") && job.expires_unix_ms == 1_700_086_400_000);

    let (results, _) = world.results("night").await;
    let ids: Vec<&str> = results.iter().map(|result| result.custom_id.as_str()).collect();
    assert_eq!(ids, ["plain", "refused", "late", "lost", "other"]);
    let end = answer(&results[0]).unwrap();
    assert_eq!(text(end), "echo: hello");
    // 2 in at $0.075, 3 out at $0.30 for a million
    assert_eq!(end.cost_picodollars, 2 * 75_000 + 3 * 300_000);
    assert_eq!(text(answer(&results[4]).unwrap()), "echo: good bye");
    let codes: Vec<Code> = (1..4).map(|at| answer(&results[at]).unwrap_err().code).collect();
    assert_eq!(codes, [Code::ContextLengthExceeded, Code::Timeout, Code::Upstream]);

    let ledger = world.ledger(5).await;
    let cost: i64 = ledger.values().map(|event| event.cost_picodollars).sum();
    assert_eq!((ledger.len(), Some(cost)), (5, job.cost_picodollars));
    let first = ledger.values().find(|event| event.request_id == "night-0").unwrap();
    assert_eq!((first.outcome(), first.agent.as_str()), (v1::Outcome::Ok, "Night"));
    assert_eq!((first.origin_counter, first.decision.as_str()), (1, "batch job night"));
    assert_eq!(first.service, "remote-api-adapter");
    let failed = ledger.values().filter(|event| event.outcome() == v1::Outcome::Failed).count();
    assert_eq!(failed, 3);

    // the same submission again is the same job
    let again = world.submit(batch("night", mixed())).await.unwrap();
    assert_eq!((again.state(), world.provider.batches()), (State::Succeeded, 1));
    assert_eq!(world.list().await.len(), 1);
    for hidden in [KEY, "hello", "echo"] {
        assert!(!world.log().contains(hidden), "{hidden} is in the log:\n{}", world.log());
    }
}

#[tokio::test]
async fn the_provider_gets_the_requests_as_it_gets_them_one_by_one() {
    let world = World::start().await;
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    world.ended("j").await;
    let uploads = world.provider.uploads();
    let line: serde_json::Value = serde_json::from_str(uploads[0].1.trim_end()).unwrap();
    assert_eq!((&line["custom_id"], &line["url"]), (&"a".into(), &"/v1/chat/completions".into()));
    assert_eq!(line["body"]["model"], "gpt-4o-mini");
    assert_eq!(line["body"]["messages"][0]["content"], "hello");
    let created = &world.provider.calls("POST /v1/batches")[0].body;
    assert_eq!(
        (&created["endpoint"], &created["completion_window"]),
        (&"/v1/chat/completions".into(), &"24h".into())
    );
}

#[tokio::test]
async fn vectors_come_in_batches_too() {
    let world = World::start().await;
    let embed = v1::EmbedRequest { inputs: vec!["a".to_owned(), "b".to_owned()], ..Default::default() };
    let item =
        v1::BatchItem { custom_id: "v".to_owned(), request: Some(v1::batch_item::Request::Embed(embed)) };
    let request =
        v1::SubmitProviderJobRequest { model: "mainpc/fake/vectors".to_owned(), ..batch("j", vec![item]) };
    world.submit(request).await.unwrap();
    assert_eq!(world.ended("j").await.cost_picodollars, Some(8 * 10_000));
    let (results, _) = world.results("j").await;
    assert_eq!(answer(&results[0]).unwrap().embeddings.as_ref().unwrap().embeddings.len(), 2);
    assert_eq!(world.ledger(1).await.values().next().unwrap().method(), v1::Method::Embed);
}

#[tokio::test]
async fn a_large_batch_in_parts_survives_every_crash_and_is_counted_once() {
    const ITEMS: usize = 6_000;
    let mut world = World::start().await;
    // a download that is caught in the middle
    world.provider.play(|script| script.piece_delay = std::time::Duration::from_millis(20));
    let items: Vec<_> = (0..ITEMS).map(|n| asks(&format!("c{n}"), &format!("question number {n}"))).collect();
    let (first, second) = items.split_at(ITEMS / 2);
    let part = |part: u32, last: bool, items: &[v1::BatchItem]| v1::SubmitProviderJobRequest {
        part,
        last,
        ..batch("big", items.to_vec())
    };
    let job = world.submit(part(0, false, first)).await.unwrap();
    assert_eq!((job.state(), job.parts_received), (State::Receiving, 1));
    world.crash().await;
    // the caller does not know whether it came through, and sends it again
    assert_eq!(world.submit(part(0, false, first)).await.unwrap().parts_received, 1);
    assert_eq!(world.submit(part(1, true, second)).await.unwrap().counts.unwrap().total, ITEMS as u64);

    wait::until("the download", PATIENCE, async || {
        let calls = world.provider.calls("GET /v1/files/");
        calls.iter().any(|call| call.what.ends_with("/content")).then_some(())
    })
    .await
    .unwrap();
    world.crash().await;
    world.provider.play(|script| script.piece_delay = std::time::Duration::ZERO);
    for share in [1, ITEMS as u64 / 2] {
        let reached = |job: &v1::ProviderJob| job.counts.is_some_and(|counts| counts.accounted >= share);
        world.until("big", "some events", reached).await;
        world.crash().await;
    }
    let job = world.ended("big").await;
    assert_eq!((job.state(), job.counts.unwrap().succeeded), (State::Succeeded, ITEMS as u64));
    assert_eq!(world.provider.batches(), 1);

    let ledger = world.ledger(ITEMS).await;
    let requests: std::collections::BTreeSet<_> = ledger.values().map(|event| &event.request_id).collect();
    assert_eq!((ledger.len(), requests.len()), (ITEMS, ITEMS));
    let highest = ledger.values().map(|event| event.origin_counter).max();
    assert_eq!(highest, Some(ITEMS as u64), "the origin's counters have a gap");
    assert_eq!(Some(ledger.values().map(|event| event.cost_picodollars).sum()), job.cost_picodollars);
    let (results, pages) = world.results("big").await;
    assert!(results.len() == ITEMS && pages >= 1);
    assert_eq!(text(answer(&results[4_321]).unwrap()), "echo: question number 4321");
}

#[tokio::test]
async fn a_creation_that_was_not_heard_of_is_found_again_and_not_paid_for_twice() {
    let mut world = World::start().await;
    world.provider.play(|script| script.swallow_creations = true);
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    wait::until("the creation", PATIENCE, async || (world.provider.batches() == 1).then_some(()))
        .await
        .unwrap();
    world.provider.play(|script| script.swallow_creations = false);
    world.crash().await;
    assert_eq!(world.ended("j").await.state(), State::Succeeded);
    assert_eq!((world.provider.batches(), world.provider.calls("POST /v1/batches").len()), (1, 1));
}

#[tokio::test]
async fn a_cancelled_batch_keeps_what_was_answered_and_says_what_was_not() {
    let mut world = World::start().await;
    world.provider.play(|script| script.endless = true);
    let items = (0..4).map(|n| asks(&format!("c{n}"), "hello")).collect();
    world.submit(batch("j", items)).await.unwrap();
    world.until("j", "the provider's start", |job| job.provider_state == "in_progress").await;
    assert!(world.cancel("j").await.unwrap().cancelling);
    // also when the process dies right behind its answer
    world.crash().await;
    let job = world.ended("j").await;
    assert_eq!((job.state(), job.counts.unwrap().succeeded), (State::Cancelled, 2));
    let (results, _) = world.results("j").await;
    assert!(answer(&results[1]).is_ok());
    assert_eq!(answer(&results[2]).unwrap_err().code, Code::Cancelled);
    let ledger = world.ledger(4).await;
    let cancelled = ledger.values().filter(|event| event.outcome() == v1::Outcome::Cancelled).count();
    assert_eq!((ledger.len(), cancelled), (4, 2));
    assert_eq!(world.cancel("j").await.unwrap().state(), State::Cancelled, "a second cancel changes nothing");
}

#[tokio::test]
async fn a_provider_that_fails_for_a_while_is_waited_for() {
    let world = World::start().await;
    let failure = |call: &str, status, retry_after| Failure { call: call.to_owned(), status, retry_after };
    world.provider.play(|script| {
        script.reading = 2;
        script.failures = vec![
            failure("POST /v1/files", 429, Some(1)),
            failure("POST /v1/batches", 503, None),
            failure("GET /v1/batches/", 500, None),
            failure("GET /v1/batches/", 401, None),
            failure("GET /v1/files/file-0002/content", 502, None),
        ];
    });
    let started = tokio::time::Instant::now();
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    let waiting = world.until("j", "the fault", |job| job.error.is_some()).await;
    assert_eq!(waiting.error.unwrap().code(), v1::ErrorCode::RateLimited);
    let job = world.ended("j").await;
    assert_eq!((job.state(), job.error), (State::Succeeded, None));
    assert!(started.elapsed().as_millis() >= 1_000, "Retry-After was not obeyed");
    assert_eq!(world.provider.batches(), 1);
}

#[tokio::test]
async fn a_batch_that_the_provider_refuses_fails_with_its_words() {
    let world = World::start().await;
    world.provider.play(|script| script.invalid = true);
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    let job = world.ended("j").await;
    let error = Fault::from(job.error.unwrap());
    assert_eq!((job.counts.unwrap().failed, error.code), (1, Code::InvalidArgument));
    assert!(error.message.contains("not parseable"), "{}", error.message);
    assert_eq!(job.cost_picodollars, Some(0), "nothing was run, which is known");

    // and one that it does not even take
    let refused = Failure { call: "POST /v1/batches".to_owned(), status: 404, retry_after: None };
    world.provider.play(|script| script.failures = vec![refused]);
    world.submit(batch("k", vec![asks("a", "hello")])).await.unwrap();
    let job = world.ended("k").await;
    assert_eq!((job.state(), job.provider_job_id.as_str()), (State::Failed, ""));
    assert_eq!(Fault::from(job.error.unwrap()).code, Code::NotFound);
    assert!(world.ledger(2).await.values().all(|event| event.outcome() == v1::Outcome::Failed));
}

#[tokio::test]
async fn answers_that_are_gone_before_they_were_fetched_cost_what_nobody_knows() {
    let world = World::start().await;
    let gone = Failure { call: "GET /v1/files/file-0003/content".to_owned(), status: 404, retry_after: None };
    world.provider.play(|script| script.failures = vec![gone]);
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    let job = world.ended("j").await;
    assert_eq!((job.state(), job.cost_picodollars), (State::Failed, None));
    assert_eq!(answer(&world.results("j").await.0[0]).unwrap_err().code, Code::NotFound);
    let ledger = world.ledger(1).await;
    let event = ledger.values().next().unwrap();
    assert!(event.cost_unknown && event.outcome() == v1::Outcome::Failed, "{event:?}");
}
