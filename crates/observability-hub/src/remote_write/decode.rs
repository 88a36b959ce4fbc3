//! Body to samples.

use prost::{
    Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{BODY_BYTES_MAX, Reason, Refusals, proto};
use crate::metric_store::{Labels, NAME_LABEL, Sample};

/// How far ahead of ours a sender's clock may be.
const FUTURE_MS_MAX: i64 = 10 * 60_000;
/// Field of the series in `prometheus.WriteRequest`.
const TIMESERIES_FIELD: u32 = 1;
/// Largest encoded series. Structures are up to eight times larger than their encoding.
const SERIES_BYTES_MAX: usize = 4 << 20;
/// Series of one request.
const SERIES_MAX: usize = 200_000;
/// Labels of one series.
const LABELS_MAX: usize = 64;
/// Length of a label's name, bytes.
const LABEL_NAME_BYTES_MAX: usize = 256;
/// Length of a label's value, bytes.
const LABEL_VALUE_BYTES_MAX: usize = 4096;

/// What a sample may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Age beyond which a sample is refused, milliseconds.
    pub age_ms_max: i64,
}

/// The valid part of a request, and what became of the rest.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Series with at least one valid sample.
    pub series: Vec<DecodedSeries>,
    /// The rest.
    pub refused: Refusals,
}

/// Valid samples of a series, as they came.
#[derive(Debug)]
pub struct DecodedSeries {
    /// What names it.
    pub labels: Labels,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// A body that is not a remote-write request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than a request may be; HTTP 413.
    #[error("body is {0} bytes decompressed, expected at most 33554432")]
    TooLarge(usize),
    /// No snappy block; HTTP 400.
    #[error("body is no snappy block: {0}")]
    NotSnappy(String),
    /// No `prometheus.WriteRequest`; HTTP 400.
    #[error("body is no prometheus.WriteRequest: {0}")]
    NotProtobuf(String),
}

/// Reads a compressed body that arrived at `now_unix_ms`.
///
/// # Errors
/// The body as a whole cannot be read. What is wrong with single series is in [`Decoded::refused`].
pub fn decode(body: &[u8], limits: Limits, now_unix_ms: i64) -> Result<Decoded, DecodeError> {
    let not_snappy = |error: snap::Error| DecodeError::NotSnappy(error.to_string());
    let length = snap::raw::decompress_len(body).map_err(not_snappy)?;
    if length > BODY_BYTES_MAX {
        return Err(DecodeError::TooLarge(length));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(not_snappy)?;
    decode_request(&plain, limits, now_unix_ms)
}

fn decode_request(mut plain: &[u8], limits: Limits, now_unix_ms: i64) -> Result<Decoded, DecodeError> {
    let not_protobuf = |error: prost::DecodeError| DecodeError::NotProtobuf(error.to_string());
    let mut decoded = Decoded::default();
    while !plain.is_empty() {
        let (field, wire_type) = decode_key(&mut plain).map_err(not_protobuf)?;
        if field != TIMESERIES_FIELD || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, &mut plain, DecodeContext::default()).map_err(not_protobuf)?;
            continue;
        }
        let length = decode_varint(&mut plain).map_err(not_protobuf)?;
        let split = usize::try_from(length).ok().and_then(|length| plain.split_at_checked(length));
        let Some((series, rest)) = split else {
            let left = plain.len();
            return Err(DecodeError::NotProtobuf(format!("series of {length} bytes, {left} are there")));
        };
        plain = rest;
        if decoded.series.len() >= SERIES_MAX {
            decoded.refused.add(Reason::RequestLimit(SERIES_MAX));
            continue;
        }
        take_series(series, limits, now_unix_ms, &mut decoded);
    }
    Ok(decoded)
}

fn take_series(encoded: &[u8], limits: Limits, now_unix_ms: i64, decoded: &mut Decoded) {
    if encoded.len() > SERIES_BYTES_MAX {
        let length = encoded.len();
        let what = format!("series is {length} bytes, expected at most {SERIES_BYTES_MAX}");
        return decoded.refused.add(Reason::Malformed(what));
    }
    let series = match proto::TimeSeries::decode(encoded) {
        Ok(series) => series,
        Err(error) => return decoded.refused.add(Reason::Malformed(error.to_string())),
    };
    let count = (series.samples.len() + series.histograms.len()) as u64;
    let labels = match labels(series.labels) {
        Ok(labels) => labels,
        Err(what) => return decoded.refused.add_many(Reason::InvalidLabels(what), count.max(1)),
    };
    decoded.refused.add_many(Reason::Histogram, series.histograms.len() as u64);
    let latest_unix_ms = now_unix_ms.saturating_add(FUTURE_MS_MAX);
    let oldest_unix_ms = now_unix_ms.saturating_sub(limits.age_ms_max);
    let mut samples = Vec::with_capacity(series.samples.len());
    for sample in series.samples {
        let unix_ms = sample.timestamp;
        if unix_ms > latest_unix_ms {
            decoded.refused.add(Reason::Future { unix_ms, latest_unix_ms });
        } else if unix_ms < oldest_unix_ms {
            decoded.refused.add(Reason::TooOld { unix_ms, oldest_unix_ms });
        } else {
            samples.push(Sample { unix_ms, value: sample.value });
        }
    }
    if !samples.is_empty() {
        decoded.series.push(DecodedSeries { labels, samples });
    }
}

fn labels(labels: Vec<proto::Label>) -> Result<Labels, String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("{} labels, expected at most {LABELS_MAX}", labels.len()));
    }
    let mut checked: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(labels.len());
    for proto::Label { name, value } in labels {
        let shown: String = name.chars().take(64).collect();
        if name.len() > LABEL_NAME_BYTES_MAX || !is_label_name(&name) {
            return Err(format!(
                "label name is {shown:?}, expected [a-zA-Z_][a-zA-Z0-9_]*, at most 256 bytes"
            ));
        }
        if value.len() > LABEL_VALUE_BYTES_MAX {
            return Err(format!("label {shown:?} has {} bytes, expected at most 4096", value.len()));
        }
        checked.push((name.into(), value.into()));
    }
    let labels = Labels::new(checked).map_err(|name| format!("label {name:?} is there twice"))?;
    let metric = labels.metric();
    if !is_metric_name(metric) {
        let shown: String = metric.chars().take(64).collect();
        return Err(format!("label {NAME_LABEL} is {shown:?}, expected [a-zA-Z_:][a-zA-Z0-9_:]*"));
    }
    Ok(labels)
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
pub(crate) fn is_label_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub(crate) fn is_metric_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

#[cfg(test)]
mod tests;
