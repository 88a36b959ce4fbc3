//! local-model-pool
fn main() {}
