//! What to do when something fails: pure rules with time and chance as arguments.

pub mod cooldown;
pub mod retry;
