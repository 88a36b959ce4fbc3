//! Pure decisions and the types they are made of.
//!
//! Nothing here does I/O, reads a clock, draws a random number or looks up configuration: a service gathers the inputs, calls
//! a function, and carries out the outcome. Values are checked when they are made, so that the functions need not doubt them.

pub mod budget;
pub mod cache;
pub mod classification;
pub mod complexity;
pub mod consensus;
pub mod energy;
pub mod fault;
pub mod id;
pub mod inference;
pub mod key;
pub mod lifecycle;
pub mod pricing;
pub mod quality;
pub mod resilience;
pub mod routing;
pub mod simulation;
pub mod subtitles;
pub mod tokens;
pub mod units;
pub mod vram;
