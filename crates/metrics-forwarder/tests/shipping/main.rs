//! From a target to a hub, over real HTTP.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers fail by panicking")]

mod process;
mod sender;
mod support;
