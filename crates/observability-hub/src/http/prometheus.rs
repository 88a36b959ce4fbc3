//! The Prometheus HTTP API, as far as it is answered: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::App;
use crate::{
    metric_store::{Labels, Matcher, StoreError, TimeRange},
    promql::{self, QueryError, SelectorError},
};

/// Selectors of one request.
const SELECTORS_MAX: usize = 32;

/// An error in Prometheus's form.
pub(super) struct PrometheusError {
    status: StatusCode,
    error_type: &'static str,
    message: String,
}

impl PrometheusError {
    fn bad_data(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error_type: "bad_data", message: message.into() }
    }
}

impl IntoResponse for PrometheusError {
    fn into_response(self) -> Response {
        let body = json!({"status": "error", "errorType": self.error_type, "error": self.message});
        (self.status, Json(body)).into_response()
    }
}

impl From<SelectorError> for PrometheusError {
    fn from(error: SelectorError) -> Self {
        Self::bad_data(error.to_string())
    }
}

impl From<StoreError> for PrometheusError {
    fn from(error: StoreError) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            error_type: "unavailable",
            message: error.to_string(),
        }
    }
}

impl From<QueryError> for PrometheusError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Selector(error) => error.into(),
            QueryError::Store(error) => error.into(),
        }
    }
}

type Answer = Result<Json<Value>, PrometheusError>;

fn success(data: &Value) -> Json<Value> {
    Json(json!({"status": "success", "data": data}))
}

/// Parameters of the query string and, for POST, of the form in the body.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn new(query: RawQuery, body: &Bytes) -> Self {
        let RawQuery(query) = query;
        let in_query = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
        Self(in_query.into_owned().chain(form_urlencoded::parse(body).into_owned()).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Unix seconds with a fraction, or RFC 3339; in milliseconds.
    fn time(&self, name: &str) -> Result<Option<i64>, PrometheusError> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && seconds.abs() < 1e12);
        #[expect(clippy::cast_possible_truncation, reason = "below 1e15, see the line above")]
        let milliseconds = seconds.map(|seconds| (seconds * 1e3).round() as i64);
        let written = || {
            let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
            i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
        };
        milliseconds.or_else(written).map(Some).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            PrometheusError::bad_data(format!("{name} is {shown:?}, expected Unix seconds or RFC 3339"))
        })
    }

    fn range(&self) -> Result<TimeRange, PrometheusError> {
        let from_unix_ms = self.time("start")?.unwrap_or(i64::MIN);
        let to_unix_ms = self.time("end")?.unwrap_or(i64::MAX);
        if from_unix_ms > to_unix_ms {
            return Err(PrometheusError::bad_data("end is before start"));
        }
        Ok(TimeRange { from_unix_ms, to_unix_ms })
    }

    fn selectors(&self) -> Result<Vec<Vec<Matcher>>, PrometheusError> {
        let texts: Vec<&String> =
            self.0.iter().filter(|(key, _)| key == "match[]").map(|(_, value)| value).collect();
        if texts.len() > SELECTORS_MAX {
            return Err(PrometheusError::bad_data(format!(
                "{} match[] parameters, expected at most 32",
                texts.len()
            )));
        }
        Ok(texts.into_iter().map(|text| promql::parse_selector(text)).collect::<Result<_, _>>()?)
    }
}

pub(super) async fn query(State(app): State<App>, raw: RawQuery, body: Bytes) -> Answer {
    let parameters = Parameters::new(raw, &body);
    let query = parameters
        .get("query")
        .filter(|query| !query.is_empty())
        .ok_or_else(|| PrometheusError::bad_data("query is missing, expected a selector"))?;
    let now = || i64::try_from(app.clock.now_unix_ms()).unwrap_or(i64::MAX);
    let unix_ms = parameters.time("time")?.unwrap_or_else(now);
    let values = promql::instant(app.store.as_ref(), query, unix_ms).await?;
    let result: Vec<Value> = values
        .iter()
        .map(|(labels, sample)| {
            json!({"metric": label_map(labels), "value": [seconds(unix_ms), number(sample.value)]})
        })
        .collect();
    Ok(success(&json!({"resultType": "vector", "result": result})))
}

pub(super) async fn series(State(app): State<App>, raw: RawQuery, body: Bytes) -> Answer {
    let parameters = Parameters::new(raw, &body);
    let selectors = parameters.selectors()?;
    if selectors.is_empty() {
        return Err(PrometheusError::bad_data("match[] is missing, expected at least one selector"));
    }
    let found = select(&app, selectors, parameters.range()?).await?;
    Ok(success(&found.iter().map(label_map).collect()))
}

pub(super) async fn labels(State(app): State<App>, raw: RawQuery, body: Bytes) -> Answer {
    let parameters = Parameters::new(raw, &body);
    let found = select(&app, parameters.selectors()?, parameters.range()?).await?;
    let names: BTreeSet<&str> = found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    Ok(success(&json!(names)))
}

pub(super) async fn label_values(State(app): State<App>, Path(name): Path<String>, raw: RawQuery) -> Answer {
    if !crate::remote_write::is_label_name(&name) {
        let shown: String = name.chars().take(64).collect();
        return Err(PrometheusError::bad_data(format!(
            "label name is {shown:?}, expected [a-zA-Z_][a-zA-Z0-9_]*"
        )));
    }
    let parameters = Parameters::new(raw, &Bytes::new());
    let found = select(&app, parameters.selectors()?, parameters.range()?).await?;
    let values: BTreeSet<&str> =
        found.iter().map(|labels| labels.get(&name)).filter(|value| !value.is_empty()).collect();
    Ok(success(&json!(values)))
}

pub(super) async fn buildinfo() -> Json<Value> {
    success(&json!({
        "version": service_runtime::VERSION,
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "observability-hub",
    }))
}

/// Labels of the series that any of the selectors matches; of all where there is none.
async fn select(
    app: &App,
    mut selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
) -> Result<BTreeSet<Labels>, PrometheusError> {
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let mut found = BTreeSet::new();
    for matchers in selectors {
        found.extend(app.store.labels(matchers, range).await?);
    }
    Ok(found)
}

fn label_map(labels: &Labels) -> Value {
    json!(labels.iter().collect::<BTreeMap<&str, &str>>())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double for 285,000 years")]
fn seconds(unix_ms: i64) -> f64 {
    unix_ms as f64 / 1e3
}

/// As Prometheus writes values: decimal without an exponent, `NaN`, `+Inf`, `-Inf`.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_writes_them() {
        for (value, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let parameters = |text: &str| Parameters(vec![("time".to_owned(), text.to_owned())]);
        for (text, unix_ms) in
            [("1.5", 1_500), ("1700000000", 1_700_000_000_000), ("2023-11-14T22:13:20Z", 1_700_000_000_000)]
        {
            assert_eq!(parameters(text).time("time").ok().flatten(), Some(unix_ms));
        }
        for bad in ["yesterday", "1e300", "NaN"] {
            assert!(parameters(bad).time("time").is_err(), "{bad}");
        }
    }
}
