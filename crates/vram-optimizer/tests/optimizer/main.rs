//! The real NVML code against a library with NVML's ABI, alone and in the running service.

// Marked as tests, so that the lints of tests hold for their helpers too.
#[cfg(test)]
mod giving_way;
#[cfg(test)]
mod nvml;
#[cfg(test)]
mod service;
