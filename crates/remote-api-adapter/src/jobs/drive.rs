//! Drives one job from the disk to its end. Each step writes the record before the next begins, so that a crash repeats at
//! most one step; what a repeated step would do twice is either the same both times or looked for first:
//!
//! | step | repeated |
//! |---|---|
//! | upload | another file at the provider, unused |
//! | create | the job is looked for by our id before another is created |
//! | look, cancel, fetch, collect | the same again |
//! | account | the same events, which the ledger counts once |

use std::{path::PathBuf, sync::Arc, time::Duration};

use bus::ledger::LedgerError;
use domain::{
    fault::{Code, Fault, Origin},
    units::Money,
};
use tokio::task::JoinError;

use super::{
    Jobs, Watched,
    account::{Common, Events},
    collect,
    intake::disk,
    record::{Ending, Job, Kind, Stage, Usage},
    store,
};
use crate::{
    provider::{
        Failure,
        jobs::{Desk, Ended, Order, Work},
    },
    route::Route,
};

/// Events that are written to the ledger together; between groups the record says how far it is.
const EVENTS_TOGETHER: usize = 256;
/// A provider that has not taken a job after so long will not.
const ACCEPT_MAX_MS: u64 = 48 * 60 * 60 * 1_000;
/// A provider that has not ended a job after so long will not: a batch has a day, a training takes hours.
const RUN_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// What to do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next step at once.
    Go,
    /// Look again later: nothing has changed.
    Wait,
    /// Look again soon: something has.
    Changed,
}

