//! Histogram boundaries. The SDK's own are meant for milliseconds, and the product measures seconds and tokens.

use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, Stream};

/// Seconds, 0.01 doubling to 81.92: the boundaries that OpenTelemetry's GenAI conventions give for durations.
/// <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>
pub(super) const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// Tokens, 1 to 4^13 by four: the same conventions, for `gen_ai.client.token.usage`.
pub(super) const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Chooses the boundaries for a histogram by its name and unit; leaves every other instrument alone.
pub(super) fn view(instrument: &Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram {
        return None;
    }
    let boundaries = boundaries(instrument.name(), instrument.unit())?;
    let aggregation =
        Aggregation::ExplicitBucketHistogram { boundaries: boundaries.to_vec(), record_min_max: false };
    // Constant, increasing boundaries are never refused; if they were, the SDK's own would do.
    Stream::builder().with_aggregation(aggregation).build().ok()
}

fn boundaries(name: &str, unit: &str) -> Option<&'static [f64]> {
    let measures_time =
        ["duration", "time_to_first", "time_per_output"].iter().any(|word| name.contains(word));
    if unit == "s" || (measures_time && unit.is_empty()) {
        Some(&SECONDS)
    } else if name.ends_with("token.usage") || unit == "{token}" {
        Some(&TOKENS)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_follow_the_conventions() {
        assert!(SECONDS.windows(2).all(|pair| (pair[1] - 2.0 * pair[0]).abs() < 1e-9));
        assert!(TOKENS.windows(2).all(|pair| pair[1] == 4.0 * pair[0]));
        assert_eq!(TOKENS[13], 4f64.powi(13));
    }

    #[test]
    fn a_histogram_gets_the_boundaries_of_what_it_measures() {
        let table: [(&str, &str, Option<&[f64]>); 6] = [
            ("gen_ai.client.operation.duration", "s", Some(&SECONDS)),
            ("gen_ai.server.time_to_first_token", "s", Some(&SECONDS)),
            ("gen_ai.server.time_per_output_token", "", Some(&SECONDS)),
            ("gen_ai.client.token.usage", "{token}", Some(&TOKENS)),
            ("queue.duration", "ms", None),
            ("response.size", "By", None),
        ];
        for (name, unit, expected) in table {
            assert_eq!(boundaries(name, unit), expected, "{name} {unit}");
        }
    }
}
