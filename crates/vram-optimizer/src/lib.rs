//! vram-optimizer
