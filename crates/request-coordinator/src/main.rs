//! request-coordinator
fn main() {}
