//! The real program on a real nats-server with the bundled model: pool and engines are processes, as in production.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test helpers fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bus::{Bus, ReplyStream};
use domain::id::{NodeId, RequestId};
use domain::routing::Plane;
use e2e::{Child, Nats, wait};
use futures::StreamExt;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wire::subject::{Cancel, Execute, LeaseCall, ModelCall, Subject, service};
use wire::v1::lease_reply;
use wire::v1::lease_request::Action;
use wire::v1::reply_frame::Kind;
use wire::v1::{self, DeploymentState, FinishReason, execute_request::Method};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pool on a bus of its own.
struct Fixture {
    nats: Nats,
    pool: Child,
    bus: Bus,
    folder: TempDir,
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo.gguf")
}

impl Fixture {
    /// Starts a pool with these models (TOML) and, in its models folder, the bundled model as `demo.gguf`.
    async fn start(models: &str) -> Self {
        Self::start_with(models, |_| ()).await
    }

    async fn start_with(models: &str, prepare: impl FnOnce(&Path)) -> Self {
        let nats = Nats::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(demo(), folder.path().join("demo.gguf")).unwrap();
        prepare(folder.path());
        let config = format!(
            r#"
            [node]
            machine = "mainpc"
            data_dir = "{folder}/data"
            [bus]
            url = "{url}"
            [local-model-pool]
            admin_listen = "127.0.0.1:0"
            models_dir = "{folder}"
            {models}
            "#,
            folder = folder.path().display(),
            url = nats.url()
        );
        let file = folder.path().join("hybrid.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_local-model-pool"));
        let pool = Child::spawn("local-model-pool", command.arg("--config").arg(&file)).unwrap();
        let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
        let stop = CancellationToken::new();
        let bus =
            Bus::connect(&settings, service::REQUEST_COORDINATOR, "test", "mainpc", &stop).await.unwrap();
        Self { nats, pool, bus, folder }
    }

    /// The deployments that are registered now.
    async fn deployments(&self) -> Vec<v1::Deployment> {
        let Ok(control) = self.bus.control().await else { return vec![] };
        let entries = control.entries(|key| key.split('.').nth(1) == Some("reg")).await.unwrap_or_default();
        let registration = |(_, value): (String, _)| v1::Registration::decode(value).unwrap().deployments;
        entries.into_iter().flat_map(registration).collect()
    }

    /// Waits until a model's registration satisfies `is`.
    async fn until(&mut self, model: &str, is: impl Fn(&v1::Deployment) -> bool) -> v1::Deployment {
        let found = wait::until("a registration", PATIENCE, async || {
            self.deployments()
                .await
                .into_iter()
                .find(|deployment| deployment.model == model && is(deployment))
        });
        let found = found.await;
        found.unwrap_or_else(|error| panic!("{error:#}\n{}", self.pool.stderr()))
    }

    async fn until_state(&mut self, model: &str, state: DeploymentState) -> v1::Deployment {
        self.until(model, |deployment| deployment.state() == state).await
    }

    async fn open(&self, deployment: &v1::Deployment, id: &str, method: Method) -> ReplyStream {
        let machine = NodeId::new("mainpc").unwrap();
        let at = Execute { plane: Plane::Local, machine, executor: deployment.executor.clone() };
        let request = v1::ExecuteRequest {
            request_id: id.to_owned(),
            deployment: deployment.id.clone(),
            attempt: 1,
            deadline_ms: 60_000,
            first_seq: 0,
            method: Some(method),
        };
        self.bus.open(&at, &request).await.unwrap()
    }

    async fn ask(&self, deployment: &v1::Deployment, id: &str, question: &str) -> Answer {
        read(&mut self.open(deployment, id, generate(id, question)).await).await
    }

    /// Has the pool do something with a model, or only tell.
    async fn order(&self, action: v1::ModelAction, model: &str) -> v1::ModelReply {
        let request = v1::ModelRequest {
            action: action.into(),
            model: model.to_owned(),
            ..v1::ModelRequest::default()
        };
        self.bus.call(&ModelCall(self.bus.machine().clone()), &request).await.unwrap()
    }

    async fn status(&self, model: &str) -> v1::ModelStatus {
        self.order(v1::ModelAction::Unspecified, model).await.models.remove(0)
    }

    async fn until_status(&self, model: &str, is: impl Fn(&v1::ModelStatus) -> bool) -> v1::ModelStatus {
        let found =
            wait::until("a status", PATIENCE, async || Some(self.status(model).await).filter(|s| is(s)));
        found.await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.pool.stderr()))
    }

    /// Process ids of the pool's engines.
    fn engines(&self) -> Vec<u32> {
        children(self.pool.pid())
    }
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name in brackets: state, parent.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let fields: Vec<_> = fields.take(2).collect();
        fields.get(1).is_some_and(|field| *field == parent.to_string()) && fields[0] != "Z"
    })
    .collect()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn user(text: &str) -> Vec<v1::Message> {
    let part = v1::content_part::Part::Text(text.to_owned());
    let content = vec![v1::ContentPart { part: Some(part), extra_json: String::new() }];
    vec![v1::Message { role: v1::Role::User.into(), content, ..v1::Message::default() }]
}

