//! Fine-tuning.

use domain::fault::{Code, Fault};
use wire::v1::{self, ProviderJobState as State, submit_provider_job_request::Kind};

use super::world::World;

const EXAMPLE: &str =
    r#"{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}"#;

fn train(id: &str, options: v1::FineTuneOptions, training: &str) -> v1::SubmitProviderJobRequest {
    let part = v1::FineTunePart {
        options: Some(options),
        training_jsonl: training.as_bytes().to_vec(),
        validation_jsonl: Vec::new(),
    };
    v1::SubmitProviderJobRequest {
        job_id: id.to_owned(),
        model: "small".to_owned(),
        part: 0,
        last: true,
        kind: Some(Kind::FineTune(part)),
    }
}

fn examples(count: usize) -> String {
    format!("{EXAMPLE}\n").repeat(count)
}

#[tokio::test]
async fn a_model_is_trained_and_costs_its_trained_tokens() {
    let world = World::start().await;
    let options = v1::FineTuneOptions { suffix: "sums".to_owned(), epochs: Some(2), ..Default::default() };
    let data = examples(10);
    // a part may end in the middle of a line
    let (first, second) = data.split_at(123);
    let part = v1::SubmitProviderJobRequest { last: false, ..train("t", options, first) };
    world.submit(part).await.unwrap();
    let part = v1::SubmitProviderJobRequest { part: 1, ..train("t", v1::FineTuneOptions::default(), second) };
    world.submit(part).await.unwrap();

    let job = world.ended("t").await;
    assert_eq!((job.state(), job.kind()), (State::Succeeded, v1::ProviderJobKind::FineTune));
    assert_eq!(job.fine_tuned_model, "ft:gpt-4o-mini:acme:sums:abc");
    let tokens = data.len() as u64 / 4 * 2;
    let cost = i64::try_from(tokens).unwrap() * 3_000_000;
    assert_eq!((job.usage.unwrap().input, job.cost_picodollars), (tokens, Some(cost)));
    let said: Vec<&str> = job.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(said, ["Created job", "succeeded"]);
    assert_eq!(world.provider.uploads()[0].1, data);
    let created = &world.provider.calls("POST /v1/fine_tuning/jobs")[0].body;
    assert_eq!(created["method"]["supervised"]["hyperparameters"], serde_json::json!({"n_epochs": 2}));

    let ledger = world.ledger(1).await;
    let event = ledger.values().next().unwrap();
    assert_eq!(
        (event.method(), event.cost_picodollars, event.cost_unknown),
        (v1::Method::FineTune, cost, false)
    );
    assert_eq!(event.request_id, "t");
}

#[tokio::test]
async fn a_training_without_a_price_needs_to_be_wanted_and_its_cost_stays_unknown() {
    let world = World::start().await;
    let dear = |options| v1::SubmitProviderJobRequest {
        model: "dear".to_owned(),
        ..train("t", options, &examples(10))
    };
    let fault = world.submit(dear(v1::FineTuneOptions::default())).await.unwrap_err();
    assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "model"));
    assert!(fault.message.contains("training_per_million"), "{}", fault.message);

    world
        .submit(dear(v1::FineTuneOptions { accept_unknown_cost: true, ..Default::default() }))
        .await
        .unwrap();
    let job = world.ended("t").await;
    assert_eq!((job.state(), job.cost_picodollars), (State::Succeeded, None));
    let ledger = world.ledger(1).await;
    let event = ledger.values().next().unwrap();
    assert!(event.cost_unknown && event.decision.contains("not known"), "{event:?}");
}

#[tokio::test]
async fn a_training_can_be_cancelled_or_refused_by_the_provider() {
    let world = World::start().await;
    world.provider.play(|script| script.endless = true);
    world.submit(train("t", v1::FineTuneOptions::default(), &examples(10))).await.unwrap();
    world.until("t", "the training", |job| job.provider_state == "running").await;
    world.cancel("t").await.unwrap();
    let job = world.ended("t").await;
    assert_eq!((job.state(), job.cost_picodollars), (State::Cancelled, None), "what it came to was not said");

    world.provider.play(|script| script.invalid = true);
    world.submit(train("u", v1::FineTuneOptions::default(), &examples(1))).await.unwrap();
    let job = world.ended("u").await;
    assert_eq!(job.state(), State::Failed);
    assert!(Fault::from(job.error.unwrap()).message.contains("too few examples"));
}

#[tokio::test]
async fn data_that_is_no_conversation_is_refused_with_its_line() {
    let world = World::start().await;
    for (data, field) in [
        (String::new(), "fine_tune.training_jsonl"),
        (format!("{EXAMPLE}\nnot json\n"), "fine_tune.training_jsonl[1]"),
        (format!("{EXAMPLE}\n{{\"messages\": []}}\n"), "fine_tune.training_jsonl[1]"),
        ("{\"prompt\": \"a\"}\n".to_owned(), "fine_tune.training_jsonl[0]"),
    ] {
        let fault = world.submit(train("t", v1::FineTuneOptions::default(), &data)).await.unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, field), "{data}");
    }
    let epochs = v1::FineTuneOptions { epochs: Some(0), ..Default::default() };
    let fault = world.submit(train("t", epochs, &examples(1))).await.unwrap_err();
    assert_eq!(fault.field, "fine_tune.options.epochs");
    assert!(world.list().await.is_empty() && world.provider.calls("POST").is_empty());
}
