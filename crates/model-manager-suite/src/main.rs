//! model-manager-suite: registry, routing snapshot, flags, `plan`.

use std::process::ExitCode;

use wire::subject::service;

fn main() -> ExitCode {
    service_runtime::execute(service::MODEL_MANAGER_SUITE, &service::ALL, model_manager_suite::run)
}
