//! What the service believes about the machine: the last sample, and what to say about it.

use std::thread::available_parallelism;

use domain::{
    units::Bytes,
    vram::{Capacity, Change, Device, Gpus, Lease, Memory},
};
use wire::v1;

use crate::{
    gpus::{Gpu, GpuError, Snapshot},
    sampler::{STALL, Sample},
    settings::SystemShare,
    system_memory::{Extent, Reading},
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// No sample yet.
    Nothing,
    Absent,
    Lost(String),
    Gpus(Snapshot),
}

pub(super) struct View {
    share: SystemShare,
    /// The owner named a library, so that not finding it deserves a warning.
    library_named: bool,
    seen: Seen,
    system: Result<Reading, String>,
}

impl View {
    pub(super) fn new(share: SystemShare, library_named: bool) -> Self {
        Self { share, library_named, seen: Seen::Nothing, system: Err("not read yet".to_owned()) }
    }

    /// Takes a sample, and says so where it changes what is planned on.
    pub(super) fn take(&mut self, sample: Sample) {
        if let (Err(error), false) = (&sample.system, sample.system == self.system) {
            tracing::error!(%error, "system memory can't be read");
        }
        self.system = sample.system;
        let seen = match sample.gpus {
            None => return,
            Some(Ok(snapshot)) => Seen::Gpus(snapshot),
            Some(Err(GpuError::Lost { reason })) => Seen::Lost(reason),
            Some(Err(GpuError::Absent { reason })) => {
                if self.seen != Seen::Absent && self.library_named {
                    tracing::warn!(
                        reason,
                        "no gpu through the configured library, planning on system memory"
                    );
                } else if self.seen != Seen::Absent {
                    tracing::info!(reason, "no nvidia gpu, planning on system memory");
                }
                Seen::Absent
            }
        };
        self.turn(seen);
    }

    /// Gives the GPUs up until the driver answers again; whether that is news.
    pub(super) fn stall(&mut self) -> bool {
        if !matches!(self.seen, Seen::Gpus(_) | Seen::Nothing) {
            return false;
        }
        self.turn(Seen::Lost(format!("the driver has not answered for {} s", STALL.as_secs())));
        true
    }

    fn turn(&mut self, seen: Seen) {
        match (&self.seen, &seen) {
            (Seen::Gpus(before), Seen::Gpus(now)) if before.unreadable == now.unreadable => {}
            (_, Seen::Gpus(now)) => {
                let gpus: Vec<&str> = now.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
                tracing::info!(gpus = %gpus.join(", "), "planning on gpu memory through nvml");
                for (index, reason) in &now.unreadable {
                    tracing::warn!(index, reason, "a gpu can't be read and gets no lease");
                }
            }
            (before, Seen::Lost(reason)) if *before != seen => {
                tracing::warn!(reason, "gpus lost, no gpu memory is leased until they are back");
            }
            _ => {}
        }
        self.seen = seen;
    }

    pub(super) fn gpus(&self) -> &[Gpu] {
        match &self.seen {
            Seen::Gpus(snapshot) => &snapshot.gpus,
            _ => &[],
        }
    }

    pub(super) fn gpus_up(&self) -> bool {
        matches!(self.seen, Seen::Gpus(_))
    }

    /// Ready once there is something to plan on. Lost GPUs don't make the service unready: it still answers.
    pub(super) fn health(&self) -> (bool, String) {
        match (&self.seen, &self.system) {
            (Seen::Nothing, _) => (false, "no sample yet".to_owned()),
            (Seen::Absent, Err(error)) => (false, format!("system memory: {error}")),
            (Seen::Absent, Ok(_)) => (true, "planning on system memory".to_owned()),
            (Seen::Lost(reason), _) => (true, format!("gpus lost: {reason}")),
            (Seen::Gpus(snapshot), _) => {
                (true, format!("planning on gpu memory, gpus: {}", snapshot.gpus.len()))
            }
        }
    }