/// Until the job has ended or the process is to stop.
pub(super) async fn drive(jobs: Arc<Jobs>, watched: Watched) {
    let mut driver = Driver { job: watched.job(), jobs, watched, pause: Duration::ZERO };
    driver.pause = driver.jobs.pace.poll_min;
    let stop = driver.jobs.stop.clone();
    loop {
        if driver.job.is_ended() {
            return;
        }
        let step = tokio::select! {
            () = stop.cancelled() => return,
            step = driver.step() => step,
        };
        let wait = match step {
            Ok(Next::Go) => continue,
            Ok(Next::Changed) => {
                driver.pause = driver.jobs.pace.poll_min;
                driver.pause
            }
            Ok(Next::Wait) => driver.longer(),
            Err(failure) => driver.failed(failure).await,
        };
        // spread, so that jobs that were submitted together are not looked at together
        let wait = wait + wait.mul_f64(fastrand::f64() / 10.0);
        tokio::select! {
            () = stop.cancelled() => return,
            () = driver.watched.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

struct Driver {
    jobs: Arc<Jobs>,
    watched: Watched,
    job: Job,
    pause: Duration,
}

impl Driver {
    fn longer(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.jobs.pace.poll_max);
        pause
    }

    /// Keeps the job as it is now.
    async fn save(&self) -> Result<(), Failure> {
        let (jobs, job) = (Arc::clone(&self.jobs), self.job.clone());
        let saved = blocking(move || jobs.store.save(&job).map_err(|error| disk(&error))).await;
        saved.map_err(later)?;
        self.watched.show(self.job.clone());
        Ok(())
    }

    /// What a failure means for the job; gives back how long to wait.
    async fn failed(&mut self, failure: Failure) -> Duration {
        let Failure { fault, transient } = failure;
        let age = self.jobs.clock.now_unix_ms().saturating_sub(self.job.submitted_unix_ms);
        // a key that is refused, a server that is away, a full disk: all may be put right
        let may_pass =
            transient || matches!(fault.code, Code::UpstreamAuth | Code::Unavailable | Code::Internal);
        tracing::info!(
            job = %self.job.id,
            code = fault.code.as_str(),
            provider_code = %fault.provider_code,
            may_pass,
            "a step of a job failed"
        );
        let asked = fault.retry_after.unwrap_or_default();
        self.job.problem = Some(fault.into());
        let gives_up = match &self.job.stage {
            Stage::Uploading | Stage::Creating { .. } => !may_pass || age > ACCEPT_MAX_MS,
            Stage::Running => !may_pass || age > RUN_MAX_MS,
            // what the provider no longer has cannot be waited for
            Stage::Collecting { outputs, .. } => !outputs.is_empty() && (!may_pass || age > RUN_MAX_MS),
            Stage::Receiving | Stage::Accounting { .. } | Stage::Ended { .. } => false,
        };
        if gives_up {
            self.job.stage = Stage::Collecting { ending: Ending::Failed, outputs: Vec::new() };
        }
        if let Err(failure) = self.save().await {
            tracing::error!(job = %self.job.id, fault = %failure.fault, "a job cannot be kept");
        }
        if gives_up {
            return Duration::ZERO;
        }
        self.longer().max(asked)
    }

    async fn step(&mut self) -> Result<Next, Failure> {
        let jobs = Arc::clone(&self.jobs);
        let Some(route) = jobs.adapter.routes.configured(&self.job.deployment).map(Arc::clone) else {
            let message = format!("deployment {} is no longer configured", self.job.deployment);
            return Err(later(Fault::new(Code::Unavailable, Origin::Internal, true, message)));
        };
        let desk = route.upstream.provider.jobs().map_err(|reason| {
            let message = format!("{} offers no jobs at the moment: {reason}", self.job.provider);
            later(Fault::new(Code::Unavailable, Origin::Internal, true, message))
        })?;
        match self.job.stage.clone() {
            Stage::Receiving => Ok(Next::Wait),
            Stage::Uploading | Stage::Creating { tried: false, .. } if self.watched.is_cancelled() => {
                // nothing is there that could be cancelled
                self.end_at_provider(Ending::Cancelled, Vec::new()).await
            }
            Stage::Uploading => {
                let files = desk.jobs.upload(desk.side, self.order().as_order()).await?;
                self.job.stage = Stage::Creating { files, tried: false };
                self.save().await?;
                Ok(Next::Go)
            }
            Stage::Creating { files, tried } => self.create(desk, files, tried).await,
            Stage::Running => self.look(desk).await,
            Stage::Collecting { ending, outputs } => self.collect(&route, desk, ending, &outputs).await,
            Stage::Accounting { ending } => self.account(ending).await,
            Stage::Ended { .. } => Ok(Next::Go),
        }
    }

    async fn create(&mut self, desk: Desk<'_>, files: Vec<String>, tried: bool) -> Result<Next, Failure> {
        let order = self.order();
        let found =
            if tried { desk.jobs.find(desk.side, order.as_order(), &self.others()).await? } else { None };
        let id = match found {
            Some(id) => {
                tracing::info!(job = %self.job.id, provider_job = %id, "a job was found that was created unheard");
                id
            }
            None if tried && self.watched.is_cancelled() => {
                return self.end_at_provider(Ending::Cancelled, Vec::new()).await;
            }
            None => {
                if !tried {
                    self.job.stage = Stage::Creating { files: files.clone(), tried: true };
                    self.save().await?;
                }
                desk.jobs.create(desk.side, order.as_order(), &files).await?
            }
        };
        self.job.provider_job_id = id;
        self.job.stage = Stage::Running;
        self.job.problem = None;
        self.save().await?;
        Ok(Next::Changed)
    }

    async fn look(&mut self, desk: Desk<'_>) -> Result<Next, Failure> {
        let (kind, id) = (self.job.kind.seam(), self.job.provider_job_id.clone());
        if self.watched.is_cancelled() && !self.job.cancel_sent {
            match desk.jobs.cancel(desk.side, kind, &id).await {
                Ok(()) => {}
                // it has ended meanwhile: the look says how
                Err(failure)
                    if matches!(failure.fault.code, Code::InvalidArgument | Code::Upstream)
                        && !failure.transient => {}
                Err(failure) => return Err(failure),
            }
            self.job.cancel_sent = true;
            self.save().await?;
        }
        let look = desk.jobs.look(desk.side, kind, &id).await?;
        let before = self.job.clone();
        self.job.saw(&look);
        self.job.problem = None;
        // what it says beside is for people, and no reason to stop
        if self.job.provider_state != before.provider_state
            && let Ok(events) = desk.jobs.events(desk.side, kind, &id).await
        {
            self.job.heard(events);
        }
        let ending = match look.ended {
            None if self.job == before => return Ok(Next::Wait),
            None => {
                self.save().await?;
                return Ok(Next::Changed);
            }
            Some(Ended::Completed) => Ending::Succeeded,
            Some(Ended::Cancelled) => Ending::Cancelled,
            Some(Ended::Expired) => Ending::Expired,
            Some(Ended::Failed(fault)) => {
                self.job.problem = Some(fault.into());
                Ending::Failed
            }
        };
        self.end_at_provider(ending, look.outputs).await
    }

    /// The provider is done with it, or never began.
    async fn end_at_provider(&mut self, ending: Ending, outputs: Vec<String>) -> Result<Next, Failure> {
        self.job.stage = Stage::Collecting { ending, outputs };
        self.save().await?;
        Ok(Next::Go)
    }

    async fn collect(
        &mut self,
        route: &Arc<Route>,
        desk: Desk<'_>,
        ending: Ending,
        outputs: &[String],
    ) -> Result<Next, Failure> {
        if self.job.done_unix_ms == 0 {
            self.job.done_unix_ms = self.jobs.clock.now_unix_ms();
            self.save().await?;
        }
        if matches!(self.job.kind, Kind::FineTune { .. }) {
            self.price_training(route);
        } else {
            let folder = self.jobs.store.folder(&self.job.id);
            let mut files: Vec<PathBuf> = Vec::new();
            for (number, output) in outputs.iter().enumerate() {
                let file = folder.join(format!("output-{number}"));
                desk.jobs.fetch(desk.side, output, &file).await?;
                files.push(file);
            }
            let (route, job) = (Arc::clone(route), self.job.clone());
            let machine = self.jobs.adapter.routes.machine.clone();
            let total = blocking(move || {
                let desk = route.upstream.provider.jobs().map_err(Fault::internal)?;
                let batch = collect::Batch {
                    folder: &folder,
                    job: &job,
                    ending,
                    outputs: &files,
                    route: &route,
                    desk,
                    machine: &machine,
                };
                batch.collect().map_err(|error| disk(&error))
            })
            .await
            .map_err(later)?;
            self.job.usage = Some(total.usage());
            // where the provider answered more than could be read, what that cost is not known
            let whole = total.succeeded >= self.job.succeeded;
            self.job.cost_picodollars = whole.then(|| total.cost.as_picodollars());
            (self.job.succeeded, self.job.failed) = (total.succeeded, total.failed);
        }
        self.job.stage = Stage::Accounting { ending };
        self.save().await?;
        Ok(Next::Go)
    }

    /// Trained tokens at the training's price; what never reached the provider cost nothing; else the cost stays unknown.
    fn price_training(&mut self, route: &Route) {
        let trained = self.job.trained_tokens;
        self.job.usage = trained.map(|input| Usage { input, ..Usage::default() });
        let cost = match (trained, route.training_price) {
            _ if self.job.provider_job_id.is_empty() => Some(Money::ZERO),
            (Some(tokens), Some(price)) => Some(price.times(tokens)),
            _ => None,
        };
        self.job.cost_picodollars = cost.map(Money::as_picodollars);
    }

    async fn account(&mut self, ending: Ending) -> Result<Next, Failure> {
        let common = Common::new(&self.job, self.jobs.adapter.routes.machine.as_str());
        if matches!(self.job.kind, Kind::FineTune { .. }) {
            let event = common.training(&self.job, ending);
            self.jobs.ledger.record_numbered(&self.job.uid, 1, event).await.map_err(unrecorded)?;
            self.job.accounted = 1;
        } else {
            let folder = self.jobs.store.folder(&self.job.id);
            let accounted = self.job.accounted;
            let opened =
                blocking(move || Events::open(&folder, common, accounted).map_err(|error| disk(&error)));
            let mut events = opened.await.map_err(later)?;
            loop {
                let (group, rest) = blocking(move || {
                    let group = events.take(EVENTS_TOGETHER).map_err(|error| disk(&error))?;
                    Ok((group, events))
                })
                .await
                .map_err(later)?;
                events = rest;
                let Some(last) = group.last().map(|(counter, _)| *counter) else { break };
                let record =
                    |(counter, event)| self.jobs.ledger.record_numbered(&self.job.uid, counter, event);
                futures::future::try_join_all(group.into_iter().map(record)).await.map_err(unrecorded)?;
                self.job.accounted = last;
                self.save().await?;
            }
        }
        self.job.finished_unix_ms = self.jobs.clock.now_unix_ms();
        self.job.stage = Stage::Ended { ending };
        if ending != Ending::Failed {
            self.job.problem = None;
        }
        self.save().await?;
        self.jobs.store.tidy(&self.job.id);
        self.jobs.count(&self.job, ending);
        tracing::info!(job = %self.job.id, ?ending, items = self.job.items(), "a job has ended");
        Ok(Next::Go)
    }

    /// The provider's ids of the jobs that are not this one.
    fn others(&self) -> Vec<String> {
        let table = self.jobs.table();
        let ids = table.values().map(|watched| watched.job.borrow().provider_job_id.clone());
        ids.filter(|id| !id.is_empty()).collect()
    }

    fn order(&self) -> Owned {
        let folder = self.jobs.store.folder(&self.job.id);
        let work = match &self.job.kind {
            Kind::Batch { endpoint, items } => OwnedWork::Batch {
                endpoint: endpoint.clone(),
                requests: folder.join(store::REQUESTS),
                count: *items,
            },
            Kind::FineTune { options, .. } => OwnedWork::FineTune {
                options: options.clone(),
                training: folder.join(store::TRAINING),
                validation: (self.job.lengths().validation_bytes > 0).then(|| folder.join(store::VALIDATION)),
            },
        };
        Owned {
            uid: self.job.uid.clone(),
            model: self.job.model.clone(),
            since_unix_ms: self.job.submitted_unix_ms,
            work,
        }
    }
}

/// An order with its own texts, so that the job can change while it is carried out.
struct Owned {
    uid: String,
    model: String,
    since_unix_ms: u64,
    work: OwnedWork,
}

enum OwnedWork {
    Batch { endpoint: String, requests: PathBuf, count: u64 },
    FineTune { options: crate::provider::jobs::Options, training: PathBuf, validation: Option<PathBuf> },
}

impl Owned {
    fn as_order(&self) -> Order<'_> {
        let work = match &self.work {
            OwnedWork::Batch { endpoint, requests, count } => {
                Work::Batch { endpoint, requests, count: *count }
            }
            OwnedWork::FineTune { options, training, validation } => {
                Work::FineTune { options, training, validation: validation.as_deref() }
            }
        };
        Order { uid: &self.uid, model: &self.model, since_unix_ms: self.since_unix_ms, work }
    }
}

/// Ours to put right; tried again.
const fn later(fault: Fault) -> Failure {
    Failure { fault, transient: true }
}

/// An event that is not safely on the disk is told again.
fn unrecorded(error: LedgerError) -> Failure {
    later(Fault::internal(error.to_string()))
}

/// Runs what blocks beside the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let ended = |error: JoinError| Fault::internal(format!("a step of a job broke: {error}"));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(error)))
}