fn generate(id: &str, question: &str) -> Method {
    let sampling = v1::Sampling { temperature: Some(0.0), ..v1::Sampling::default() };
    Method::Generate(v1::GenerateRequest {
        request_id: id.to_owned(),
        messages: user(question),
        sampling: Some(sampling),
        stream: true,
        ..v1::GenerateRequest::default()
    })
}

/// An answer that goes on until the context is full.
fn endless(id: &str) -> Method {
    let schema_json = r#"{"type":"array","items":{"type":"string"},"minItems":400}"#.to_owned();
    let kind = v1::response_format::Kind::JsonSchema.into();
    let format = v1::ResponseFormat { kind, schema_json, ..v1::ResponseFormat::default() };
    let sampling = v1::Sampling { temperature: Some(2.0), seed: Some(3), ..v1::Sampling::default() };
    let Method::Generate(request) = generate(id, "Tell me a long story") else { panic!("another method") };
    Method::Generate(v1::GenerateRequest {
        response_format: Some(format),
        sampling: Some(sampling),
        ..request
    })
}

#[derive(Debug, Default)]
struct Answer {
    text: String,
    deltas: usize,
    phases: Vec<String>,
    end: Option<v1::End>,
    error: Option<v1::Error>,
}

/// Reads a stream to its end. A gap in the numbers fails.
async fn read(stream: &mut ReplyStream) -> Answer {
    let mut answer = Answer::default();
    loop {
        match stream.next(PATIENCE).await.unwrap().kind.unwrap() {
            Kind::Delta(delta) => {
                answer.deltas += 1;
                answer.text.extend(delta.items.into_iter().map(|item| item.text));
            }
            Kind::Heartbeat(heartbeat) => answer.phases.push(heartbeat.phase),
            Kind::End(end) => {
                let last = end.last_delta.clone().unwrap_or_default();
                answer.text.extend(last.items.into_iter().map(|item| item.text));
                answer.end = Some(end);
                return answer;
            }
            Kind::Error(error) => {
                answer.error = Some(error);
                return answer;
            }
            Kind::Accepted(_) => {}
        }
    }
}

