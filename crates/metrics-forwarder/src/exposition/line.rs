//! One line of an exposition text.

use super::{Format, Malformed, Scraped};
use crate::series::{Labels, NAME, NORMAL_NAN, UnixMillis};

const SPACE: [char; 2] = [' ', '\t'];
/// Most characters of the text that an error repeats.
const QUOTED_MAX: usize = 40;

/// `name{label="value",…} value [timestamp]`, and in OpenMetrics `[ # exemplar]`, which is not kept.
pub(super) fn sample(text: &str, format: Format) -> Result<Scraped, Malformed> {
    let (name, rest) = metric_name(text)?;
    let rest = rest.trim_start_matches(SPACE);
    let mut labels = vec![(NAME.to_owned(), name.to_owned())];
    let rest = match rest.strip_prefix('{') {
        Some(set) => label_set(set, &mut labels)?,
        None => rest,
    };
    let (value, rest) = word(rest);
    let value = number(value)?;
    let rest = match format {
        // A `#` in a label value is behind us, so this one starts an exemplar.
        Format::OpenMetrics => rest.split_once('#').map_or(rest, |(before, _exemplar)| before),
        Format::Prometheus => rest,
    };
    let (time, rest) = word(rest);
    if !rest.is_empty() {
        return Err(Malformed::Trailing { text: shortened(rest) });
    }
    let timestamp = if time.is_empty() { None } else { Some(timestamp(time, format)?) };
    let labels =
        Labels::new(labels).map_err(|duplicate| Malformed::DuplicateLabel { name: duplicate.name })?;
    Ok(Scraped { labels, value, timestamp })
}

/// The next word and what follows it, both without white space around them.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(SPACE);
    let (word, rest) = text.split_once(SPACE).unwrap_or((text, ""));
    (word, rest.trim_matches(SPACE))
}

/// The metric family that a comment is about, and what it says.
pub(super) fn family(text: &str) -> Result<(&str, &str), Malformed> {
    let (name, rest) = metric_name(text)?;
    if !rest.is_empty() && !rest.starts_with(SPACE) {
        return Err(Malformed::MetricName);
    }
    Ok((name, rest.trim_matches(SPACE)))
}

fn metric_name(text: &str) -> Result<(&str, &str), Malformed> {
    identifier(text, |c| c == ':').ok_or(Malformed::MetricName)
}

/// Letters, digits and `_`, not beginning with a digit, and what `also` allows.
fn identifier(text: &str, also: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let within = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    let end = text.find(|c| !within(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

/// Reads up to behind the closing brace.
fn label_set<'a>(mut text: &'a str, labels: &mut Vec<(String, String)>) -> Result<&'a str, Malformed> {
    loop {
        text = text.trim_start_matches(SPACE);
        if let Some(rest) = text.strip_prefix('}') {
            return Ok(rest);
        }
        let (label, rest) = identifier(text, |_| false).ok_or(Malformed::LabelName)?;
        if label == NAME {
            return Err(Malformed::ReservedLabel);
        }
        let value = rest.trim_start_matches(SPACE).strip_prefix('=');
        let value = value.and_then(|rest| rest.trim_start_matches(SPACE).strip_prefix('"'));
        let (value, rest) =
            value.and_then(quoted).ok_or_else(|| Malformed::LabelValue { label: label.to_owned() })?;
        labels.push((label.to_owned(), value));
        text = rest.trim_start_matches(SPACE);
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return Err(Malformed::LabelSet { label: label.to_owned() }),
        }
    }
}

/// The text up to the closing quote, unescaped, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    let end = text.find(|c| {
        let closing = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closing
    })?;
    let (value, rest) = text.split_at_checked(end)?;
    Some((unescape(value, true), rest.strip_prefix('"')?))
}

/// Help texts escape `\` and line breaks; OpenMetrics also quotes.
pub(super) fn unescape_help(text: &str, format: Format) -> String {
    unescape(text, format == Format::OpenMetrics)
}

fn unescape(text: &str, quotes: bool) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('\\') => plain.push('\\'),
            Some('"') if quotes => plain.push('"'),
            other => {
                plain.push('\\');
                plain.extend(other);
            }
        }
    }
    plain
}

fn number(text: &str) -> Result<f64, Malformed> {
    let value: f64 = text.parse().map_err(|_| Malformed::Value { text: shortened(text) })?;
    // Whatever NaN this machine makes, the two that mean something are told apart by their bits.
    Ok(if value.is_nan() { f64::from_bits(NORMAL_NAN) } else { value })
}

fn timestamp(text: &str, format: Format) -> Result<UnixMillis, Malformed> {
    let malformed = |expected| Malformed::Timestamp { text: shortened(text), expected };
    match format {
        Format::Prometheus => text.parse().map(UnixMillis::new).map_err(|_| malformed("whole milliseconds")),
        Format::OpenMetrics => {
            let milliseconds = text.parse::<f64>().map_or(f64::NAN, |seconds| (seconds * 1000.0).round());
            // Every integer up to 2^53 is exact in a double; later than year 287396 is no time.
            let in_range = milliseconds.abs() <= (1_i64 << 53) as f64;
            if in_range { Ok(UnixMillis::new(milliseconds as i64)) } else { Err(malformed("seconds")) }
        }
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}
