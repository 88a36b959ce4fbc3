//! request-coordinator: ingress, decision, dispatch.

use std::process::ExitCode;

use wire::subject::service;

fn main() -> ExitCode {
    service_runtime::execute(service::REQUEST_COORDINATOR, &service::ALL, request_coordinator::run)
}