const ONE: &str = r#"
    [[local-model-pool.models]]
    name = "demo"
    file = "demo.gguf"
    slots = 1
    translate = true
    embed = true
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_model_answers_on_its_own_subject() {
    let mut fixture = Fixture::start(ONE).await;
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    assert_eq!((warm.id.as_str(), warm.executor.as_str()), ("mainpc/llama.cpp/demo", "llama-demo"));
    assert_eq!((warm.context_length, warm.slots, warm.embedding_dimensions), (512, 1, 160));
    assert_eq!((warm.tier(), warm.free), (v1::Tier::LocalCpu, true));

    let answer = fixture.ask(&warm, "r1", "What is 2+2?").await;
    assert!(answer.text.contains('4'), "{answer:?}");
    let end = answer.end.unwrap();
    assert_eq!(end.finish_reason(), FinishReason::Stop);
    assert_eq!((end.deployment.as_str(), end.model.as_str()), (warm.id.as_str(), "demo"));
    assert_eq!((end.provider.as_str(), end.tier()), ("llama.cpp", v1::Tier::LocalCpu));
    let usage = end.usage.unwrap();
    assert!(usage.input > 0 && usage.output > 0 && !usage.estimated, "{usage:?}");

    let story = fixture.ask(&warm, "r2", "Tell me a short story about a cat").await;
    assert!(story.deltas > 1, "it was not streamed: {story:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_streamed_travels_whole() {
    let mut fixture = Fixture::start(ONE).await;
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    let Method::Generate(request) = generate("r1", "What is 2+2?") else { panic!("another method") };
    let method = Method::Generate(v1::GenerateRequest { stream: false, ..request });
    let answer = read(&mut fixture.open(&warm, "r1", method).await).await;
    assert_eq!(answer.deltas, 0);
    assert!(answer.text.contains('4'), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_embeds_and_translates_where_it_was_configured_to() {
    let mut fixture = Fixture::start(ONE).await;
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    let inputs = vec!["What is 2+2?".to_owned(), "the cat".to_owned()];
    let method = Method::Embed(v1::EmbedRequest {
        request_id: "r1".to_owned(),
        inputs,
        ..v1::EmbedRequest::default()
    });
    let end = read(&mut fixture.open(&warm, "r1", method).await).await.end.unwrap();
    let vectors = end.embeddings.unwrap().embeddings;
    assert_eq!(vectors.iter().map(|vector| vector.values.len()).collect::<Vec<_>>(), [160, 160]);
    assert!(end.usage.unwrap().input > 0);

    let method = Method::Translate(v1::TranslateRequest {
        request_id: "r2".to_owned(),
        text: "Good morning".to_owned(),
        target_language: "de".to_owned(),
        ..v1::TranslateRequest::default()
    });
    let answer = read(&mut fixture.open(&warm, "r2", method).await).await;
    assert!(answer.text.contains("Guten Morgen"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_model_is_loaded_by_its_first_request_and_answers_in_the_same_stream() {
    let mut fixture = Fixture::start(&format!("{ONE}\npreload = false")).await;
    let cold = fixture.until_state("demo", DeploymentState::Cold).await;
    assert_eq!(cold.executor, "pool");
    assert_eq!(fixture.engines(), [0; 0]);
    let answer = fixture.ask(&cold, "r1", "What is 2+2?").await;
    assert!(answer.text.contains('4'), "{answer:?}");
    assert!(answer.phases.contains(&"loading".to_owned()), "{answer:?}");
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    assert_eq!(warm.executor, "llama-demo");
    // A caller who has not heard of it yet still gets an answer.
    let late = fixture.ask(&cold, "r2", "What is 2+2?").await;
    assert!(late.text.contains('4'), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_model_is_unloaded_and_loaded_again() {
    let models = format!("{ONE}\nkeep_alive_s = 1");
    let mut fixture = Fixture::start(&models).await;
    let cold = fixture.until_state("demo", DeploymentState::Cold).await;
    wait::until("the end of the engine", PATIENCE, async || fixture.engines().is_empty().then_some(()))
        .await
        .unwrap();
    let answer = fixture.ask(&cold, "r1", "What is 2+2?").await;
    assert!(answer.text.contains('4'), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_survives_the_unloading_of_its_model() {
    let mut fixture = Fixture::start(&format!("{ONE}\nkeep_alive_s = 1\npreload = false")).await;
    let cold = fixture.until_state("demo", DeploymentState::Cold).await;
    let first = fixture.ask(&cold, "r1", "What is 2+2?").await;
    assert_eq!(first.end.unwrap().usage.unwrap().cached_input, 0);
    let gone = async || fixture.engines().is_empty().then_some(());
    wait::until("the end of the engine", PATIENCE, gone).await.unwrap();
    let again = fixture.until_state("demo", DeploymentState::Cold).await;
    let second = fixture.ask(&again, "r2", "What is 2+2?").await;
    let usage = second.end.unwrap().usage.unwrap();
    assert_eq!(usage.cached_input, usage.input - 1, "all but the token that the answer follows");
    assert_eq!(second.text, first.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_registered_with_what_its_template_can_do() {
    let calls = "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", \
                 \"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% else %}{{ m.content.split('</think>')[-1] }}\
                 {% endif %}{% endfor %}{{ tools | tojson if tools else '' }}";
    let other = "[[local-model-pool.models]]\nname = \"tools\"\nfile = \"tools.gguf\"\npreload = false";
    let mut fixture = Fixture::start_with(&format!("{ONE}\n{other}"), |folder| {
        let model = e2e::gguf::with_template(&std::fs::read(demo()).unwrap(), calls).unwrap();
        std::fs::write(folder.join("tools.gguf"), model).unwrap();
    })
    .await;
    let of = |deployment: v1::Deployment| {
        let can = deployment.capabilities.unwrap();
        (can.tools, can.reasoning, can.json_schema)
    };
    let known = fixture.until("tools", |deployment| deployment.context_length > 0).await;
    assert_eq!(of(known), (true, true, true));
    assert_eq!(of(fixture.until_state("demo", DeploymentState::Warm).await), (false, false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_in_the_middle_gives_the_slot_back() {
    let mut fixture = Fixture::start(ONE).await;
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    let mut stream = fixture.open(&warm, "long", endless("long")).await;
    let first = stream.next(PATIENCE).await.unwrap();
    assert!(matches!(first.kind, Some(Kind::Delta(_) | Kind::Heartbeat(_))), "{first:?}");
    let busy = fixture.ask(&warm, "other", "What is 2+2?").await;
    if let Some(error) = busy.error {
        assert_eq!(error.code(), v1::ErrorCode::Busy, "{error:?}");
    }
    fixture.bus.publish(&Cancel(RequestId::new("long").unwrap()), &()).await.unwrap();
    let rest = read(&mut stream).await;
    // A fast machine may have filled the context before the cancel arrived.
    let finish = rest.end.unwrap().finish_reason();
    assert!([FinishReason::Cancelled, FinishReason::Length].contains(&finish), "{finish:?}");
    let answer = fixture.ask(&warm, "next", "What is 2+2?").await;
    assert!(answer.text.contains('4'), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_is_down_and_comes_back() {
    let mut fixture = Fixture::start(ONE).await;
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    let engines = fixture.engines();
    assert_eq!(engines.len(), 1);
    kill(engines[0]);
    fixture.until("demo", |deployment| deployment.state() != DeploymentState::Warm).await;
    let again = fixture.until_state("demo", DeploymentState::Warm).await;
    assert_ne!(fixture.engines(), engines);
    let answer = fixture.ask(&again, "r1", "What is 2+2?").await;
    assert!(answer.text.contains('4'), "{answer:?}");
    assert_eq!(again.id, warm.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_engine_outlives_a_killed_pool() {
    let mut fixture = Fixture::start(ONE).await;
    fixture.until_state("demo", DeploymentState::Warm).await;
    let engine = fixture.engines()[0];
    kill(fixture.pool.pid());
    let gone = wait::until("the end of the engine", PATIENCE, async || {
        (!Path::new(&format!("/proc/{engine}")).exists()).then_some(())
    });
    gone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_asked_to_end_takes_its_engines_and_its_registration_with_it() {
    let mut fixture = Fixture::start(ONE).await;
    fixture.until_state("demo", DeploymentState::Warm).await;
    let engine = fixture.engines()[0];
    let status = fixture.pool.stop(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}\n{}", fixture.pool.stderr());
    assert!(!Path::new(&format!("/proc/{engine}")).exists(), "the engine is still there");
    assert_eq!(fixture.deployments().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_model_is_down_with_its_reason_and_harms_no_other() {
    let models = format!("{ONE}\n[[local-model-pool.models]]\nname = \"broken\"\nfile = \"broken.gguf\"");
    let mut fixture = Fixture::start_with(&models, |folder| {
        let whole = std::fs::read(demo()).unwrap();
        std::fs::write(folder.join("broken.gguf"), &whole[..whole.len() / 2]).unwrap();
    })
    .await;
    let broken = fixture.until_state("broken", DeploymentState::Down).await;
    assert!(broken.state_detail.contains("the tensors end at byte"), "{}", broken.state_detail);
    let refused = fixture.ask(&broken, "r1", "Hello").await.error.unwrap();
    assert!(refused.retryable && refused.code() == v1::ErrorCode::Unavailable, "{refused:?}");
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    assert!(fixture.ask(&warm, "r2", "What is 2+2?").await.text.contains('4'));
    // Once the file is whole the model comes up by itself.
    std::fs::copy(demo(), fixture.folder.path().join("broken.gguf")).unwrap();
    fixture.until_state("broken", DeploymentState::Warm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_get_typed_errors_and_the_engine_goes_on() {
    let mut fixture = Fixture::start(ONE).await;
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    let long = fixture.ask(&warm, "r1", &"word ".repeat(3_000)).await.error.unwrap();
    assert_eq!(long.code(), v1::ErrorCode::ContextLengthExceeded);
    assert!(long.message.contains("512"), "{}", long.message);
    let elsewhere = v1::Deployment {
        id: "mainpc/llama.cpp/none".to_owned(),
        executor: "pool".to_owned(),
        ..warm.clone()
    };
    let unknown = fixture.ask(&elsewhere, "r2", "Hello").await.error.unwrap();
    assert_eq!(unknown.code(), v1::ErrorCode::NotFound);
    assert!(fixture.ask(&warm, "r3", "What is 2+2?").await.text.contains('4'));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_may_go_away_and_come_back() {
    let mut fixture = Fixture::start(ONE).await;
    fixture.until_state("demo", DeploymentState::Warm).await;
    fixture.nats.kill().unwrap();
    fixture.nats.restart().await.unwrap();
    let warm = fixture.until_state("demo", DeploymentState::Warm).await;
    let answered = wait::until("an answer", PATIENCE, async || {
        let mut stream = fixture.open(&warm, "r1", generate("r1", "What is 2+2?")).await;
        let first = stream.next(Duration::from_secs(2)).await;
        first.is_ok().then_some(())
    });
    answered.await.unwrap();
}

/// Answers lease calls: refuses the first acquire, grants the others. Sends what was asked to `asked`.
async fn play_vram_optimizer(bus: Bus, asked: tokio::sync::mpsc::Sender<Action>) {
    let subject = LeaseCall(bus.machine().clone()).name(bus.prefix());
    let mut calls = bus.subscribe(subject, None).await.unwrap();
    let mut acquired = 0;
    while let Some(call) = calls.next().await {
        let action = v1::LeaseRequest::decode(call.payload).unwrap().action.unwrap();
        let result = if matches!(action, Action::Acquire(_)) && std::mem::replace(&mut acquired, 1) == 0 {
            let message = "a game has taken the memory".to_owned();
            lease_reply::Result::Error(v1::Error { message, ..v1::Error::default() })
        } else {
            lease_reply::Result::Granted(v1::Lease { lease_id: "lease-1".to_owned(), ..v1::Lease::default() })
        };
        bus.reply(
            &call.reply.unwrap(),
            &v1::LeaseReply { result: Some(result), ..v1::LeaseReply::default() },
        )
        .await
        .unwrap();
        asked.send(action).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_waits_for_its_memory_and_gives_it_back() {
    let mut fixture = Fixture::start(&format!("{ONE}\npreload = false")).await;
    let cold = fixture.until_state("demo", DeploymentState::Cold).await;
    let (asked, mut asks) = tokio::sync::mpsc::channel(64);
    let mut playing = tokio::task::JoinSet::new();
    playing.spawn(play_vram_optimizer(fixture.bus.clone(), asked));
    let ready = wait::until("the lease subject", PATIENCE, async || {
        let list = v1::LeaseRequest { action: Some(Action::List(true)) };
        fixture.bus.call(&LeaseCall(fixture.bus.machine().clone()), &list).await.ok().map(drop)
    });
    ready.await.unwrap();

    let refused = fixture.ask(&cold, "r1", "What is 2+2?").await.error.unwrap();
    assert!(refused.message.contains("a game has taken the memory"), "{refused:?}");
    // It is tried again by itself, and now there is room.
    fixture.until_state("demo", DeploymentState::Warm).await;
    let engines = fixture.engines();
    fixture.pool.stop(PATIENCE).await.unwrap();
    let (mut bytes, mut named) = (vec![], false);
    let mut released = false;
    while let Ok(action) = asks.try_recv() {
        match action {
            Action::Acquire(acquire) => {
                assert!(!acquire.gpu);
                bytes.push(acquire.bytes);
            }
            Action::Release(release) => released = release.lease_id == "lease-1",
            Action::Renew(renew) => named |= renew.pids == engines,
            Action::List(_) => {}
        }
    }
    assert_eq!(bytes.len(), 2, "{bytes:?}");
    assert!(bytes[0] > 2_000_000 && bytes[0] < 200_000_000, "{bytes:?}");
    assert!(named, "no renewal named the engine's process {engines:?}");
    assert!(released, "the lease was kept");
}

/// Two models of one file, of which one is loaded at once.
const TWO: &str = r#"
    models_loaded_max = 1
    wait_max_s = 5
    return_after_s = 1
    [[local-model-pool.models]]
    name = "a"
    file = "demo.gguf"
    slots = 2
    [[local-model-pool.models]]
    name = "b"
    file = "demo.gguf"
    slots = 2
    preload = false
"#;

fn deployment_of(model: &str) -> v1::Deployment {
    v1::Deployment {
        id: format!("mainpc/llama.cpp/{model}"),
        executor: "pool".to_owned(),
        ..v1::Deployment::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_do_not_fit_together_take_turns_and_no_request_is_lost() {
    let mut fixture = Fixture::start(TWO).await;
    fixture.until_state("a", DeploymentState::Warm).await;
    fixture.until_state("b", DeploymentState::Cold).await;
    // A B A B …, all through the pool as by callers who have not heard yet.
    let (a, b) = (deployment_of("a"), deployment_of("b"));
    let fixture = &fixture;
    let asks = (0..12).map(|number| {
        let deployment = if number % 2 == 0 { a.clone() } else { b.clone() };
        async move { fixture.ask(&deployment, &format!("r{number}"), "What is 2+2?").await }
    });
    let answers = futures::future::join_all(asks).await;
    for answer in &answers {
        assert!(answer.text.contains('4'), "{answer:?}");
    }
    assert!(fixture.engines().len() <= 1, "two engines at once");
    let (loads_a, loads_b) = (fixture.status("a").await.loads, fixture.status("b").await.loads);
    // In the order of arrival it would have been six each.
    assert!(loads_a + loads_b <= 4, "{loads_a} and {loads_b} loads for two models");
    // The one that was preloaded comes back when the other has been idle for a while.
    fixture.until_status("a", |status| status.phase() == v1::ModelPhase::Warm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_over_the_bus_load_unload_pin_and_tell() {
    let mut fixture = Fixture::start(TWO).await;
    fixture.until_state("a", DeploymentState::Warm).await;
    let all = fixture.order(v1::ModelAction::Unspecified, "").await;
    assert_eq!(all.models.iter().map(|status| status.model.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(all.machine, "mainpc");

    fixture.order(v1::ModelAction::Pin, "b").await;
    let pinned = fixture.until_status("b", |status| status.phase() == v1::ModelPhase::Warm).await;
    assert!(pinned.pinned && pinned.loads == 1 && pinned.load_estimate_ms > 0, "{pinned:?}");
    assert_eq!(fixture.status("a").await.phase(), v1::ModelPhase::Cold);
    // What is pinned does not go, and whoever wants the other hears so.
    let refused = fixture.ask(&deployment_of("a"), "r1", "Hello").await.error.unwrap();
    assert!(refused.code() == v1::ErrorCode::Unavailable && refused.retryable, "{refused:?}");

    fixture.order(v1::ModelAction::Unpin, "b").await;
    fixture.order(v1::ModelAction::Unload, "b").await;
    fixture.until_status("b", |status| status.phase() == v1::ModelPhase::Cold).await;
    fixture.order(v1::ModelAction::Load, "a").await;
    fixture.until_status("a", |status| status.phase() == v1::ModelPhase::Warm).await;

    let unknown = fixture.order(v1::ModelAction::Load, "none").await.error.unwrap();
    assert_eq!((unknown.code(), unknown.field.as_str()), (v1::ErrorCode::NotFound, "model"));
    let nameless = fixture.order(v1::ModelAction::Load, "").await.error.unwrap();
    assert_eq!(nameless.code(), v1::ErrorCode::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_and_how_long_loads_take_is_remembered_over_a_restart() {
    let mut fixture = Fixture::start(TWO).await;
    fixture.until_state("a", DeploymentState::Warm).await;
    fixture.order(v1::ModelAction::Pin, "b").await;
    let learnt = fixture.until_status("b", |status| status.phase() == v1::ModelPhase::Warm).await;
    fixture.pool.stop(PATIENCE).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-model-pool"));
    let file = fixture.folder.path().join("hybrid.toml");
    fixture.pool = Child::spawn("local-model-pool", command.arg("--config").arg(&file)).unwrap();
    fixture.until("b", |deployment| deployment.state() == DeploymentState::Warm).await;
    let again = fixture.status("b").await;
    assert!(again.pinned, "{again:?}");
    assert!(learnt.load_estimate_ms > 0 && again.load_estimate_ms > 0, "{learnt:?} {again:?}");
}

/// Models whose engines take a while before they begin to load.
fn slow(fixture_models: &str) -> (String, impl FnOnce(&Path) + use<>) {
    let engine = env!("CARGO_BIN_EXE_local-model-pool").to_owned();
    let prepare = move |folder: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        let script = folder.join("slow-engine.sh");
        std::fs::write(&script, format!("#!/bin/sh\nsleep 2\nexec {engine} \"$@\"\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    (fixture_models.to_owned(), prepare)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_killed_while_it_loads_gives_its_callers_a_reason_and_its_lease_back_and_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("slow-engine.sh");
    let (models, prepare) = slow(&format!(
        "engine_program = \"{}\"\n{ONE}\npreload = false\n[[local-model-pool.models]]\nname = \"other\"\nfile = \"demo.gguf\"",
        script.display()
    ));
    prepare(folder.path());
    let mut fixture = Fixture::start(&models).await;
    let (asked, mut asks) = tokio::sync::mpsc::channel(256);
    let mut playing = tokio::task::JoinSet::new();
    playing.spawn(play_vram_optimizer(fixture.bus.clone(), asked));
    let other = fixture.until_state("other", DeploymentState::Warm).await;
    let cold = fixture.until_state("demo", DeploymentState::Cold).await;
    let before = fixture.engines();

    let mut stream = fixture.open(&cold, "r1", generate("r1", "What is 2+2?")).await;
    let found = wait::until("the engine", PATIENCE, async || {
        fixture.engines().into_iter().find(|engine| !before.contains(engine))
    });
    let engine = found.await.unwrap();
    let loading = fixture.until_status("demo", |status| status.phase() == v1::ModelPhase::Loading).await;
    assert!(loading.load_remaining_ms > 0 && loading.waiting == 1, "{loading:?}");
    kill(engine);
    let error = read(&mut stream).await.error.unwrap();
    assert!(error.code() == v1::ErrorCode::Unavailable && error.retryable, "{error:?}");
    assert!(error.retry_after_ms > 0, "{error:?}");
    // The others live on, and it comes back by itself.
    assert!(fixture.ask(&other, "r2", "What is 2+2?").await.text.contains('4'));
    let again = fixture.until_state("demo", DeploymentState::Warm).await;
    assert!(fixture.ask(&again, "r3", "What is 2+2?").await.text.contains('4'));
    let mut released = 0;
    while let Ok(action) = asks.try_recv() {
        released += usize::from(matches!(action, Action::Release(_)));
    }
    assert!(released >= 1, "the dead engine's lease was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_while_a_model_loads() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("slow-engine.sh");
    let (models, prepare) =
        slow(&format!("engine_program = \"{}\"\n{ONE}\npreload = false", script.display()));
    prepare(folder.path());
    let mut fixture = Fixture::start(&models).await;
    let cold = fixture.until_state("demo", DeploymentState::Cold).await;
    assert!(cold.load_estimate_ms > 0, "{cold:?}");
    let mut stream = fixture.open(&cold, "r1", generate("r1", "What is 2+2?")).await;
    let mut seen = vec![];
    while let Some(kind) = stream.next(PATIENCE).await.unwrap().kind {
        match kind {
            Kind::Heartbeat(beat) if beat.phase == "loading" => seen.push(beat.progress_percent),
            Kind::End(_) => break,
            Kind::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    assert!(seen.len() >= 2 && seen.is_sorted() && seen.last().unwrap() > &0, "{seen:?}");
    // What it took is what the next one will take.
    let warm = fixture.status("demo").await;
    assert!(warm.load_estimate_ms >= 2_000, "{warm:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_between_the_doorman_and_the_engine_is_not_lost() {
    let mut fixture = Fixture::start(ONE).await;
    fixture.until_state("demo", DeploymentState::Warm).await;
    // Through the pool, as by a caller who takes the model for cold, and cancelled at once.
    for number in 0..20 {
        let id = format!("r{number}");
        let mut stream = fixture.open(&deployment_of("demo"), &id, endless(&id)).await;
        fixture.bus.publish(&Cancel(RequestId::new(id.as_str()).unwrap()), &()).await.unwrap();
        let answer = read(&mut stream).await;
        match (answer.end, answer.error) {
            (Some(end), None) => assert_eq!(end.finish_reason(), FinishReason::Cancelled, "request {number}"),
            (None, Some(error)) => assert_eq!(error.code(), v1::ErrorCode::Cancelled, "request {number}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_installed_beside_the_others_and_outlives_a_restart() {
    let mut fixture = Fixture::start(ONE).await;
    fixture.until_state("demo", DeploymentState::Warm).await;
    std::fs::copy(demo(), fixture.folder.path().join("new.gguf")).unwrap();
    let install = |sha256: &str| v1::ModelRequest {
        action: v1::ModelAction::Install.into(),
        model: "demo/2".to_owned(),
        install: Some(v1::InstallModel {
            file: "new.gguf".to_owned(),
            sha256: sha256.to_owned(),
            like: "demo".to_owned(),
        }),
    };
    let call = ModelCall(fixture.bus.machine().clone());
    let wrong = fixture.bus.call(&call, &install("00")).await.unwrap().error.unwrap();
    assert_eq!(wrong.field, "install.sha256", "{wrong:?}");
    let found = wrong.message.split("has ").last().unwrap().to_owned();
    let installed = fixture.bus.call(&call, &install(&found)).await.unwrap();
    assert_eq!(installed.error, None);
    assert!(installed.models[0].installed, "{installed:?}");
    let twice = fixture.bus.call(&call, &install(&found)).await.unwrap().error.unwrap();
    assert_eq!(twice.field, "model", "{twice:?}");

    let cold = fixture.until_state("demo/2", DeploymentState::Cold).await;
    let answer = fixture.ask(&cold, "r1", "What is 2+2?").await;
    assert!(answer.text.contains('4'), "{answer:?}");
    assert_eq!(fixture.engines().len(), 2);

    fixture.pool.stop(PATIENCE).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-model-pool"));
    let file = fixture.folder.path().join("hybrid.toml");
    fixture.pool = Child::spawn("local-model-pool", command.arg("--config").arg(&file)).unwrap();
    fixture.until_state("demo/2", DeploymentState::Cold).await;
    let kept = fixture.order(v1::ModelAction::Remove, "demo").await.error.unwrap();
    assert_eq!(kept.code(), v1::ErrorCode::InvalidArgument, "{kept:?}");
    let removed = fixture.order(v1::ModelAction::Remove, "demo/2").await;
    assert_eq!(removed.error, None);
    wait::until("the registration without it", PATIENCE, async || {
        fixture.deployments().await.iter().all(|deployment| deployment.model != "demo/2").then_some(())
    })
    .await
    .unwrap();
}