    pub(super) fn capacity(&self) -> Capacity {
        let device = |gpu: &Gpu| Device {
            id: gpu.id.clone(),
            index: gpu.index,
            memory: Memory { total: gpu.total, used: gpu.used, processes: gpu.processes.clone() },
        };
        let gpus = match &self.seen {
            Seen::Nothing => Gpus::Lost { reason: "not looked yet".to_owned() },
            Seen::Absent => Gpus::Absent,
            Seen::Lost(reason) => Gpus::Lost { reason: reason.clone() },
            Seen::Gpus(snapshot) => Gpus::Present(snapshot.gpus.iter().map(device).collect()),
        };
        Capacity { gpus, system: self.system_memory() }
    }

    fn system_memory(&self) -> Memory {
        let Ok(reading) = &self.system else { return Memory::default() };
        let extent = self.extent(reading);
        let total = match self.share {
            SystemShare::Fraction(fraction) => share_of(extent.total, fraction),
            SystemShare::Fixed(bytes) => bytes,
        };
        let used = match self.share {
            SystemShare::Fraction(_) => extent.total.saturating_sub(extent.available),
            // Only what the rest of the machine can't provide any more is taken from a fixed amount.
            SystemShare::Fixed(bytes) => bytes.saturating_sub(extent.available),
        };
        Memory { total, used, processes: reading.processes.clone() }
    }

    /// The machine's memory, or the part of it that this service and its neighbours may use.
    fn extent(&self, reading: &Reading) -> Extent {
        match (self.share, reading.limit) {
            (SystemShare::Fraction(_), Some(limit)) => {
                Extent { available: limit.available.min(reading.machine.available), ..limit }
            }
            _ => reading.machine,
        }
    }

    pub(super) fn resources(&self, leased: Bytes) -> v1::NodeResources {
        let extent = self.system.as_ref().map(|reading| self.extent(reading)).unwrap_or_default();
        let cpus = available_parallelism().map_or(1, std::num::NonZero::get);
        v1::NodeResources {
            memory_total_bytes: extent.total.get(),
            memory_available_bytes: extent.available.get(),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            gpus: self.gpus().iter().map(state).collect(),
            leased_bytes: leased.get(),
            planned_on: match self.seen {
                Seen::Nothing => "",
                Seen::Absent => "system-memory",
                Seen::Lost(_) => "nvml-lost",
                Seen::Gpus(_) => "nvml",
            }
            .to_owned(),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1 of a memory; a few bytes more or less don't matter"
)]
fn share_of(total: Bytes, fraction: f64) -> Bytes {
    Bytes::new((total.get() as f64 * fraction) as u64)
}

fn state(gpu: &Gpu) -> v1::GpuState {
    v1::GpuState {
        index: gpu.index,
        name: gpu.name.clone(),
        uuid: gpu.id.as_str().to_owned(),
        memory_total_bytes: gpu.total.get(),
        memory_used_bytes: gpu.used.get(),
        utilization_percent: gpu.utilization_percent.unwrap_or(0),
        temperature_celsius: gpu.temperature_celsius.and_then(|it| i32::try_from(it).ok()).unwrap_or(0),
        power_milliwatts: gpu.power_milliwatts.map_or(0, u64::from),
        processes: gpu
            .processes
            .iter()
            .map(|process| v1::GpuProcess { pid: process.pid, memory_used_bytes: process.used.get() })
            .collect(),
    }
}

/// One line for each thing that happens to a lease.
pub(super) fn log(change: &Change) {
    let (message, lease): (_, &Lease) = match change {
        Change::Granted(lease) => ("lease granted", lease),
        Change::Replaced(lease) => ("lease replaced by a newer one", lease),
        Change::Released(lease) => ("lease released", lease),
        Change::Expired(lease) => ("lease expired", lease),
        Change::Draining(lease) => ("lease gives way", lease),
    };
    let gives_way_to = lease.gives_way_to.as_deref();
    let (id, holder) = (lease.token.lease_id(), lease.holder.as_str());
    let (bytes, priority) = (lease.bytes.get(), lease.priority.as_str());
    tracing::info!(lease = id, holder, bytes, priority, place = %lease.place, gives_way_to, "{message}");
}
