//! The observability hub's process.

use observability_hub::{Settings, run};
use wire::subject::service;

fn main() -> std::process::ExitCode {
    service_runtime::execute::<Settings, _, _>(service::OBSERVABILITY_HUB, &service::ALL, run)
}
