//! One life of a model's engine: memory, process, and everything it says until it is gone.
//!
//! ```text
//! file checked ─► memory leased ─► process ─► loading ─► ready ─► … ─► asked to end, failed, or memory lost ─► gone
//! ```
//!
//! An engine is ended by closing its standard input, and killed if it does not heed that. Ending the process is also what gives
//! its memory back, so the lease is released after that, and only then is the life over: whoever hears of it can use the room.
//! Whether and when there is a next life is not decided here but by [`domain::lifecycle`].

mod backoff;
mod child;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::id::ModelName;
use domain::lifecycle::Run;
use domain::units::Bytes;

use crate::engine::Abilities;
use crate::estimate::{self, Shape};
use crate::gguf::Header;
use crate::host::context_length;
use crate::lease::{Held, Leases, NoLease};
use crate::protocol::{Event, Finished, Ready};
use crate::settings::ModelConfig;
pub use backoff::Backoff;
pub use child::Launch;
use child::{Child, Exit};

/// How long an engine may take to end once asked.
const END_GRACE: Duration = Duration::from_secs(5);

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

/// What a life told.
#[derive(Debug)]
pub struct Told {
    /// Whose.
    pub model: ModelName,
    /// Which.
    pub run: Run,
    /// What.
    pub what: What,
}

/// What can be told of a life, in about this order.
#[derive(Debug)]
pub enum What {
    /// Its file is sound.
    Described(Description),
    /// There is no memory for it; nothing was started.
    NoRoom(NoLease),
    /// How far the load is, percent.
    Loading(u32),
    /// It answers, and how long that took.
    Ready(Ready, Duration),
    /// Requests it computes, and that wait for a slot.
    Occupancy(u32, u32),
    /// It has begun with this request.
    Taken(String),
    /// It will not begin with this request.
    Refused(String),
    /// A request ended.
    Finished(Finished),
    /// Its memory was taken away, in words.
    MemoryLost(String),
    /// Process and lease are gone.
    Gone {
        /// Why, in words.
        reason: String,
        /// How long it has answered.
        answered: Duration,
    },
}

/// What every life needs.
#[derive(Debug, Clone)]
pub struct Engines {
    /// The folder of the models.
    pub models_dir: PathBuf,
    /// How engines are started.
    pub launch: Launch,
    /// How long a model may take to load.
    pub load_timeout: Duration,
    /// The way to memory.
    pub leases: Leases,
    /// Where lives tell.
    pub told: mpsc::Sender<Told>,
}

/// One life.
pub struct Life {
    /// What every life needs.
    pub engines: Engines,
    /// The model.
    pub config: Arc<ModelConfig>,
    /// The number of this life.
    pub run: Run,
}

impl Life {
    /// Lives until `end` fires or the engine fails.
    pub async fn run(self, end: CancellationToken) {
        let what = match self.live(&end).await {
            Ok((reason, answered)) => What::Gone { reason, answered },
            Err(what) => what,
        };
        self.tell(what).await;
    }

    async fn tell(&self, what: What) {
        let told = Told { model: self.config.name.clone(), run: self.run, what };
        // nobody listens once the pool ends
        let _ended = self.engines.told.send(told).await;
    }

    async fn live(&self, end: &CancellationToken) -> Result<(String, Duration), What> {
        let failed = |reason| What::Gone { reason, answered: Duration::ZERO };
        let (path, description) = describe(&self.config, &self.engines.models_dir).await.map_err(failed)?;
        self.tell(What::Described(description)).await;
        tracing::info!(model = %self.config.name, file = %path.display(), memory = %description.memory, "loading");
        let lease = self.engines.leases.acquire(&self.config, description.memory).await;
        let lease = lease.map_err(What::NoRoom)?;
        let ended = match Child::start(&self.engines.launch, &self.config) {
            Ok(mut child) => {
                child.id().inspect(|process| lease.used_by(*process));
                let ended = self.watch(&mut child, &lease, end).await;
                child.end(END_GRACE).await;
                ended
            }
            Err(error) => (format!("the engine cannot be started: {error}"), Duration::ZERO),
        };
        lease.release().await;
        Ok(ended)
    }

    /// Follows an engine until it ends or has to: why, and how long it has answered.
    async fn watch(&self, child: &mut Child, lease: &Held, end: &CancellationToken) -> (String, Duration) {
        let started = Instant::now();
        let load_limit = started + self.engines.load_timeout;
        let mut ready_since: Option<Instant> = None;
        let mut said: Option<String> = None;
        let mut lost = false;
        let mut keep = std::pin::pin!(lease.keep());
        loop {
            let answered = ready_since.map_or(Duration::ZERO, |since| since.elapsed());
            tokio::select! {
                () = end.cancelled() => return ("ended as asked".to_owned(), answered),
                () = tokio::time::sleep_until(load_limit), if ready_since.is_none() => {
                    return (format!("not ready within {:?}", self.engines.load_timeout), answered);
                }
                reason = &mut keep, if !lost => {
                    lost = true;
                    self.tell(What::MemoryLost(reason)).await;
                }
                event = child.event() => match event {
                    Ok(Event::Failed { reason }) => said = Some(reason),
                    Ok(event) => {
                        if matches!(event, Event::Ready(_)) {
                            ready_since = Some(Instant::now());
                        }
                        self.tell(what(event, started)).await;
                    }
                    Err(Exit(how)) => {
                        return (said.unwrap_or_else(|| format!("the engine ended: {how}")), answered);
                    }
                }
            }
        }
    }
}

fn what(event: Event, started: Instant) -> What {
    match event {
        Event::Loading { percent } => What::Loading(percent.min(99)),
        Event::Ready(ready) => What::Ready(ready, started.elapsed()),
        Event::Occupancy { busy, waiting } => What::Occupancy(busy, waiting),
        Event::Taken { request_id } => What::Taken(request_id),
        Event::Refused { request_id } => What::Refused(request_id),
        Event::Finished(finished) => What::Finished(finished),
        Event::Failed { reason } => What::Gone { reason, answered: Duration::ZERO },
    }
}

/// Finds and checks a model's file, and says what it will take. The error is in words for the registration.
pub async fn describe(model: &Arc<ModelConfig>, folder: &Path) -> Result<(PathBuf, Description), String> {
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
