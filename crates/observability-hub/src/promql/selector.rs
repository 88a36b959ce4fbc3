//! `name{label="value", other!="value"}`, as <https://prometheus.io/docs/prometheus/latest/querying/basics/> has it.

use crate::{
    metric_store::{MatchOp, Matcher, NAME_LABEL},
    remote_write::{is_label_name, is_metric_name},
};

/// Longest query, bytes.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// A query that is not a plain selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It selects everything.
    #[error("query selects every series, expected a metric name or a matcher with a value")]
    Empty,
    /// It is too long.
    #[error("query is {0} bytes long, expected at most 8192")]
    TooLong(usize),
    /// Valid PromQL perhaps, but not answered yet.
    #[error(
        "query has {found:?} at byte {at}, expected a plain selector like up{{job=\"node\"}}: expressions, functions, \
         ranges and regular expressions are not supported yet"
    )]
    Unsupported {
        /// What is there.
        found: String,
        /// Where.
        at: usize,
    },
    /// No selector.
    #[error("query has {found} at byte {at}, expected {expected}")]
    Malformed {
        /// What is there.
        found: String,
        /// Where.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
}

/// The conditions of a selector, the metric's name among them.
///
/// # Errors
/// The text is not a plain selector.
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, SelectorError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(SelectorError::TooLong(query.len()));
    }
    let mut parser = Parser { query, rest: query };
    parser.skip_space();
    let mut matchers = Vec::new();
    let name = parser.word();
    if !name.is_empty() {
        if !is_metric_name(name) {
            return Err(SelectorError::Unsupported { found: name.to_owned(), at: 0 });
        }
        matchers.push(Matcher { name: NAME_LABEL.to_owned(), op: MatchOp::Equal, value: name.to_owned() });
    }
    parser.skip_space();
    if parser.eat("{") {
        parser.matchers(&mut matchers)?;
        parser.skip_space();
    }
    if !parser.rest.is_empty() {
        return Err(parser.unsupported());
    }
    // As in Prometheus: at least one condition that the empty label does not meet.
    let selects = |matcher: &Matcher| matcher.value.is_empty() == (matcher.op == MatchOp::NotEqual);
    if !matchers.iter().any(selects) {
        return Err(SelectorError::Empty);
    }
    Ok(matchers)
}

struct Parser<'a> {
    query: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn at(&self) -> usize {
        self.query.len() - self.rest.len()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn unsupported(&self) -> SelectorError {
        SelectorError::Unsupported { found: self.rest.chars().take(16).collect(), at: self.at() }
    }

    fn malformed(&self, expected: &'static str) -> SelectorError {
        let found = match self.rest.chars().next() {
            Some(_) => format!("{:?}", self.rest.chars().take(16).collect::<String>()),
            None => "its end".to_owned(),
        };
        SelectorError::Malformed { found, at: self.at(), expected }
    }

    /// Everything up to the closing brace.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<(), SelectorError> {
        loop {
            self.skip_space();
            if self.eat("}") {
                return Ok(());
            }
            matchers.push(self.matcher()?);
            self.skip_space();
            if !self.eat(",") && !self.rest.starts_with('}') {
                return Err(self.malformed("`,` or `}`"));
            }
        }
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let before = self.rest;
        let name = self.word();
        if !is_label_name(name) {
            self.rest = before;
            return Err(self.malformed("a label name"));
        }
        self.skip_space();
        if self.rest.starts_with("=~") || self.rest.starts_with("!~") {
            return Err(self.unsupported());
        }
        let op = if self.eat("!=") {
            MatchOp::NotEqual
        } else if self.eat("=") {
            MatchOp::Equal
        } else {
            return Err(self.malformed("`=` or `!=`"));
        };
        self.skip_space();
        let value = self.string()?;
        Ok(Matcher { name: name.to_owned(), op, value })
    }

    /// A Go string: quoted by `"` or `'` with escapes, or by `` ` `` without.
    fn string(&mut self) -> Result<String, SelectorError> {
        const EXPECTED: &str = "a quoted value";
        let before = self.rest;
        let mut chars = self.rest.chars();
        let Some(quote @ ('"' | '\'' | '`')) = chars.next() else { return Err(self.malformed(EXPECTED)) };
        let mut value = String::new();
        loop {
            match chars.next() {
                Some(c) if c == quote => {
                    self.rest = chars.as_str();
                    return Ok(value);
                }
                Some('\\') if quote != '`' => match chars.next() {
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some('r') => value.push('\r'),
                    Some(c @ ('\\' | '"' | '\'')) => value.push(c),
                    _ => {
                        self.rest = before;
                        return Err(self.malformed("a value with the escapes \\n \\t \\r \\\\ \\\" \\' only"));
                    }
                },
                Some(c) => value.push(c),
                None => {
                    self.rest = before;
                    return Err(self.malformed("a closed quote"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(query: &str) -> Vec<(String, MatchOp, String)> {
        let matchers = parse_selector(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        matchers.into_iter().map(|matcher| (matcher.name, matcher.op, matcher.value)).collect()
    }

    fn equal(name: &str, value: &str) -> (String, MatchOp, String) {
        (name.to_owned(), MatchOp::Equal, value.to_owned())
    }

    #[test]
    fn selectors_in_all_their_spellings() {
        for query in [
            r#"up{job="node"}"#,
            r#" up { job = "node" , } "#,
            r"up{job='node'}",
            r"up{job=`node`}",
            r#"{__name__="up",job="node"}"#,
        ] {
            assert_eq!(parsed(query), [equal("__name__", "up"), equal("job", "node")], "{query}");
        }
        assert_eq!(parsed("job:rate5m"), [equal("__name__", "job:rate5m")]);
        assert_eq!(parsed(r#"up{a!="1"}"#)[1], ("a".to_owned(), MatchOp::NotEqual, "1".to_owned()));
        assert_eq!(parsed(r#"up{a="q\"\\\n"}"#)[1], equal("a", "q\"\\\n"));
    }

    #[test]
    fn what_is_more_than_a_selector_is_refused_as_unsupported() {
        for query in
            ["rate(up[5m])", "up + 1", "up[5m]", "up offset 5m", r#"up{job=~"a.*"}"#, "1", "sum by (a) (up)"]
        {
            let error = parse_selector(query).unwrap_err();
            assert!(matches!(error, SelectorError::Unsupported { .. }), "{query}: {error}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for query in
            ["up{", r#"up{job}"#, r#"up{job="a}"#, r#"up{="a"}"#, r#"up{a="b" c="d"}"#, r#"up{a="\x"}"#]
        {
            let error = parse_selector(query).unwrap_err();
            assert!(matches!(error, SelectorError::Malformed { .. }), "{query}: {error}");
        }
        for query in ["", "{}", r#"{job=""}"#, r#"{job!="a"}"#] {
            assert_eq!(parse_selector(query), Err(SelectorError::Empty), "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(query in ".{0,40}") {
            let _ = parse_selector(&query);
            let _ = parse_selector(&format!("up{{{query}"));
        }
    }
}
