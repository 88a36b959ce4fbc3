//! Batches and fine-tuning at providers: taken in from the bus, brought to the provider, watched, fetched, accounted for.
//!
//! ```text
//! submit ─► intake ─► disk ─► drive: upload ─► create ─► look … ─► collect ─► account ─► ended
//!                                │  (seam: provider::jobs)            │           └ ledger
//!                                └ one task for each job              └ results
//! ```
//!
//! Invariants: what a reply says is on the disk; a job goes on after `kill -9` and is created at the provider once; each
//! request of a batch has exactly one event in the ledger, with the cost at the batch price; a cost that is not known is told
//! as unknown. One process of a machine has the jobs; another waits until it is gone.

mod account;
mod batch;
mod collect;
mod drive;
mod frames;
mod intake;
mod record;
mod service;
mod settings;
mod store;
mod training;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bus::{Bus, executor::Load, ledger::Ledger};
use domain::fault::{Code, Fault, Origin};
use futures::StreamExt;
use opentelemetry::{KeyValue, metrics::Counter};
use service_runtime::Clock;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::subject;

pub use settings::JobSettings;
pub(crate) use settings::Pace;

use crate::attempt::Adapter;
use drive::{blocking, drive};
use record::{Ending, Job, Kind, Stage};
use store::Store;

/// Jobs that are kept, ended ones included.
const JOBS_MAX: usize = 1_000;
/// Calls that are answered at once.
const HANDLERS: usize = 16;
/// Before another try to become the process that has the jobs.
const RETRY: Duration = Duration::from_secs(2);
/// Between looks for jobs that are too old to be kept.
const TIDY: Duration = Duration::from_secs(60 * 60);
/// A submission of which nothing more has come for so long is forgotten.
const RECEIVE_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long the events of the last jobs may take to the bus when the process stops; the disk has them anyway.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// What the jobs need of their process.
pub(crate) struct Start {
    pub(crate) bus: Bus,
    pub(crate) adapter: Arc<Adapter>,
    pub(crate) pace: Pace,
    pub(crate) clock: Clock,
    /// The service's own folder.
    pub(crate) data_dir: PathBuf,
    pub(crate) stop: CancellationToken,
}

/// All jobs of this process.
struct Jobs {
    store: Store,
    table: Mutex<BTreeMap<String, Watched>>,
    adapter: Arc<Adapter>,
    ledger: Ledger,
    pace: Pace,
    clock: Clock,
    stop: CancellationToken,
    drivers: TaskTracker,
    ended: Counter<u64>,
    /// One submission at a time: its parts and its record belong together.
    submitting: Semaphore,
}

/// A job as everybody but its driver sees it.
#[derive(Debug, Clone)]
struct Watched {
    job: Arc<watch::Sender<Job>>,
    /// Tells the driver that something was asked.
    wake: Arc<Notify>,
    cancel: Arc<AtomicBool>,
}

impl Watched {
    fn new(job: Job, cancelled: bool) -> Self {
        Self {
            job: Arc::new(watch::Sender::new(job)),
            wake: Arc::default(),
            cancel: Arc::new(AtomicBool::new(cancelled)),
        }
    }

    fn job(&self) -> Job {
        self.job.borrow().clone()
    }

