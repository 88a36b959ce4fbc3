//! The loop that owns the leases.

mod view;

use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use bus::{Announcement, Announcer, Bus, ConnectError, Incoming, executor::Load};
use domain::{
    fault::{Code, Fault, Origin},
    vram::{Answer, Ask, Change, Lease, Leases},
};
use futures::{Stream, StreamExt};
use jiff::tz::TimeZone;
use service_runtime::{Clock, Component, Process};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{LeaseCall, Subject as _, service},
    v1,
};

use crate::{
    Own, Settings, SystemMemory,
    edge::{self, Call},
    gpus::nvml::NvmlGpus,
    kept::Kept,
    local_time,
    metrics::Metrics,
    sampler::{Sample, Sampler},
};
use view::View;

/// Acquires that wait for a sample; more are refused.
const WAITING_MAX: usize = 256;
/// An acquire is decided on what is known when no sample comes within this.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Runs the service until the shutdown.
///
/// # Errors
/// Wrong settings, an address that can't be bound, state that can't be kept, or a bus that refuses the credentials.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let own = Own::try_from(settings.own)?;
    let (health, bus_health) = (process.health.component("memory"), process.health.component("bus"));
    let folder = process.node.data_dir.join(service::VRAM_OPTIMIZER);
    let now_unix_ms = process.clock.now_unix_ms();
    let opened = tokio::task::spawn_blocking(move || Kept::open(folder, now_unix_ms)).await?;
    let (kept, first_token, leases) = opened.context("node.data_dir can't keep the leases")?;
    process.serve_admin(own.admin_listen, Router::new()).await?;

    let stop = process.shutdown.token();
    let machine = &process.node.machine;
    let connected =
        Bus::connect(&settings.bus, service::VRAM_OPTIMIZER, &process.instance, machine, &stop).await;
    let bus = match connected {
        Err(ConnectError::Stopped(_)) => return Ok(()),
        connected => connected?,
    };
    let subject = LeaseCall(bus.machine().clone()).name(bus.prefix());
    let calls = bus.subscribe(subject, Some(service::VRAM_OPTIMIZER)).await?;
    let announcement = Announcement::default();
    announce(&process, &bus, announcement.clone());

    let gpus = Box::new(NvmlGpus::new(own.nvml_library.clone()));
    let sampler = Sampler::start(gpus, SystemMemory::default(), own.sample_interval)?;
    let view = View::new(own.system, own.nvml_library.is_some());
    let mut owner = Owner {
        bus: bus.clone(),
        leases: Leases::new(own.policy, view.capacity(), first_token, leases, Duration::ZERO),
        view,
        sampler,
        kept,
        waiting: Vec::new(),
        announcement,
        metrics: Metrics::new(),
        health,
        bus_health,
        clock: process.clock.clone(),
        zone: own.zone,
        started: Instant::now(),
    };
    owner.look_at_the_clock().await;
    let served = owner.serve(calls, own.sample_interval, &stop).await;
    // The announcer takes its registration back before the connection goes.
    process.shutdown.request();
    process.tasks.drained().await;
    bus.close().await;
    served
}

fn announce(process: &Process, bus: &Bus, announcement: Announcement) {
    let (bus, stop, clock) = (bus.clone(), process.shutdown.token(), process.clock.clone());
    process.tasks.spawn("announcer", async move {
        // Leases work without JetStream; only the registration waits for it.
        let Ok(control) = bus.control_when_ready(&stop).await else { return Ok(()) };
        let announcer = Announcer {
            bus,
            control,
            version: service_runtime::VERSION,
            now_unix_ms: std::sync::Arc::new(move || clock.now_unix_ms()),
            load: Load::default(),
        };
        announcer.run(announcement, stop).await;
        Ok(())
    });
}

/// An acquire that waits for a look at the memory which began after it came.
struct Waiting {
    reply: String,
    ask: Ask,
    look: u64,
    since: Instant,
}

struct Owner {
    bus: Bus,
    leases: Leases,
    view: View,
    sampler: Sampler,
    kept: Kept,
    waiting: Vec<Waiting>,
    announcement: Announcement,
    metrics: Metrics,
    health: Component,
    bus_health: Component,
    clock: Clock,
    zone: TimeZone,
    started: Instant,
}

impl Owner {
    async fn serve(
        mut self,
        mut calls: impl Stream<Item = Incoming> + Unpin,
        interval: Duration,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                call = calls.next() => match call {
                    Some(incoming) => self.answer(incoming).await?,
                    None if stop.is_cancelled() => return Ok(()),
                    None => anyhow::bail!("the subscription to lease calls has ended"),
                },
                sampled = self.sampler.next() => {
                    let (look, sample) = sampled?;
                    self.observe(look, sample).await?;
                }
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    /// Time since the loop began, on the monotonic clock: a step of the wall clock ends no lease.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let pids = self.leases.held().iter().flat_map(|lease| lease.pids.iter().copied());
        let asked = self.waiting.iter().flat_map(|waiting| waiting.ask.pids.iter().copied());
        let pids = pids.chain(asked).collect();
        Ok(self.sampler.begin(pids)?)
    }

