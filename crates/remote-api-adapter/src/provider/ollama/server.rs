//! One server as a provider: calls, and around them the fetching and finding of models.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use domain::{
    fault::{Code, Fault},
    inference::Request,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;

use super::{
    client::Ollama,
    discover::{self, Tag},
    pull::{Progress, Pulls},
    side::Side,
};
use crate::{
    provider::{
        Answer, Call, Failed, Found, Provider, Step, Target,
        exchange::{Exchange, malformed},
    },
    settings::OllamaSettings,
};

/// One configured server.
pub(crate) struct Server {
    exchange: Arc<Exchange<Ollama>>,
    side: Arc<Side>,
    settings: OllamaSettings,
    pulls: Option<Pulls>,
    /// What is known of each model, by name and digest.
    shown: Mutex<HashMap<Tag, Option<Found>>>,
}

impl Server {
    pub(crate) fn new(exchange: Exchange<Ollama>, side: Side, settings: OllamaSettings) -> Self {
        let side = Arc::new(side);
        let address = exchange.dialect.address("pull");
        let pulls = settings.pull.then(|| Pulls::new(Arc::clone(&side), address));
        Self { exchange: Arc::new(exchange), side, settings, pulls, shown: Mutex::default() }
    }

    async fn call(&self, call: Call<'_>, free: &AtomicBool) -> Result<Box<dyn Answer>, Failed> {
        match (self.exchange.open(call, free).await, &self.pulls) {
            (Err(failure), Some(pulls)) if failure.fault.code == Code::NotFound => {
                let progress = pulls.start(&call.target.upstream_model).map_err(Failed::for_good)?;
                Ok(Box::new(Fetching {
                    exchange: Arc::clone(&self.exchange),
                    target: call.target.clone(),
                    request: call.request.clone(),
                    progress,
                    told: false,
                    answer: None,
                }))
            }
            (outcome, _) => outcome,
        }
    }

    async fn find(&self) -> Result<Vec<Found>, Fault> {
        let address = |endpoint| self.exchange.dialect.address(endpoint);
        let broken = |what: &str, error: &serde_json::Error| malformed(&self.side.name, what, error);
        let body = self.side.ask(address("tags"), None).await?;
        let tags = discover::tags(&body).map_err(|error| broken("its list of models", &error))?;
        let mut known = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        known.retain(|tag, _| tags.contains(tag));
        let mut failed = None;
        for tag in tags.iter().filter(|tag| !known.contains_key(tag)).collect::<Vec<_>>() {
            let asked = serde_json::json!({ "model": tag.name }).to_string();
            let shown = self.side.ask(address("show"), Some(asked)).await.and_then(|body| {
                discover::shown(&tag.name, &body, self.settings.context_length_max)
                    .map_err(|error| broken("a model's description", &error))
            });
            match shown {
                Ok(found) => drop(known.insert(tag.clone(), found)),
                // removed in between, for example: the others are there all the same
                Err(fault) => failed = Some(fault),
            }
        }
        let mut found: Vec<Found> = known.values().flatten().cloned().collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = known;
        found.sort_by(|a, b| a.model.cmp(&b.model));
        match failed {
            Some(fault) if found.is_empty() => Err(fault),
            _ => Ok(found),
        }
    }
}

impl Provider for Server {
    fn open<'a>(
        &'a self,
        call: Call<'a>,
        free: &'a AtomicBool,
    ) -> BoxFuture<'a, Result<Box<dyn Answer>, Failed>> {
        self.call(call, free).boxed()
    }

    fn available(&self, upstream_model: &str) -> Result<(), String> {
        self.exchange.available(upstream_model)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), String>> {
        self.exchange.probe()
    }

    fn discover(&self) -> Option<BoxFuture<'_, Result<Vec<Found>, Fault>>> {
        self.settings.discover.then(|| self.find().boxed())
    }
}

/// An answer that waits for its model.
struct Fetching {
    exchange: Arc<Exchange<Ollama>>,
    target: Target,
    request: Request,
    progress: watch::Receiver<Progress>,
    told: bool,
    answer: Option<Box<dyn Answer>>,
}

impl Fetching {
    async fn step(&mut self) -> Result<Step, Failed> {
        loop {
            if let Some(answer) = &mut self.answer {
                return answer.next().await;
            }
            // the first word is due at once
            if self.told && self.progress.changed().await.is_err() {
                return Err(Failed::for_good(Fault::internal("the fetch of a model was broken off")));
            }
            self.told = true;
            let progress = self.progress.borrow_and_update().clone();
            match progress {
                Progress::Percent(percent) => return Ok(Step::Phase("loading", percent)),
                Progress::Failed(fault) => return Err(Failed::for_good(*fault)),
                Progress::Done => {
                    let call = Call { target: &self.target, request: &self.request };
                    // whether it is free was told when it was asked for the first time
                    self.answer = Some(self.exchange.open(call, &AtomicBool::new(false)).await?);
                }
            }
        }
    }
}

impl Answer for Fetching {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Failed>> {
        self.step().boxed()
    }
}
