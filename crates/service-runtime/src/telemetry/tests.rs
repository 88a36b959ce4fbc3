use std::sync::{Arc, Mutex};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;
use prometheus::{Encoder, TextEncoder};

use super::*;

fn process() -> Process {
    Process::for_tests("test-service", "mainpc", "state")
}

#[test]
fn measurements_reach_the_metrics_page_with_the_conventional_buckets() {
    let registry = prometheus::Registry::new();
    let process = process();
    let provider = meter_provider(&process, registry.clone(), resource(&process)).unwrap();
    let meter = provider.meter("test");
    meter.f64_histogram("gen_ai.server.request.duration").with_unit("s").build().record(0.03, &[]);
    meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}").build().record(5, &[]);
    meter.u64_counter("requests").build().add(2, &[KeyValue::new("method", "generate")]);

    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        r#"gen_ai_server_request_duration_seconds_bucket{le="0.02"} 0"#,
        r#"gen_ai_server_request_duration_seconds_bucket{le="0.04"} 1"#,
        r#"gen_ai_server_request_duration_seconds_bucket{le="81.92"} 1"#,
        r#"gen_ai_client_token_usage_bucket{le="4"} 0"#,
        r#"gen_ai_client_token_usage_bucket{le="16"} 1"#,
        r#"gen_ai_client_token_usage_bucket{le="67108864"} 1"#,
        r#"requests_total{method="generate"} 2"#,
        r#"hybrid_build_info{service="test-service",version=""#,
        "process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn the_owner_s_log_filter_stands_above_ours() {
    let filter = |text: &str| {
        let settings = TelemetrySettings { log_filter: text.to_owned(), ..TelemetrySettings::default() };
        log_filter(&settings).unwrap().to_string()
    };
    assert!(filter("info").contains("h2=warn"));
    let raised = filter("info,h2=trace");
    assert!(raised.contains("h2=trace") && !raised.contains("h2=warn"), "{raised}");
}

#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<Vec<String>>>);

impl opentelemetry_sdk::trace::SpanExporter for Collected {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
        Ok(())
    }
}

#[test]
fn transport_spans_are_not_traced() {
    let collected = Collected::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(collected.clone()).build();
    let subscriber = tracing_subscriber::registry().with(trace_layer(provider.tracer("test")));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("request").in_scope(|| {
            tracing::info_span!(target: "h2::client", "frame").in_scope(|| {});
            tracing::info_span!(target: "opentelemetry_otlp", "export").in_scope(|| {});
            tracing::info_span!(target: "h2o", "another crate").in_scope(|| {});
            tracing::debug_span!("detail").in_scope(|| {});
        });
    });
    assert_eq!(*collected.0.lock().unwrap(), ["another crate", "request"]);
}
