//! Keeps one model's engine process running: starts it, watches it, starts it again.
//!
//! ```text
//!            wake                     ready
//!   cold ──────────► loading ───────────────────► warm
//!    ▲                 │ ▲                         │ │
//!    │         failed, │ │ after a delay      died │ │ idle for keep_alive
//!    │        too slow ▼ │                         │ │
//!    │                 down ◄──────────────────────┘ │
//!    └───────────────────────────────────────────────┘
//! ```
//!
//! The delay doubles with each failure up to a bound, with jitter, and starts over once the engine has lived for a minute. An
//! engine is ended by closing its standard input, and killed if it does not heed that. Ending the process is also what gives
//! its memory back, so the lease is released after that and not before.

mod backoff;
mod child;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::units::Bytes;

use crate::engine::Abilities;
use crate::estimate::{self, Shape};
use crate::gguf::Header;
use crate::host::context_length;
use crate::lease::{Held, Leases};
use crate::metrics::ModelMetrics;
use crate::protocol::{Event, Ready};
use crate::settings::ModelConfig;
use backoff::Backoff;
pub use child::Launch;
use child::{Child, Exit};

/// An engine that lived this long was healthy: its next failure is treated as its first.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Between telling everybody that an idle model is cold and ending its engine, so that requests under way still arrive.
const NOTICE: Duration = Duration::from_secs(1);
/// How long an engine may take to end once asked.
const END_GRACE: Duration = Duration::from_secs(5);

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not loaded; a request loads it.
    Cold,
    /// Being loaded.
    Loading,
    /// Answers on its own subject.
    Warm(Ready),
    /// Does not answer; tried again by itself.
    Down {
        /// Why.
        reason: String,
        /// When it is tried again.
        retry_at: Instant,
    },
}

/// What is known of a model without loading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Tokens for each slot.
    pub context_length: u32,
    /// Length of its vectors.
    pub embedding_length: u32,
    /// Memory it is expected to take.
    pub memory: Bytes,
    /// What its chat template can do.
    pub abilities: Abilities,
}

/// State and description, as others see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where the model is.
    pub state: State,
    /// What is known of it; `None` until its file was readable once.
    pub description: Option<Description>,
}

/// A supervised model, for those who need it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its configuration.
    pub config: Arc<ModelConfig>,
    /// Its status, now and as it changes.
    pub status: watch::Receiver<Status>,
    wake: Arc<Notify>,
}

impl Model {
    /// Loads the model if it is cold.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// What a supervisor needs.
pub struct Supervisor {
    config: Arc<ModelConfig>,
    models_dir: PathBuf,
    launch: Launch,
    load_timeout: Duration,
    leases: Leases,
    metrics: ModelMetrics,
    backoff: Backoff,
    status: watch::Sender<Status>,
    wake: Arc<Notify>,
}

/// How a session with an engine ended.
enum End {
    /// The pool ends.
    Stopped,
    /// Nobody needed the model.
    Idle,
    /// It failed, after having been warm for so long.
    Failed(String, Duration),
}

impl Supervisor {
    /// A supervisor, and the handle for everybody else. `restart_delay_max` bounds the wait between tries.
    #[must_use]
    pub fn new(
        config: ModelConfig,
        models_dir: PathBuf,
        launch: Launch,
        (load_timeout, restart_delay_max): (Duration, Duration),
        leases: Leases,
        metrics: ModelMetrics,
    ) -> (Self, Model) {
        let config = Arc::new(config);
        let state = if config.preload { State::Loading } else { State::Cold };
        let (sender, status) = watch::channel(Status { state, description: None });
        let wake = Arc::new(Notify::new());
        let model = Model { config: Arc::clone(&config), status, wake: Arc::clone(&wake) };
        let backoff = Backoff::new(restart_delay_max);
        let supervisor =
            Self { config, models_dir, launch, load_timeout, leases, metrics, backoff, status: sender, wake };
        (supervisor, model)
    }

    /// Works until `stop` fires.
    pub async fn run(mut self, stop: CancellationToken) {
        if !self.config.preload {
            // For the registration: what the model could do.
            if let Ok((_, description)) = describe(&self.config, &self.models_dir).await {
                self.status.send_modify(|status| status.description = Some(description));
            }
            if !self.wait_for_need(&stop).await {
                return;
            }
        }
        while !stop.is_cancelled() {
            match self.session(&stop).await {
                End::Stopped => break,
                End::Idle => {
                    self.set(State::Cold);
                    if !self.wait_for_need(&stop).await {
                        break;
                    }
                }
                End::Failed(reason, lived) => {
                    if lived >= HEALTHY_AFTER {
                        self.backoff.reset();
                    }
                    let delay = self.backoff.next();
                    tracing::error!(model = %self.config.name, reason, delay_ms = delay.as_millis(), "model is down");
                    self.metrics.failure();
                    let retry_at = Instant::now() + delay;
                    self.set(State::Down { reason, retry_at });
                    if stop.run_until_cancelled(tokio::time::sleep_until(retry_at)).await.is_none() {
                        break;
                    }
                }
            }
        }
        let reason = "the pool ends".to_owned();
        self.set(State::Down { reason, retry_at: Instant::now() });
    }

