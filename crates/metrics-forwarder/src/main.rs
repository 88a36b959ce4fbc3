//! The metrics-forwarder process.

use std::process::ExitCode;

use metrics_forwarder::{Settings, run};
use wire::subject::service;

fn main() -> ExitCode {
    service_runtime::execute::<Settings, _, _>(service::METRICS_FORWARDER, &service::ALL, run)
}
