//! The floor: the least that the system's design can cost. HTTP in, NATS, another process, HTTP out, and the same way back.
//!
//! No classification, decision, ledger or metrics, no protobuf, no validation, no retries. What the system takes longer
//! than this is what those take.
//!
//! A request is one message to [`SUBJECT`] with the body as payload. The first message of the answer carries the headers
//! [`STATUS`] and `Content-Type` and the first bytes, with [`END`] when they are all; each further one carries what one
//! read from the upstream gave; an empty one is the end.

pub mod gateway;
pub mod worker;

use std::io::Write as _;

use anyhow::Context as _;

/// Where the gateway publishes.
pub const SUBJECT: &str = "floor.v1.chat";
/// Queue group of the workers.
pub const QUEUE: &str = "floor";
/// HTTP status of the upstream.
pub const STATUS: &str = "Status";
/// Present when the message is the whole answer.
pub const END: &str = "End";
/// Present when the answer broke off.
pub const BROKEN: &str = "Broken";

/// Tells the one who started this process that it serves.
pub(crate) fn report_ready(listening: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::json!({"listening": listening}))
        .context("cannot write to stdout")
}
