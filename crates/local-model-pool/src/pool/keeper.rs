//! The one owner of what is loaded: it feeds [`Lifecycle`] everything that happens, one thing after the other, and carries out
//! what that decides. Everybody else sees statuses and sends messages.

mod orders;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bus::executor::Load;
use service_runtime::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use domain::id::ModelName;
use domain::lifecycle::{Action, Event, Lifecycle, LoadTimes, Phase, Run, Spec, Ticket, percent};
use domain::units::Bytes;
use wire::v1;

use super::desk::{Ask, Message, Word};
use super::kept::{Kept, Store};
use super::status::{Status, Statuses};
use crate::metrics::{Metrics, ModelMetrics};
use crate::protocol::Ready;
use crate::settings::ModelConfig;
use crate::supervisor::{Backoff, Description, Engines, Life, Told, What, describe};

/// How often the progress of a load is looked at.
const PROGRESS: Duration = Duration::from_millis(250);

/// What the pool knows of a model beside its lifecycle.
struct Offer {
    config: Arc<ModelConfig>,
    metrics: ModelMetrics,
    backoff: Backoff,
    times: LoadTimes,
    description: Option<Description>,
    ready: Option<Ready>,
    /// As its engine told, while it loads.
    percent: Option<u32>,
    /// Computed, and waiting for a slot.
    occupancy: (u32, u32),
    /// Ends the present life.
    end: CancellationToken,
    loads: u64,
    removed: bool,
}

/// A request that is waiting, or is with an engine.
struct Caller {
    model: ModelName,
    request_id: String,
    since: Instant,
    words: mpsc::Sender<Word>,
}

/// What a keeper is made of.
pub(super) struct Parts {
    pub(super) lifecycle: Lifecycle,
    pub(super) engines: Engines,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    pub(super) restart_delay_max: Duration,
    pub(super) store: Store,
    pub(super) kept: Kept,
    /// Counts every request of this pool and its engines.
    pub(super) load: Load,
    pub(super) statuses: watch::Sender<Arc<Statuses>>,
    pub(super) stop: CancellationToken,
}

/// Owns the models.
pub(super) struct Keeper {
    parts: Parts,
    began: Instant,
    offers: BTreeMap<ModelName, Offer>,
    callers: HashMap<Ticket, Caller>,
    /// Tickets of requests that are with an engine, by request.
    handed: HashMap<String, Ticket>,
}

impl Keeper {
    /// Offers these models, and begins to load those that are to be there from the start.
    pub(super) fn new(parts: Parts, models: Vec<ModelConfig>) -> Self {
        let began = parts.statuses.borrow().began;
        let mut keeper =
            Self { parts, began, offers: BTreeMap::new(), callers: HashMap::new(), handed: HashMap::new() };
        for model in models {
            keeper.offer(model);
        }
        let pinned: Vec<_> =
            keeper.parts.kept.pinned.iter().filter_map(|name| ModelName::new(name).ok()).collect();
        for model in pinned {
            keeper.apply(Event::Pin(model));
        }
        keeper.publish();
        keeper
    }

    /// Works until `stop` fires, and then until every engine is gone.
    pub(super) async fn run(mut self, mut told: mpsc::Receiver<Told>, mut messages: mpsc::Receiver<Message>) {
        let mut progress = tokio::time::interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.parts.lifecycle.next_due(self.now()).map(|due| self.began + due);
            tokio::select! {
                biased;
                () = self.parts.stop.cancelled() => break,
                Some(told) = told.recv() => self.told(told).await,
                Some(message) = messages.recv() => self.message(message).await,
                () = sleep_until(due) => self.apply(Event::Tick),
                _ = progress.tick() => {}
            }
            self.publish();
        }
        for (_, caller) in self.callers.drain() {
            let refused = Word::Refused("the pool ends".to_owned(), Duration::ZERO);
            let _left = caller.words.try_send(refused);
        }
        for offer in self.offers.values() {
            offer.end.cancel();
        }
        // the lives hold the other ends
        drop(self.parts.engines);
        while told.recv().await.is_some() {}
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn offer(&mut self, config: ModelConfig) {
        let name = config.name.clone();
        let remembered = self.parts.kept.load_ms.get(name.as_str()).copied();
        let times =
            remembered.map_or_else(LoadTimes::default, |ms| LoadTimes::remembered(Duration::from_millis(ms)));
        let metrics = self.parts.metrics.of(name.as_str());
        let offer = Offer {
            metrics,
            backoff: Backoff::new(self.parts.restart_delay_max),
            times,
            description: None,
            ready: None,
            percent: None,
            occupancy: (0, 0),
            end: CancellationToken::new(),
            loads: 0,
            removed: false,
            config: Arc::new(config),
        };
        let spec = spec(&offer);
        self.look_at(&offer.config);
        self.offers.insert(name.clone(), offer);
        self.apply(Event::Offered(name, spec));
    }

