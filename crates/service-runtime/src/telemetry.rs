//! Logs to stderr, metrics for `/metrics`, traces over OTLP.
//!
//! Metrics are pulled and traces are sent from a bounded queue in the background, so that telemetry never holds up work;
//! what the queue cannot take is dropped.

mod buckets;
mod process_metrics;

use std::time::Duration;

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, TelemetrySettings};
use crate::process::Process;

/// Crates whose spans describe transport, not the service; those of the exporter's own transport would be exported by
/// it and make more of them.
const TRANSPORT: [&str; 10] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "reqwest",
    "rustls",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
];

/// Time for one export before it counts as failed.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// What must be flushed at the end.
pub(crate) struct Telemetry {
    tracer: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets the global subscriber, meter provider and propagator. Once per process, inside the async runtime.
    pub(crate) fn start(
        settings: &TelemetrySettings,
        process: &Process,
        registry: prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let resource = resource(process);
        global::set_meter_provider(meter_provider(process, registry, resource.clone())?);
        global::set_text_map_propagator(TraceContextPropagator::new());
        let tracer = match &settings.otlp_endpoint {
            None => None,
            Some(endpoint) => Some(tracer_provider(endpoint, resource)?),
        };
        tracing_subscriber::registry()
            .with(log_layer(settings)?)
            .with(tracer.as_ref().map(|provider| trace_layer(provider.tracer("hybrid"))))
            .try_init()
            .context("another log subscriber is already installed")?;
        Ok(Self { tracer })
    }

    /// Sends what is left, for as long as `allowed`.
    pub(crate) async fn flush(self, allowed: Duration) {
        let Some(tracer) = self.tracer else { return };
        // The call blocks until the exporter's thread has answered.
        let flushed = tokio::task::spawn_blocking(move || tracer.shutdown_with_timeout(allowed)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "last traces were not delivered");
        }
    }
}

fn resource(process: &Process) -> Resource {
    Resource::builder_empty()
        .with_service_name(process.service())
        .with_attributes([
            KeyValue::new("service.version", crate::VERSION),
            KeyValue::new("service.instance.id", process.instance.clone()),
            KeyValue::new("host.name", process.node.machine.clone()),
        ])
        .build()
}

fn meter_provider(
    process: &Process,
    registry: prometheus::Registry,
    resource: Resource,
) -> anyhow::Result<SdkMeterProvider> {
    process_metrics::register(&registry, process.service())
        .context("process metrics cannot be registered")?;
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry)
        // The scope is the crate, which the metric's name already tells.
        .scope_info_enabled(false)
        .build()
        .context("metrics exporter cannot be built")?;
    Ok(SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(exporter)
        .with_view(buckets::view)
        .build())
}

fn tracer_provider(endpoint: &str, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .with_context(|| {
            format!("trace exporter to {endpoint} (setting telemetry.otlp_endpoint) cannot be built")
        })?;
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Transport is quiet unless `telemetry.log_filter` names it.
fn log_filter(settings: &TelemetrySettings) -> anyhow::Result<EnvFilter> {
    let quiet = TRANSPORT.map(|target| format!("{target}=warn")).join(",");
    EnvFilter::try_new(format!("{quiet},{}", settings.log_filter))
        .context("telemetry.log_filter is not a log filter")
}

fn log_layer<S>(settings: &TelemetrySettings) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = log_filter(settings)?;
    let layer = fmt::layer().with_writer(std::io::stderr);
    Ok(match settings.log_format {
        LogFormat::Text => layer.compact().with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

fn trace_layer<S>(tracer: SdkTracer) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let ours = FilterFn::new(|metadata| {
        let root = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= LevelFilter::INFO && !TRANSPORT.contains(&root)
    });
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
}

#[cfg(test)]
mod tests;