    fn show(&self, job: Job) {
        self.job.send_replace(job);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Acquire)
    }

    fn ask_cancel(&self) {
        self.cancel.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Serves jobs until stopped. A disk or a ledger that cannot be had is tried again: requests go on without jobs.
///
/// # Errors
/// The bus is closed for good.
pub(crate) async fn run(start: Start) -> anyhow::Result<()> {
    let ledger_stop = CancellationToken::new();
    let Some((store, known, ledger)) = open(&start, &ledger_stop).await else { return Ok(()) };
    let Start { bus, adapter, pace, clock, stop, .. } = start;
    let jobs = Arc::new(Jobs {
        store,
        table: Mutex::default(),
        adapter,
        ledger: ledger.clone(),
        pace,
        clock,
        stop: stop.clone(),
        drivers: TaskTracker::new(),
        ended: opentelemetry::global::meter(subject::service::REMOTE_API_ADAPTER)
            .u64_counter("remote_api.jobs")
            .with_description("Jobs at providers that have ended, by kind and outcome")
            .build(),
        submitting: Semaphore::new(1),
    });
    for job in known {
        if job.is_ended() {
            jobs.store.tidy(&job.id);
        }
        let watched = Watched::new(job.clone(), jobs.store.is_cancelled(&job.id));
        jobs.keep(watched, &job);
    }
    let served = serve(&bus, &jobs).await;
    jobs.drivers.close();
    jobs.drivers.wait().await;
    if !ledger.finish(FINISH_MAX).await {
        tracing::info!("usage events of jobs left for the next start");
    }
    ledger_stop.cancel();
    served
}

/// The folder, the jobs in it, and the way to the ledger; `None` when stopped before.
async fn open(start: &Start, ledger_stop: &CancellationToken) -> Option<(Store, Vec<Job>, Ledger)> {
    let mut told = String::new();
    loop {
        let problem = match try_open(start, ledger_stop) {
            Ok(Some(opened)) => return Some(opened),
            Ok(None) => "another process of this machine has the jobs".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if told != problem {
            tracing::warn!(problem, "waiting for the jobs' folder");
            told = problem;
        }
        tokio::select! {
            () = start.stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn try_open(
    start: &Start,
    ledger_stop: &CancellationToken,
) -> anyhow::Result<Option<(Store, Vec<Job>, Ledger)>> {
    let Some(store) = Store::open(&start.data_dir.join("jobs"))? else { return Ok(None) };
    let jobs = store.load()?;
    let outbox = start.data_dir.join("usage");
    // nobody waits for these events, so that none is gathered for the sake of others
    let ledger = Ledger::open(&start.bus, &outbox, Load::default(), ledger_stop.clone())?;
    Ok(Some((store, jobs, ledger)))
}

async fn serve(bus: &Bus, jobs: &Arc<Jobs>) -> anyhow::Result<()> {
    let pattern = subject::provider_jobs(bus.prefix(), bus.machine());
    let mut calls = bus.subscribe(pattern, Some(subject::service::REMOTE_API_ADAPTER)).await?;
    let handlers = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(HANDLERS));
    let mut tidy = tokio::time::interval(TIDY);
    tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = jobs.stop.cancelled() => break,
            _ = tidy.tick() => jobs.forget_old(),
            call = calls.next() => {
                let Some(call) = call else { anyhow::bail!("the bus ended the subscription of jobs") };
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
                let (bus, jobs) = (bus.clone(), Arc::clone(jobs));
                handlers.spawn(async move {
                    service::answer(&bus, &jobs, call).await;
                    drop(slot);
                });
            }
        }
    }
    handlers.close();
    handlers.wait().await;
    Ok(())
}

impl Jobs {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Option<Watched> {
        self.table().get(id).cloned()
    }

    /// Puts a job on the table, and starts its driver where there is something to do.
    fn keep(self: &Arc<Self>, watched: Watched, job: &Job) {
        self.table().insert(job.id.clone(), watched.clone());
        if !matches!(job.stage, Stage::Receiving | Stage::Ended { .. }) {
            self.drivers.spawn(drive(Arc::clone(self), watched));
        }
    }

    /// Counts a job that has ended.
    fn count(&self, job: &Job, ending: Ending) {
        let kind = if matches!(job.kind, Kind::Batch { .. }) { "batch" } else { "fine_tune" };
        let outcome = match ending {
            Ending::Succeeded => "succeeded",
            Ending::Failed => "failed",
            Ending::Cancelled => "cancelled",
            Ending::Expired => "expired",
        };
        let labels = [
            KeyValue::new("gen_ai.provider.name", job.provider.clone()),
            KeyValue::new("kind", kind),
            KeyValue::new("outcome", outcome),
        ];
        self.ended.add(1, &labels);
    }

    /// Takes a part of a job in.
    async fn submit(self: &Arc<Self>, submission: intake::Submission) -> Result<Job, Fault> {
        let Ok(_alone) = self.submitting.acquire().await else {
            return Err(Fault::internal("the jobs are closed"));
        };
        let watched = self.get(&submission.request.job_id);
        if watched.is_none() && self.table().len() >= JOBS_MAX {
            let message = format!("{JOBS_MAX} jobs are kept here already, expected fewer");
            return Err(Fault::new(Code::Busy, Origin::Local, true, message));
        }
        let known = watched.as_ref().map(Watched::job);
        let parts = known.as_ref().map(|job| job.parts.len());
        let this = Arc::clone(self);
        let job =
            blocking(move || intake::accept(&this.store, &this.adapter.routes, known, submission)).await?;
        if parts == Some(job.parts.len()) {
            // a part that came before: the driver may be further than this copy
            return Ok(watched.map_or(job, |watched| watched.job()));
        }
        let watched = watched.unwrap_or_else(|| Watched::new(job.clone(), false));
        watched.show(job.clone());
        self.keep(watched, &job);
        Ok(job)
    }

    /// Asks for the end of a job.
    async fn cancel(self: &Arc<Self>, id: &str) -> Result<(Job, bool), Fault> {
        let Ok(_alone) = self.submitting.acquire().await else {
            return Err(Fault::internal("the jobs are closed"));
        };
        let watched = self.get(id).ok_or_else(|| unknown(id))?;
        let mut job = watched.job();
        if job.is_ended() {
            return Ok((job, false));
        }
        let (this, receiving) = (Arc::clone(self), job.stage == Stage::Receiving);
        if receiving {
            job.stage = Stage::Ended { ending: Ending::Cancelled };
            job.finished_unix_ms = self.clock.now_unix_ms();
        }
        let job = blocking(move || {
            let kept = if receiving { this.store.save(&job) } else { this.store.ask_cancel(&job.id) };
            kept.map(|()| job).map_err(|error| intake::disk(&error))
        })
        .await?;
        if receiving {
            self.store.tidy(id);
            watched.show(job.clone());
        } else {
            watched.ask_cancel();
        }
        Ok((job, !receiving))
    }

    /// Removes what has been kept long enough.
    fn forget_old(&self) {
        let now = self.clock.now_unix_ms();
        let keep_ms = u64::try_from(self.pace.keep.as_millis()).unwrap_or(u64::MAX);
        let is_old = |job: &Job| match job.stage {
            Stage::Ended { .. } => now.saturating_sub(job.finished_unix_ms) > keep_ms,
            Stage::Receiving => now.saturating_sub(job.submitted_unix_ms) > RECEIVE_MAX_MS,
            _ => false,
        };
        self.table().retain(|id, watched| {
            if !is_old(&watched.job.borrow()) {
                return true;
            }
            match self.store.remove(id) {
                Ok(()) => tracing::info!(job = %id, "a job was removed after its time"),
                Err(error) => tracing::warn!(job = %id, %error, "an old job was not removed"),
            }
            false
        });
    }
}

fn unknown(id: &str) -> Fault {
    let start: String = id.chars().take(80).collect();
    let message = format!("job_id is {start:?}, which no job here has");
    Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("job_id")
}
