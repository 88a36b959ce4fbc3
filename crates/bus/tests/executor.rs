//! The executor loop and reply streams on a real nats-server.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as the tests do")]

use std::{sync::Arc, time::Duration};

use bus::{
    Bus, ReplyStream, Settings, StreamError,
    executor::{Attempt, Executor, Frames, Load, serve},
};
use domain::{
    fault::{Code, Fault},
    id::{NodeId, RequestId},
    routing::Plane,
};
use e2e::Nats;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::{
    subject::{Cancel, Execute, service},
    v1::{self, execute_request::Method, reply_frame::Kind},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Does what the first message's text says.
#[derive(Default)]
struct Obedient {
    started: Notify,
    release: Notify,
}

impl Executor for Obedient {
    async fn execute(&self, attempt: Attempt, frames: Frames) -> Result<v1::End, Fault> {
        let domain::inference::Request::Generate(request) = &attempt.request else {
            return Err(Fault::invalid("method", "only generate"));
        };
        let text: String = request.messages.iter().flat_map(|message| message.text_parts()).collect();
        self.started.notify_one();
        match text.as_str() {
            "count" => {
                for number in 0..1_000 {
                    frames.delta(v1::DeltaItem { text: format!("{number} "), ..Default::default() }).await?;
                }
                Ok(v1::End { finish_reason: v1::FinishReason::Stop.into(), ..Default::default() })
            }
            "wait" => {
                tokio::select! {
                    () = self.release.notified() => Ok(v1::End::default()),
                    () = attempt.cancel.cancelled() =>
                        Ok(v1::End { finish_reason: v1::FinishReason::Cancelled.into(), ..Default::default() }),
                }
            }
            "be deaf" => std::future::pending().await,
            "be large" => Ok(v1::End { extra_json: "x".repeat(9 << 20), ..Default::default() }),
            other => Err(Fault::invalid("messages", format!("cannot {other}"))),
        }
    }
}

struct Setup {
    _nats: Nats,
    bus: Bus,
    at: Execute,
    executor: Arc<Obedient>,
    load: Load,
    stop: CancellationToken,
    tasks: TaskTracker,
}

async fn connect(nats: &Nats, name: &str) -> Bus {
    let settings = Settings { url: nats.url(), ..Settings::default() };
    Bus::connect(&settings, service::LOCAL_MODEL_POOL, name, "mainpc", &CancellationToken::new())
        .await
        .unwrap()
}

async fn setup(slots: usize) -> Setup {
    let nats = Nats::start().await.unwrap();
    let bus = connect(&nats, "i1").await;
    let at =
        Execute { plane: Plane::Local, machine: NodeId::new("mainpc").unwrap(), executor: "test".to_owned() };
    let (executor, load, stop) = (Arc::new(Obedient::default()), Load::default(), CancellationToken::new());
    let (told, ready) = oneshot::channel();
    let tasks = TaskTracker::new();
    let serving = {
        let (bus, at, executor, load, stop) =
            (bus.clone(), at.clone(), Arc::clone(&executor), load.clone(), stop.clone());
        async move { serve(&bus, at, slots, executor, load, stop, move || told.send(()).unwrap()).await.unwrap() }
    };
    tasks.spawn(serving);
    ready.await.unwrap();
    Setup { _nats: nats, bus, at, executor, load, stop, tasks }
}

impl Setup {
    async fn ask(&self, id: &str, text: &str, deadline_ms: u64) -> ReplyStream {
        let message = v1::Message {
            role: v1::Role::User.into(),
            content: vec![v1::ContentPart {
                part: Some(v1::content_part::Part::Text(text.to_owned())),
                ..Default::default()
            }],
            ..Default::default()
        };
        let generate =
            v1::GenerateRequest { request_id: id.to_owned(), messages: vec![message], ..Default::default() };
        let request = v1::ExecuteRequest {
            request_id: id.to_owned(),
            deployment: "d".to_owned(),
            attempt: 1,
            deadline_ms,
            method: Some(Method::Generate(generate)),
            ..Default::default()
        };
        self.bus.open(&self.at, &request).await.unwrap()
    }
}

async fn last(mut stream: ReplyStream) -> (String, Kind) {
    let mut text = String::new();
    loop {
        let kind = stream.next(PATIENCE).await.unwrap().kind.unwrap();
        let items = match &kind {
            Kind::Delta(delta) => delta.items.clone(),
            Kind::End(end) => end.last_delta.clone().unwrap_or_default().items,
            _ => Vec::new(),
        };
        text.extend(items.into_iter().map(|item| item.text));
        if matches!(kind, Kind::End(_) | Kind::Error(_)) {
            return (text, kind);
        }
    }
}

fn code(kind: &Kind) -> Code {
    match kind {
        Kind::Error(error) => Fault::from(error.clone()).code,
        other => panic!("expected an error, got {other:?}"),
    }
}

#[tokio::test]
async fn every_piece_arrives_once_and_in_order() {
    let setup = setup(4).await;
    let (text, kind) = last(setup.ask("r1", "count", 0).await).await;
    let expected: String = (0..1_000).map(|number| format!("{number} ")).collect();
    assert_eq!(text, expected);
    assert!(matches!(kind, Kind::End(_)));
}

#[tokio::test]
async fn a_full_executor_says_busy_at_once_and_takes_the_next_when_a_slot_is_free() {
    let setup = setup(1).await;
    let first = setup.ask("r1", "wait", 0).await;
    setup.executor.started.notified().await;
    assert_eq!(setup.load.in_flight(), 1);
    assert_eq!(code(&last(setup.ask("r2", "count", 0).await).await.1), Code::Busy);
    setup.executor.release.notify_one();
    assert!(matches!(last(first).await.1, Kind::End(_)));
    e2e::wait::until("the slot is free", PATIENCE, async || (setup.load.in_flight() == 0).then_some(()))
        .await
        .unwrap();
    assert!(matches!(last(setup.ask("r3", "count", 0).await).await.1, Kind::End(_)));
}

#[tokio::test]
async fn a_cancel_reaches_the_executor_and_ends_the_request_once() {
    let setup = setup(1).await;
    let stream = setup.ask("r1", "wait", 0).await;
    setup.executor.started.notified().await;
    setup.bus.publish(&Cancel(RequestId::new("r1").unwrap()), &()).await.unwrap();
    match last(stream).await.1 {
        Kind::End(end) => assert_eq!(end.finish_reason(), v1::FinishReason::Cancelled),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_executor_deaf_to_cancels_and_deadlines_loses_its_slot_all_the_same() {
    let setup = setup(1).await;
    let stream = setup.ask("r1", "be deaf", 0).await;
    setup.executor.started.notified().await;
    setup.bus.publish(&Cancel(RequestId::new("r1").unwrap()), &()).await.unwrap();
    assert_eq!(code(&last(stream).await.1), Code::Cancelled);
    assert_eq!(code(&last(setup.ask("r2", "be deaf", 50).await).await.1), Code::Timeout);
    assert!(matches!(last(setup.ask("r3", "count", 0).await).await.1, Kind::End(_)));
}

#[tokio::test]
async fn an_answer_too_large_for_the_bus_is_an_error_that_fits() {
    let setup = setup(1).await;
    assert_eq!(code(&last(setup.ask("r1", "be large", 0).await).await.1), Code::PayloadTooLarge);
}

#[tokio::test]
async fn a_request_that_is_none_is_answered_with_its_field_and_the_loop_goes_on() {
    let setup = setup(1).await;
    let empty = v1::ExecuteRequest { request_id: "r1".to_owned(), ..Default::default() };
    let stream = setup.bus.open(&setup.at, &empty).await.unwrap();
    assert_eq!(code(&last(stream).await.1), Code::InvalidArgument);
    assert!(matches!(last(setup.ask("r2", "count", 0).await).await.1, Kind::End(_)));
}

#[tokio::test]
async fn nobody_listening_is_told_at_once() {
    let setup = setup(1).await;
    setup.stop.cancel();
    setup.tasks.close();
    setup.tasks.wait().await;
    let mut stream = setup.ask("r1", "count", 0).await;
    assert!(matches!(stream.next(PATIENCE).await, Err(StreamError::NoResponders)));
}

#[tokio::test]
async fn requests_under_way_are_finished_after_the_stop() {
    let setup = setup(1).await;
    let stream = setup.ask("r1", "wait", 0).await;
    setup.executor.started.notified().await;
    setup.stop.cancel();
    setup.executor.release.notify_one();
    assert!(matches!(last(stream).await.1, Kind::End(_)));
}