    async fn tick(&mut self) -> anyhow::Result<()> {
        let changes = if self.sampler.is_stalled() && self.view.stall() {
            self.leases.observe(self.view.capacity(), self.now())
        } else {
            self.leases.expire(self.now())
        };
        self.carry_out(changes).await;
        self.look_at_the_clock().await;
        let overdue = self.waiting.extract_if(.., |waiting| waiting.since.elapsed() > WAIT_MAX);
        let overdue: Vec<Waiting> = overdue.collect();
        self.decide(overdue).await;
        let connected = self.bus.is_connected();
        self.bus_health.set_ready(connected, if connected { "connected" } else { "reconnecting" });
        self.show();
        self.look()
    }

    /// Opens and closes the off-peak window.
    async fn look_at_the_clock(&mut self) {
        let minute = local_time::minute_of_day(self.clock.now_unix_ms(), &self.zone);
        let changes = self.leases.tell_minute(minute, self.now());
        self.carry_out(changes).await;
    }

    async fn observe(&mut self, look: u64, sample: Sample) -> anyhow::Result<()> {
        self.view.take(sample);
        let changes = self.leases.observe(self.view.capacity(), self.now());
        self.carry_out(changes).await;
        let due: Vec<Waiting> = self.waiting.extract_if(.., |waiting| waiting.look <= look).collect();
        self.decide(due).await;
        let (ready, detail) = self.view.health();
        self.health.set_ready(ready, detail);
        self.announcement.set_ready(ready);
        self.show();
        if self.waiting.is_empty() { Ok(()) } else { self.look() }
    }

    async fn answer(&mut self, incoming: Incoming) -> anyhow::Result<()> {
        let Some(reply) = incoming.reply else {
            // A grant that nobody hears of would only block memory.
            self.metrics.invalid();
            tracing::warn!("a lease call without a reply subject is ignored");
            return Ok(());
        };
        let now = self.now();
        match edge::decode(&incoming.payload) {
            Err(fault) => {
                self.metrics.invalid();
                tracing::warn!(%fault, "a lease call is invalid");
                self.send(&reply, edge::refused(fault)).await;
            }
            Ok(Call::Acquire(_)) if self.waiting.len() >= WAITING_MAX => {
                let message = format!("{WAITING_MAX} acquires wait already, expected fewer");
                let fault = Fault::new(Code::Busy, Origin::Local, true, message);
                self.send(&reply, edge::refused(fault)).await;
            }
            Ok(Call::Acquire(ask)) => {
                let look = self.sampler.fresh();
                self.waiting.push(Waiting { reply, ask, look, since: Instant::now() });
                self.look()?;
            }
            Ok(Call::Renew { token, fence, told }) => {
                let answer = self.leases.renew(token, fence, told, now);
                self.conclude(&reply, answer, |leases, lease| edge::granted(leases, lease, now)).await;
            }
            Ok(Call::Release { token, fence }) => {
                let answer = self.leases.release(token, fence, now);
                self.conclude(&reply, answer, |leases, ()| edge::listed(leases, now)).await;
                // What was given back is free as soon as it is seen free.
                self.look()?;
            }
            Ok(Call::List) => {
                let changes = self.leases.expire(now);
                self.carry_out(changes).await;
                self.send(&reply, edge::listed(&self.leases, now)).await;
            }
        }
        Ok(())
    }

    async fn decide(&mut self, asks: Vec<Waiting>) {
        for Waiting { reply, ask, .. } in asks {
            let now = self.now();
            let answer = self.leases.acquire(ask, now);
            self.conclude(&reply, answer, |leases, lease: &Lease| edge::granted(leases, lease, now)).await;
        }
    }

    /// Keeps what happened, then answers: a holder never hears of a grant that a restart would forget.
    async fn conclude<T>(
        &mut self,
        reply: &str,
        answer: Answer<T>,
        say: impl FnOnce(&Leases, &T) -> v1::LeaseReply,
    ) {
        self.carry_out(answer.changes).await;
        let message = match answer.result {
            Ok(done) => say(&self.leases, &done),
            Err(denial) => {
                self.metrics.denied(&denial);
                tracing::info!(reason = denial.as_str(), %denial, "lease call denied");
                edge::denied(denial)
            }
        };
        self.send(reply, message).await;
    }

    async fn carry_out(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            self.metrics.changed(change);
            view::log(change);
        }
        let (kept, held) = (self.kept.clone(), self.leases.held().to_vec());
        let saved = tokio::task::spawn_blocking(move || kept.save(&held)).await;
        let error = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Leases work without the file; only a restart would lose them.
        self.metrics.unsaved();
        tracing::error!(%error, "leases can't be written to disk");
    }

    fn show(&self) {
        self.metrics.show(&self.leases, self.view.gpus(), self.view.gpus_up());
        self.announcement.set_resources(self.view.resources(self.leases.summary().leased));
    }

    async fn send(&self, reply: &str, message: v1::LeaseReply) {
        if let Err(error) = self.bus.reply(reply, &message).await {
            tracing::warn!(%error, "a lease call could not be answered");
        }
    }
}
