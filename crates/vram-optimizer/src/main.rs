//! vram-optimizer
fn main() {}
