//! What the pool measures. Engines have no listener of their own: they tell the pool, and the pool is scraped.
//!
//! Names of the `gen_ai.server` group are OpenTelemetry's:
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use domain::lifecycle::Phase;
use domain::units::Bytes;

use crate::protocol::{Finished, Ready};

/// The instruments, shared by all models.
#[derive(Debug, Clone)]
pub struct Metrics {
    request: Histogram<f64>,
    first_token: Histogram<f64>,
    output_token: Histogram<f64>,
    tokens: Counter<u64>,
    load: Histogram<f64>,
    busy: Gauge<u64>,
    waiting: Gauge<u64>,
    slots: Gauge<u64>,
    state: Gauge<u64>,
    failures: Counter<u64>,
    no_room: Counter<u64>,
    swaps: Counter<u64>,
    unloads: Counter<u64>,
    queued: Gauge<u64>,
    queue: Histogram<f64>,
    estimated: Gauge<u64>,
    resident: Gauge<u64>,
}

impl Metrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, text: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_description(text).build()
        };
        let gauge = |name: &'static str, unit: &'static str, text: &'static str| {
            meter.u64_gauge(name).with_unit(unit).with_description(text).build()
        };
        let counter = |name: &'static str, unit: &'static str, text: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(text).build()
        };
        let tokens = meter.u64_counter("local_model_pool.tokens").with_unit("{token}");
        let failures = meter.u64_counter("local_model_pool.engine.failures").with_unit("{failure}");
        Self {
            request: seconds("gen_ai.server.request.duration", "Time from a request to its end."),
            first_token: seconds(
                "gen_ai.server.time_to_first_token",
                "Time from a request to its first token.",
            ),
            output_token: seconds(
                "gen_ai.server.time_per_output_token",
                "Time for each token after the first.",
            ),
            tokens: tokens.with_description("Tokens computed, by kind.").build(),
            load: seconds("local_model_pool.model.load.duration", "Time from start to ready."),
            busy: gauge("local_model_pool.slots.busy", "{slot}", "Slots with a request."),
            waiting: gauge(
                "local_model_pool.requests.waiting",
                "{request}",
                "Requests that wait for a slot.",
            ),
            slots: gauge("local_model_pool.slots", "{slot}", "Slots of a loaded model."),
            state: gauge("local_model_pool.model.state", "1", "0 down, 1 cold, 2 loading, 3 warm."),
            failures: failures.with_description("Engines that failed to load or died.").build(),
            no_room: counter("local_model_pool.model.no_room", "{refusal}", "Loads that found no memory."),
            swaps: counter(
                "local_model_pool.model.swaps",
                "{swap}",
                "Loads for which another model had to go.",
            ),
            unloads: counter("local_model_pool.model.unloads", "{unload}", "Models that left, by reason."),
            queued: gauge(
                "local_model_pool.requests.queued",
                "{request}",
                "Requests that wait for the model to be loaded.",
            ),
            queue: seconds(
                "local_model_pool.queue.duration",
                "Time that requests have waited for the model to be loaded.",
            ),
            estimated: gauge("local_model_pool.memory.estimated", "By", "Memory expected before the load."),
            resident: gauge(
                "local_model_pool.memory.resident",
                "By",
                "Memory of the engine's process when ready.",
            ),
        }
    }

    /// The instruments of one model.
    #[must_use]
    pub fn of(&self, model: &str) -> ModelMetrics {
        ModelMetrics { all: self.clone(), model: KeyValue::new("gen_ai.request.model", model.to_owned()) }
    }
}

/// What is recorded of one model.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    all: Metrics,
    model: KeyValue,
}

impl ModelMetrics {
    fn labels(&self) -> [KeyValue; 1] {
        [self.model.clone()]
    }

    pub(crate) fn state(&self, phase: &Phase) {
        let number = match phase {
            Phase::Down { .. } => 0,
            Phase::Cold | Phase::Draining(..) | Phase::Ending(_) => 1,
            Phase::Loading(_) => 2,
            Phase::Warm(_) => 3,
        };
        self.all.state.record(number, &self.labels());
    }

    pub(crate) fn no_room(&self) {
        self.all.no_room.add(1, &self.labels());
    }

    pub(crate) fn swapped(&self) {
        self.all.swaps.add(1, &self.labels());
    }

    pub(crate) fn left(&self, why: &'static str) {
        let labels = [self.model.clone(), KeyValue::new("reason", why)];
        self.all.unloads.add(1, &labels);
    }

    pub(crate) fn queued(&self, requests: u32) {
        self.all.queued.record(requests.into(), &self.labels());
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.all.queue.record(time.as_secs_f64(), &self.labels());
    }

    pub(crate) fn estimate(&self, memory: Bytes) {
        self.all.estimated.record(memory.get(), &self.labels());
    }

    pub(crate) fn ready(&self, ready: &Ready, load: Duration) {
        self.all.load.record(load.as_secs_f64(), &self.labels());
        self.all.slots.record(ready.slots.into(), &self.labels());
        self.all.resident.record(ready.resident_bytes, &self.labels());
        self.occupancy(0, 0);
    }

    pub(crate) fn occupancy(&self, busy: u32, waiting: u32) {
        self.all.busy.record(busy.into(), &self.labels());
        self.all.waiting.record(waiting.into(), &self.labels());
    }

    pub(crate) fn failure(&self) {
        self.all.failures.add(1, &self.labels());
    }

    /// The engine's process is gone, and its slots and memory with it.
    pub(crate) fn gone(&self) {
        self.all.slots.record(0, &self.labels());
        self.all.resident.record(0, &self.labels());
        self.occupancy(0, 0);
    }

    pub(crate) fn finished(&self, finished: &Finished) {
        let mut labels = vec![
            self.model.clone(),
            KeyValue::new("gen_ai.operation.name", finished.operation.as_str()),
            KeyValue::new("gen_ai.provider.name", "llama.cpp"),
        ];
        let tokens = |kind: &'static str, count: u64| {
            let labels = [self.model.clone(), KeyValue::new("gen_ai.token.type", kind)];
            self.all.tokens.add(count, &labels);
        };
        tokens("input", finished.input_tokens);
        tokens("cached_input", finished.cached_tokens);
        tokens("output", finished.output_tokens);
        let total = Duration::from_micros(finished.total_us);
        if let Some(first) = finished.first_token_us.map(Duration::from_micros) {
            self.all.first_token.record(first.as_secs_f64(), &labels);
            if let Some(further) = finished.output_tokens.checked_sub(1).filter(|further| *further > 0) {
                let further = u32::try_from(further).unwrap_or(u32::MAX);
                let each = total.saturating_sub(first) / further;
                self.all.output_token.record(each.as_secs_f64(), &labels);
            }
        }
        if !finished.error.is_empty() {
            labels.push(KeyValue::new("error.type", finished.error.clone()));
        }
        self.all.request.record(total.as_secs_f64(), &labels);
    }
}
