//! local-model-pool with its own bus, asked over that bus as the coordinator does.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bus::Bus;
use domain::routing::Plane;
use e2e::{Child, Nats, port, wait, workspace};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wire::subject::Execute;
use wire::v1;

use super::{ANSWER_MAX, AT_ONCE, Answer, CONTEXT, END_TOKEN, Question, START_MAX};
use crate::load::Call;
use crate::target::MACHINE;

const MODEL: &str = "bench";

/// The pool, its engine and its bus; gone when dropped.
#[derive(Debug)]
pub(super) struct Ours {
    call: Call,
    pool: Child,
    _nats: Nats,
    _folder: TempDir,
}

impl Ours {
    pub(super) async fn start(model: &Path, threads: u32) -> anyhow::Result<Self> {
        let nats = Nats::start().await?;
        let folder = tempfile::tempdir().context("cannot make a folder for the pool")?;
        let models = model.parent().context("the model has no folder")?;
        let file = model.file_name().and_then(|name| name.to_str()).context("the model has no name")?;
        let text = format!(
            "node = {{ machine = \"{MACHINE}\", data_dir = \"{}\" }}\ntelemetry = {{ log_filter = \"warn\" }}\n\
             bus = {{ url = \"{}\" }}\n\
             [local-model-pool]\nadmin_listen = \"127.0.0.1:{}\"\nmodels_dir = \"{}\"\nthreads = {threads}\n\
             vram_lease = false\nslots_on_disk_mib = 0\n\
             [[local-model-pool.models]]\nname = \"{MODEL}\"\nfile = \"{file}\"\ncontext_length = {CONTEXT}\nslots = {AT_ONCE}\n",
            folder.path().join("state").display(),
            nats.url(),
            port::free()?,
            models.display(),
        );
        let config = folder.path().join("bench.toml");
        std::fs::write(&config, text).context("cannot write the pool's configuration")?;
        let mut command = Command::new(workspace::binary("local-model-pool")?);
        command.arg("--config").arg(&config).current_dir(workspace::root());
        let pool = Child::spawn("local-model-pool", &mut command)?;
        let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
        let bus = Bus::connect(&settings, "bench", "load", MACHINE, &CancellationToken::new()).await?;
        let (plane, machine) = (Plane::Local, bus.machine().clone());
        let at = Execute { plane, machine, executor: format!("llama-{MODEL}") };
        let deployment = format!("{MACHINE}/llama.cpp/{MODEL}");
        let call = Call::new(bus, at, &deployment, v1::GenerateRequest::default());
        let ours = Self { call, pool, _nats: nats, _folder: folder };
        let question = Question { prompt: "ready?".to_owned(), output_tokens: 1, seed: 0 };
        let mut last = None;
        let ready = wait::until("the engine", START_MAX, async || {
            ours.ask(&question).await.map_err(|error| last = Some(error)).ok()
        });
        ready.await.with_context(|| format!("last: {last:?}\n{}", ours.pool.stderr()))?;
        Ok(ours)
    }

    pub(super) async fn ask(&self, question: &Question) -> anyhow::Result<Answer> {
        let part = v1::content_part::Part::Text(question.prompt.clone());
        let content = vec![v1::ContentPart { part: Some(part), ..Default::default() }];
        let sampling = v1::Sampling {
            max_tokens: Some(question.output_tokens),
            temperature: Some(0.8),
            top_p: Some(0.95),
            top_k: Some(40),
            seed: Some(question.seed),
            ..Default::default()
        };
        let request = v1::GenerateRequest {
            messages: vec![v1::Message { role: v1::Role::User.into(), content, ..Default::default() }],
            sampling: Some(sampling),
            stream: true,
            deadline_ms: u64::try_from(ANSWER_MAX.as_millis())?,
            extra_json: format!(r#"{{"logit_bias":{{"{END_TOKEN}":-100}}}}"#),
            ..Default::default()
        };
        let started = Instant::now();
        let mut first_text = None;
        let end = self
            .call
            .asking(request)
            .ask(|items| {
                if items.iter().any(|item| !item.text.is_empty()) {
                    first_text.get_or_insert_with(|| started.elapsed());
                }
            })
            .await?;
        let tokens = end.usage.context("an answer without usage")?.output;
        ensure!(
            tokens == u64::from(question.output_tokens),
            "{tokens} tokens, expected {}",
            question.output_tokens
        );
        Ok(Answer { first_text: first_text.context("an answer without text")?, tokens })
    }
}
