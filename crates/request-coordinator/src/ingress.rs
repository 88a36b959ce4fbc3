//! Where requests come in.

pub(crate) mod http;
pub(crate) mod nats;

use domain::fault::Fault;

/// A request id of ours: UUIDv7, so that later requests sort later.
fn new_request_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// The agent of a request that may be named twice: by the subject or header, and in the message.
fn one_agent(outside: &str, inside: &str) -> Result<String, Fault> {
    if !outside.is_empty() && !inside.is_empty() && outside != inside {
        let message = format!("agent is {inside:?}, expected {outside:?} as the subject says, or nothing");
        return Err(Fault::invalid("agent", message));
    }
    Ok(if outside.is_empty() { inside } else { outside }.to_owned())
}
