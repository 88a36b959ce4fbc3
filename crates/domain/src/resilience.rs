//! What to do when something fails: pure rules with the time as an argument.

pub mod cooldown;
