use proptest::prelude::*;

use super::*;
use crate::series::NORMAL_NAN;

const MAX: usize = 1000;

fn plain(text: &str) -> Exposition {
    parse(text.as_bytes(), Format::Prometheus, MAX).unwrap()
}

fn open(text: &str) -> Exposition {
    parse(text.as_bytes(), Format::OpenMetrics, MAX).unwrap()
}

/// `name{a="b"} value @timestamp`, as compact text.
fn shown(exposition: &Exposition) -> Vec<String> {
    let one = |sample: &Scraped| {
        let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let time = sample.timestamp.map(|time| format!(" @{}", time.get())).unwrap_or_default();
        format!("{} {}{time}", labels.join(","), sample.value)
    };
    exposition.samples.iter().map(one).collect()
}

fn refused(text: &str) -> Malformed {
    let found = plain(&format!("{text}\nkept 1\n"));
    assert_eq!(found.rejected.lines, 1, "{text:?}");
    assert_eq!(found.samples.len(), 1, "the next line of {text:?} was lost");
    assert_eq!(found.rejected.first[0].line, 1);
    found.rejected.first[0].reason.clone()
}

/// The example of the format's documentation, with what must come out of it.
#[test]
fn the_documented_example_is_understood() {
    let found = plain(include_str!("../../tests/golden/exposition.txt"));
    assert_eq!(found.rejected, Rejected::default());
    let golden: Vec<_> = include_str!("../../tests/golden/exposition.parsed.txt").lines().collect();
    assert_eq!(shown(&found), golden);
    let kinds: Vec<_> = found.metadata.iter().map(|family| (family.family.as_str(), family.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("http_requests_total", MetricType::Counter),
            ("http_request_duration_seconds", MetricType::Histogram),
            ("rpc_duration_seconds", MetricType::Summary),
        ]
    );
    assert_eq!(found.metadata[0].help, "The total number of HTTP requests.");
}