    /// What a model could do is registered before it is loaded.
    fn look_at(&self, config: &Arc<ModelConfig>) {
        let (config, engines) = (Arc::clone(config), self.parts.engines.clone());
        self.parts.tasks.spawn(format!("description of {}", config.name), async move {
            // why it can't be read is said when it is loaded
            if let Ok((_, description)) = describe(&config, &engines.models_dir).await {
                let what = What::Described(description);
                let told = Told { model: config.name.clone(), run: Run::default(), what };
                let _ended = engines.told.send(told).await;
            }
            Ok(())
        });
    }

    fn apply(&mut self, event: Event) {
        let now = self.now();
        for action in self.parts.lifecycle.apply(event, now) {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Load { model, run, swapped } => self.load(&model, run, swapped),
            Action::End { model, why, .. } => {
                let Some(offer) = self.offers.get_mut(&model) else { return };
                tracing::info!(%model, why = why.as_str(), "model leaves");
                offer.metrics.left(why.as_str());
                offer.end.cancel();
            }
            Action::HandOver { model, ticket } => {
                let (Some(offer), Some(caller)) = (self.offers.get(&model), self.callers.get(&ticket)) else {
                    return;
                };
                offer.metrics.waited(caller.since.elapsed());
                self.handed.insert(caller.request_id.clone(), ticket);
                let _left = caller.words.try_send(Word::HandOver(offer.config.executor.clone()));
            }
            Action::Refuse { ticket, reason, retry_in } => {
                if let Some(caller) = self.callers.remove(&ticket) {
                    let _left = caller.words.try_send(Word::Refused(reason, retry_in));
                }
            }
        }
    }

    fn load(&mut self, model: &ModelName, run: Run, swapped: bool) {
        let Some(offer) = self.offers.get_mut(model) else { return };
        offer.end = CancellationToken::new();
        (offer.percent, offer.ready, offer.occupancy) = (None, None, (0, 0));
        if swapped {
            offer.metrics.swapped();
        }
        let (end, config) = (offer.end.clone(), Arc::clone(&offer.config));
        let life = Life { engines: self.parts.engines.clone(), config, run };
        self.parts.tasks.spawn(format!("engine {model}"), async move {
            life.run(end).await;
            Ok(())
        });
    }

    async fn message(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => self.ask(ask),
            Message::Over(ticket) => {
                if let Some(caller) = self.callers.remove(&ticket) {
                    self.handed.remove(&caller.request_id);
                }
                self.apply(Event::Over(ticket));
            }
            Message::Command(action, model, reply) => {
                let done = self.command(action, model.as_ref()).await;
                self.publish();
                let _left = reply.send(done.map(|()| self.report(model.as_ref())));
            }
            Message::Install(config, reply) => {
                let name = config.name.clone();
                let done = self.install(*config).await;
                self.publish();
                let _left = reply.send(done.map(|()| self.report(Some(&name))));
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let Ask { model, ticket, request_id, urgency, deadline, words } = ask;
        let deadline = deadline.saturating_duration_since(self.began);
        let caller = Caller { model: model.clone(), request_id, since: Instant::now(), words };
        self.callers.insert(ticket, caller);
        self.apply(Event::Asked { model, ticket, urgency, deadline });
    }

    fn report(&self, model: Option<&ModelName>) -> Vec<v1::ModelStatus> {
        let statuses = self.parts.statuses.borrow();
        let asked =
            statuses.models.values().filter(|status| model.is_none_or(|name| *name == status.config.name));
        asked.map(|status| status.message(self.now())).collect()
    }

    /// Tells everybody how the models are, where that has changed.
    fn publish(&mut self) {
        let now = self.now();
        let mut models = BTreeMap::new();
        let mut requests = 0_u32;
        for (name, view) in self.parts.lifecycle.views() {
            let Some(offer) = self.offers.get(name) else { continue };
            let estimate = offer.times.estimate(view.spec.memory);
            let percent = match view.phase {
                Phase::Loading(since) => {
                    offer.percent.unwrap_or_else(|| percent(now.saturating_sub(since), estimate))
                }
                _ => 0,
            };
            requests = requests.saturating_add(view.in_flight).saturating_add(view.waiting);
            offer.metrics.state(&view.phase);
            offer.metrics.queued(view.waiting);
            let (config, description, loads) = (Arc::clone(&offer.config), offer.description, offer.loads);
            let ready = offer.ready.clone();
            models
                .insert(name.clone(), Status { config, view, description, ready, percent, estimate, loads });
        }
        self.parts.load.set(requests);
        let began = self.began;
        self.parts.statuses.send_if_modified(|statuses| {
            let changed = statuses.models != models;
            if changed {
                *statuses = Arc::new(Statuses { began, models });
            }
            changed
        });
    }

    async fn save(&self) {
        if let Err(error) = self.parts.store.save(&self.parts.kept).await {
            tracing::error!(error = format!("{error:#}"), "not remembered over a restart");
        }
    }
}

fn spec(offer: &Offer) -> Spec {
    let config = &offer.config;
    let memory = offer.description.map_or(Bytes::ZERO, |description| description.memory);
    Spec {
        preload: config.preload,
        pinned: config.pinned,
        gpu: config.gpu_layers > 0,
        keep_alive: config.keep_alive,
        memory,
        load: offer.times.estimate(memory),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
