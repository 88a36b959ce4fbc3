//! metrics-forwarder
fn main() {}
