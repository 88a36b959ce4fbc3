//! NATS transport: connection, typed calls, reply streams, the executor loop, the control bucket, the durable ledger.
//!
//! Services talk to their own machine's server only. What this crate guards against, because it was seen: a full subscription
//! drops silently (so every stream is numbered and a gap is an error), a request in flight when a server dies is never
//! reported (so every stream carries heartbeats and the reader gives up by itself), and permission denials look like
//! time-outs (so a server's denial is logged as an error, counted, and told to whoever waits for the answer).

mod announce;
pub mod audio;
mod call;
mod connection;
pub mod control;
mod credentials;
mod denial;
pub mod executor;
pub mod ledger;
mod replies;
mod settings;
pub mod trace;

pub use announce::{Announcement, Announcer};
pub use call::{CallError, Incoming, PublishError};
pub use connection::{Bus, ConnectError};
pub use credentials::CredentialsError;
pub use replies::{ReplyStream, StreamError};
pub use settings::Settings;
