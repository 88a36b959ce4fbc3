//! What is counted and shown. Labels are bounded by the machine (GPUs) and by this program (priorities, reasons).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::vram::{Change, Denial, Leases, Priority, Summary};
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Counter, Meter},
};

use crate::gpus::Gpu;

/// The state that gauges are read from.
#[derive(Debug, Default)]
struct Shown {
    gpus: Vec<Gpu>,
    gpus_up: bool,
    summary: Summary,
    /// Number and bytes, by priority.
    leases: Vec<(Priority, u64, u64)>,
}

type Shared = Arc<Mutex<Shown>>;

/// The service's instruments.
pub(crate) struct Metrics {
    shown: Shared,
    granted: Counter<u64>,
    denied: Counter<u64>,
    ended: Counter<u64>,
    drained: Counter<u64>,
    invalid: Counter<u64>,
    unsaved: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("vram-optimizer");
        let shown = Shared::default();
        gpu_gauges(&meter, &shown);
        lease_gauges(&meter, &shown);
        let counter = |name, text| meter.u64_counter(name).with_description(text).build();
        Self {
            shown,
            granted: counter("vram.lease.granted", "Leases granted, replacements included"),
            denied: counter("vram.lease.denied", "Lease calls refused for what the memory or the lease is"),
            ended: counter("vram.lease.ended", "Leases that ended"),
            drained: counter("vram.lease.drained", "Leases that had to give way"),
            invalid: counter("vram.request.invalid", "Requests that do not decode or have a bad field"),
            unsaved: counter("vram.lease.unsaved", "Changes that could not be written to disk"),
        }
    }

    pub(crate) fn changed(&self, change: &Change) {
        let how = |how| [KeyValue::new("how", how)];
        match change {
            Change::Granted(lease) => {
                self.granted.add(1, &[KeyValue::new("priority", lease.priority.as_str())]);
            }
            Change::Draining(lease) => {
                self.drained.add(1, &[KeyValue::new("priority", lease.priority.as_str())]);
            }
            Change::Expired(_) => self.ended.add(1, &how("expired")),
            Change::Replaced(_) => self.ended.add(1, &how("replaced")),
            Change::Released(_) => self.ended.add(1, &how("released")),
        }
    }

    pub(crate) fn denied(&self, denial: &Denial) {
        self.denied.add(1, &[KeyValue::new("reason", denial.as_str())]);
    }

    pub(crate) fn invalid(&self) {
        self.invalid.add(1, &[]);
    }

    pub(crate) fn unsaved(&self) {
        self.unsaved.add(1, &[]);
    }

    /// What the gauges show from now on.
    pub(crate) fn show(&self, leases: &Leases, gpus: &[Gpu], gpus_up: bool) {
        let by_priority = |priority: Priority| {
            let held = leases.held().iter().filter(move |lease| lease.priority == priority);
            let (count, bytes) =
                held.fold((0, 0_u64), |(count, bytes), lease| (count + 1, bytes + lease.bytes.get()));
            (priority, count, bytes)
        };
        *lock(&self.shown) = Shown {
            gpus: gpus.to_vec(),
            gpus_up,
            summary: leases.summary(),
            leases: Priority::ALL.into_iter().map(by_priority).collect(),
        };
    }
}

fn lock(shown: &Shared) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of the OpenTelemetry conventions for hardware where there are some:
/// <https://opentelemetry.io/docs/specs/semconv/hardware/gpu/>.
fn gpu_gauges(meter: &Meter, shown: &Shared) {
    let each = |figure: fn(&Gpu) -> Option<f64>| {
        let shown = Arc::clone(shown);
        move |observer: &dyn AsyncInstrument<f64>| {
            for gpu in &lock(&shown).gpus {
                if let Some(value) = figure(gpu) {
                    let id = KeyValue::new("hw.id", i64::from(gpu.index));
                    observer.observe(value, &[id, KeyValue::new("hw.name", gpu.name.clone())]);
                }
            }
        }
    };
    let gauge = |name, unit, text, figure| {
        let gauge = meter.f64_observable_gauge(name).with_unit(unit).with_description(text);
        gauge.with_callback(each(figure)).build();
    };
    gauge("hw.gpu.memory.limit", "By", "Memory of the GPU", |gpu| Some(exact(gpu.total.get())));
    gauge("hw.gpu.memory.usage", "By", "Memory of the GPU that is not free", |gpu| {
        Some(exact(gpu.used.get()))
    });
    gauge("hw.gpu.utilization", "1", "Share of time in which the GPU worked", |gpu| {
        gpu.utilization_percent.map(|percent| f64::from(percent) / 100.0)
    });
    gauge("hw.gpu.temperature", "Cel", "Temperature of the GPU", |gpu| {
        gpu.temperature_celsius.map(f64::from)
    });
    gauge("hw.gpu.power", "W", "Power that the GPU draws", |gpu| {
        gpu.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0)
    });
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes, more than any memory")]
fn exact(bytes: u64) -> f64 {
    bytes as f64
}

fn lease_gauges(meter: &Meter, shown: &Shared) {
    let gauge = |name, unit, text, read: fn(&Shown) -> u64| {
        let shown = Arc::clone(shown);
        let gauge = meter.u64_observable_gauge(name).with_unit(unit).with_description(text);
        gauge.with_callback(move |observer| observer.observe(read(&lock(&shown)), &[])).build();
    };
    gauge("vram.capacity", "By", "Memory that leases and other programs share", |it| {
        it.summary.capacity.get()
    });
    gauge("vram.free", "By", "Memory that is left for leases", |it| it.summary.free.get());
    // Without a unit: the exporter would call a `1` a ratio.
    gauge("vram.gpus.up", "", "1 while GPUs are seen, else 0", |it| u64::from(it.gpus_up));
    let by_priority = |name, unit, text, read: fn(&(Priority, u64, u64)) -> u64| {
        let shown = Arc::clone(shown);
        let gauge = meter.u64_observable_gauge(name).with_unit(unit).with_description(text);
        let observe = move |observer: &dyn AsyncInstrument<u64>| {
            for entry in &lock(&shown).leases {
                observer.observe(read(entry), &[KeyValue::new("priority", entry.0.as_str())]);
            }
        };
        gauge.with_callback(observe).build();
    };
    by_priority("vram.leases", "{lease}", "Leases held", |(_, count, _)| *count);
    by_priority("vram.leased", "By", "Memory that leases hold", |(.., bytes)| *bytes);
}
