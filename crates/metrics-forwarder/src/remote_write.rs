//! Prometheus remote-write 1.0: the messages, and samples packed into batches.
//!
//! The messages are those of <https://github.com/prometheus/prometheus/blob/main/prompb/remote.proto> and `types.proto`,
//! as far as 1.0 uses them; the field numbers are the contract.

use crate::series::{Metadata, Sample};

#[cfg(test)]
mod tests;

/// Body of a remote-write request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest {
    /// Series with their samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    /// What is known about metric families.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetricMetadata>,
}

/// One series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Sorted by name, `__name__` among them.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Ascending by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<SamplePair>,
}

/// One label.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value, not empty.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `prometheus.Sample`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SamplePair {
    /// The value, with the bits of a NaN kept.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// What is known about a metric family.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricMetadata {
    /// `MetricType`; see [`crate::series::MetricType`].
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Name of the family.
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    /// Help text.
    #[prost(string, tag = "4")]
    pub help: String,
    /// Unit.
    #[prost(string, tag = "5")]
    pub unit: String,
}

impl From<&Sample> for TimeSeries {
    fn from(sample: &Sample) -> Self {
        let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
        let pair = SamplePair { value: sample.value, timestamp: sample.timestamp.get() };
        Self { labels: sample.labels.iter().map(label).collect(), samples: vec![pair] }
    }
}

impl From<&Metadata> for MetricMetadata {
    fn from(metadata: &Metadata) -> Self {
        Self {
            kind: metadata.kind as i32,
            metric_family_name: metadata.family.clone(),
            help: metadata.help.clone(),
            unit: metadata.unit.clone(),
        }
    }
}

/// Bounds of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most samples.
    pub samples_max: usize,
    /// Most bytes before compression. One series may exceed it alone; the length of a line bounds that.
    pub bytes_max: usize,
}

/// Samples on their way: what the queue keeps, one record each.
///
/// Several batches are joined by joining their bodies: concatenated protobuf messages are one message whose repeated
/// fields are concatenated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// Samples in `body`.
    #[prost(uint64, tag = "1")]
    pub samples: u64,
    /// Length of `body` before compression.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// A [`WriteRequest`] in snappy's block format.
    #[prost(bytes = "vec", tag = "3")]
    pub body: Vec<u8>,
}

/// Packs samples, in their order, into as few batches as the limits allow; metadata goes with the first.
///
/// # Errors
/// A batch is longer than snappy can write, which the limits rule out.
pub fn pack(
    samples: &[Sample],
    metadata: &[Metadata],
    limits: BatchLimits,
) -> Result<Vec<Batch>, snap::Error> {
    let mut batches = Vec::new();
    let mut packing = Packing::default();
    for family in metadata {
        packing.add(&WriteRequest { metadata: vec![family.into()], ..WriteRequest::default() }, 0);
        packing.close_if_full(limits, &mut batches)?;
    }
    for sample in samples {
        packing.add(&WriteRequest { timeseries: vec![sample.into()], ..WriteRequest::default() }, 1);
        packing.close_if_full(limits, &mut batches)?;
    }
    packing.close(&mut batches)?;
    Ok(batches)
}

#[derive(Default)]
struct Packing {
    body: Vec<u8>,
    samples: usize,
    /// Length and samples before the last addition.
    before: (usize, usize),
}

impl Packing {
    fn add(&mut self, part: &WriteRequest, samples: usize) {
        self.before = (self.body.len(), self.samples);
        self.body.extend_from_slice(&prost::Message::encode_to_vec(part));
        self.samples += samples;
    }

    /// Ends the batch before the last addition when that went beyond a limit.
    fn close_if_full(&mut self, limits: BatchLimits, batches: &mut Vec<Batch>) -> Result<(), snap::Error> {
        if self.samples <= limits.samples_max && self.body.len() <= limits.bytes_max {
            return Ok(());
        }
        let (length, samples) = self.before;
        let excess = self.body.split_off(length);
        let left = self.samples - samples;
        self.samples = samples;
        self.close(batches)?;
        (self.body, self.samples) = (excess, left);
        Ok(())
    }

    fn close(&mut self, batches: &mut Vec<Batch>) -> Result<(), snap::Error> {
        if !self.body.is_empty() {
            let body = snap::raw::Encoder::new().compress_vec(&self.body)?;
            batches.push(Batch { samples: self.samples as u64, bytes: self.body.len() as u64, body });
        }
        *self = Self::default();
        Ok(())
    }
}

/// Joins batches into the body of one request, in snappy's block format.
///
/// # Errors
/// A body is not what [`pack`] wrote, or they are too long together.
pub fn join(batches: &[Batch]) -> Result<Vec<u8>, snap::Error> {
    if let [only] = batches {
        return Ok(only.body.clone());
    }
    let mut joined = Vec::new();
    for batch in batches {
        joined.extend_from_slice(&snap::raw::Decoder::new().decompress_vec(&batch.body)?);
    }
    snap::raw::Encoder::new().compress_vec(&joined)
}
