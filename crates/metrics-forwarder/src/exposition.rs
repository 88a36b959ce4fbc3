//! The text that targets answer a scrape with: Prometheus text format 0.0.4 and OpenMetrics 1.0.
//!
//! Parsing is line by line, and a line that is wrong costs itself only: it is counted and told in [`Rejected`], the rest
//! is kept. Accepted as Prometheus' own scraper does, where the text of the format says less: unknown escapes stay as
//! written, a trailing comma in a label set, white space around its tokens, a last line without a line break.
//!
//! Own code, because the crates for it either skip malformed lines silently, lose escapes, or fail the whole text.
//!
//! - <https://prometheus.io/docs/instrumenting/exposition_formats/>
//! - <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>

use std::collections::HashMap;

use crate::series::{Labels, Metadata, MetricType, UnixMillis};

mod line;
#[cfg(test)]
mod tests;

/// Longest line that is read, in bytes. With the configured labels it bounds what one series can take.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// How many refused lines are told one by one.
const TOLD_MAX: usize = 4;

/// Which of the two formats a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`: timestamps in whole milliseconds.
    Prometheus,
    /// `application/openmetrics-text`: timestamps in seconds, exemplars, ends with `# EOF`.
    OpenMetrics,
}

impl Format {
    /// What to ask a target for.
    pub const ACCEPT: &str =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    /// The format of an answer, from its `Content-Type`; anything unknown is read as the older format.
    #[must_use]
    pub fn from_content_type(content_type: Option<&str>) -> Self {
        let media = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        let open = media.trim().eq_ignore_ascii_case("application/openmetrics-text");
        if open { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// One sample line.
#[derive(Debug, Clone)]
pub struct Scraped {
    /// Name and labels as the target wrote them.
    pub labels: Labels,
    /// The value; NaN as [`crate::series::NORMAL_NAN`].
    pub value: f64,
    /// Given by targets that pass on what others measured.
    pub timestamp: Option<UnixMillis>,
}

/// A parsed text.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    /// In the order of the text.
    pub samples: Vec<Scraped>,
    /// In the order of their first mention.
    pub metadata: Vec<Metadata>,
    /// What was not understood.
    pub rejected: Rejected,
}

/// Lines that were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub lines: u64,
    /// The first few, to tell the operator.
    pub first: Vec<LineError>,
}

/// A line that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: Malformed,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Bytes that are no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// More than [`LINE_BYTES_MAX`].
    #[error("the line has {bytes} bytes, expected at most {LINE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The line does not begin with a metric name, or a comment lacks its one.
    #[error("expected a metric name")]
    MetricName,
    /// A label set has something else where a label name is due.
    #[error("expected a label name")]
    LabelName,
    /// The metric name is given among the labels.
    #[error("label __name__ is reserved for the metric name")]
    ReservedLabel,
    /// A label lacks `="…"`, or its closing quote.
    #[error("expected a quoted value for label {label:?}")]
    LabelValue {
        /// The label.
        label: String,
    },
    /// A label name occurs twice.
    #[error("label {name:?} occurs twice")]
    DuplicateLabel {
        /// The name.
        name: String,
    },
    /// Labels are neither separated by `,` nor ended by `}`.
    #[error("expected , or }} after label {label:?}")]
    LabelSet {
        /// The label before.
        label: String,
    },
    /// The value is missing or no number.
    #[error("value is {text:?}, expected a number, NaN, +Inf or -Inf")]
    Value {
        /// What stands there.
        text: String,
    },
    /// The timestamp is no number, or out of range.
    #[error("timestamp is {text:?}, expected {expected}")]
    Timestamp {
        /// What stands there.
        text: String,
        /// What the format has there.
        expected: &'static str,
    },
    /// Something follows the timestamp.
    #[error("unexpected {text:?} at the end of the line")]
    Trailing {
        /// What stands there.
        text: String,
    },
    /// An unknown word after `# TYPE <name>`.
    #[error("type is {text:?}, expected a metric type")]
    Type {
        /// What stands there.
        text: String,
    },
    /// OpenMetrics: the text ends before `# EOF`, so it may have been cut.
    #[error("the text ended without # EOF")]
    MissingEof,
    /// OpenMetrics: something follows `# EOF`.
    #[error("text after # EOF")]
    AfterEof,
}

/// The text has more samples than allowed, which is refused whole: half a target would look like a healthy one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the target exposes more than {max} samples")]
pub struct TooManySamples {
    /// The limit.
    pub max: usize,
}

/// Parses a text.
///
/// # Errors
/// There are more than `samples_max` samples.
pub fn parse(text: &[u8], format: Format, samples_max: usize) -> Result<Exposition, TooManySamples> {
    let mut parser = Parser::default();
    for (index, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index as u64 + 1;
        if let Err(reason) = parser.line(bytes, format) {
            parser.reject(number, reason);
        }
        if parser.found.samples.len() > samples_max {
            return Err(TooManySamples { max: samples_max });
        }
    }
    if format == Format::OpenMetrics && !parser.ended {
        let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        parser.reject(lines, Malformed::MissingEof);
    }
    Ok(parser.found)
}

#[derive(Default)]
struct Parser {
    found: Exposition,
    /// Index of a family in `found.metadata`.
    families: HashMap<String, usize>,
    ended: bool,
}

impl Parser {
    fn line(&mut self, bytes: &[u8], format: Format) -> Result<(), Malformed> {
        if bytes.len() > LINE_BYTES_MAX {
            return Err(Malformed::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        let text = text.trim_matches([' ', '\t', '\r']);
        if text.is_empty() {
            return Ok(());
        }
        if self.ended {
            return Err(Malformed::AfterEof);
        }
        match text.strip_prefix('#') {
            Some(comment) => self.comment(comment, format),
            None => {
                self.found.samples.push(line::sample(text, format)?);
                Ok(())
            }
        }
    }

    fn comment(&mut self, text: &str, format: Format) -> Result<(), Malformed> {
        let (keyword, rest) = line::word(text);
        match keyword {
            "HELP" => {
                let (family, help) = line::family(rest)?;
                self.family(family).help = line::unescape_help(help, format);
            }
            "TYPE" => {
                let (family, kind) = line::family(rest)?;
                self.family(family).kind = metric_type(kind)?;
            }
            "UNIT" if format == Format::OpenMetrics => {
                let (family, unit) = line::family(rest)?;
                unit.clone_into(&mut self.family(family).unit);
            }
            "EOF" if format == Format::OpenMetrics && rest.is_empty() => self.ended = true,
            _ => {}
        }
        Ok(())
    }

    fn family(&mut self, name: &str) -> &mut Metadata {
        let metadata = &mut self.found.metadata;
        let index = *self.families.entry(name.to_owned()).or_insert_with(|| {
            metadata.push(Metadata { family: name.to_owned(), ..Metadata::default() });
            metadata.len() - 1
        });
        // The index was taken from this list, which only grows.
        #[expect(clippy::indexing_slicing, reason = "the map holds indices of this list only")]
        &mut metadata[index]
    }

    fn reject(&mut self, line: u64, reason: Malformed) {
        let rejected = &mut self.found.rejected;
        rejected.lines += 1;
        if rejected.first.len() < TOLD_MAX {
            rejected.first.push(LineError { line, reason });
        }
    }
}

fn metric_type(text: &str) -> Result<MetricType, Malformed> {
    Ok(match text {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        "summary" => MetricType::Summary,
        "info" => MetricType::Info,
        "stateset" => MetricType::StateSet,
        "unknown" | "untyped" => MetricType::Unknown,
        other => return Err(Malformed::Type { text: line::shortened(other) }),
    })
}
