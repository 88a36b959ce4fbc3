//! model-manager-suite
fn main() {}
