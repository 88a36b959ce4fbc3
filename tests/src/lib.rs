//! What the end-to-end tests and the benchmark stand on: real processes, started on free ports and gone afterwards.
//!
//! Nothing here stands in for a part of the product. The one thing that is played is the provider on the far side of the
//! Internet, by [`upstream`], which is a server process of its own and speaks the providers' wire formats.

pub mod child;
mod credentials;
pub mod fake_upstream;
pub mod gguf;
pub mod http;
pub mod job_upstream;
pub mod link;
pub mod nats;
pub mod nvml;
pub mod port;
pub mod service_account;
pub mod system;
pub mod upstream;
pub mod wait;
pub mod workspace;

pub use child::Child;
pub use fake_upstream::FakeUpstream;
pub use job_upstream::JobUpstream;
pub use link::Link;
pub use nats::Nats;
pub use system::System;
