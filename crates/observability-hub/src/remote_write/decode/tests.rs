use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { age_ms_max: 1_000_000 };
const NOW: i64 = 5_000_000;

fn series(labels: &[(&str, &str)], times: &[i64]) -> proto::TimeSeries {
    proto::TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| proto::Label { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect(),
        samples: times.iter().map(|timestamp| proto::Sample { value: 1.0, timestamp: *timestamp }).collect(),
        histograms: Vec::new(),
    }
}

fn compress(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn body(timeseries: Vec<proto::TimeSeries>) -> Vec<u8> {
    compress(&proto::WriteRequest { timeseries }.encode_to_vec())
}

fn refused(timeseries: Vec<proto::TimeSeries>) -> Vec<(&'static str, u64)> {
    decode(&body(timeseries), LIMITS, NOW).unwrap().refused.by_reason().collect()
}

#[test]
fn unsorted_labels_name_the_same_series_as_sorted_ones() {
    let decoded = decode(
        &body(vec![series(&[("b", "2"), ("__name__", "up"), ("a", "1"), ("empty", "")], &[NOW])]),
        LIMITS,
        NOW,
    )
    .unwrap();
    let labels: Vec<_> = decoded.series[0].labels.iter().collect();
    assert_eq!(labels, [("__name__", "up"), ("a", "1"), ("b", "2")]);
    assert_eq!(decoded.refused.count(), 0);
}

#[test]
fn each_invalid_series_is_refused_and_the_valid_rest_stays() {
    let long = "x".repeat(5000);
    for (reason, bad) in [
        ("invalid_labels", series(&[("job", "x")], &[NOW])),
        ("invalid_labels", series(&[("__name__", "1up")], &[NOW])),
        ("invalid_labels", series(&[("__name__", "up"), ("a-b", "x")], &[NOW])),
        ("invalid_labels", series(&[("__name__", "up"), ("", "x")], &[NOW])),
        ("invalid_labels", series(&[("__name__", "up"), ("a", "1"), ("a", "2")], &[NOW])),
        ("invalid_labels", series(&[("__name__", "up"), ("a", &long)], &[NOW])),
        ("future", series(&[("__name__", "up")], &[NOW + FUTURE_MS_MAX + 1])),
        ("too_old", series(&[("__name__", "up")], &[NOW - 1_000_001])),
        ("histogram", proto::TimeSeries { histograms: vec![vec![]], ..series(&[("__name__", "up")], &[]) }),
    ] {
        let good = series(&[("__name__", "good")], &[NOW]);
        let decoded = decode(&body(vec![bad, good]), LIMITS, NOW).unwrap();
        assert_eq!(decoded.refused.by_reason().collect::<Vec<_>>(), [(reason, 1)]);
        assert_eq!(decoded.series.len(), 1, "{reason}");
        assert_eq!(decoded.series[0].labels.metric(), "good");
    }
}

#[test]
fn a_series_that_is_no_protobuf_or_no_utf8_does_not_take_the_others_with_it() {
    let mut plain =
        proto::WriteRequest { timeseries: vec![series(&[("__name__", "up")], &[NOW])] }.encode_to_vec();
    // A label whose name is the byte 0xff.
    plain.extend_from_slice(&[0x0a, 5, 0x0a, 3, 0x0a, 1, 0xff]);
    let decoded = decode(&compress(&plain), LIMITS, NOW).unwrap();
    assert_eq!(decoded.refused.by_reason().collect::<Vec<_>>(), [("malformed", 1)]);
    assert_eq!(decoded.series.len(), 1);
}

#[test]
fn the_edges_of_the_time_window_are_inside() {
    let times = [NOW + FUTURE_MS_MAX, NOW - LIMITS.age_ms_max];
    assert_eq!(refused(vec![series(&[("__name__", "up")], &times)]), []);
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_memory_is_taken() {
    // A snappy block begins with its length as a varint: 2^32 - 1 in five bytes, and nothing behind it.
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(decode(&bomb, LIMITS, NOW).unwrap_err(), DecodeError::TooLarge(u32::MAX as usize));
    let just_over = [0x81, 0x80, 0x80, 0x10];
    assert!(matches!(decode(&just_over, LIMITS, NOW), Err(DecodeError::TooLarge(33_554_433))));
}

#[test]
fn what_is_no_request_is_refused_as_a_whole() {
    assert!(matches!(decode(b"", LIMITS, NOW), Err(DecodeError::NotSnappy(_))));
    assert!(matches!(decode(b"{\"a\":1}", LIMITS, NOW), Err(DecodeError::NotSnappy(_))));
    // A series that claims five bytes and has one.
    for plain in
        [&[0x0a, 5, 1][..], &[0xff], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]]
    {
        assert!(
            matches!(decode(&compress(plain), LIMITS, NOW), Err(DecodeError::NotProtobuf(_))),
            "{plain:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&plain, LIMITS, NOW);
        let _ = decode(&compress(&plain), LIMITS, NOW);
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_other_samples_never_a_panic(bit in 0_usize..400) {
        let mut bytes = body(vec![series(&[("__name__", "up"), ("job", "x")], &[NOW, NOW - 1])]);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = decode(&bytes, LIMITS, NOW);
    }
}
