//! local-model-pool: runs local models. See the library for how.

use std::process::ExitCode;

use local_model_pool::settings::Settings;
use wire::subject::service;

fn main() -> ExitCode {
    service_runtime::execute::<Settings, _, _>(
        service::LOCAL_MODEL_POOL,
        &service::ALL,
        local_model_pool::run,
    )
}
