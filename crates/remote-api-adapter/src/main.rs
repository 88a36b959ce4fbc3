//! The `remote-api-adapter` program.

use remote_api_adapter::{Settings, run};
use wire::subject::service;

fn main() -> std::process::ExitCode {
    service_runtime::execute::<Settings, _, _>(service::REMOTE_API_ADAPTER, &service::ALL, run)
}