    fn set(&self, state: State) {
        self.metrics.state(&state);
        self.status.send_modify(|status| status.state = state);
    }

    /// Waits until somebody needs the cold model. `false` = the pool ends instead.
    async fn wait_for_need(&self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(self.wake.notified()).await.is_some()
    }

    /// One life of an engine.
    async fn session(&self, stop: &CancellationToken) -> End {
        self.set(State::Loading);
        let (path, description) = match describe(&self.config, &self.models_dir).await {
            Ok(described) => described,
            Err(reason) => return End::Failed(reason, Duration::ZERO),
        };
        self.status.send_modify(|status| status.description = Some(description));
        self.metrics.estimate(description.memory);
        tracing::info!(model = %self.config.name, file = %path.display(), memory = %description.memory, "loading");
        let lease = match self.leases.acquire(&self.config, description.memory).await {
            Ok(lease) => lease,
            Err(reason) => return End::Failed(reason, Duration::ZERO),
        };
        let end = match Child::start(&self.launch, &self.config.name) {
            Ok(mut child) => {
                child.id().inspect(|process| lease.used_by(*process));
                let end = self.watch(&mut child, &lease, stop).await;
                child.end(END_GRACE).await;
                end
            }
            Err(error) => End::Failed(format!("the engine cannot be started: {error}"), Duration::ZERO),
        };
        self.metrics.gone();
        lease.release().await;
        end
    }

    /// Follows an engine until it ends or has to.
    async fn watch(&self, child: &mut Child, lease: &Held, stop: &CancellationToken) -> End {
        let started = Instant::now();
        let load_limit = started + self.load_timeout;
        let mut warm_since: Option<Instant> = None;
        let mut idle_since: Option<Instant> = None;
        let mut said: Option<String> = None;
        let mut lost = std::pin::pin!(lease.keep());
        loop {
            let lived = warm_since.map_or(Duration::ZERO, |since| since.elapsed());
            let idle_limit =
                self.config.keep_alive.and_then(|allowed| idle_since.map(|since| since + allowed));
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep_until(load_limit), if warm_since.is_none() => {
                    return End::Failed(format!("not ready within {:?}", self.load_timeout), lived);
                }
                () = sleep_until(idle_limit), if idle_limit.is_some() => {
                    self.set(State::Cold);
                    if stop.run_until_cancelled(tokio::time::sleep(NOTICE)).await.is_none() {
                        return End::Stopped;
                    }
                    return End::Idle;
                }
                reason = &mut lost => return End::Failed(reason, lived),
                event = child.event() => match event {
                    Ok(Event::Ready(ready)) => {
                        warm_since = Some(Instant::now());
                        idle_since = warm_since;
                        self.metrics.ready(&ready, started.elapsed());
                        tracing::info!(
                            model = %self.config.name, slots = ready.slots, context = ready.context_length,
                            load_ms = ready.load_ms, resident = %Bytes::new(ready.resident_bytes), "model is warm"
                        );
                        self.set(State::Warm(ready));
                    }
                    Ok(Event::Occupancy { busy, waiting }) => {
                        idle_since = (busy == 0 && waiting == 0).then(Instant::now);
                        self.metrics.occupancy(busy, waiting);
                    }
                    Ok(Event::Finished(finished)) => self.metrics.finished(&finished),
                    Ok(Event::Failed { reason }) => said = Some(reason),
                    Err(Exit(how)) => {
                        return End::Failed(said.unwrap_or_else(|| format!("the engine ended: {how}")), lived);
                    }
                }
            }
        }
    }
}

async fn sleep_until(limit: Option<Instant>) {
    match limit {
        Some(limit) => tokio::time::sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// Finds and checks a model's file, and says what it will take. The error is in words for the registration.
async fn describe(model: &Arc<ModelConfig>, folder: &Path) -> Result<(PathBuf, Description), String> {
    let (model, folder) = (Arc::clone(model), folder.to_owned());
    let described = tokio::task::spawn_blocking(move || {
        let path = model.file.resolve(&folder).map_err(|error| error.to_string())?;
        let header = Header::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let context = context_length(&model, header.metadata.context_length);
        let shape = Shape {
            slots: model.slots,
            context_per_slot: context,
            compute_batch: estimate::COMPUTE_BATCH_TOKENS,
            cache: estimate::CacheType::F16,
            generate: model.generate,
            embed_sequences: if model.embed { estimate::EMBED_SEQUENCES } else { 0 },
            gpus: u32::from(model.gpu_layers > 0),
        };
        let description = Description {
            context_length: context,
            embedding_length: if model.embed { header.metadata.embedding_length } else { 0 },
            memory: estimate::estimate(&header, shape).total(),
            abilities: match model.generate {
                true => Abilities::of(header.metadata.chat_template.as_deref()),
                false => Abilities::default(),
            },
        };
        Ok((path, description))
    });
    described.await.unwrap_or_else(|error| Err(format!("reading the model's file failed: {error}")))
}
