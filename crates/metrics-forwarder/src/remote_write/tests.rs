use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::series::{Labels, MetricType, STALE_NAN, UnixMillis};

fn sample(name: &str, value: f64, timestamp: i64) -> Sample {
    let labels = [("job", "pool"), ("__name__", name)].map(|(n, v)| (n.to_owned(), v.to_owned()));
    Sample { labels: Labels::new(labels.to_vec()).unwrap(), value, timestamp: UnixMillis::new(timestamp) }
}

fn metadata(family: &str) -> Metadata {
    Metadata {
        family: family.to_owned(),
        kind: MetricType::Counter,
        help: "help".to_owned(),
        unit: String::new(),
    }
}

fn decode(body: &[u8]) -> WriteRequest {
    let plain = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    WriteRequest::decode(plain.as_slice()).unwrap()
}

const WIDE: BatchLimits = BatchLimits { samples_max: 1000, bytes_max: 1 << 20 };

/// The bytes are those of the public contract, written down by hand from the field numbers.
#[test]
fn the_encoding_is_that_of_the_specification() {
    let batches = pack(&[sample("up", 1.0, 300)], &[metadata("up")], WIDE).unwrap();
    let plain = snap::raw::Decoder::new().decompress_vec(&batches[0].body).unwrap();
    let label = |name: &[u8], value: &[u8]| {
        [&[0x0a, name.len() as u8], name, &[0x12, value.len() as u8], value].concat()
    };
    let (name, job) = (label(b"__name__", b"up"), label(b"job", b"pool"));
    let pair = [&[0x09], 1.0_f64.to_le_bytes().as_slice(), &[0x10, 0xac, 0x02]].concat();
    let series = [
        &[0x0a, name.len() as u8],
        &name[..],
        &[0x0a, job.len() as u8],
        &job,
        &[0x12, pair.len() as u8],
        &pair,
    ]
    .concat();
    let family = [&[0x08, 1, 0x12, 2], b"up".as_slice(), &[0x22, 4], b"help"].concat();
    let expected = [&[0x1a, family.len() as u8], &family[..], &[0x0a, series.len() as u8], &series].concat();
    assert_eq!(plain, expected);
}

#[test]
fn the_bits_of_a_stale_marker_survive() {
    let batches = pack(&[sample("up", f64::from_bits(STALE_NAN), 1)], &[], WIDE).unwrap();
    assert_eq!(decode(&batches[0].body).timeseries[0].samples[0].value.to_bits(), STALE_NAN);
}

#[test]
fn nothing_makes_no_batch() {
    assert!(pack(&[], &[], WIDE).unwrap().is_empty());
}

#[test]
fn a_series_beyond_the_limit_goes_alone() {
    let samples = [sample("a", 1.0, 1), sample(&"x".repeat(500), 1.0, 2), sample("b", 1.0, 3)];
    let batches = pack(&samples, &[], BatchLimits { samples_max: 10, bytes_max: 100 }).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.samples).collect::<Vec<_>>(), [1, 1, 1]);
}

proptest! {
    #[test]
    fn batches_keep_everything_in_order_within_the_limits(
        values in prop::collection::vec(("[a-z]{1,30}", any::<i64>()), 0..80),
        families in prop::collection::vec("[a-z]{1,30}", 0..10),
        samples_max in 1_usize..20,
        bytes_max in 60_usize..600,
        joined in 1_usize..5,
    ) {
        let limits = BatchLimits { samples_max, bytes_max };
        let samples: Vec<_> = values.iter().map(|(name, time)| sample(name, 0.5, *time)).collect();
        let families: Vec<_> = families.iter().map(|family| metadata(family)).collect();
        let batches = pack(&samples, &families, limits).unwrap();
        let mut found = WriteRequest::default();
        for batch in &batches {
            let request = decode(&batch.body);
            prop_assert!(batch.samples as usize <= samples_max);
            prop_assert_eq!(batch.samples as usize, request.timeseries.len());
            prop_assert_eq!(batch.bytes as usize, request.encoded_len());
            prop_assert!(batch.bytes as usize <= bytes_max || request.timeseries.len() + request.metadata.len() == 1);
            found.timeseries.extend(request.timeseries);
            found.metadata.extend(request.metadata);
        }
        let expected = WriteRequest {
            timeseries: samples.iter().map(Into::into).collect(),
            metadata: families.iter().map(Into::into).collect(),
        };
        prop_assert_eq!(&found, &expected);

        let mut rejoined = WriteRequest::default();
        for group in batches.chunks(joined) {
            let request = decode(&join(group).unwrap());
            rejoined.timeseries.extend(request.timeseries);
            rejoined.metadata.extend(request.metadata);
        }
        prop_assert_eq!(&rejoined, &expected);
    }
}
