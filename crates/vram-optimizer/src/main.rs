//! The owner of a machine's GPU memory.

use std::process::ExitCode;

use vram_optimizer::{Settings, run};
use wire::subject::service;

fn main() -> ExitCode {
    service_runtime::execute::<Settings, _, _>(service::VRAM_OPTIMIZER, &service::ALL, run)
}