#[test]
fn label_values_are_unescaped_and_may_hold_any_text() {
    let found = plain(r#"m { a = "x\\y\"z\n{},=# " , b="ü\t" , } 1"#);
    assert_eq!(shown(&found), [r#"__name__="m",a="x\\y\"z\n{},=# ",b="ü\\t" 1"#]);
}

#[test]
fn every_way_to_write_a_number_is_understood() {
    let values = |text: &str| plain(text).samples[0].value;
    assert_eq!(values("m 1.5e3"), 1500.0);
    assert_eq!(values("m +.5"), 0.5);
    assert_eq!(values("m -0").to_bits(), (-0.0_f64).to_bits());
    assert_eq!(values("m +Inf"), f64::INFINITY);
    assert_eq!(values("m -Inf"), f64::NEG_INFINITY);
    assert_eq!(values("m 1e999"), f64::INFINITY);
    for nan in ["NaN", "nan", "-NaN"] {
        assert_eq!(values(&format!("m {nan}")).to_bits(), NORMAL_NAN);
    }
}

#[test]
fn the_two_formats_write_timestamps_differently() {
    assert_eq!(shown(&plain("m 1 1395066363000")), ["__name__=\"m\" 1 @1395066363000"]);
    assert_eq!(shown(&plain("m 1 -1")), ["__name__=\"m\" 1 @-1"]);
    assert_eq!(shown(&open("m 1 1395066363.001\n# EOF\n")), ["__name__=\"m\" 1 @1395066363001"]);
    assert_eq!(
        open("m 1 1e300\n# EOF").rejected.first[0].reason,
        Malformed::Timestamp { text: "1e300".to_owned(), expected: "seconds" }
    );
}

#[test]
fn openmetrics_has_exemplars_units_and_an_end() {
    let text = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds say \\\"a\\\"\n\
                a_seconds_total{x=\"#\"} 3 1.5 # {trace_id=\"1\"} 0.5 1.4\na_seconds_created 1 # {}\n# EOF\n";
    let found = open(text);
    assert_eq!(found.rejected, Rejected::default());
    assert_eq!(
        shown(&found),
        [r##"__name__="a_seconds_total",x="#" 3 @1500"##, r#"__name__="a_seconds_created" 1"#]
    );
    let expected = Metadata {
        family: "a_seconds".to_owned(),
        kind: MetricType::Counter,
        help: "say \"a\"".to_owned(),
        unit: "seconds".to_owned(),
    };
    assert_eq!(found.metadata, [expected]);
}

#[test]
fn a_cut_openmetrics_text_is_told() {
    let found = open("a 1\nb 2\n");
    assert_eq!(found.rejected.first, [LineError { line: 3, reason: Malformed::MissingEof }]);
    assert_eq!(open("# EOF\na 1\n").rejected.first[0].reason, Malformed::AfterEof);
}

#[test]
fn each_kind_of_mistake_is_named_and_costs_one_line() {
    use Malformed as M;
    let text = |text: &str| text.to_owned();
    let cases = [
        ("1m 1", M::MetricName),
        ("{a=\"b\"} 1", M::MetricName),
        ("ü 1", M::MetricName),
        ("m{1a=\"b\"} 1", M::LabelName),
        ("m{,} 1", M::LabelName),
        ("m{a:b=\"c\"} 1", M::LabelValue { label: text("a") }),
        ("m{a=b} 1", M::LabelValue { label: text("a") }),
        ("m{a=\"b\\\"} 1", M::LabelValue { label: text("a") }),
        ("m{a=\"b\" c=\"d\"} 1", M::LabelSet { label: text("a") }),
        ("m{a=\"b\"", M::LabelSet { label: text("a") }),
        ("m{__name__=\"b\"} 1", M::ReservedLabel),
        ("m{a=\"b\",a=\"c\"} 1", M::DuplicateLabel { name: text("a") }),
        ("m", M::Value { text: text("") }),
        ("m one", M::Value { text: text("one") }),
        ("m 0x1p3", M::Value { text: text("0x1p3") }),
        ("m 1 2.5", M::Timestamp { text: text("2.5"), expected: "whole milliseconds" }),
        ("m 1 2 3", M::Trailing { text: text("3") }),
        ("# TYPE m clock", M::Type { text: text("clock") }),
        ("# HELP", M::MetricName),
        ("# TYPE a-b gauge", M::MetricName),
    ];
    for (line, reason) in cases {
        assert_eq!(refused(line), reason, "{line:?}");
    }
}

#[test]
fn bytes_that_are_no_text_cost_their_line_only() {
    let found = parse(b"a 1\nb{x=\"\xff\"} 2\nc 3\n", Format::Prometheus, MAX).unwrap();
    assert_eq!(found.rejected.first, [LineError { line: 2, reason: Malformed::NotUtf8 }]);
    assert_eq!(found.samples.len(), 2);
}

#[test]
fn a_line_beyond_the_limit_is_refused_without_losing_the_rest() {
    let long = format!("m{{a=\"{}\"}} 1\nn 2", "x".repeat(LINE_BYTES_MAX));
    let found = plain(&long);
    assert!(matches!(found.rejected.first[0].reason, Malformed::TooLong { .. }));
    assert_eq!(found.samples.len(), 1);
}

#[test]
fn only_the_first_mistakes_are_kept_but_all_are_counted() {
    let found = plain(&"?\n".repeat(100));
    assert_eq!((found.rejected.lines, found.rejected.first.len()), (100, TOLD_MAX));
}

#[test]
fn more_samples_than_allowed_fail_the_whole_text() {
    let text = "m 1\n".repeat(3);
    assert_eq!(parse(text.as_bytes(), Format::Prometheus, 2).unwrap_err(), TooManySamples { max: 2 });
    assert!(parse(text.as_bytes(), Format::Prometheus, 3).is_ok());
}

#[test]
fn comments_empty_lines_and_windows_line_ends_are_nothing() {
    let found = plain("# just a remark\n\n   \t\r\n#\n# EOF\r\n# UNIT x y\nm 1\r\n");
    assert_eq!(found.rejected, Rejected::default());
    assert_eq!(shown(&found), ["__name__=\"m\" 1"]);
}

#[test]
fn the_content_type_decides_the_format() {
    let of = Format::from_content_type;
    assert_eq!(of(Some("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8")), Format::OpenMetrics);
    assert_eq!(of(Some("text/plain; version=0.0.4")), Format::Prometheus);
    assert_eq!(of(None), Format::Prometheus);
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
        labels in prop::collection::btree_map("[a-zA-Z][a-zA-Z0-9_]{0,8}", "[^\r]{1,12}", 0..5),
        value in any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()),
        timestamp in prop::option::of(any::<i64>()),
    ) {
        let set: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let time = timestamp.map(|time| format!(" {time}")).unwrap_or_default();
        let found = plain(&format!("{name}{{{}}} {value}{time}", set.join(",")));
        prop_assert_eq!(&found.rejected, &Rejected::default());
        let sample = &found.samples[0];
        prop_assert_eq!(sample.value, value);
        prop_assert_eq!(sample.timestamp.map(UnixMillis::get), timestamp);
        let mut expected: Vec<_> = labels.into_iter().chain([("__name__".to_owned(), name)]).collect();
        expected.sort();
        let read: Vec<_> = sample.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic_and_every_line_is_accounted_for(
        text in prop::collection::vec(prop_oneof![
            Just(b'\n'), Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b','), Just(b'='), Just(b'#'),
            Just(b' '), Just(b'm'), Just(b'1'), any::<u8>()
        ], 0..200),
        open in any::<bool>(),
    ) {
        let format = if open { Format::OpenMetrics } else { Format::Prometheus };
        let found = parse(&text, format, MAX).unwrap();
        let lines = text.split(|byte| *byte == b'\n').count() as u64;
        prop_assert!(found.samples.len() as u64 + found.rejected.lines <= lines + u64::from(open));
    }
}
