//! What requests take of this machine's energy.
//!
//! On a GPU it is measured: vram-optimizer tells the power of each GPU and which processes are on it with every heartbeat,
//! and the power of the GPUs that this process is on is integrated over the time of a request. All of a GPU's power counts,
//! idle power and that of other programs on it included. Elsewhere it is an estimate and says so: the time that this process
//! had of the processors × what a core of this machine draws ([`crate::settings::Config::core_milliwatts`]).
//!
//! Requests that run together share by tokens: see [`domain::energy`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::Bus;
use futures::StreamExt;
use prost::Message;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use domain::energy::{Energy, PowerTrace, Shares};
use domain::units::Tokens;
use wire::subject::{heartbeats_of, service};
use wire::v1;

/// Between two divisions among requests that run together.
const STEP: Duration = Duration::from_millis(500);

/// The process's meter. Cloneable; clones are the same meter.
#[derive(Debug, Clone)]
pub(super) struct EnergyMeter(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    started: Instant,
    shares: Shares,
    next: u64,
    power: PowerTrace,
    /// The last heartbeat had this process on a GPU.
    on_gpu: bool,
    /// Up to here everything is divided.
    divided: Duration,
    divided_cpu: Duration,
    core_milliwatts: u64,
}

/// A request that runs. Dropped, it has ended.
#[derive(Debug)]
pub(super) struct Running {
    meter: EnergyMeter,
    number: u64,
}

impl EnergyMeter {
    /// `core_milliwatts` is what a busy core draws.
    pub(super) fn new(core_milliwatts: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            started: Instant::now(),
            shares: Shares::default(),
            next: 0,
            power: PowerTrace::default(),
            on_gpu: false,
            divided: Duration::ZERO,
            divided_cpu: processor_time(),
            core_milliwatts,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins, with a prompt of about so many tokens.
    pub(super) fn begin(&self, prompt: Tokens) -> Running {
        let mut state = self.lock();
        state.divide();
        let number = state.next;
        state.next = number.saturating_add(1);
        state.shares.begin(number);
        state.shares.computed(number, prompt.get());
        Running { meter: self.clone(), number }
    }

    /// Follows the power of the GPUs that this process is on until `stop` fires.
    pub(super) async fn follow(self, bus: Bus, only_gpu_is_ours: bool, stop: CancellationToken) {
        let subject = heartbeats_of(bus.prefix(), bus.machine(), service::VRAM_OPTIMIZER);
        // Without a subscription the estimate by processor time goes on.
        let mut beats = bus.subscribe(subject, None).await.ok();
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let beat = async {
                match &mut beats {
                    Some(beats) => beats.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                beat = beat => match beat {
                    Some(beat) => {
                        let resources = v1::ServiceHeartbeat::decode(beat.payload).ok().and_then(|it| it.resources);
                        let gpus = resources.map(|it| it.gpus).unwrap_or_default();
                        self.lock().told(power_of(&gpus, std::process::id(), only_gpu_is_ours));
                    }
                    None => beats = None,
                },
                _ = step.tick() => self.lock().divide(),
            }
        }
    }
}

impl Running {
    /// Tokens were computed for it.
    pub(super) fn computed(&self, tokens: u64) {
        self.meter.lock().shares.computed(self.number, tokens);
    }

    /// What it took so far, millijoules, and whether that is an estimate.
    pub(super) fn end(self) -> (u64, bool) {
        let mut state = self.meter.lock();
        state.divide();
        let (energy, estimated) = state.shares.end(self.number);
        (energy.as_millijoules(), estimated)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.meter.lock();
        state.divide();
        state.shares.end(self.number);
    }
}

impl State {
    /// What the last heartbeat said: milliwatts of the GPUs that this process is on.
    fn told(&mut self, milliwatts: Option<u64>) {
        let now = self.started.elapsed();
        if let Some(milliwatts) = milliwatts {
            self.power.add(now, milliwatts);
        }
        self.on_gpu = milliwatts.is_some();
        self.divide();
    }

    /// Divides what was drawn since the last time.
    fn divide(&mut self) {
        let (now, cpu) = (self.started.elapsed(), processor_time());
        let measured = self.on_gpu.then(|| self.power.energy(self.divided, now)).flatten();
        let (energy, known) = measured.unwrap_or_else(|| {
            (Energy::of(self.core_milliwatts, cpu.saturating_sub(self.divided_cpu)), false)
        });
        (self.divided, self.divided_cpu) = (now, cpu);
        if !self.shares.is_empty() {
            self.shares.spent(energy, !known);
        }
    }
}

/// What the GPUs that this process is on draw together. In a container a process does not know the number by which the driver
/// names it; where there is one GPU and this process computes on GPUs, it is that one.
fn power_of(gpus: &[v1::GpuState], process: u32, only_gpu_is_ours: bool) -> Option<u64> {
    let here = |gpu: &&v1::GpuState| gpu.processes.iter().any(|it| it.pid == process);
    let mut ours: Vec<&v1::GpuState> = gpus.iter().filter(here).collect();
    if let ([only], true, true) = (gpus, only_gpu_is_ours, ours.is_empty()) {
        ours.push(only);
    }
    let drawn: Vec<u64> = ours.iter().map(|gpu| gpu.power_milliwatts).filter(|drawn| *drawn > 0).collect();
    (!drawn.is_empty()).then(|| drawn.iter().fold(0_u64, |sum, drawn| sum.saturating_add(*drawn)))
}

/// What this process had of the processors since it began, all threads.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(milliwatts: u64, processes: &[u32]) -> v1::GpuState {
        let process = |pid: &u32| v1::GpuProcess { pid: *pid, memory_used_bytes: 1 };
        v1::GpuState {
            power_milliwatts: milliwatts,
            processes: processes.iter().map(process).collect(),
            ..v1::GpuState::default()
        }
    }

    #[test]
    fn the_power_is_that_of_the_gpus_the_process_is_on() {
        let two = [gpu(200_000, &[7, 8]), gpu(90_000, &[9])];
        assert_eq!(power_of(&two, 8, true), Some(200_000));
        assert_eq!(power_of(&two, 1, true), None, "two GPUs, and no way to tell");
        assert_eq!(power_of(&[gpu(200_000, &[7])], 1, true), Some(200_000));
        assert_eq!(power_of(&[gpu(200_000, &[7])], 1, false), None);
        assert_eq!(power_of(&[gpu(0, &[1])], 1, true), None, "the GPU does not tell its power");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_a_gpu_pays_for_its_time_and_one_elsewhere_by_estimate() {
        let meter = EnergyMeter::new(10_000);
        meter.lock().told(Some(250_000));
        let request = meter.begin(Tokens::new(5));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(request.end(), (500_000, false));

        meter.lock().told(None);
        let request = meter.begin(Tokens::new(5));
        let begun = processor_time();
        while processor_time() < begun + Duration::from_millis(20) {}
        let (millijoules, estimated) = request.end();
        assert!(millijoules >= 200 && estimated, "{millijoules}");
        // 20 ms at 10 W are 200 mJ; the other tests of this process may have had processors too.
    }
}
