//! observability-hub
fn main() {}
