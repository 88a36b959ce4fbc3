//! remote-api-adapter
fn main() {}
