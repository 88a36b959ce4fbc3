//! Prometheus remote-write 1.0: from a compressed body to checked samples. Pure; the HTTP part is `http::write`.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>. What is invalid is refused sample by sample and the rest is
//! kept. Lengths are compared with what is really there before memory is taken, and series are decoded one after the
//! other, so that a small body cannot become a large structure.

mod decode;
pub mod proto;
mod refusals;

pub(crate) use self::decode::{is_label_name, is_metric_name};
pub use self::{
    decode::{DecodeError, Decoded, DecodedSeries, Limits, decode},
    refusals::{Reason, Refusals},
};

/// Largest request, compressed and not.
pub const BODY_BYTES_MAX: usize = 32 << 20;
