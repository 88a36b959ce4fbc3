//! The real NVML code against a library with NVML's ABI, alone and in the running service.

mod card;
mod nvml;
mod service;
